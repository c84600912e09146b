// Package certificates gives the listener its certificates: of an authority of
// this machine's own, or of files that somebody else renews.
//
// The authority's key must never leave its file, and what it signs must be
// believed for nothing but the domain and this machine.
package certificates

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	rootLifetime = 10 * 365 * 24 * time.Hour
	leafLifetime = 90 * 24 * time.Hour
	// renewBefore is how long before its end a certificate is replaced.
	renewBefore = 30 * 24 * time.Hour
	// skew is how far back a certificate begins: clocks differ.
	skew = time.Hour
)

// Authority is a certificate authority for one domain.
type Authority struct {
	domain string
	root   *x509.Certificate
	key    crypto.Signer
	now    func() time.Time

	mu   sync.Mutex       // guards leaf
	leaf *tls.Certificate // nil until somebody connects
}

// OpenAuthority reads the authority of a domain from a directory, or makes it
// there, once: who trusts its root goes on trusting it after every restart. The
// domain has no port and is in lower case.
func OpenAuthority(dir, domain string) (*Authority, error) {
	a := &Authority{domain: domain, now: time.Now}
	file := filepath.Join(dir, domain+".pem")
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if data, err = create(file, domain); err != nil {
			return nil, fmt.Errorf("making the certificate authority: %w", err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading the certificate authority: %w", err)
	}
	if err := a.parse(data); err != nil {
		return nil, fmt.Errorf("the certificate authority %s is of no use (remove the file for a new one, which clients must then trust): %w", file, err)
	}
	return a, nil
}

// parse reads a key and a root.
func (a *Authority) parse(data []byte) error {
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		return err
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return errors.New("it is no authority's")
	}
	if a.now().After(pair.Leaf.NotAfter) {
		return fmt.Errorf("it ended on %s", pair.Leaf.NotAfter.Format(time.DateOnly))
	}
	a.root, a.key = pair.Leaf, signer
	return nil
}

// create makes a root and its key, and returns what stands in the file then: of
// two that make one at once, both get the first. Key and root are one file, so
// that there is never one without the other.
func create(file, domain string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	root := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"Cube"}, CommonName: "Cube authority for " + domain},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(rootLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		// RFC 5280, 4.2.1.10. Whoever steals the key can pretend to be nobody else.
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{domain, "localhost"},
		PermittedIPRanges:           []*net.IPNet{{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}, {IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)}},
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	data := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), encode(der)...)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	temporary, err := os.CreateTemp(filepath.Dir(file), ".new-*") // mode 0600
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(temporary.Name()) }()
	_, err = temporary.Write(data)
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(temporary.Name(), file); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(file)
}

// Root is the certificate to trust, in PEM.
func (a *Authority) Root() []byte { return encode(a.root.Raw) }

// Certificate is for tls.Config.GetCertificate. The certificate names the
// domain, everything one label below it, and this machine; it is made anew long
// before its end.
func (a *Authority) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if a.leaf != nil && now.Before(a.leaf.Leaf.NotAfter.Add(-renewBefore)) {
		return a.leaf, nil
	}
	leaf, err := a.issue(now)
	if err != nil {
		return nil, fmt.Errorf("making the certificate of %s: %w", a.domain, err)
	}
	a.leaf = leaf
	return leaf, nil
}

func (a *Authority) issue(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		Subject:     pkix.Name{Organization: []string{"Cube"}},
		NotBefore:   now.Add(-skew),
		NotAfter:    now.Add(leafLifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{a.domain, "*." + a.domain, "localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if a.domain == "localhost" {
		leaf.DNSNames = leaf.DNSNames[:2]
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.root, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.root.Raw}, PrivateKey: key, Leaf: parsed}, nil
}

func encode(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
