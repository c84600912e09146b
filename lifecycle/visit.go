package lifecycle

import (
	"context"
	"crypto/subtle"
	"time"

	"cube"
)

// Visitor is traffic that wants into a sandbox, with the tokens that it shows.
type Visitor struct {
	Agent        bool // to the agent's port
	AccessToken  string
	TrafficToken string
	// Signed tells whether the agent's token has signed it. nil is for what has no
	// signature.
	Signed func(token string) bool
}

const (
	// visitPatience is how long traffic waits for a sandbox that is being paused
	// or resumed.
	visitPatience = time.Minute
	// wokenTimeout is the least time that traffic gives a sandbox that it wakes.
	wokenTimeout = 5 * time.Minute
	// visitTries is how often traffic waits for a sandbox that changes its state
	// under it again and again.
	visitTries = 4
)

// Visit returns once the sandbox runs, with a channel that is closed when it does
// so no more. A paused one is woken, if its Expiry says so and it was paused with
// its memory; it then has as much time as it was first given, and five minutes
// at the least. Whoever must not go in cannot wake it either.
//
// The agent of one that runs checks its own token. Kinds: NotFound (there is
// none, or it is paused and traffic may not wake it), Forbidden (the token),
// Exhausted (no place to wake it), Timeout, Unavailable, Internal.
func (s *Sandboxes) Visit(ctx context.Context, id cube.SandboxID, v Visitor) (over <-chan struct{}, err error) {
	l := s.find(id)
	if l == nil {
		return nil, errNoSandbox(id)
	}
	ctx, cancel := context.WithTimeout(ctx, visitPatience)
	defer cancel()
	for range visitTries {
		over := l.over()
		if l.awake.Load() && !isClosed(over) {
			if !v.Agent && !opens(l.trafficToken, v.TrafficToken) {
				return nil, errNoToken("trafficAccessToken", "e2b-traffic-access-token")
			}
			return over, nil
		}
		if err := s.wake(ctx, l, v); err != nil {
			return nil, err
		}
	}
	return nil, cube.Errorf(cube.Unavailable, "Sandbox %s is changing its state: try again in a moment", id)
}

// Ingress is how the ports of a sandbox are reached, whoever asks; the zero value
// if it is not there.
func (s *Sandboxes) Ingress(id cube.SandboxID) cube.Ingress {
	if l := s.find(id); l != nil {
		return l.ingress
	}
	return cube.Ingress{}
}

// wake waits for a sandbox that is at work, and resumes it if it is paused then.
func (s *Sandboxes) wake(ctx context.Context, l *live, v Visitor) error {
	if err := l.admits(v); err != nil {
		return err
	}
	release, err := s.occupy(ctx, l)
	if err != nil {
		return err
	}
	defer release()
	if err := l.admits(v); err != nil { // it may have become paused
		return err
	}
	l.mu.Lock()
	sandbox := l.sandbox
	l.mu.Unlock()
	if sandbox.State != cube.Paused {
		return nil
	}
	_, err = s.resume(ctx, l, resuming{timeout: min(max(sandbox.Expiry.Timeout, wokenTimeout), s.maxTimeout)})
	return err
}

// admits tells why traffic must not wait for a sandbox, or wake it.
func (l *live) admits(v Visitor) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.sandbox.Expiry
	switch l.sandbox.State {
	case cube.Running:
		return nil
	case cube.Pausing, cube.Resuming:
	case cube.Paused:
		if !x.Resume || !l.sandbox.SnapshotMemory {
			return errNoSandbox(l.id)
		}
	case cube.Starting, cube.Killing, cube.Gone:
		return errNoSandbox(l.id)
	}
	switch {
	case v.Agent && !opens(l.accessToken, v.AccessToken) && (v.Signed == nil || !v.Signed(l.accessToken)):
		return errNoToken("envdAccessToken", "X-Access-Token")
	case !v.Agent && !opens(l.trafficToken, v.TrafficToken):
		return errNoToken("trafficAccessToken", "e2b-traffic-access-token")
	}
	return nil
}

func errNoToken(token, header string) error {
	return cube.Errorf(cube.Forbidden, "The sandbox lets in who has its token alone: send its %s as the header %s", token, header)
}

// opens tells whether a token is the wanted one; "" wants none.
func opens(want, got string) bool {
	return want == "" || subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}
