package sqlite

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"cube"
	"cube/store/storetest"
)

func TestAPIKeys(t *testing.T) {
	storetest.RunAPIKeys(t, func(t *testing.T) cube.APIKeyStore {
		return openKeys(t, filepath.Join(t.TempDir(), "cube.db"))
	})
}

func openKeys(t testing.TB, path string) *APIKeys {
	t.Helper()
	keys, err := open(t, path).APIKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func apiKey(n int) cube.APIKey {
	return cube.APIKey{
		ID: cube.NewAPIKeyID(), Name: fmt.Sprint(n), Hash: [32]byte{byte(n), byte(n >> 8), 2: 1},
		Role: cube.RoleFull, CreatedAt: time.Now(),
	}
}

// TestKeysOfAnotherProcess stands in for a command that works on the file of a
// running server: two stores share nothing but the file.
func TestKeysOfAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cube.db")
	server, command := openKeys(t, path), openKeys(t, path)
	if has, err := server.HasAPIKeys(t.Context()); has || err != nil {
		t.Fatalf("before: %v, %v", has, err)
	}
	k := apiKey(1)
	if err := command.CreateAPIKey(t.Context(), k, 10); err != nil {
		t.Fatal(err)
	}
	if has, err := server.HasAPIKeys(t.Context()); !has || err != nil {
		t.Errorf("after a creation: %v, %v", has, err)
	}
	if got, err := server.APIKeyByHash(t.Context(), k.Hash); err != nil || !got.RevokedAt.IsZero() {
		t.Errorf("after a creation: %+v, %v", got, err)
	}
	if err := command.RevokeAPIKey(t.Context(), k.ID, time.Now(), 10); err != nil {
		t.Fatal(err)
	}
	if got, err := server.APIKeyByHash(t.Context(), k.Hash); err != nil || got.RevokedAt.IsZero() {
		t.Errorf("after a revocation: %+v, %v", got, err)
	}
}

// TestTwoProcessesWriteAtOnce fails if one of them is told that the file is busy.
func TestTwoProcessesWriteAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cube.db")
	var wg sync.WaitGroup
	for p := range 2 {
		keys := openKeys(t, path)
		wg.Go(func() {
			for n := range 50 {
				k := apiKey(100*p + n)
				if err := keys.CreateAPIKey(t.Context(), k, 1000); err != nil {
					t.Error(err)
				}
				if n%2 == 0 {
					if err := keys.RevokeAPIKey(t.Context(), k.ID, time.Now(), 10); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if list, err := openKeys(t, path).ListAPIKeys(t.Context(), cube.APIKeyQuery{Revoked: true}); len(list) != 60 || err != nil {
		t.Errorf("%d keys, %v; want 50 and the newest 10 that are revoked", len(list), err)
	}
}

// BenchmarkAPIKeyByHash measures what each request waits for.
func BenchmarkAPIKeyByHash(b *testing.B) {
	keys := openKeys(b, filepath.Join(b.TempDir(), "cube.db"))
	for n := range 1000 {
		if err := keys.CreateAPIKey(b.Context(), apiKey(n), 1000); err != nil {
			b.Fatal(err)
		}
	}
	hash := apiKey(700).Hash
	for b.Loop() {
		if _, err := keys.APIKeyByHash(b.Context(), hash); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHasAPIKeys measures what each request waits for while there is none.
func BenchmarkHasAPIKeys(b *testing.B) {
	keys := openKeys(b, filepath.Join(b.TempDir(), "cube.db"))
	for b.Loop() {
		if _, err := keys.HasAPIKeys(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
