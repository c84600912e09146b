package e2e

import (
	"encoding/base64"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// hostServer is a server inside that answers with the Host that it was asked for,
// with TLS and a certificate that nobody knows.
const hostServer = `
import http.server, ssl
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = ("tls " + self.headers.get("Host")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
server = http.server.HTTPServer(("127.0.0.1", 8443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tmp/cert.pem", "/tmp/key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
`

func TestAServerInsideThatSpeaksTLS(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("the machine has no openssl")
	}
	s := start(t)
	c := s.createWith(map[string]any{"httpsPorts": []int{8443}, "maskRequestHost": "inner.example:${PORT}"})
	script := base64.StdEncoding.EncodeToString([]byte(hostServer))
	s.command(c, fmt.Sprintf(`cd /tmp && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out cert.pem -subj /CN=inside 2>/dev/null
echo %s | base64 -d > server.py; setsid python3 server.py >/dev/null 2>&1 </dev/null &`, script))
	host := "8443-" + c.SandboxID + ".localhost"
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		resp := raw(t, s, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		if resp.StatusCode != 200 {
			if time.Now().After(deadline) {
				t.Fatalf("the server inside answers %s", resp.Status)
			}
			continue
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || strings.TrimSpace(string(body)) != "tls inner.example:8443" {
			t.Errorf("it answers %q (%v)", body, err)
		}
		return
	}
}
