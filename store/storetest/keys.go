package storetest

import (
	"testing"

	"cube"
)

func key(name string) *cube.Idempotency {
	return &cube.Idempotency{Key: name, BodyHash: [32]byte{1, 2, 31: 0xff}}
}

func createWithKey(t *testing.T, store cube.Store, s cube.Sandbox, k *cube.Idempotency) {
	t.Helper()
	if err := store.CreateSandbox(t.Context(), s, k); err != nil {
		t.Fatalf("creating the row of %s with key %q: %v", s.ID, k.Key, err)
	}
}

// wantHolder checks which row holds the key, "" for none.
func wantHolder(t *testing.T, store cube.Store, k *cube.Idempotency, want cube.SandboxID) {
	t.Helper()
	s, hash, err := store.SandboxByKey(t.Context(), k.Key)
	if want == "" {
		wantKind(t, err, cube.NotFound)
		return
	}
	if err != nil || s.ID != want || hash != k.BodyHash {
		t.Errorf("key %q is held by %q with hash %x, %v; want %q with hash %x", k.Key, s.ID, hash, err, want, k.BodyHash)
	}
}

func keyFindsRow(t *testing.T, store cube.Store) {
	createWithKey(t, store, starting(1), key("one"))
	createWithKey(t, store, starting(2), key("two"))
	wantHolder(t, store, key("one"), row(1).ID)
	wantHolder(t, store, key("two"), row(2).ID)
	wantHolder(t, store, key("ONE"), "")
}

func keyOnce(t *testing.T, store cube.Store) {
	createWithKey(t, store, starting(1), key("k"))
	wantKind(t, store.CreateSandbox(t.Context(), starting(2), key("k")), cube.Conflict)
	wantHolder(t, store, key("k"), row(1).ID)
	wantList(t, store, cube.SandboxQuery{}, "1", 1)
}

func keyFreedByFailure(t *testing.T, store cube.Store) {
	createWithKey(t, store, starting(1), key("k"))
	failed := gone(1)
	failed.State = cube.Killing
	update(t, store, cube.Starting, failed)
	wantHolder(t, store, key("k"), "")
	createWithKey(t, store, starting(2), key("k"))
	wantHolder(t, store, key("k"), row(2).ID)
}

func keyKept(t *testing.T, store cube.Store) {
	createWithKey(t, store, starting(1), key("k"))
	s := row(1)
	update(t, store, cube.Starting, s)
	wantHolder(t, store, key("k"), s.ID)
	s.State, s.End = cube.Killing, gone(1).End
	update(t, store, cube.Running, s)
	wantHolder(t, store, key("k"), s.ID)
	s.State = cube.Gone
	update(t, store, cube.Killing, s)
	wantHolder(t, store, key("k"), s.ID)

	if _, err := store.DeleteGone(t.Context(), s.End.At.AddDate(0, 0, 1), 100); err != nil {
		t.Fatal(err)
	}
	wantHolder(t, store, key("k"), "")
}
