package gvisor

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"cube"
	"cube/internal/testhost"
)

// talker has a connection to each of its arguments' port 7, which answers with
// what it hears, and writes down which have ended. It sends nothing by itself.
const talker = `cat >/tmp/talker.py <<'END'
import os, select, socket, sys
conns = {socket.create_connection((a, 7), timeout=60): a for a in sys.argv[1:]}
for c in conns:
    c.sendall(b"x")
    assert c.recv(1) == b"x"
open("/tmp/talking", "w").close()
while conns:
    for c in select.select(list(conns), [], [], 0.1)[0]:
        try:
            c.recv(1)
        except OSError:
            pass
        with open("/tmp/ended", "a") as f:
            f.write(conns.pop(c) + "\n")
    if os.path.exists("/tmp/ask"):
        for c in conns:
            c.settimeout(60)
            c.sendall(b"y")
            assert c.recv(1) == b"y"
        os.rename("/tmp/ask", "/tmp/answered")
END
(setsid python3 /tmp/talker.py %s >/tmp/talker.log 2>&1 &)
while [ ! -e /tmp/talking ]; do sleep 0.1; done; touch /tmp/ended`

// A new policy ends the connections that it does not allow, silent ones too, and
// none else.
func TestAPolicyEndsWhatItDoesNotAllow(t *testing.T) {
	e := openGated(t, dataDir(t))
	id, neighbour := started(t, e), started(t, e)
	const good, other, bad = testhost.GoodAddr, testhost.OtherAddr, testhost.BadAddr
	run := func(id cube.SandboxID, script string) string {
		t.Helper()
		out, err := shell(t.Context(), e, id, script)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(out)
	}
	for _, one := range []cube.SandboxID{id, neighbour} {
		run(one, fmt.Sprintf(talker, strings.Join([]string{good, other, bad}, " ")))
	}
	if err := e.SetNetwork(t.Context(), id, true, cube.NetworkPolicy{DenyOut: []string{bad}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return run(id, "cat /tmp/ended") == bad })
	// What is silent and allowed is not asked, and speaks on.
	answered := "touch /tmp/ask; while [ ! -e /tmp/answered ]; do kill -0 $(pgrep -f talker.py) || exit 1; sleep 0.1; done; rm /tmp/answered"
	run(id, answered)
	if err := e.SetNetwork(t.Context(), id, false, cube.NetworkPolicy{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return len(strings.Fields(run(id, "cat /tmp/ended"))) == 3 })
	run(neighbour, answered)
	if got := run(neighbour, "cat /tmp/ended"); got != "" {
		t.Errorf("of a neighbour's connections there have ended: %s", got)
	}
}

// What a sandbox had open is forgotten with it.
func TestConnectionsEndWithTheirSandbox(t *testing.T) {
	e := openGated(t, dataDir(t))
	id := started(t, e)
	if out, err := shell(t.Context(), e, id, fmt.Sprintf(talker, testhost.GoodAddr)); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r, _ := e.lookup(id)
	guest := e.network.describe(r.Link).Guest.Addr()
	if open, err := e.network.tracked.of(guest); err != nil || len(open) == 0 {
		t.Errorf("while it runs there is %v (%v)", open, err)
	}
	if err := e.Stop(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	e.network.awaitEnded()
	if open, err := e.network.tracked.of(guest); err != nil || len(open) != 0 {
		t.Errorf("after its end there is %v (%v)", open, err)
	}
}

func TestChecksum(t *testing.T) {
	// RFC 1071's own example, and what is right sums up to nothing.
	if got := checksum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}); got != ^uint16(0xddf2) {
		t.Errorf("the checksum is %x", got)
	}
	four := segment(connection{from: netip.MustParseAddrPort("192.0.2.1:1"), to: netip.MustParseAddrPort("203.0.113.1:2")}, 7)
	if checksum(four[:20]) != 0 {
		t.Error("the header's checksum is wrong")
	}
	six := segment(connection{from: netip.MustParseAddrPort("[2001:db8::1]:1"), to: netip.MustParseAddrPort("[2001:db8::2]:2")}, 7)
	if len(four) != 40 || len(six) != 60 || bytes.Equal(four[20:], six[40:]) {
		t.Errorf("there are %d and %d bytes", len(four), len(six))
	}
}
