package certificates

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookEvery is how often the files' times are looked at, at most.
const lookEvery = time.Second

// Files is a certificate and a key in files that somebody else renews.
type Files struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex // guards what follows
	pair    *tls.Certificate
	stamp   string
	looked  time.Time
	refused string // stamp of files that are of no use
}

// OpenFiles reads the files, which must be in order.
func OpenFiles(certFile, keyFile string, log *slog.Logger) (*Files, error) {
	f := &Files{certFile: certFile, keyFile: keyFile, log: log}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Reload reads the files again. What was there stays if they are not in order.
func (f *Files) Reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read()
}

func (f *Files) read() error {
	stamp := f.stampNow() // before reading: a change meanwhile is seen later
	pair, err := tls.LoadX509KeyPair(f.certFile, f.keyFile)
	if err != nil {
		f.refused = stamp
		return fmt.Errorf("reading --tls-cert and --tls-key: %w", err)
	}
	f.pair, f.stamp, f.refused = &pair, stamp, ""
	return nil
}

// Certificate is for tls.Config.GetCertificate. It sees that the files changed.
func (f *Files) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.looked) >= lookEvery {
		f.looked = now
		// One of the two may be written before the other: the pair that does
		// not fit is refused, and the next stamp is another.
		if stamp := f.stampNow(); stamp != f.stamp && stamp != f.refused {
			if err := f.read(); err != nil {
				f.log.Error("the certificate was not replaced: the last one stays", "error", err)
			} else {
				f.log.Info("the certificate was replaced", "ends", f.pair.Leaf.NotAfter.Format(time.DateOnly))
			}
		}
	}
	return f.pair, nil
}

// stampNow tells one state of the files from another.
func (f *Files) stampNow() string {
	stamp := ""
	for _, name := range []string{f.certFile, f.keyFile} {
		if info, err := os.Stat(name); err == nil {
			stamp += fmt.Sprint(info.ModTime().UnixNano(), info.Size(), ";")
		}
	}
	return stamp
}
