package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cube"
)

func rowComesBack(t *testing.T, store cube.Store) {
	full := gone(1)
	full.Account = "team:red"
	full.EnvVars = map[string]string{"PATH": "/bin", "X": "=\n"}
	full.Expiry = cube.Expiry{Pause: true, Memory: true, Resume: true, Timeout: 90 * time.Second}
	full.Snapshot, full.SnapshotMemory = "s1", true
	full.Network = network()
	full.Ingress = cube.Ingress{MaskRequestHost: "inner.example:${PORT}", HTTPSPorts: []int{8443}}
	full.Metadata = map[string]string{"": "", "a\"b": `\ ' " <&> é 🦉`, "line": "1\n2\t3"}
	bare := cube.Sandbox{ID: row(2).ID, State: cube.Starting, StartedAt: morning, EndAt: morning}
	create(t, store, full, bare)
	wantRow(t, store, full)
	wantRow(t, store, bare)
}

// network is a policy with all that one can have.
func network() cube.NetworkPolicy {
	return cube.NetworkPolicy{
		AllowOut: []string{"example.com", "203.0.113.0/24"}, DenyOut: []string{"0.0.0.0/0"},
		Rules:       map[string]cube.NetworkRule{"example.com": {Headers: map[string]string{"A": "b"}}},
		EgressProxy: &cube.EgressProxy{Address: "proxy.example.com:1080", Username: "u", Password: "p"},
		Authority:   []byte("a key and a certificate"),
	}
}

func missingRow(t *testing.T, store cube.Store) {
	_, err := store.Sandbox(t.Context(), row(1).ID)
	wantKind(t, err, cube.NotFound)
	wantKind(t, store.UpdateSandbox(t.Context(), cube.Running, row(1)), cube.NotFound)
	_, _, err = store.SandboxByKey(t.Context(), "k")
	wantKind(t, err, cube.NotFound)
	wantList(t, store, cube.SandboxQuery{}, "", 0)
}

func idOnce(t *testing.T, store cube.Store) {
	create(t, store, row(1))
	other := row(1)
	other.Template = "other"
	wantKind(t, store.CreateSandbox(t.Context(), other, nil), cube.Conflict)
	wantRow(t, store, row(1))
}

func updateReplaces(t *testing.T, store cube.Store) {
	create(t, store, row(1), row(2))
	changed := row(1)
	changed.State = cube.Killing
	changed.EndAt = morning.Add(time.Hour)
	changed.End = gone(1).End
	changed.Expiry = cube.Expiry{Pause: true, Resume: true, Timeout: time.Hour}
	changed.Snapshot, changed.SnapshotMemory = "s1", true
	changed.Internet, changed.Network = !changed.Internet, network()
	update(t, store, cube.Running, changed)
	wantRow(t, store, changed)
	wantRow(t, store, row(2))

	other := changed
	other.Template, other.AccessToken, other.Account, other.Metadata = "other", "other", "other", nil
	other.EnvVars = map[string]string{"other": "1"}
	update(t, store, cube.Killing, other)
	wantRow(t, store, changed)
}

func updateOfAnotherState(t *testing.T, store cube.Store) {
	create(t, store, row(1))
	changed := gone(1)
	wantKind(t, store.UpdateSandbox(t.Context(), cube.Killing, changed), cube.Conflict)
	wantRow(t, store, row(1))
}

func oneUpdateWins(t *testing.T, store cube.Store) {
	create(t, store, row(1))
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s := row(1)
			s.State = cube.Killing
			switch err := store.UpdateSandbox(t.Context(), cube.Running, s); {
			case err == nil:
				won.Add(1)
			case cube.KindOf(err) != cube.Conflict:
				t.Errorf("a loser's error = %v, want a conflict", err)
			}
		})
	}
	wg.Wait()
	if n := won.Load(); n != 1 {
		t.Errorf("%d updates went from running to killing, want 1", n)
	}
}

func deleteOld(t *testing.T, store cube.Store) {
	create(t, store, gone(1), gone(2), gone(3), row(4), starting(5))
	n, err := store.DeleteGone(t.Context(), gone(3).End.At, 100)
	if n != 2 || err != nil {
		t.Errorf("deleted %d, %v; want the 2 that ended before", n, err)
	}
	wantList(t, store, cube.SandboxQuery{}, "5 4 3", 3)
}

func deleteAboveBound(t *testing.T, store cube.Store) {
	create(t, store, row(0), gone(1), gone(2), gone(3), gone(4))
	for range 2 {
		if _, err := store.DeleteGone(t.Context(), morning, 2); err != nil {
			t.Fatal(err)
		}
		wantList(t, store, cube.SandboxQuery{}, "4 3 0", 3)
	}
}

// concurrent fails by the race detector, by an error, or by a read that does
// not see the write before it.
func concurrent(t *testing.T, store cube.Store) {
	lives := func(ctx context.Context, n int) error {
		s := starting(n)
		key := &cube.Idempotency{Key: fmt.Sprint(n), BodyHash: [32]byte{byte(n)}}
		err := store.CreateSandbox(ctx, s, key)
		for _, next := range []cube.State{cube.Running, cube.Killing, cube.Gone} {
			from := s.State
			s.State = next
			if next != cube.Running {
				s.End = gone(n).End
			}
			if next == cube.Gone { // which has its secrets no more
				s.EnvVars, s.Metadata, s.Network = map[string]string{}, map[string]string{}, cube.NetworkPolicy{}
			}
			err = errors.Join(err, store.UpdateSandbox(ctx, from, s))
			got, readErr := store.Sandbox(ctx, s.ID)
			err = errors.Join(err, readErr)
			if diff := cmp.Diff(s, got); diff != "" {
				err = errors.Join(err, fmt.Errorf("row of %s (-want +got):\n%s", s.ID, diff))
			}
			_, _, listErr := store.ListSandboxes(ctx, cube.SandboxQuery{States: []cube.State{next}, Limit: 10})
			err = errors.Join(err, listErr)
		}
		return err
	}
	var wg sync.WaitGroup
	for n := range 50 {
		wg.Go(func() {
			if err := lives(t.Context(), n); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, total := list(t, store, cube.SandboxQuery{States: []cube.State{cube.Gone}}); total != 50 {
		t.Errorf("%d sandboxes are gone, want 50", total)
	}
}
