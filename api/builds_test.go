package api

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cube/api/gen"
)

// ask requests a build of a template.
func ask(t *testing.T, h http.Handler, body string) gen.RequestedTemplate {
	t.Helper()
	var got gen.RequestedTemplate
	if resp := call(t, h, "POST", "/v3/templates", body, &got); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("asking with %s: %s", body, resp.Status)
	}
	return got
}

// start starts a build.
func start(t *testing.T, h http.Handler, of gen.RequestedTemplate, body string) {
	t.Helper()
	var failure gen.Error
	w := "/v2/templates/" + of.TemplateID + "/builds/" + of.BuildID
	if resp := call(t, h, "POST", w, body, nil); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("starting with %s: %s %+v", body, resp.Status, failure)
	}
}

// await waits for a build's end.
func await(t *testing.T, h http.Handler, of gen.RequestedTemplate) gen.BuildInfo {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if info := status(t, h, of, ""); info.Status == gen.BuildStatusReady || info.Status == gen.BuildStatusError {
			return info
		}
	}
	t.Fatal("the build does not end")
	return gen.BuildInfo{}
}

func status(t *testing.T, h http.Handler, of gen.RequestedTemplate, query string) (info gen.BuildInfo) {
	t.Helper()
	if resp := call(t, h, "GET", "/templates/"+of.TemplateID+"/builds/"+of.BuildID+"/status"+query, "", &info); resp.StatusCode != http.StatusOK {
		t.Fatalf("the status is answered %s", resp.Status)
	}
	return info
}

// built builds a template to its end.
func built(t *testing.T, h http.Handler, body, spec string) gen.RequestedTemplate {
	t.Helper()
	of := ask(t, h, body)
	start(t, h, of, spec)
	if info := await(t, h, of); info.Status != gen.BuildStatusReady {
		t.Fatalf("the build failed: %+v", info.Reason)
	}
	return of
}

func TestABuildFromTheRequestToTheSandbox(t *testing.T) {
	h := newAPI(t)
	of := ask(t, h, `{"name":"Mine:v1","tags":["default","v2"],"cpuCount":1,"memoryMB":256}`)
	if len(of.Names) != 1 || of.Names[0] != "mine" || fmt.Sprint(of.Tags) != "[v1 default v2]" {
		t.Errorf("asked for %+v", of)
	}
	if info := status(t, h, of, ""); info.Status != gen.BuildStatusWaiting || len(info.LogEntries) != 0 {
		t.Errorf("before its start: %+v", info)
	}
	if resp := call(t, h, "POST", "/sandboxes", `{"templateID":"mine"}`, nil); resp.StatusCode != http.StatusConflict {
		t.Errorf("a sandbox of what is not built: %s", resp.Status)
	}
	start(t, h, of, `{"fromImage":"x","steps":[{"type":"RUN","args":["true"]}]}`)
	if info := await(t, h, of); info.Status != gen.BuildStatusReady || info.Progress != 100 {
		t.Errorf("it ended as %+v", info)
	}
	if info := status(t, h, of, "?logsOffset=1&level=info"); len(info.LogEntries) != 1 || info.LogEntries[0].Message != "RUN" {
		t.Errorf("the log behind its first line is %+v", info.LogEntries)
	}
	var backward gen.BuildLogs
	call(t, h, "GET", "/templates/mine/builds/"+of.BuildID+"/logs?direction=backward&limit=1", "", &backward)
	if len(backward.Logs) != 1 || backward.Logs[0].Message != "RUN" {
		t.Errorf("the last line is %+v", backward.Logs)
	}
	for _, name := range []string{"mine", "mine:v1", "MINE:default", "default/mine:v2", of.TemplateID, of.TemplateID + ":v1", of.TemplateID + ":" + of.BuildID} {
		got := create(t, h, "/sandboxes", `{"templateID":"`+name+`"}`)
		if got["templateID"] != of.TemplateID || got["alias"] != "mine" {
			t.Errorf("a sandbox of %s is %v", name, got)
		}
	}
	for _, name := range []string{"mine:v3", "other/mine", of.TemplateID + ":00000000-0000-4000-8000-000000000000"} {
		if resp := call(t, h, "POST", "/sandboxes", `{"templateID":"`+name+`"}`, nil); resp.StatusCode != http.StatusNotFound {
			t.Errorf("a sandbox of %s: %s", name, resp.Status)
		}
	}
	if resp := call(t, h, "POST", "/v2/templates/mine/builds/"+of.BuildID, `{}`, nil); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("started again: %s", resp.Status)
	}
}

