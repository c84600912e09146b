package testhost

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Names of the tests' internet, and who knows them. Each is an HTTP server, and one
// with TLS, which answers "/who" with where it is, the Host that it was asked for
// and the header X-Secret. Its authority's certificate is at RootURL.
const (
	GoodName       = "good.example"
	GoodAddr       = "203.0.113.1"
	OtherName      = "other.example"
	OtherAddr      = "203.0.113.2"
	BadName        = "bad.example"
	BadAddr        = "203.0.113.66"
	PrivateName    = "rebound.example" // has the private address
	NameServerAddr = "192.0.2.53:53"
	RootURL        = "http://" + InternetAddr + "/root.pem"
)

var internetNames = map[string]string{
	GoodName: GoodAddr, "www." + GoodName: GoodAddr, OtherName: OtherAddr, BadName: BadAddr, PrivateName: "10.99.99.1",
}

// serveNames answers questions for the internet's names, by UDP.
func serveNames() error {
	conn, err := net.ListenPacket("udp", NameServerAddr)
	if err != nil {
		return err
	}
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var message dnsmessage.Message
			if message.Unpack(buffer[:n]) != nil || len(message.Questions) != 1 {
				continue
			}
			q := message.Questions[0]
			message.Response, message.Additionals = true, nil
			address, ok := internetNames[strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))]
			switch {
			case !ok:
				message.RCode = dnsmessage.RCodeNameError
			case q.Type == dnsmessage.TypeA:
				message.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60},
					Body:   &dnsmessage.AResource{A: netip.MustParseAddr(address).As4()},
				}}
			}
			if packed, err := message.Pack(); err == nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	}()
	return nil
}

// handler is what all servers of the internet answer.
func handler(root []byte) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, r.RemoteAddr) })
	mux.HandleFunc("/root.pem", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(root) })
	mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) {
		here, _, _ := net.SplitHostPort(r.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
		fmt.Fprintf(w, "%s %s %s\n", here, r.Host, r.Header.Get("X-Secret"))
	})
	return mux
}

// authority makes the internet's authority and a certificate for all names.
func authority() (root []byte, leaf tls.Certificate, err error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, leaf, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the tests' internet"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, rootKey.Public(), rootKey)
	if err != nil {
		return nil, leaf, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, leaf, err
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for name := range internetNames {
		server.DNSNames = append(server.DNSNames, name)
	}
	der, err := x509.CreateCertificate(rand.Reader, server, ca, key.Public(), rootKey)
	root = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	return root, tls.Certificate{Certificate: [][]byte{der, caDER}, PrivateKey: key}, err
}
