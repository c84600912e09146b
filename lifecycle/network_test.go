package lifecycle

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cube"
	"cube/engine/fake"
)

// authorities makes authorities that can be told apart.
func authorities() func(cube.SandboxID) ([]byte, error) {
	return func(id cube.SandboxID) ([]byte, error) {
		return []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" +
			"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n# " + string(id)), nil
	}
}

// A sandbox's policy is the engine's from its start, over a pause and a fork, and
// after the server's end.
func TestNetworkPolicies(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.NewAuthority = authorities()
		s := w.server()
		policy := cube.NetworkPolicy{
			AllowOut: []string{"example.com"}, DenyOut: []string{"0.0.0.0/0"},
			Rules: map[string]cube.NetworkRule{"example.com": {Headers: map[string]string{"A": "b"}}},
		}
		created, err := s.Create(t.Context(), CreateRequest{Template: "base", Timeout: time.Hour, Internet: true, Network: policy})
		if err != nil {
			t.Fatal(err)
		}
		id := created.Sandbox.ID
		want := func(id cube.SandboxID, internet bool, policy cube.NetworkPolicy) {
			t.Helper()
			got, _ := w.engine.NetworkOf(id)
			if diff := cmp.Diff(fake.Network{Internet: internet, Policy: policy}, got); diff != "" {
				t.Error(diff)
			}
		}
		policy.Authority = created.Sandbox.Network.Authority
		if len(policy.Authority) == 0 {
			t.Fatal("there is no authority")
		}
		want(id, true, policy)
		if settings, _ := w.engine.Settings(id); !strings.Contains(settings.CABundle, "CERTIFICATE") || strings.Contains(settings.CABundle, "KEY") {
			t.Errorf("the sandbox trusts %q", settings.CABundle)
		}

		next := cube.NetworkPolicy{DenyOut: []string{"203.0.113.7"}, Authority: policy.Authority}
		if err := s.SetNetwork(t.Context(), id, true, cube.NetworkPolicy{DenyOut: next.DenyOut}); err != nil {
			t.Fatal(err)
		}
		want(id, true, next)

		// Without the internet what is allowed by name stays allowed.
		if err := s.SetNetwork(t.Context(), id, false, cube.NetworkPolicy{AllowOut: []string{"203.0.113.7"}}); err != nil {
			t.Fatal(err)
		}
		want(id, true, cube.NetworkPolicy{AllowOut: []string{"203.0.113.7"}, DenyOut: []string{cube.AllTraffic}, Authority: policy.Authority})
		if err := s.SetNetwork(t.Context(), id, true, cube.NetworkPolicy{DenyOut: next.DenyOut}); err != nil {
			t.Fatal(err)
		}

		if err := s.Pause(t.Context(), id, true); err != nil {
			t.Fatal(err)
		}
		if err := s.SetNetwork(t.Context(), id, true, policy); cube.KindOf(err) != cube.Conflict {
			t.Errorf("of a paused one: %v", err)
		}
		if _, _, err := s.Connect(t.Context(), id, time.Hour, true); err != nil {
			t.Fatal(err)
		}
		want(id, true, next)
		children, err := s.Fork(t.Context(), id, 1, time.Hour)
		if err != nil || children[0].Err != nil {
			t.Fatal(err, children)
		}
		want(children[0].Sandbox.ID, true, next)

		// What cannot be set changes nothing.
		w.engine.OnSetNetwork = func(cube.SandboxID) error { return errors.New("no") }
		if err := s.SetNetwork(t.Context(), id, false, cube.NetworkPolicy{}); err == nil {
			t.Error("a failure is none")
		}
		if row, _ := w.store.Sandbox(t.Context(), id); !row.Internet || cmp.Diff(next, row.Network) != "" {
			t.Errorf("the row says %+v", row.Network)
		}
		w.engine.OnSetNetwork = nil
		want(id, true, next)

		// A server that dies between the row and the engine is followed by one that
		// does what the row says.
		s.Close()
		row, err := w.store.Sandbox(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		row.Network.DenyOut = []string{"198.51.100.7"}
		if err := w.store.UpdateSandbox(t.Context(), cube.Running, row); err != nil {
			t.Fatal(err)
		}
		successor := w.server()
		for range 1000 {
			if got, _ := w.engine.NetworkOf(id); cmp.Diff(row.Network, got.Policy) == "" {
				break
			}
			time.Sleep(time.Millisecond) // of the bubble
		}
		want(id, true, row.Network)
		for _, id := range []cube.SandboxID{id, children[0].Sandbox.ID} {
			if err := successor.Kill(t.Context(), id, "test"); err != nil {
				t.Error(err)
			}
		}
	})
}

// A sandbox of the pool has the policy before anybody's code runs in it.
func TestAClaimedSandboxHasItsPolicy(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.config.PoolSize = 1
		s := w.server()
		policy := cube.NetworkPolicy{DenyOut: []string{"0.0.0.0/0"}}
		var last cube.SandboxID
		for range 2 { // the second finds a full pool
			created, err := s.Create(t.Context(), CreateRequest{Template: "base", Timeout: time.Hour, Internet: true, Network: policy})
			if err != nil {
				t.Fatal(err)
			}
			last = created.Sandbox.ID
			time.Sleep(time.Minute) // of the bubble: the pool fills
		}
		if got, _ := w.engine.NetworkOf(last); cmp.Diff(policy, got.Policy) != "" {
			t.Errorf("it may reach %+v", got)
		}
	})
}
