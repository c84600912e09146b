package e2e

import (
	"context"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// read returns what a stream prints until a line has come, and perhaps more, or,
// for "", until the process ends.
func (p processStream) read(t *testing.T, last string) (pid int, printed string) {
	t.Helper()
	for {
		event, err := p.next()
		if err != nil {
			t.Fatalf("%v, after %.500q", err, printed)
		}
		if event.Start.Pid != 0 {
			pid = event.Start.Pid
		}
		printed += string(event.Data.Stdout)
		if event.End != nil || last != "" && strings.Contains("\n"+printed, "\n"+last+"\n") {
			return pid, printed
		}
	}
}

// TestWhatWasPrintedMeanwhileIsToldToTheNextClient goes away from a process that
// prints, and comes back: while it runs, and after its end.
func TestWhatWasPrintedMeanwhileIsToldToTheNextClient(t *testing.T) {
	s := start(t)
	c := s.create()
	ctx, leave := context.WithCancel(t.Context())
	// The pauses are for the agent to see that the client is gone: nobody can know
	// what a server has in its hands when its client goes.
	stream, err := s.startShell(ctx, c, "user", "echo begun; while [ ! -e go ]; do sleep 0.05; done; sleep 3; seq 1000; touch printed; while [ ! -e end ]; do sleep 0.05; done; sleep 3; echo last")
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := stream.read(t, "begun")
	leave()
	s.shell(c, "user", "touch go; while [ ! -e printed ]; do sleep 0.05; done")
	var want strings.Builder
	for i := range 1000 {
		want.WriteString(strconv.Itoa(i+1) + "\n")
	}
	ctx, leave = context.WithCancel(t.Context())
	if stream, err = s.connectTo(ctx, c, pid); err != nil {
		t.Fatal(err)
	}
	if _, printed := stream.read(t, "1000"); printed != want.String() {
		t.Errorf("the next client got %.200q", printed)
	}
	leave()
	s.shell(c, "user", "touch end; while kill -0 "+strconv.Itoa(pid)+" 2>/dev/null; do sleep 0.05; done")
	if stream, err = s.connectTo(t.Context(), c, pid); err != nil {
		t.Fatal(err)
	}
	if _, printed := stream.read(t, ""); printed != "last\n" {
		t.Errorf("after its end: %.200q", printed)
	}
}

// TestAKilledServerCostsNoOutput kills the server while a process prints: what it
// prints before there is another comes then. What the dead one had in its hands
// nobody can know: a few lines, if the machine was busy.
func TestAKilledServerCostsNoOutput(t *testing.T) {
	s := start(t)
	c := s.create()
	const inItsHands, meanwhile = 40, 80 // lines
	stream, err := s.startShell(t.Context(), c, "user", "i=0; while [ ! -e end ]; do i=$((i+1)); echo $i; echo $i > n; sleep 0.05; done")
	if err != nil {
		t.Fatal(err)
	}
	pid, before := stream.read(t, "20")
	s.stop(syscall.SIGKILL)
	for { // what was on its way still
		event, err := stream.next()
		if err != nil {
			break
		}
		before += string(event.Data.Stdout)
	}
	_ = stream.Close()
	seen := strings.Fields(before)
	last, _ := strconv.Atoi(seen[len(seen)-1])
	s.launch()
	s.shell(c, "user", "while n=$(cat n); [ \"${n:-0}\" -lt "+strconv.Itoa(last+meanwhile)+" ]; do sleep 0.05; done")
	if stream, err = s.connectTo(t.Context(), c, pid); err != nil {
		t.Fatal(err)
	}
	_, printed := stream.read(t, strconv.Itoa(last+meanwhile+10))
	lines := strings.Fields(printed)
	first, _ := strconv.Atoi(lines[0])
	if first <= last || first > last+inItsHands {
		t.Errorf("after line %d came line %d", last, first)
	}
	for i, line := range lines {
		if line != strconv.Itoa(first+i) {
			t.Errorf("line %d is %q, want %d", i, line, first+i)
			break
		}
	}
}
