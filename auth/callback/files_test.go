package callback

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// file writes a file of a test's own.
func file(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	replace(t, path, content)
	return path
}

// replace puts a new file where an old one may be, as those who care do.
func replace(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// authority signs certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  string
}

func newAuthority(t testing.TB, name string) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

// sign makes a certificate, good for 127.0.0.1, and its key in PEM.
func (a *authority) sign(t testing.TB, name string) (cert, key string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, private.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// newTLSOperator answers over TLS and, if clients is not nil, only to those that
// show a certificate of it.
func newTLSOperator(t testing.TB, server, clients *authority) *operator {
	cert, key := server.sign(t, "auth")
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	o := unstarted(status(200))
	o.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	if clients != nil {
		o.TLS.ClientAuth, o.TLS.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		o.TLS.ClientCAs.AddCert(clients.cert)
	}
	o.StartTLS()
	t.Cleanup(o.Close)
	return o
}

// looking makes a client that looks for changed files with each question.
func looking(t testing.TB, config Config) *Client {
	c := newClient(t, config)
	c.files.every = 0
	return c
}

func TestTheServiceMustBeTheOneThatIsMeant(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	o := newTLSOperator(t, ours, nil)
	if !decide(t, newClient(t, Config{URLs: []string{o.URL}, CAFile: file(t, "ca", ours.pem)}), question("key")).Allowed {
		t.Error("with its authority the service is refused")
	}
	if !decide(t, newClient(t, Config{URLs: []string{o.URL}, CAFile: file(t, "ca", theirs.pem+ours.pem)}), question("key")).Allowed {
		t.Error("with two authorities the service is refused")
	}
	for name, config := range map[string]Config{
		"no authority":      {URLs: []string{o.URL}},
		"another authority": {URLs: []string{o.URL}, CAFile: file(t, "ca", theirs.pem)},
		"another name":      {URLs: []string{strings.Replace(o.URL, "127.0.0.1", "localhost", 1)}, CAFile: file(t, "ca", ours.pem)},
	} {
		t.Run(name, func(t *testing.T) { wantNoAnswer(t, newClient(t, config), "certificate") })
	}
	t.Run("http", func(t *testing.T) {
		// The key was sent in clear, for the URL says so; the answer counts for
		// nothing.
		wantNoAnswer(t, newClient(t, Config{URLs: []string{strings.Replace(newOperator(t, status(200)).URL, "http:", "https:", 1)}}), "not HTTP of the URL's scheme")
	})
	if n := len(o.questions()); n != 2 {
		t.Errorf("the service saw %d questions, want the two that it answered", n)
	}
}

func TestTheServiceCanWantACertificate(t *testing.T) {
	servers, clients := newAuthority(t, "servers"), newAuthority(t, "clients")
	o := newTLSOperator(t, servers, clients)
	config := Config{URLs: []string{o.URL}, CAFile: file(t, "ca", servers.pem), Retries: 3}
	c := newClient(t, config)
	wantNoAnswer(t, c, "certificate required")
	if n := c.Stats().Retries; n != 0 {
		t.Errorf("%d retries", n)
	}
	cert, key := servers.sign(t, "cube")
	config.CertFile, config.KeyFile = file(t, "cert", cert), file(t, "key", key)
	c = newClient(t, config)
	if a, err := c.Decide(t.Context(), question("key")); err == nil {
		t.Errorf("with a certificate of another authority it answered %+v", a)
	}
	cert, key = clients.sign(t, "cube")
	config.CertFile, config.KeyFile = file(t, "cert", cert), file(t, "key", key)
	if !decide(t, newClient(t, config), question("key")).Allowed {
		t.Error("refused")
	}
	if got := o.questions()[0].TLS.PeerCertificates[0].Subject.CommonName; got != "cube" {
		t.Errorf("the service saw the certificate of %q", got)
	}
}

func TestFilesAreReadAgainWhenTheyChange(t *testing.T) {
	servers, oldClients, newClients := newAuthority(t, "servers"), newAuthority(t, "old"), newAuthority(t, "new")
	o := newTLSOperator(t, servers, newClients)
	o.TLS.ClientCAs.AddCert(oldClients.cert)
	cert, key := oldClients.sign(t, "old")
	log, lines := logTo()
	config := Config{
		URLs: []string{o.URL}, Log: log, CAFile: file(t, "ca", servers.pem), CertFile: file(t, "cert", cert), KeyFile: file(t, "key", key),
		SigningKeyFile: file(t, "signing", "0123456789abcdef"),
	}
	c := looking(t, config)
	seen := func() (name string, signed bool) {
		t.Helper()
		decide(t, c, question("key"))
		asked := o.questions()
		r := asked[len(asked)-1]
		return r.TLS.PeerCertificates[0].Subject.CommonName, Verify([]byte("fedcba9876543210"), r, time.Now(), time.Hour) == nil
	}
	wantSeen := func(want string, wantSigned bool) {
		t.Helper()
		if name, signed := seen(); name != want || signed != wantSigned {
			t.Errorf("the service saw %q, signed with the new key: %t; want %q, %t", name, signed, want, wantSigned)
		}
	}
	wantSeen("old", false)
	newCert, newKey := newClients.sign(t, "new")
	replace(t, config.CertFile, newCert) // half of the change
	wantSeen("old", false)
	wantSeen("old", false)
	if n := strings.Count(lines.String(), "level=ERROR"); n != 1 || strings.Contains(lines.String(), "PRIVATE") {
		t.Errorf("half of a change is in the log %d times: %s", n, lines)
	}
	replace(t, config.KeyFile, newKey) // the connection that is open was made with the old one
	wantSeen("new", false)
	replace(t, config.SigningKeyFile, " fedcba9876543210\n")
	wantSeen("new", true)
	if err := os.Remove(config.CAFile); err != nil {
		t.Fatal(err)
	}
	wantSeen("new", true)
	wantSeen("new", true)
	if n := strings.Count(lines.String(), "level=ERROR"); n != 2 {
		t.Errorf("%d errors are in the log, want one for each bad change: %s", n, lines)
	}
	replace(t, config.CAFile, newClients.pem) // which signed nothing of the service's
	wantNoAnswer(t, c, "certificate")
	replace(t, config.CAFile, servers.pem)
	wantSeen("new", true)
}

func TestConnectionsOfOldFilesAreClosed(t *testing.T) {
	closed := make(chan struct{}, 1)
	o := unstarted(status(200))
	o.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			select {
			case closed <- struct{}{}:
			default:
			}
		}
	}
	o.Start()
	t.Cleanup(o.Close)
	path := file(t, "key", "0123456789abcdef")
	c := looking(t, Config{URLs: []string{o.URL}, SigningKeyFile: path})
	decide(t, c, question("key"))
	replace(t, path, "fedcba9876543210")
	decide(t, c, question("key"))
	<-closed
}

func TestFilesAreLookedAtOnceASecondAtMost(t *testing.T) {
	o := newOperator(t, status(200))
	path := file(t, "key", "0123456789abcdef")
	c := newClient(t, Config{URLs: []string{o.URL}, SigningKeyFile: path})
	c.files.every = time.Hour
	replace(t, path, "fedcba9876543210")
	decide(t, c, question("key"))
	if err := Verify([]byte("0123456789abcdef"), o.questions()[0], time.Now(), time.Hour); err != nil {
		t.Error(err)
	}
}