func TestABuildThatFailsSaysWhere(t *testing.T) {
	h := newAPI(t)
	of := ask(t, h, `{"name":"mine"}`)
	start(t, h, of, `{"steps":[{"type":"FAIL"}]}`)
	info := await(t, h, of)
	if r := info.Reason; info.Status != gen.BuildStatusError || r == nil || r.Message != "it failed" || text(r.Step) != "1" || len(r.LogEntries) != 1 {
		t.Errorf("it ended as %+v, %+v", info, r)
	}
	if resp := call(t, h, "POST", "/sandboxes", `{"templateID":"mine"}`, nil); resp.StatusCode != http.StatusConflict {
		t.Errorf("a sandbox of it: %s", resp.Status)
	}
}

func TestANewerBuildOfATagEndsTheOlder(t *testing.T) {
	h := newAPI(t)
	older, other := ask(t, h, `{"name":"mine"}`), ask(t, h, `{"name":"mine:v1"}`)
	start(t, h, older, `{"steps":[{"type":"HANG"}]}`)
	start(t, h, other, `{"steps":[{"type":"HANG"}]}`)
	if info := status(t, h, other, ""); info.Status != gen.BuildStatusBuilding {
		t.Errorf("one that waits for its turn is %s", info.Status)
	}
	waiting := ask(t, h, `{"name":"mine"}`)
	newer := ask(t, h, `{"name":"mine"}`)
	for _, of := range []gen.RequestedTemplate{waiting} {
		if info := status(t, h, of, ""); info.Status != gen.BuildStatusError || !strings.Contains(info.Reason.Message, "superseded") {
			t.Errorf("one that was never started is %+v", info)
		}
	}
	start(t, h, newer, `{}`)
	if info := await(t, h, older); info.Status != gen.BuildStatusError || !strings.Contains(info.Reason.Message, "superseded") {
		t.Errorf("the older one is %+v", info)
	}
	if info := status(t, h, other, ""); info.Status != gen.BuildStatusBuilding {
		t.Errorf("the one of another tag is %+v", info)
	}
	if resp := call(t, h, "DELETE", "/templates/mine", "", nil); resp.StatusCode != http.StatusNoContent {
		t.Errorf("deleting it: %s", resp.Status)
	}
}

// TestManyBuildOneNameAtOnce: they are one template, and it is what one of them
// made.
func TestManyBuildOneNameAtOnce(t *testing.T) {
	h := newAPI(t)
	asked := make([]gen.RequestedTemplate, 16)
	statuses := make([]int, len(asked))
	var all sync.WaitGroup
	for i := range asked {
		all.Go(func() {
			statuses[i] = call(t, h, "POST", "/v3/templates", `{"name":"mine"}`, &asked[i]).StatusCode
			if statuses[i] == http.StatusAccepted {
				// One that was superseded already cannot be started.
				call(t, h, "POST", "/v2/templates/"+asked[i].TemplateID+"/builds/"+asked[i].BuildID, `{}`, nil)
			}
		})
	}
	all.Wait()
	ready := 0
	for i, of := range asked {
		if statuses[i] != http.StatusAccepted || of.TemplateID != asked[0].TemplateID {
			t.Fatalf("one is answered %d, %+v; another %+v", statuses[i], of, asked[0])
		}
		info := await(t, h, of)
		if info.Status == gen.BuildStatusReady {
			ready++
		} else if !strings.Contains(info.Reason.Message, "superseded") {
			t.Errorf("one of the builds failed: %+v", info.Reason)
		}
	}
	if ready == 0 {
		t.Error("each ended another: none is ready")
	}
	create(t, h, "/sandboxes", `{"templateID":"mine"}`)
	if resp := call(t, h, "DELETE", "/templates/mine", "", nil); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("deleting it while a sandbox is of it: %s", resp.Status)
	}
}

