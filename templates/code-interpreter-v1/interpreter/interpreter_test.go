package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMain runs the kernels with what prepare has got for them, if it was run.
func TestMain(m *testing.M) {
	if files, err := filepath.Abs("../files"); err == nil {
		for name, below := range map[string]string{"PYTHONPATH": "python", "NODE_PATH": "node_modules"} {
			if dir := filepath.Join(files, below); isDir(dir) {
				_ = os.Setenv(name, dir)
			}
		}
		if isDir(filepath.Join(files, "python")) { // they are for this one
			_ = os.Setenv("PATH", "/usr/bin:"+os.Getenv("PATH"))
		}
	}
	os.Exit(m.Run())
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// answer is what one piece of code gave.
type answer struct {
	status         int
	body           string // of an error's
	stdout, stderr string
	results        []event
	err            event
	count          float64
	ended          bool
}

func (a answer) text() string {
	for _, r := range a.results {
		if r["is_main_result"] == true {
			text, _ := r["text"].(string)
			return text
		}
	}
	return ""
}

// newServer serves contexts in a directory of their own.
func newServer(t *testing.T) (url, workdir string) {
	t.Helper()
	workdir = t.TempDir()
	c := newContexts(workdir, "")
	t.Cleanup(c.close)
	server := httptest.NewServer(routes(c))
	t.Cleanup(server.Close)
	return server.URL, workdir
}

func run(t *testing.T, url string, body map[string]any) answer {
	t.Helper()
	return runUntil(t, context.Background(), url, body)
}

func runUntil(t *testing.T, ctx context.Context, url string, body map[string]any) (a answer) {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/execute", strings.NewReader(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return a
		}
		t.Fatal(err)
	}
	defer resp.Body.Close()
	a.status = resp.StatusCode
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		if a.status != http.StatusOK {
			a.body += lines.Text()
			continue
		}
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%q is no event: %v", lines.Text(), err)
		}
		a.add(e)
	}
	return a
}

func (a *answer) add(e event) {
	text, _ := e["text"].(string)
	switch e["type"] {
	case "stdout":
		a.stdout += text
	case "stderr":
		a.stderr += text
	case "result":
		a.results = append(a.results, e)
	case "error":
		a.err = e
	case "number_of_executions":
		a.count, _ = e["execution_count"].(float64)
	case "end_of_execution":
		a.ended = true
	}
}

// needs skips a test on a machine that lacks what a kernel is made of.
func needs(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Skipf("this machine has no %s %v: %v %s", program, args, err, out)
	}
}

var languagesUnderTest = map[string]struct {
	needs                              []string
	set, get, value                    string // set keeps a value that get shows
	env, print, complain, wrong, sleep string // env shows $FOO
	wrongName                          string
}{
	"python": {
		needs: []string{"python3", "-c", "import IPython"},
		set:   "x = 41", get: "x + 1", value: "42", env: "import os; os.getenv('FOO', 'none')",
		print: "print('out')", complain: "import sys; print('err', file=sys.stderr)",
		wrong: "1/0", wrongName: "ZeroDivisionError", sleep: "import time; print('at it'); time.sleep(300)",
	},
	"javascript": {
		needs: []string{"node", "-e", ""},
		set:   "const x = 41", get: "x + 1", value: "42", env: "process.env.FOO || 'none'",
		print: "console.log('out')", complain: "console.error('err')",
		wrong: "null.x", wrongName: "TypeError", sleep: "console.log('at it'); for (;;) {}",
	},
	"bash": {
		needs: []string{"bash", "-c", ":"},
		set:   "x=41", get: "echo $((x + 1))", value: "42", env: "echo ${FOO:-none}",
		print: "echo out", complain: "echo err >&2",
		wrong: "false", wrongName: "ExitStatus", sleep: "echo at it; sleep 300",
	},
}

