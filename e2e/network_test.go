package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cube/internal/testhost"
)

// startOnInternet starts a server that asks the tests' internet for names, and
// trusts its authority behind rules.
func startOnInternet(t *testing.T, args ...string) *server {
	t.Helper()
	response, err := http.Get(testhost.RootURL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	root, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(file, root, 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, append([]string{"--dns-upstream", testhost.NameServerAddr, "--rule-ca", file}, args...)...)
}

// createWith creates a sandbox with a network policy.
func (s *server) createWith(network map[string]any) sandbox {
	s.t.Helper()
	var created sandbox
	status, body := s.call("POST", "/v2/sandboxes", map[string]any{"templateID": "base", "timeout": 600, "network": network}, "X-API-Key", fullKey)
	if err := json.Unmarshal(body, &created); status != http.StatusCreated || err != nil {
		s.t.Fatalf("creating a sandbox: %d %s", status, body)
	}
	return created
}

const (
	injected = "hunter2-of-the-customer"
	ruleFor  = testhost.GoodName
)

func ruleOf(domain string) map[string]any {
	return map[string]any{domain: []any{map[string]any{"transform": map[string]any{"headers": map[string]any{"X-Secret": injected}}}}}
}

// fetchers are programs that ask for https://NAME/who, each with its own idea of
// whom to trust.
var fetchers = map[string]struct{ needs, script string }{
	"curl":   {"curl", `curl -sS --max-time 30 https://NAME/who 2>/dev/null || echo closed`},
	"python": {"python3", `python3 -c 'import urllib.request as u; print(u.urlopen("https://NAME/who", timeout=30).read().decode(), end="")' 2>/dev/null || echo closed`},
	"node":   {"node", `node -e 'fetch("https://NAME/who").then(r => r.text()).then(t => process.stdout.write(t), () => console.log("closed"))'`},
}

func (s *server) fetch(c sandbox, name, program string) string {
	s.t.Helper()
	out, _ := s.shell(c, "user", strings.ReplaceAll(fetchers[program].script, "NAME", name))
	return strings.TrimSpace(out)
}

// A secret that a rule sets reaches the server that it is for, from every program,
// and nothing inside.
func TestNetworkRules(t *testing.T) {
	s := startOnInternet(t)
	c := s.createWith(map[string]any{"allowOut": []string{ruleFor, testhost.OtherName}, "denyOut": []string{"0.0.0.0/0"}, "rules": ruleOf(ruleFor)})
	want := testhost.GoodAddr + " " + ruleFor + " " + injected
	for program, f := range fetchers {
		if _, err := exec.LookPath(f.needs); err != nil {
			continue
		}
		if got := s.fetch(c, ruleFor, program); got != want {
			t.Errorf("%s gets %q, want %q", program, got, want)
		}
		if got := s.fetch(c, testhost.BadName, program); got != "closed" {
			t.Errorf("%s gets %q from a name that is not allowed", program, got)
		}
	}
	// What no rule names is not looked into: its own certificate arrives, which the
	// sandbox does not know.
	if got := s.fetch(c, testhost.OtherName, "curl"); got != "closed" {
		t.Errorf("a name without a rule answers %q", got)
	}
	status, body := s.call("GET", "/sandboxes/"+c.SandboxID+"/network/log?denied=true&limit=500", nil, "X-API-Key", fullKey)
	if status != http.StatusOK || !strings.Contains(string(body), `"name":"bad.example"`) || strings.Contains(string(body), "good.example") {
		t.Errorf("the network log of what was denied: %d %s", status, body)
	}
	if out, _ := s.shell(c, "root", "cat /proc/[0-9]*/environ /etc/ssl/certs/ca-certificates.crt 2>/dev/null | tr '\\0' '\\n' | grep -c -e "+injected+" -e 'PRIVATE KEY'"); strings.TrimSpace(out) != "0" {
		t.Errorf("inside there is the secret, or a key, %s times", out)
	}

	s.pause(c.SandboxID)
	status, body = s.call("POST", "/v2/sandboxes/"+c.SandboxID+"/connect", map[string]any{"timeout": 600}, "X-API-Key", fullKey)
	if status != http.StatusCreated {
		t.Fatalf("resuming: %d %s", status, body)
	}
	if got := s.fetch(c, ruleFor, "curl"); got != want {
		t.Errorf("after a pause there is %q", got)
	}
	s.crash()
	if got := s.fetch(c, ruleFor, "curl"); got != want {
		t.Errorf("after a crash of the server there is %q", got)
	}
	if strings.Contains(s.log.String(), injected) {
		t.Error("the log has the secret")
	}
}

// An update gives a sandbox that runs its first rule, which its programs trust
// from then on, and disturbs nobody.
func TestNetworkUpdate(t *testing.T) {
	s := startOnInternet(t)
	c := s.createWith(map[string]any{})
	stream, err := s.startShell(t.Context(), c, "user", "while [ ! -e /tmp/go ]; do sleep 0.2; done")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	put := func(network map[string]any) {
		t.Helper()
		if status, body := s.call("PUT", "/sandboxes/"+c.SandboxID+"/network", network, "X-API-Key", fullKey); status != http.StatusNoContent {
			t.Fatalf("setting the network: %d %s", status, body)
		}
	}
	put(map[string]any{"rules": ruleOf(ruleFor)})
	if got, want := s.fetch(c, ruleFor, "curl"), testhost.GoodAddr+" "+ruleFor+" "+injected; got != want {
		t.Errorf("with a rule there is %q", got)
	}
	put(map[string]any{"denyOut": []string{"0.0.0.0/0"}})
	if got := s.fetch(c, ruleFor, "curl"); got != "closed" {
		t.Errorf("with all denied there is %q", got)
	}
	put(map[string]any{"allowOut": []string{"*.good.example"}, "denyOut": []string{"0.0.0.0/0"}, "rules": ruleOf("www.good.example")})
	if got, want := s.fetch(c, "www.good.example", "curl"), testhost.GoodAddr+" www.good.example "+injected; got != want {
		t.Errorf("with another rule there is %q", got)
	}
	// Who followed a process follows it still.
	if _, code := s.shell(c, "user", "echo go > /tmp/go"); code != 0 {
		t.Fatal("the file cannot be written")
	}
	for {
		event, err := stream.next()
		if err != nil {
			t.Fatalf("the stream broke off: %v", err)
		}
		if event.End != nil {
			break
		}
	}
}
