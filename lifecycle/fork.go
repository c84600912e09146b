package lifecycle

import (
	"context"
	"sync"
	"time"

	"cube"
)

// MaxFork is how many children one fork may have.
const MaxFork = 100

// Forked is one child, or why there is none.
type Forked struct {
	Sandbox cube.Sandbox
	Err     error
}

// Fork keeps a running sandbox once and starts count new ones from that, with its
// memory, its environment, metadata and expiry, and with identities, keys and
// tokens of their own. The sandbox itself runs on. Each child succeeds or fails
// for itself, with the kinds of Create; the order says nothing.
//
// Kinds, if there is no child at all: NotFound, Invalid (count or timeout),
// Conflict (the sandbox is paused), Forbidden (no tenant), Exhausted (no room on
// the disk), Unsupported, Unavailable, Internal.
func (s *Sandboxes) Fork(ctx context.Context, id cube.SandboxID, count int, timeout time.Duration) ([]Forked, error) {
	if count < 1 || count > MaxFork {
		return nil, cube.Errorf(cube.Invalid, "Count must be 1 to %d", MaxFork)
	}
	if timeout <= 0 {
		return nil, cube.Errorf(cube.Invalid, "Timeout must be greater than 0")
	}
	if err := s.CheckTimeout(timeout); err != nil {
		return nil, err
	}
	if _, _, err := s.owner(ctx); err != nil {
		return nil, err
	}
	l, err := s.findFor(ctx, id)
	if err != nil {
		return nil, err
	}
	parent, info, err := s.keep(ctx, l)
	if err != nil {
		return nil, err
	}
	// Should the server die before, its successor finds a snapshot that no row
	// names.
	defer s.spawn(func() { s.discard(id, info.ID) })

	caller := cube.IdentityFrom(ctx)
	from := origin{
		snapshot: info.ID, hostKey: keyOfMemory(info.Memory, parent.HostKey),
		template: parent.Template, alias: parent.Alias, resources: parent.Resources, envVars: parent.EnvVars,
		user: parent.User, workdir: parent.Workdir,
	}
	request := CreateRequest{
		Timeout: timeout, Secure: parent.AccessToken != "", Private: parent.TrafficToken != "",
		Internet: parent.Internet, Network: parent.Network, Ingress: parent.Ingress, Metadata: parent.Metadata, Expiry: parent.Expiry, caller: caller,
	}
	children := make([]Forked, count)
	var group sync.WaitGroup
	for i := range children {
		group.Go(func() {
			created, err := s.launch(ctx, caller, newSandbox(request, from), from, nil)
			children[i] = Forked{created.Sandbox, err}
		})
	}
	group.Wait()
	return children, nil
}
