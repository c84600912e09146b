package e2e

import (
	"net/http"
	"strings"
	"testing"

	"cube/internal/internet"
	"cube/internal/testhost"
)

// Names, rules that change requests and addresses hold by IPv6, over a pause and
// a crash of the server.
func TestNetworkByIPv6(t *testing.T) {
	testhost.IPv6(t)
	const name, at = "six.example", "2001:db8::1"
	s := startOnInternet(t, "--sandbox-ipv6", "on")
	c := s.createWith(map[string]any{"allowOut": []string{name, "2001:db8:1::/48"}, "denyOut": []string{"0.0.0.0/0"}, "rules": ruleOf(name)})
	get := func(what string) string {
		out, _ := s.shell(c, "user", "curl -gsS --max-time 30 "+what+" 2>/dev/null || echo closed")
		return strings.TrimSpace(out)
	}
	check := func(when string) {
		t.Helper()
		for what, want := range map[string]string{
			"https://" + name + "/who":                at + " " + name + " " + injected,
			"https://bad6.example/who":                "closed",
			"http://[" + at + "]/who":                 "closed",
			"http://[2001:db8:1::7]/who":              "2001:db8:1::7 [2001:db8:1::7]",
			"http://[fd00:ec2::254]/":                 "closed",
			"http://[" + internet.Machine6Addr + "]/": "closed",
		} {
			if got := get(what); got != want {
				t.Errorf("%s: %s answers %q, want %q", when, what, got, want)
			}
		}
	}
	check("at first")
	s.pause(c.SandboxID)
	if status, body := s.call("POST", "/v2/sandboxes/"+c.SandboxID+"/connect", map[string]any{"timeout": 600}, "X-API-Key", fullKey); status != http.StatusCreated {
		t.Fatalf("resuming: %d %s", status, body)
	}
	check("after a pause")
	s.crash()
	check("after a crash of the server")
	open := s.createWith(map[string]any{})
	out, _ := s.shell(open, "user", "curl -gsS --max-time 30 http://["+at+"]/ 2>/dev/null || echo closed")
	if !strings.HasPrefix(out, "["+internet.Machine6Addr+"]:") {
		t.Errorf("the internet sees %q", out)
	}
	if strings.Contains(s.log.String(), injected) {
		t.Error("the log has the secret")
	}
}
