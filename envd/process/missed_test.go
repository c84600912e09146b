package process

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "cube/envd/gen/process"
)

// text is what events printed.
func text(events []*pb.ProcessEvent) string {
	var b strings.Builder
	for _, e := range events {
		b.Write(e.GetData().GetStdout())
	}
	return b.String()
}

func TestWhatNobodyReadIsBoundedAndTheLossIsTold(t *testing.T) {
	var all atomic.Int64
	m := missed{all: &all}
	chunk := strings.Repeat("x", pipeChunk)
	for range maxMissed/pipeChunk + 3 {
		m.add(printed(chunk))
	}
	if m.bytes > maxMissed || all.Load() != int64(m.bytes) {
		t.Errorf("%d bytes are kept, and %d counted", m.bytes, all.Load())
	}
	events := m.take()
	if notice := string(events[0].GetData().GetStderr()); !strings.Contains(notice, fmt.Sprint(3*pipeChunk)+" bytes of output are lost") {
		t.Errorf("the reader is told %q", notice)
	}
	if n := len(text(events)); n != maxMissed || all.Load() != 0 || len(m.take()) != 0 {
		t.Errorf("%d bytes came, and %d are counted after", n, all.Load())
	}
	all.Store(maxMissedOfAll)
	m.add(printed("y"))
	if text(m.take()) != "" {
		t.Error("one process takes more than is left for all")
	}
}

func TestWhatIsLeftBehindAfterAProcessIsForgottenCountsNoMore(t *testing.T) {
	var all atomic.Int64
	a := audience{missed: missed{all: &all}}
	f := a.join(t.Context())
	a.publish(printed("not read"))
	a.forget()
	a.leave(f)
	if n := all.Load(); n != 0 {
		t.Errorf("%d bytes count for ever", n)
	}
}

// TestNothingIsLostOrToldTwiceWhileClientsComeAndGo has a process print numbers
// while clients come one after the other, each of which goes at a moment of its
// own: when it is told to, or when a send fails.
func TestNothingIsLostOrToldTwiceWhileClientsComeAndGo(t *testing.T) {
	p := newRunning(nil)
	p.info = &pb.ProcessInfo{Pid: 7}
	const numbers = 20_000
	go func() {
		defer close(p.done)
		for i := range numbers {
			p.audience.publish(printed(fmt.Sprintln(i)))
		}
	}()
	var got strings.Builder
	for round := 0; ; round++ {
		ctx, cancel := context.WithCancel(t.Context())
		f := p.audience.join(ctx)
		left := rand.IntN(200)
		err := relay(p, f, time.Minute, func(e *pb.ProcessEvent) error {
			if e.GetData() == nil {
				return nil
			}
			if left--; left == 0 {
				if round%2 == 0 {
					return errors.New("connection reset")
				}
				cancel() // what is sent now still arrives
			}
			got.WriteString(text([]*pb.ProcessEvent{e}))
			return nil
		})
		p.audience.leave(f)
		cancel()
		if err == nil {
			break
		}
	}
	lines := strings.Split(strings.TrimSpace(got.String()), "\n")
	if len(lines) != numbers {
		t.Fatalf("%d lines came, want %d", len(lines), numbers)
	}
	for i, line := range lines {
		if line != fmt.Sprint(i) {
			t.Fatalf("line %d is %q", i, line)
		}
	}
}
