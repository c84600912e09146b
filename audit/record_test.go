package audit

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"cube"
	"cube/auth/decision"
	"cube/gateway"
	"cube/internal/requestid"
	"cube/lifecycle"
)

var moment = time.Date(2026, 11, 24, 1, 2, 3, 4000, time.UTC)

func TestWhatIsRecorded(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Config{Dir: dir})
	l.Decision(outcome("r1"))
	l.Decision(outcome("r2").Refused(401, decision.ReasonRefused))
	shadow := outcome("r1")
	shadow.Source = decision.FromShadow
	l.Decision(shadow)
	event := lifecycle.Event{
		Kind: lifecycle.EventCreated, At: moment, Sandbox: "i1", Template: "base", Owner: cube.Owner{Subject: "ann", Team: "blue"}, Deadline: moment,
	}
	var request string
	handler := Middleware(requestid.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		request = requestid.From(r.Context())
		l.Lifecycle(cube.WithIdentity(r.Context(), cube.Identity{Subject: "bob", Key: "k2", Fingerprint: "f2"}), event)
	})))
	r := httptest.NewRequest("POST", "/sandboxes", nil)
	r.RemoteAddr = "[::1]:1234"
	handler.ServeHTTP(httptest.NewRecorder(), r)
	event.Kind = lifecycle.EventTimeout
	l.Lifecycle(context.Background(), event)
	event.Kind, event.Reason = lifecycle.EventEnded, cube.EndDeadline
	l.Lifecycle(context.Background(), event)
	op := gateway.Operation{
		Time: moment, RequestID: "r3", Remote: "::1", Sandbox: "i1", Owner: cube.Owner{Team: "blue"}, Action: gateway.ProcessStarted,
		User: "root", Command: []string{"ls", "-l"}, Status: 200,
	}
	l.Inside(op)
	for _, status := range []int{0, 401, 403, 404, 500} {
		l.Inside(gateway.Operation{Time: moment, Action: gateway.FileMoved, Paths: []string{"/a", "/b"}, Status: status, Incomplete: true})
	}
	mustClose(t, l)

	asked := Record{Time: moment, Action: Decided, RequestID: "r1", Remote: "127.0.0.1", Subject: "ann", Team: "blue", Key: "k1", Fingerprint: "f1",
		Method: "GET", Path: "/sandboxes", Source: "cache", LatencyUS: 1, Status: 200, Outcome: Allowed, Reason: "allowed"}
	refused := asked
	refused.RequestID, refused.Status, refused.Outcome, refused.Reason = "r2", 401, Refused, "refused"
	shadowed := asked
	shadowed.Action, shadowed.Source = Shadowed, "shadow"
	of := Record{Time: moment, Outcome: Done, Sandbox: "i1", OwnerSubject: "ann", OwnerTeam: "blue", Template: "base"}
	created, timeout, ended := of, of, of
	created.Action, created.Deadline = Created, &moment
	created.RequestID, created.Remote, created.Subject, created.Key, created.Fingerprint = request, "::1", "bob", "k2", "f2"
	timeout.Action, timeout.Deadline = TimeoutSet, &moment
	ended.Action, ended.Reason = Ended, "deadline"
	moved := func(status int, o Outcome) Record {
		return Record{Time: moment, Action: "file.moved", Outcome: o, Paths: []string{"/a", "/b"}, Status: status, Incomplete: true}
	}
	records, _ := read(t, dir, Filter{})
	if diff := cmp.Diff([]Record{
		asked, refused, shadowed, created, timeout, ended,
		{Time: moment, Action: "process.started", Outcome: Done, RequestID: "r3", Remote: "::1", Sandbox: "i1", OwnerTeam: "blue", User: "root", Command: []string{"ls", "-l"}, Status: 200},
		moved(0, Unanswered), moved(401, Refused), moved(403, Refused), moved(404, Failed), moved(500, Failed),
	}, records); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// hostile are texts as clients may send them.
var hostile = []string{
	"a\n{\"action\":\"decision\",\"outcome\":\"allowed\"}", "\r\n", "\x1b[2J", "\u009b2J", "\u202egnp.exe", "\u2028", "\U000e0041",
	"\xff\xfe", "\x00", `"},{"`, `\n`, "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "＝1", `','=1`, "a;b,c\"d", "",
}

func TestClientsCannotWriteLines(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Config{Dir: dir})
	for _, text := range hostile {
		o := outcome(text)
		o.Path, o.Method, o.Identity.Subject, o.Identity.Team = text, text, text, text
		l.Decision(o)
		l.Inside(gateway.Operation{Time: moment, Action: gateway.ProcessStarted, User: text, Command: []string{text}, Paths: []string{text}, Process: text})
	}
	mustClose(t, l)
	if got := len(lines(t, dir)); got != 2*len(hostile) {
		t.Fatalf("%d lines, want %d", got, 2*len(hostile))
	}
	records, unreadable := read(t, dir, Filter{})
	for i, text := range hostile {
		want := strings.ToValidUTF8(text, "\ufffd")
		if !utf8.ValidString(text) {
			want = "\ufffd\ufffd"
		}
		if got := records[2*i]; got.Path != want || got.Subject != want {
			t.Errorf("%q is read as %+v", text, got)
		}
		if got := records[2*i+1]; got.Command[0] != want || got.Paths[0] != want {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
	if unreadable != 0 {
		t.Errorf("%d lines are unreadable", unreadable)
	}
	content, err := csv.NewReader(strings.NewReader(export(t, dir, Filter{}, CSV))).ReadAll()
	if err != nil || len(content) != 2*len(hostile)+1 {
		t.Fatalf("%d rows, %v", len(content), err)
	}
	for _, row := range content[1:] {
		for _, cell := range row {
			if cell != "" && strings.ContainsAny(cell[:1], "=+-@\t\r") || strings.ContainsAny(cell, "\r\n\t\x1b\u009b") {
				t.Errorf("a spreadsheet could run %q", cell)
			}
		}
	}
}

func TestLongTextsAreCut(t *testing.T) {
	long := strings.Repeat("é", 1<<20)
	many := make([]string, 10_000)
	for name, r := range map[string]Record{
		"texts":          {Time: moment, Path: long, Subject: long, User: long, Process: long},
		"long arguments": {Time: moment, Command: []string{long, long, long}},
		"many arguments": {Time: moment, Command: many, Paths: many},
	} {
		line := r.line()
		var got Record
		if err := json.Unmarshal(line, &got); err != nil || !got.Cut || len(line) > 64<<10 || !strings.Contains(string(line), mark) {
			t.Errorf("%s: a line of %d bytes, cut %v, %v", name, len(line), got.Cut, err)
		}
	}
	exact := Record{Time: moment, Path: strings.Repeat("x", maxText), Command: []string{strings.Repeat("x", maxEntry), strings.Repeat("x", maxEntry)}}
	var got Record
	if err := json.Unmarshal(exact.line(), &got); err != nil || got.Cut || cmp.Diff(exact, got) != "" {
		t.Errorf("what fits was changed: %v", err)
	}
}

func FuzzLine(f *testing.F) {
	for _, text := range hostile {
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, text, other string) {
		r := Record{Time: moment, Subject: text, Command: []string{other, text}}
		line := r.line()
		var got Record
		if err := json.Unmarshal(line, &got); err != nil || strings.Count(string(line), "\n") != 1 {
			t.Fatalf("%q: %v", line, err)
		}
		if utf8.ValidString(text) && len(text) <= maxText && got.Subject != text {
			t.Errorf("%q is read as %q", text, got.Subject)
		}
	})
}
