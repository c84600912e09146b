package certificates

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func open(t *testing.T, dir string) *Authority {
	t.Helper()
	a, err := OpenAuthority(dir, "cube.test")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func leaf(t *testing.T, get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Certificate {
	t.Helper()
	c, err := get(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheAuthorityIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	roots := make([][]byte, 8)
	var all sync.WaitGroup
	for i := range roots {
		all.Go(func() {
			if a, err := OpenAuthority(dir, "cube.test"); err == nil {
				roots[i] = a.Root()
			}
		})
	}
	all.Wait()
	for _, root := range roots {
		if !bytes.Equal(root, roots[0]) || bytes.Contains(root, []byte("PRIVATE")) || len(root) == 0 {
			t.Fatalf("a root is %q, the first %q", root, roots[0])
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	info, err := entries[0].Info()
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the key's file has mode %v, %v", info.Mode(), err)
	}
}

func TestWhatTheRootIsBelievedFor(t *testing.T) {
	a := open(t, t.TempDir())
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.Root())
	c := leaf(t, a.Certificate)
	for name, good := range map[string]bool{
		"cube.test": true, "api.cube.test": true, "49983-i0123456789abcdefghij.cube.test": true,
		"localhost": true, "127.0.0.1": true, "::1": true,
		"a.b.cube.test": false, "example.com": false, "notcube.test": false, "127.0.0.2": false,
	} {
		if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name}); (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Whoever has the key can make no certificate for another name.
	a.domain = "bank.example"
	stolen, err := a.issue(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stolen.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "bank.example"}); err == nil {
		t.Error("the root is believed for every name")
	}
}

func TestTheCertificateIsRenewedInTime(t *testing.T) {
	a := open(t, t.TempDir())
	now := time.Now()
	a.now = func() time.Time { return now }
	first := leaf(t, a.Certificate)
	now = now.Add(leafLifetime - renewBefore - time.Hour)
	if leaf(t, a.Certificate) != first {
		t.Error("it is renewed too early")
	}
	now = now.Add(2 * time.Hour)
	next := leaf(t, a.Certificate)
	if next == first || !next.Leaf.NotAfter.Equal(now.Add(leafLifetime).UTC().Truncate(time.Second)) {
		t.Errorf("the certificate ends at %v", next.Leaf.NotAfter)
	}
}

func TestABrokenAuthorityIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cube.test.pem"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAuthority(dir, "cube.test"); err == nil {
		t.Error("nonsense is an authority")
	}
}

// write puts a new certificate and key of an authority into files.
func write(t *testing.T, a *Authority, cert, key string, at time.Time) *tls.Certificate {
	t.Helper()
	c, err := a.issue(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{cert: encode(c.Certificate[0]), key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestFilesAreReadAgain(t *testing.T) {
	a, dir := open(t, t.TempDir()), t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if _, err := OpenFiles(cert, key, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("absent files are in order")
	}
	same := func(f *Files, want *tls.Certificate) {
		t.Helper()
		f.looked = time.Time{}
		if got := leaf(t, f.Certificate); !bytes.Equal(got.Certificate[0], want.Certificate[0]) {
			t.Errorf("the certificate is %v, want %v", got.Leaf.SerialNumber, want.Leaf.SerialNumber)
		}
	}
	now := time.Now()
	first := write(t, a, cert, key, now)
	f, err := OpenFiles(cert, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	same(f, first)
	second := write(t, a, cert, key, now.Add(time.Minute))
	same(f, second)
	if err := os.WriteFile(key, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	same(f, second)
	if err := f.Reload(); err == nil {
		t.Error("a key that is none is in order")
	}
	third := write(t, a, cert, key, now.Add(2*time.Minute))
	if err := f.Reload(); err != nil {
		t.Error(err)
	}
	same(f, third)
}
