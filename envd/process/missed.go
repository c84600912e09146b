package process

import (
	"fmt"
	"sync/atomic"

	pb "cube/envd/gen/process"
)

// The bounds of output that nobody has read.
const (
	// maxMissed is how much of one process's is kept, in bytes, and
	// maxMissedOfAll of all processes together. What is over it is lost, the
	// oldest first, and the next reader is told how much.
	maxMissed      = 1 << 20
	maxMissedOfAll = 32 << 20
)

// missed is output that nobody has read, in its order. It is not safe for
// concurrent use.
type missed struct {
	events []*pb.ProcessEvent
	bytes  int
	lost   int64         // bytes that were let go before the first event
	all    *atomic.Int64 // bytes of all processes; nil: not bounded together
}

// add keeps an event after those that are there.
func (m *missed) add(e *pb.ProcessEvent) {
	m.events = append(m.events, e)
	m.grow(size(e))
	m.trim()
}

// putBack keeps events before those that are there: somebody had taken them, and
// could not deliver them.
func (m *missed) putBack(events []*pb.ProcessEvent) {
	m.events = append(events, m.events...)
	for _, e := range events {
		m.grow(size(e))
	}
	m.trim()
}

// take returns all, with a word on what is lost in its place.
func (m *missed) take() []*pb.ProcessEvent {
	events := m.events
	if m.lost > 0 {
		first := stderr
		if len(events) > 0 && events[0].GetData().GetPty() != nil {
			first = terminal
		}
		notice := fmt.Sprintf("\n[%d bytes of output are lost here: nobody read them, and %d are kept]\n", m.lost, maxMissed)
		events = append([]*pb.ProcessEvent{{Event: &pb.ProcessEvent_Data{Data: first([]byte(notice))}}}, events...)
	}
	m.grow(-m.bytes)
	m.events, m.lost = nil, 0
	return events
}

func (m *missed) grow(n int) {
	m.bytes += n
	if m.all != nil {
		m.all.Add(int64(n))
	}
}

func (m *missed) trim() {
	for len(m.events) > 0 && (m.bytes > maxMissed || m.all != nil && m.all.Load() > maxMissedOfAll) {
		n := size(m.events[0])
		m.events[0] = nil // what append leaves behind when it moves the rest
		m.events = m.events[1:]
		m.lost += int64(n)
		m.grow(-n)
	}
}

// size is how many bytes of output an event holds.
func size(e *pb.ProcessEvent) int {
	d := e.GetData()
	return len(d.GetStdout()) + len(d.GetStderr()) + len(d.GetPty())
}
