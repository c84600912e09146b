package internet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// Who is connected reaches its hosts by name, and proves what it is told.
func TestInternet(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	i, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	machine, err := NewSpace()
	if err != nil {
		t.Fatal(err)
	}
	defer machine.Close()
	if err := i.Connect(machine); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(i.Root)
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return machine.Dial(ctx, network, NameServer+":53")
	}}
	client := &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				host, port, _ := net.SplitHostPort(address)
				if net.ParseIP(host) == nil {
					all, err := resolver.LookupHost(ctx, host)
					if err != nil {
						return nil, err
					}
					host = all[0]
				}
				return machine.Dial(ctx, network, net.JoinHostPort(host, port))
			}}}
	for url, want := range map[string]struct {
		status int
		body   string
	}{
		"http://good.example/who":                            {200, "203.0.113.1 good.example \n"},
		"https://good.example/who":                           {200, "203.0.113.1 good.example \n"},
		"https://maps.google.com/who":                        {200, "203.0.113.110 maps.google.com \n"},
		"https://1.1.1.1":                                    {301, ""},
		"https://8.8.8.8":                                    {302, ""},
		"https://connectivitycheck.gstatic.com/generate_204": {204, ""},
		"http://169.254.169.254/who":                         {200, "169.254.169.254 169.254.169.254 \n"},
		"http://rebound.example/redirect?to=http://1.1.1.1/": {302, ""},
	} {
		response, err := client.Get(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if response.StatusCode != want.status || want.body != "" && string(body) != want.body {
			t.Errorf("%s answers %d %q", url, response.StatusCode, body)
		}
	}
	if _, err := resolver.LookupHost(t.Context(), "nowhere.example"); err == nil {
		t.Error("there is a name that nobody has")
	}
	i.SetName("new.example", "203.0.113.9", "2001:db8::9")
	if found, err := resolver.LookupHost(t.Context(), "new.example"); err != nil || len(found) != 2 {
		t.Errorf("a new name is at %v, %v", found, err)
	}
	asked := i.Asked()
	if last := asked[len(asked)-1]; last.Name != "new.example" || last.Server != NameServer || last.Way != "udp" {
		t.Errorf("the last question is %v", last)
	}
	if i.answer([]byte("nonsense"), NameServer, "udp") != nil {
		t.Error("nonsense is answered")
	}
}
