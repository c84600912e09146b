package process

import (
	"errors"

	"connectrpc.com/connect"
)

func errCut() error {
	return connect.NewError(connect.CodeUnavailable, errors.New("the sandbox was resumed: connect to the process again"))
}

// CutStreams ends the streams of all processes, which go on. It is for the
// moment after a resume from a snapshot: the clients of before are gone, and a
// process would wait for them to read until patience is over.
func (s *Service) CutStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.processes {
		for _, f := range p.audience.present() {
			p.audience.expel(f, errCut())
		}
	}
}
