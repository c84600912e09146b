package callback

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	lookEvery     = time.Second // at most, whether the files have changed
	minSigningKey = 16          // bytes
)

// files are those of the settings. They are read again when they change, by the
// next question: certificates come and go without a restart.
type files struct {
	config  Config
	current atomic.Pointer[material]
	every   time.Duration

	mu     sync.Mutex
	looked time.Time
	seen   []os.FileInfo // when they were read last; nil where there was none
}

// material is what one reading of the files gave. A new reading brings new
// connections: those that are open trust what was valid before.
type material struct {
	transport  *http.Transport
	signingKey []byte // nil: questions are not signed
}

// openFiles reads the files for the first time.
func openFiles(c Config) (*files, error) {
	f := &files{config: c, every: lookEvery, looked: time.Now()}
	f.seen = f.look()
	m, err := f.read()
	if err != nil {
		return nil, err
	}
	f.current.Store(m)
	return f, nil
}

// latest returns what the files hold, or held when they could be read.
func (f *files) latest() *material {
	if len(f.seen) == 0 || !f.mu.TryLock() { // somebody else is looking
		return f.current.Load()
	}
	defer f.mu.Unlock()
	if time.Since(f.looked) < f.every {
		return f.current.Load()
	}
	f.looked = time.Now()
	// Looked at before they are read: what is written meanwhile is another
	// change.
	seen := f.look()
	if same(f.seen, seen) {
		return f.current.Load()
	}
	copy(f.seen, seen)
	m, err := f.read()
	if err != nil {
		f.config.Log.Error("the auth callback's files have changed and cannot be used: what they held before stays", "error", err)
		return f.current.Load()
	}
	f.config.Log.Info("the auth callback's files have changed and are in use")
	f.current.Swap(m).transport.CloseIdleConnections()
	return m
}

// look returns what is where the files should be.
func (f *files) look() (seen []os.FileInfo) {
	for _, path := range []string{f.config.CAFile, f.config.CertFile, f.config.KeyFile, f.config.SigningKeyFile} {
		if path != "" {
			info, _ := os.Stat(path) // nil: reading it says why
			seen = append(seen, info)
		}
	}
	return seen
}

func same(a, b []os.FileInfo) bool {
	for i := range a {
		switch {
		case a[i] == nil && b[i] == nil:
		case a[i] == nil || b[i] == nil:
			return false
		case !os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime()):
			return false
		}
	}
	return true
}

// read reads the files.
func (f *files) read() (*material, error) {
	c := &f.config
	certificates := &tls.Config{}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%s-ca-file: %w", c.Name, err)
		}
		certificates.RootCAs = x509.NewCertPool()
		if !certificates.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s-ca-file: name a file with certificates in PEM: there is none in %s", c.Name, c.CAFile)
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return nil, fmt.Errorf("%s-cert-file and %[1]s-key-file: write both or none", c.Name)
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("%s-cert-file and %[1]s-key-file: name a certificate and its key in PEM: %w", c.Name, err)
		}
		certificates.Certificates = []tls.Certificate{pair}
	}
	key, err := readSigningKey(c.SigningKeyFile)
	if err != nil {
		return nil, fmt.Errorf("%s-signing-key-file: %w", c.Name, err)
	}
	return &material{newTransport(c, certificates), key}, nil
}

func readSigningKey(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key := bytes.TrimSpace(content)
	if len(key) < minSigningKey {
		return nil, errors.New("name a file with at least 16 bytes that nobody can guess, such as 'openssl rand -hex 32' writes")
	}
	return key, nil
}