func TestCodeRunsAndWhatItSetsStays(t *testing.T) {
	for language, l := range languagesUnderTest {
		t.Run(language, func(t *testing.T) {
			needs(t, l.needs[0], l.needs[1:]...)
			url, _ := newServer(t)
			shown := func(a answer) string { return strings.TrimSpace(a.text() + a.stdout) }
			exec := func(code string, env map[string]string) answer {
				a := run(t, url, map[string]any{"code": code, "language": language, "env_vars": env})
				if a.status != http.StatusOK || !a.ended {
					t.Fatalf("%s: %+v", code, a)
				}
				return a
			}
			if a := exec(l.set, nil); a.err != nil || a.count != 1 {
				t.Errorf("%s: %+v", l.set, a)
			}
			if a := exec(l.get, nil); shown(a) != l.value || a.count != 2 {
				t.Errorf("%s gave %+v, not %s", l.get, a, l.value)
			}
			if a := exec(l.print, nil); a.stdout != "out\n" || a.stderr != "" {
				t.Errorf("%s printed %q and %q", l.print, a.stdout, a.stderr)
			}
			if a := exec(l.complain, nil); a.stderr != "err\n" || a.stdout != "" {
				t.Errorf("%s printed %q and %q", l.complain, a.stdout, a.stderr)
			}
			if a := exec(l.wrong, nil); a.err["name"] != l.wrongName {
				t.Errorf("%s failed with %v, not a %s", l.wrong, a.err, l.wrongName)
			}
			if a := exec(l.env, map[string]string{"FOO": `a "b" $c`}); shown(a) != `a "b" $c` {
				t.Errorf("the variable of one execution is %q", shown(a))
			}
			if a := exec(l.env, nil); shown(a) != "none" {
				t.Errorf("the variable of one execution is %q in the next", shown(a))
			}
		})
	}
}

func TestAClientThatGoesAwayInterruptsItsCode(t *testing.T) {
	for language, l := range languagesUnderTest {
		t.Run(language, func(t *testing.T) {
			needs(t, l.needs[0], l.needs[1:]...)
			url, _ := newServer(t)
			run(t, url, map[string]any{"code": l.set, "language": language})
			data, _ := json.Marshal(map[string]any{"code": l.sleep, "language": language})
			ctx, leave := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/execute", strings.NewReader(string(data)))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			for lines := bufio.NewScanner(resp.Body); lines.Scan() && !strings.Contains(lines.Text(), "at it"); {
			}
			leave()
			a := run(t, url, map[string]any{"code": l.get, "language": language})
			if got := strings.TrimSpace(a.text() + a.stdout); got != l.value {
				t.Errorf("after an interruption %s gave %+v", l.get, a)
			}
		})
	}
}

func TestCodeThatEndsItsKernelIsSaidSoAndTheNextRuns(t *testing.T) {
	for language, code := range map[string]string{"python": "import os; print('last'); os._exit(3)", "javascript": "console.log('last'); process.exit(3)", "bash": "echo last; exit 3"} {
		t.Run(language, func(t *testing.T) {
			l := languagesUnderTest[language]
			needs(t, l.needs[0], l.needs[1:]...)
			url, _ := newServer(t)
			a := run(t, url, map[string]any{"code": code, "language": language})
			if a.err["name"] != "UnexpectedEndOfExecution" || !a.ended {
				t.Errorf("code that ends its kernel gave %+v", a)
			}
			if a := run(t, url, map[string]any{"code": l.print, "language": language}); a.stdout != "out\n" {
				t.Errorf("after it: %+v", a)
			}
		})
	}
}

// A kernel that can tell of nothing any more is replaced, and nobody waits for it.
func TestCodeThatClosesItsKernelsEventsIsSaidSoAndTheNextRuns(t *testing.T) {
	url, _ := newServer(t)
	a := run(t, url, map[string]any{"code": "import os, time\nos.close(4)\ntime.sleep(1000)"})
	if a.err["name"] != "UnexpectedEndOfExecution" {
		t.Errorf("%+v", a)
	}
	if a := run(t, url, map[string]any{"code": "1+1"}); a.text() != "2" {
		t.Errorf("the next: %+v", a)
	}
}

