package envd

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// emptyKeystore is one without an entry.
func emptyKeystore() []byte {
	head := binary.BigEndian.AppendUint32(nil, keystoreMagic)
	head = binary.BigEndian.AppendUint32(head, 2)
	head = binary.BigEndian.AppendUint32(head, 0)
	return append(head, keystoreSum(head)...)
}

func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestJavaTrustsWhatTheSystemTrusts(t *testing.T) {
	m, read, _ := ownMachine(t)
	const store = "etc/ssl/certs/java/cacerts"
	if err := os.MkdirAll(filepath.Dir(m.path(store)), 0o755); err != nil {
		t.Fatal(err)
	}
	first, second := certificate(t), certificate(t)
	before, err := changeKeystore(emptyKeystore(), first)
	if err != nil {
		t.Fatal(err)
	}
	before = bytes.Replace(before, []byte(keystoreAlias), []byte("other"), 1) // another's
	before = append(before[:len(before)-20], keystoreSum(before[:len(before)-20])...)
	if err := os.WriteFile(m.path(store), before, 0o644); err != nil {
		t.Fatal(err)
	}
	der := func(text string) string { block, _ := pem.Decode([]byte(text)); return string(block.Bytes) }
	for _, give := range []string{second, second, second + first, ""} {
		if err := m.trust(give); err != nil {
			t.Fatal(err)
		}
		got := read(store)
		if !strings.Contains(got, der(first)) || strings.Contains(got, der(second)) != (give != "") {
			t.Errorf("after %d bytes the store has the wrong certificates", len(give))
		}
		if keytool, err := exec.LookPath("keytool"); err == nil && len(give) > len(second) {
			out, err := exec.Command(keytool, "-list", "-keystore", m.path(store), "-storepass", keystorePassword).CombinedOutput()
			if err != nil || !strings.Contains(string(out), keystoreAlias+"0") {
				t.Errorf("keytool says %v: %s", err, out)
			}
		}
	}
	if got := read(store); got != string(before) {
		t.Error("the store is not what it was")
	}
}

func TestAKeystoreThatCannotBeReadStaysAsItIs(t *testing.T) {
	whole, err := changeKeystore(emptyKeystore(), certificate(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, store := range []string{"", "PKCS12", string(whole[:len(whole)-30]), string(whole[:14]) + strings.Repeat("\xff", 60)} {
		m, read, _ := ownMachine(t)
		const name = "etc/ssl/certs/java/cacerts"
		if err := os.MkdirAll(filepath.Dir(m.path(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(m.path(name), []byte(store), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := m.trust(certificate(t)); err != nil || read(name) != store {
			t.Errorf("of %q there is %q (%v)", store, read(name), err)
		}
	}
}

func TestProgramsAreToldWhereTheCertificatesAre(t *testing.T) {
	m, _, _ := ownMachine(t)
	a := listen(t)
	a.handler.machine = m
	a.mustInit("", initRequest{HostKey: "key", CABundle: "ours", EnvVars: map[string]string{"CURL_CA_BUNDLE": "my own"}})
	vars := a.handler.environment()
	if vars["SSL_CERT_FILE"] != m.path(bundles[0]) || vars["NODE_EXTRA_CA_CERTS"] != m.path(extraCertificate) || vars["CURL_CA_BUNDLE"] != "my own" {
		t.Errorf("the variables are %v", vars)
	}
	a.mustInit("key", initRequest{HostKey: "key"})
	if vars := a.handler.environment(); vars["SSL_CERT_FILE"] != "" {
		t.Errorf("without certificates they are %v", vars)
	}
}

func FuzzKeystore(f *testing.F) {
	f.Add(emptyKeystore(), "")
	f.Fuzz(func(t *testing.T, store []byte, certificates string) {
		if changed, err := changeKeystore(store, certificates); err == nil {
			if _, err := changeKeystore(changed, ""); err != nil {
				t.Errorf("what was made cannot be read: %v", err)
			}
		}
	})
}
