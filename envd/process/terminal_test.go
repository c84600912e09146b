package process

import (
	"errors"
	"os"
	"testing"
	"time"

	pb "cube/envd/gen/process"
)

func TestReadingFromATerminalCanBeInterrupted(t *testing.T) {
	master, slave, err := openTerminal(&pb.PTY_Size{Cols: 80, Rows: 24})
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	if err := setSize(master, &pb.PTY_Size{Cols: 1 << 20}); err != nil { // must not make it blocking
		t.Fatal(err)
	}
	if err := master.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if n, err := master.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading gives %d bytes and %v", n, err)
	}
}

func TestWhatASlowFollowerLeftInAPipeIsStillPassedOn(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close() // held open, as by something left behind
	var a audience
	f := a.join(t.Context())
	out := output{r, stdout, 4}
	if _, err := w.WriteString("all of it"); err != nil {
		t.Fatal(err)
	}
	_ = r.SetReadDeadline(time.Unix(1, 0)) // over before the first read
	out.passOn(&a)
	got := ""
	for len(f.events) > 0 {
		got += string((<-f.events).GetData().GetStdout())
	}
	if got != "all of it" {
		t.Errorf("passed on was %q", got)
	}
	discarded := make(chan struct{})
	go func() { out.discard(); close(discarded) }()
	if _, err := w.Write(make([]byte, 4*maxPipe)); err != nil {
		t.Errorf("what was left behind cannot print any more: %v", err)
	}
	_ = w.Close()
	<-discarded
}