func TestContextsAreMadeListedRestartedAndRemoved(t *testing.T) {
	needs(t, "node", "-e", "")
	url, workdir := newServer(t)
	post := func(path, body string, into any) int {
		t.Helper()
		resp, err := http.Post(url+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if into != nil {
			if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
				t.Fatal(err)
			}
		}
		return resp.StatusCode
	}
	list := func() (all []info) {
		t.Helper()
		resp, err := http.Get(url + "/contexts")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
			t.Fatal(err)
		}
		return all
	}
	var made, elsewhere info
	if status := post("/contexts", `{"language":"js"}`, &made); status != http.StatusOK || made.Language != "javascript" || made.Cwd != workdir {
		t.Fatalf("%d %+v", status, made)
	}
	if post("/contexts", `{"language":"bash","cwd":"/"}`, &elsewhere); elsewhere.Cwd != "/" {
		t.Errorf("%+v", elsewhere)
	}
	if all := list(); !slices.Equal(all, []info{made, elsewhere}) {
		t.Errorf("the list is %+v", all)
	}
	if a := run(t, url, map[string]any{"code": "pwd", "context_id": elsewhere.ID}); a.stdout != "/\n" {
		t.Errorf("%+v", a)
	}
	run(t, url, map[string]any{"code": "x = 1", "context_id": made.ID})
	if status := post("/contexts/"+made.ID+"/restart", "", nil); status != http.StatusOK {
		t.Errorf("restart: %d", status)
	}
	if a := run(t, url, map[string]any{"code": "x", "context_id": made.ID}); a.err["name"] != "ReferenceError" {
		t.Errorf("after a restart: %+v", a)
	}
	req, _ := http.NewRequest(http.MethodDelete, url+"/contexts/"+made.ID, nil)
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%v %v", resp, err)
	}
	if all := list(); !slices.Equal(all, []info{elsewhere}) {
		t.Errorf("the list is %+v", all)
	}
	for _, mistake := range []struct {
		body   map[string]any
		status int
		says   string
	}{
		{map[string]any{"code": "1", "context_id": made.ID}, 404, "not found"},
		{map[string]any{"code": "1", "context_id": elsewhere.ID, "language": "js"}, 400, "Only one"},
		{map[string]any{"code": "1", "language": "cobol"}, 500, "bash, javascript, python, typescript"},
		{map[string]any{"code": "1", "language": "bash", "env_vars": map[string]string{"a;b": ""}}, 400, "cannot name"},
	} {
		if a := run(t, url, mistake.body); a.status != mistake.status || !strings.Contains(a.body, mistake.says) {
			t.Errorf("%v gave %d %s", mistake.body, a.status, a.body)
		}
	}
}

func TestJavaScriptHasImportsAndTopLevelAwait(t *testing.T) {
	needs(t, "node", "-e", "")
	url, _ := newServer(t)
	for _, c := range []struct{ code, text, stdout string }{
		{"\n  import { readFileSync as read } from 'fs'\n  console.log(typeof read)\n", "", "function\n"},
		{"import path, { join } from 'node:path'; join(path.sep, 'a')", "/a", ""},
		{"import * as os from \"os\"\ntypeof os.cpus", "function", ""},
		{"import 'node:fs'\n1", "1", ""},
		{"typeof read", "function", ""}, // from the first
		{"await Promise.resolve('Hello')", "Hello", ""},
		{"const late = await Promise.resolve(3); late * 2", "6", ""},
		{"late", "3", ""},
		{"({a: [1]})", "{ a: [ 1 ] }", ""},
		{"undefined", "", ""},
		{"function f() { return 7 }\nf()", "7", ""},
	} {
		if a := run(t, url, map[string]any{"code": c.code, "language": "js"}); a.text() != c.text || a.stdout != c.stdout || a.err != nil {
			t.Errorf("%s gave %+v", c.code, a)
		}
	}
	if a := run(t, url, map[string]any{"code": "setTimeout(() => { throw new Error('late') }, 0)", "language": "js"}); a.err != nil {
		t.Errorf("%+v", a)
	}
	if a := run(t, url, map[string]any{"code": "await new Promise(r => setTimeout(r, 50)); late", "language": "js"}); a.text() != "3" {
		t.Errorf("after an error that nobody caught: %+v", a)
	}
}

