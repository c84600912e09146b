package app

import (
	"strings"
	"testing"
)

func TestSettingsOfTheDomain(t *testing.T) {
	for _, row := range []struct {
		settings     Settings
		domain, says string // says: of the refusal
	}{
		{Settings{}, "", ""},
		{Settings{Domain: "Cube.Test"}, "cube.test", ""},
		{Settings{Domain: "cube.test", TLS: "internal"}, "cube.test:3000", ""},
		{Settings{Domain: "cube.test:443", TLS: "internal"}, "cube.test:443", ""},
		{Settings{Domain: "cube.test", TLSCert: "c", TLSKey: "k"}, "cube.test:3000", ""},
		{Settings{Domain: "cube.test", DNSBind: "127.0.0.1:53", DNSAddress: "10.0.0.1"}, "cube.test", ""},
		{Settings{Domain: "../x"}, "", "--domain"},
		{Settings{Domain: "cube.test:x"}, "", "--domain"},
		{Settings{Domain: "127.0.0.1"}, "", "--domain"},
		{Settings{Domain: "cube..test"}, "", "--domain"},
		{Settings{TLS: "internal"}, "", "write --domain"},
		{Settings{TLSCert: "c"}, "", "write both"},
		{Settings{Domain: "cube.test", TLS: "internal", TLSCert: "c", TLSKey: "k"}, "", "write one"},
		{Settings{DNSBind: "127.0.0.1:53"}, "", "write --domain"},
		{Settings{Domain: "cube.test", DNSBind: "x"}, "", "--dns-bind"},
		{Settings{Domain: "cube.test", DNSBind: ":53", DNSAddress: "x"}, "", "--dns-address"},
		{Settings{DNSAddress: "10.0.0.1"}, "", "--dns-bind"},
	} {
		s := row.settings
		s.Bind = "127.0.0.1:3000"
		err := s.validateDomain()
		switch {
		case row.says == "" && (err != nil || s.Domain != row.domain):
			t.Errorf("%+v: domain %q, %v", row.settings, s.Domain, err)
		case row.says != "" && (err == nil || !strings.Contains(err.Error(), row.says)):
			t.Errorf("%+v: %v, want %q", row.settings, err, row.says)
		}
	}
}