func TestTagsStandForBuilds(t *testing.T) {
	h := newAPI(t)
	first := built(t, h, `{"name":"mine"}`, `{}`)
	second := built(t, h, `{"name":"mine"}`, `{}`)
	if first.TemplateID != second.TemplateID || first.BuildID == second.BuildID {
		t.Fatalf("two builds of a name: %+v, %+v", first, second)
	}
	for _, row := range []struct{ target, tags, want string }{
		{"mine", `["A","a"]`, second.BuildID}, {"mine:" + first.BuildID, `["b"]`, first.BuildID}, {first.TemplateID + ":b", `["c"]`, first.BuildID},
	} {
		var got gen.AssignedTags
		resp := call(t, h, "POST", "/templates/tags", `{"target":"`+row.target+`","tags":`+row.tags+`}`, &got)
		if resp.StatusCode != http.StatusCreated || got.BuildID != row.want || len(got.Tags) != 1 {
			t.Errorf("%+v: %s %+v", row, resp.Status, got)
		}
	}
	var tags []gen.TemplateTag
	if call(t, h, "GET", "/templates/mine/tags", "", &tags); len(tags) != 4 {
		t.Errorf("tags: %+v", tags)
	}
	for body, want := range map[string]int{
		`{"name":"mine","tags":["a","none"]}`: 204, `{"name":"mine","tags":["default"]}`: 400, `{"name":"mine","tags":[]}`: 400,
		`{"name":"mine:a","tags":["a"]}`: 400, `{"name":"none","tags":["a"]}`: 404,
	} {
		if resp := call(t, h, "DELETE", "/templates/tags", body, nil); resp.StatusCode != want {
			t.Errorf("removing %s: %s, want %d", body, resp.Status, want)
		}
	}
	for body, want := range map[string]int{
		`{"target":"none:default","tags":["a"]}`: 404, `{"target":"mine:none","tags":["a"]}`: 404, `{"target":"mine","tags":[]}`: 400,
		`{"target":"mine","tags":[""]}`: 400, `{"target":"mine","tags":["` + first.BuildID + `"]}`: 400, `{"target":"mine:a:b","tags":["a"]}`: 400,
	} {
		if resp := call(t, h, "POST", "/templates/tags", body, nil); resp.StatusCode != want {
			t.Errorf("assigning %s: %s, want %d", body, resp.Status, want)
		}
	}
	if resp := call(t, h, "GET", "/templates/aliases/mine:a", "", nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a tag that was removed: %s", resp.Status)
	}
}

func TestATemplateInUseIsNotDeleted(t *testing.T) {
	h := newAPI(t)
	of := built(t, h, `{"name":"mine"}`, `{}`)
	sandbox := create(t, h, "/sandboxes", `{"templateID":"mine"}`)["sandboxID"].(string)
	for _, step := range []struct {
		method, path string
		want         int
	}{
		{"DELETE", "/templates/mine", 400},
		{"POST", "/sandboxes/" + sandbox + "/pause", 204},
		{"DELETE", "/templates/" + of.TemplateID, 400},
		{"DELETE", "/sandboxes/" + sandbox, 204},
		{"DELETE", "/templates/mine", 204},
		{"DELETE", "/templates/mine", 404},
		{"GET", "/templates/mine", 404},
		{"GET", "/templates/aliases/mine", 404},
		{"DELETE", "/templates/base", 403},
	} {
		if resp := call(t, h, step.method, step.path, "", nil); resp.StatusCode != step.want {
			t.Errorf("%s %s: %s, want %d", step.method, step.path, resp.Status, step.want)
		}
	}
	built(t, h, `{"name":"mine"}`, `{}`) // the name is free
}

func TestWhatIsAskedOfATemplateIsChecked(t *testing.T) {
	h := newAPI(t)
	for body, want := range map[string]string{
		`{"cpuCount":2,"memoryMB":512}`:               "Name is required",
		`{"name":"a b"}`:                              "Invalid name: ",
		`{"name":"other/a"}`:                          "namespace 'other' must match your team 'default'",
		`{"name":"a","tags":["x y"]}`:                 "Invalid tag: ",
		`{"name":"a","cpuCount":0}`:                   "validation error",
		`{"name":"a","memoryMB":32}`:                  "validation error",
		`{"name":"a","cpuCount":1024}`:                "CPU count must be at most 32",
		`{"name":"a","cpuCount":3}`:                   "CPU count must be 1 or an even number",
		`{"name":"a","memoryMB":1001}`:                "Memory must be divisible by 2",
		`{"name":"a","memoryMB":1048576}`:             "Memory can't be higher than",
		`{"name":"a","minFreeDiskMb":-1}`:             "validation error",
		`{"name":"a","tags":"x"}`:                     "validation error",
		`{"name":"` + strings.Repeat("a", 129) + `"}`: "validation error",
	} {
		var failure gen.Error
		if resp := call(t, h, "POST", "/v3/templates", body, &failure); resp.StatusCode != http.StatusBadRequest || !strings.HasPrefix(failure.Message, want) {
			t.Errorf("%s: %s %q, want %q", body, resp.Status, failure.Message, want)
		}
	}
	var list []gen.Template
	if call(t, h, "GET", "/templates", "", &list); len(list) != 1 {
		t.Errorf("what was refused left %+v", list)
	}
}

