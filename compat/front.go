package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// front is what a user puts before a server for a domain: HTTPS with a
// certificate for *.cube.test. It changes nothing of a request or an answer.
type front struct {
	listener net.Listener
	server   *http.Server
	tls      *tls.Config
}

// newFront listens, and writes into dir the certificate (ca.pem) and the
// system's certificates with it (trusted.pem).
func newFront(dir string) (*front, error) {
	now := time.Now()
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	issuer := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "compat"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	issuerDER, err := x509.CreateCertificate(rand.Reader, issuer, issuer, authorityKey.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	// One certificate for both would not do: some clients refuse an authority's.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano() + 1), Subject: pkix.Name{CommonName: domain},
		NotBefore: issuer.NotBefore, NotAfter: issuer.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{domain, "*." + domain},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, issuer, key.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuerDER})
	system, err := os.ReadFile(systemTrust())
	if err != nil {
		return nil, err
	}
	for name, data := range map[string][]byte{"ca.pem": authority, "trusted.pem": append(append(system, '\n'), authority...)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return nil, err
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &front{listener: listener, tls: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}}, nil
}

// systemTrust is the file of the certificates that this machine trusts.
func systemTrust() string { return "/etc/ssl/certs/ca-certificates.crt" }

func (f *front) port() string { return strconv.Itoa(f.listener.Addr().(*net.TCPAddr).Port) }

// serve passes what comes on to the server at address.
func (f *front) serve(address string) error {
	to, err := url.Parse(address)
	if err != nil {
		return err
	}
	quiet := log.New(io.Discard, "", 0)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = to.Scheme, to.Host, r.In.Host
			// As the client sent it, queries that Go finds odd too.
			r.Out.URL.RawQuery = r.In.URL.RawQuery
			r.SetXForwarded() // links to this server are links to here
		},
		Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100},
		FlushInterval: -1,
		ErrorLog:      quiet,
	}
	// A server may answer before it has the whole of a request, and end: without
	// this, net/http reads the rest beside the proxy and breaks a stream now and then.
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		proxy.ServeHTTP(w, r)
	})
	f.server = &http.Server{Handler: handler, TLSConfig: f.tls, ErrorLog: quiet}
	go func() { _ = f.server.ServeTLS(f.listener, "", "") }()
	return nil
}

// Close is io.Closer's.
func (f *front) Close() error {
	if f.server == nil {
		return f.listener.Close()
	}
	return f.server.Close()
}
