package audit

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cube"
	"cube/network/gate"
)

func TestWhereSandboxesGoIsWrittenDown(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Config{Dir: dir})
	at := time.Date(2026, 11, 27, 6, 0, 0, 0, time.UTC)
	to := gate.Event{
		Time: at, Sandbox: "i1", Kind: gate.KindTLS, Name: "example.com", Address: netip.MustParseAddr("203.0.113.1"), Port: 443, Rule: "example.com",
	}
	allowed, over, denied := to, to, to
	allowed.Allowed = true
	over.Allowed, over.Ended, over.Up, over.Down = true, true, 10, 200
	denied.Rule = "0.0.0.0/0"
	question := gate.Event{Time: at, Sandbox: "i1", Kind: gate.KindDNS, Name: "bad.example", Port: 53, Rule: "0.0.0.0/0"}
	known := question
	known.Allowed = true
	for _, e := range []gate.Event{allowed, over, denied, question, known} {
		l.Network(e, cube.Owner{Subject: "ann"})
	}
	mustClose(t, l)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	want := []string{
		`{"time":"2026-11-27T06:00:00Z","action":"network.connection","outcome":"allowed","sandbox":"i1","owner_subject":"ann","name":"example.com","address":"203.0.113.1:443","protocol":"tls","rule":"example.com"}`,
		`{"time":"2026-11-27T06:00:00Z","action":"network.connection","outcome":"done","sandbox":"i1","owner_subject":"ann","name":"example.com","address":"203.0.113.1:443","protocol":"tls","rule":"example.com","bytes_up":10,"bytes_down":200}`,
		`{"time":"2026-11-27T06:00:00Z","action":"network.connection","outcome":"refused","sandbox":"i1","owner_subject":"ann","name":"example.com","address":"203.0.113.1:443","protocol":"tls","rule":"0.0.0.0/0"}`,
		`{"time":"2026-11-27T06:00:00Z","action":"network.question","outcome":"refused","sandbox":"i1","owner_subject":"ann","name":"bad.example","rule":"0.0.0.0/0"}`,
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("there is\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}
