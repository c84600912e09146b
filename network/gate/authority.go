package gate

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
	"sync"
	"time"

	"cube"
)

const (
	authorityLifetime = 10 * 365 * 24 * time.Hour
	leafLifetime      = 90 * 24 * time.Hour
	// skew is how far back a certificate begins: clocks differ.
	skew = 24 * time.Hour
	// maxLeaves bounds what is remembered for one sandbox: a rule for "*" is for
	// as many names as the sandbox thinks of.
	maxLeaves = 256
)

// authority signs for the domains of one sandbox's rules.
type authority struct {
	root *x509.Certificate
	key  crypto.Signer

	mu     sync.Mutex // guards leaves
	leaves map[string]*tls.Certificate
}

// NewAuthority makes the authority that one sandbox is to trust: its key and its
// certificate, in PEM. The certificate alone is for the sandbox.
func NewAuthority(id cube.SandboxID) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	root := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"Cube"}, CommonName: "Cube network rules of " + string(id)},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(authorityLifetime),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), encode(der)...), nil
}

// Certificate is what of an authority goes into its sandbox.
func Certificate(authority []byte) ([]byte, error) {
	a, err := parseAuthority(authority)
	if err != nil {
		return nil, err
	}
	return encode(a.root.Raw), nil
}

func parseAuthority(data []byte) (*authority, error) {
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, errors.New("its certificate authority cannot be read") // the error may tell of the key
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, errors.New("its certificate authority is none")
	}
	return &authority{root: pair.Leaf, key: key, leaves: map[string]*tls.Certificate{}}, nil
}

// leaf is the certificate of a name.
func (a *authority) leaf(name string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if leaf := a.leaves[name]; leaf != nil && time.Until(leaf.Leaf.NotAfter) > leafLifetime/2 {
		return leaf, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:     pkix.Name{Organization: []string{"Cube"}},
		NotBefore:   now.Add(-skew),
		NotAfter:    now.Add(leafLifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{name},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.root, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if len(a.leaves) >= maxLeaves {
		clear(a.leaves)
	}
	leaf := &tls.Certificate{Certificate: [][]byte{der, a.root.Raw}, PrivateKey: key, Leaf: parsed}
	a.leaves[name] = leaf
	return leaf, nil
}

// trusted are the system's roots and more.
func trusted(more []byte) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if len(more) > 0 && !pool.AppendCertsFromPEM(more) {
		return nil, errors.New("the authorities to trust behind network rules hold no certificate in PEM")
	}
	return pool, nil
}

func encode(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