func TestPythonShowsTablesChartsAndPictures(t *testing.T) {
	needs(t, "python3", "-c", "import IPython, pandas, matplotlib, PIL, e2b_charts")
	url, _ := newServer(t)
	for _, c := range []struct {
		name, code string
		check      func(answer) bool
	}{
		{"table", "import pandas as pd\npd.DataFrame({'a': [1, float('nan')], 't': [pd.Timestamp(0)] * 2})", func(a answer) bool {
			data, _ := a.results[0]["data"].(map[string]any)
			column, _ := data["a"].([]any)
			return len(column) == 2 && column[0] == 1.0 && column[1] == nil && a.results[0]["html"] != nil
		}},
		{"chart", "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.title('T')\nplt.show()\n[1]", func(a answer) bool {
			chart, _ := a.results[0]["chart"].(map[string]any)
			return len(a.results) == 2 && chart["type"] == "line" && chart["title"] == "T" && a.results[0]["png"] != nil && a.results[0]["extra"] == nil
		}},
		{"saved picture", "    from PIL import Image\n    Image.new('RGB', (4, 4)).save('x.png')", func(a answer) bool { return len(a.results) == 1 && a.results[0]["png"] != nil }},
		{"raw", "from IPython.display import display\ndisplay({'text/latex': 'x', 'a/b': 1}, raw=True)", func(a answer) bool {
			extra, _ := a.results[0]["extra"].(map[string]any)
			return a.results[0]["latex"] == "x" && a.results[0]["text"] == nil && extra["a/b"] == 1.0
		}},
		{"shell", "!echo $((6*7))", func(a answer) bool { return a.stdout == "42\n" && len(a.results) == 0 }},
		{"json", "{'a': [1, 2]}", func(a answer) bool { return a.results[0]["json"] != nil && a.text() == "{'a': [1, 2]}" }},
		{"syntax", "x = = 1", func(a answer) bool { return a.err["name"] == "SyntaxError" }},
		{"await", "import asyncio\nawait asyncio.sleep(0, 'x')", func(a answer) bool { return a.text() == "x" }},
	} {
		a := run(t, url, map[string]any{"code": c.code})
		if len(a.results) == 0 && c.name != "shell" && c.name != "syntax" || !c.check(a) {
			t.Errorf("%s: %+v", c.name, a)
		}
	}
}

func TestTypeScriptRuns(t *testing.T) {
	needs(t, "node", "-e", "require('sucrase')")
	url, _ := newServer(t)
	a := run(t, url, map[string]any{"code": "import type { Stats } from 'fs'\nimport { readFileSync } from 'fs'\nenum E { A = 5 }\nconst n: number = E.A\nconsole.log(typeof readFileSync)\nn", "language": "ts"})
	if a.text() != "5" || a.stdout != "function\n" {
		t.Errorf("%+v", a)
	}
}

func TestOutputThatNeverEndsIsStreamedAndStops(t *testing.T) {
	url, _ := newServer(t)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	data := `{"language":"bash","code":"while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done"}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/execute", strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 16<<20)
	for range 100 {
		if !lines.Scan() {
			t.Fatal(lines.Err())
		}
	}
	leave()
	if a := run(t, url, map[string]any{"code": "echo on", "language": "bash"}); a.stdout != "on\n" {
		t.Errorf("after it: %.200q %v", a.stdout, a.err)
	}
}