func TestTemplatesAreReadAndChanged(t *testing.T) {
	h := newAPI(t)
	of := built(t, h, `{"name":"mine"}`, `{}`)
	ask(t, h, `{"name":"second"}`)
	create(t, h, "/sandboxes", `{"templateID":"mine"}`)
	var names gen.UpdatedTemplate
	if resp := call(t, h, "PATCH", "/v2/templates/mine", `{"public":true}`, &names); resp.StatusCode != http.StatusOK || fmt.Sprint(names.Names) != "[mine]" {
		t.Errorf("%s %+v", resp.Status, names)
	}
	if resp := call(t, h, "PATCH", "/v2/templates/none", `{"public":true}`, nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("changing one that is not there: %s", resp.Status)
	}
	var one gen.TemplateWithBuilds
	if call(t, h, "GET", "/templates/mine", "", &one); one.TemplateID != of.TemplateID || !one.Public || len(one.Builds) != 1 || one.Builds[0].BuildID != of.BuildID || one.Status != "READY" {
		t.Errorf("it reads %+v", one)
	}
	var seen []string
	for path, pages := "/v2/templates?limit=1", 0; path != "" && pages < 5; pages++ {
		var list []gen.Template
		resp := call(t, h, "GET", path, "", &list)
		if len(list) != 1 {
			t.Fatalf("a page of %d", len(list))
		}
		seen = append(seen, list[0].Names[0])
		path = ""
		if next := resp.Header.Get("X-Next-Token"); next != "" {
			path = "/v2/templates?limit=1&nextToken=" + next
		}
	}
	if fmt.Sprint(seen) != "[second mine base]" && fmt.Sprint(seen) != "[mine second base]" {
		t.Errorf("the pages hold %v", seen)
	}
}

func TestTheOlderFormsBuildToo(t *testing.T) {
	h := newAPI(t)
	var job gen.TemplateJob
	if resp := call(t, h, "POST", "/templates", `{"cpuCount":2,"memoryMB":1024,"alias":"old","dockerfile":"FROM x\nRUN true\n"}`, &job); resp.StatusCode != http.StatusAccepted || job.Phase != "WAITING" {
		t.Fatalf("E2B's: %s %+v", resp.Status, job)
	}
	if resp := call(t, h, "POST", "/templates/old/builds/"+job.BuildID, "", &job); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("its start: %s", resp.Status)
	}
	if info := await(t, h, gen.RequestedTemplate{TemplateID: "old", BuildID: job.BuildID}); info.Status != gen.BuildStatusReady {
		t.Errorf("it ended as %+v", info)
	}
	body := `{"templateID":"img","image":"nginx","exposedPorts":[80,443],"probePath":"/up","env":{"A":"b"},"writableLayerSize":"2G","cpu":1,"memory":256}`
	if resp := call(t, h, "POST", "/templates", body, &job); resp.StatusCode != http.StatusAccepted || job.JobID == "" || job.DiskSizeMB != 2048 || job.Status != "BUILDING" {
		t.Fatalf("CubeSandbox's: %s %+v", resp.Status, job)
	}
	if info := await(t, h, gen.RequestedTemplate{TemplateID: "img", BuildID: job.JobID}); info.Status != gen.BuildStatusReady {
		t.Errorf("it ended as %+v", info)
	}
	first := job.JobID
	if resp := call(t, h, "POST", "/templates/img", `{"image":"nginx:2"}`, &job); resp.StatusCode != http.StatusAccepted || job.JobID == first || job.MemoryMB != 256 {
		t.Errorf("built again: %s %+v", resp.Status, job)
	}
	for _, body := range []string{`{"image":"x","probePath":"/"}`, `{"image":"x","probePort":70000}`, `{"image":"x","writableLayerSize":"much"}`, `{"image":"x","exposedPorts":[80],"probePath":"up"}`} {
		if resp := call(t, h, "POST", "/templates", body, nil); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", body, resp.Status)
		}
	}
}

func TestAnArchiveIsUploadedToALink(t *testing.T) {
	h := newAPI(t)
	of := ask(t, h, `{"name":"mine"}`)
	hash := strings.Repeat("0a", 32)
	path := "/templates/mine/files/" + hash
	var link gen.BuildUpload
	if resp := call(t, h, "GET", path, "", &link); resp.StatusCode != http.StatusCreated || link.Present || !strings.HasPrefix(text(link.Url), "http://example.com/uploads/") {
		t.Fatalf("%s %+v of %+v", resp.Status, link, of)
	}
	for path, want := range map[string]int{"/templates/mine/files/xyz": 400, "/templates/none/files/" + hash: 404} {
		if resp := call(t, h, "GET", path, "", nil); resp.StatusCode != want {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}
