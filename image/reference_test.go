package image

import (
	"net/netip"
	"strings"
	"testing"

	"cube"
)

func TestNames(t *testing.T) {
	r, err := NewRegistries(RegistryConfig{
		Mirrors:  map[string]string{"docker.io": "http://127.0.0.1:5000", "ghcr.io": "https://mirror.example/ghcr"},
		Insecure: []string{"plain.example"},
	})
	if err != nil {
		t.Fatal(err)
	}
	const digest = "@sha256:0123456789012345678901234567890123456789012345678901234567890123"
	for written, want := range map[string]string{
		"ubuntu":                           "http 127.0.0.1:5000/library/ubuntu:latest",
		" ubuntu:22.04\n":                  "http 127.0.0.1:5000/library/ubuntu:22.04",
		"e2bdev/base":                      "http 127.0.0.1:5000/e2bdev/base:latest",
		"docker.io/library/ubuntu:22.04":   "http 127.0.0.1:5000/library/ubuntu:22.04",
		"ubuntu" + digest:                  "http 127.0.0.1:5000/library/ubuntu" + digest,
		"ubuntu:22.04" + digest:            "http 127.0.0.1:5000/library/ubuntu" + digest,
		"ghcr.io/a/b:1":                    "https mirror.example/ghcr/a/b:1",
		"quay.io/a/b/c/d:1":                "https quay.io/a/b/c/d:1",
		"plain.example/a":                  "http plain.example/a:latest",
		"plain.example:8080/a":             "http plain.example:8080/a:latest",
		"registry.example:5000/a/b:v1.0":   "https registry.example:5000/a/b:v1.0",
		"[2001:db8::1]:5000/a":             "https [2001:db8::1]:5000/a:latest",
		"PLAIN.example/a":                  "http PLAIN.example/a:latest",
		"":                                 "invalid",
		"Ubuntu":                           "invalid",
		"https://ghcr.io/a":                "write it without what precedes '//', as 'ghcr.io/a'",
		"docker://ubuntu":                  "write it without",
		"ubuntu:":                          "invalid",
		"ubuntu@sha256:1":                  "invalid",
		"ubuntu:22 04":                     "invalid",
		"a/../b":                           "invalid",
		"user:password@registry.example/a": "invalid",
		"-f/x":                             "",
		strings.Repeat("a", 2000):          "longer than",
	} {
		ref, err := r.parse(written)
		if err != nil {
			if !strings.Contains(err.Error(), want) || cube.KindOf(err) != cube.Invalid {
				t.Errorf("%.50q: %v; want %s", written, err, want)
			}
			continue
		}
		if got := ref.at.Context().Scheme() + " " + ref.at.Name(); want != "" && got != want {
			t.Errorf("%q is %s; want %s", written, got, want)
		}
	}
}

func TestRegistrySettingsAreChecked(t *testing.T) {
	for _, c := range []struct {
		config RegistryConfig
		words  string
	}{
		{RegistryConfig{Mirrors: map[string]string{"docker.io": "127.0.0.1:5000"}}, "--registry-mirror docker.io=127.0.0.1:5000: write"},
		{RegistryConfig{Mirrors: map[string]string{"docker.io": "http://u:p@127.0.0.1"}}, "--registry-mirror"},
		{RegistryConfig{Mirrors: map[string]string{"https://docker.io": "http://127.0.0.1"}}, "--registry-mirror"},
		{RegistryConfig{Insecure: []string{"http://x"}}, "--registry-insecure"},
		{RegistryConfig{Allow: []string{""}}, "--registry-allow"},
	} {
		_, err := NewRegistries(c.config)
		wantFailure(t, err, cube.Invalid, c.words)
	}
}

func TestAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"1.1.1.1": true, "203.0.113.9": true, "2001:db8::1": true, "2606:4700::1111": true,
		"127.0.0.1": false, "127.9.9.9": false, "10.1.2.3": false, "172.31.0.1": false, "192.168.1.1": false,
		"169.254.169.254": false, "100.100.100.200": false, "0.0.0.0": false, "255.255.255.255": false, "224.0.0.1": false,
		"::1": false, "::": false, "::ffff:10.0.0.1": false, "::10.0.0.1": false, "fe80::1%lo": false, "fd00:ec2::254": false,
		"64:ff9b::a00:1": false, "2002:a00:1::1": false, "2001:0:a00:1::1": false, "ff02::1": false,
	} {
		if got := onInternet(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s on the internet: %v", address, got)
		}
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"ubuntu:22.04", "docker.io/a@sha256:00", "[::1]:5000/x", "a//b", "x:y:z"} {
		f.Add(s)
	}
	r, err := NewRegistries(RegistryConfig{Mirrors: map[string]string{"docker.io": "http://127.0.0.1:5000/x"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := r.parse(s)
		if err == nil && strings.ContainsAny(ref.at.Name(), " \x00\r\n?#") {
			t.Errorf("%q is %q", s, ref.at.Name())
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"os":"linux","config":{"Env":["A=b"],"ExposedPorts":{"80-90/tcp":{}}},"rootfs":{"diff_ids":["sha256:0123456789012345678901234567890123456789012345678901234567890123"]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		img, _, ids, err := readConfig(b)
		if err == nil && (len(ids) == 0 || len(img.Ports) > maxPorts || img.Workdir != "" && img.Workdir[0] != '/') {
			t.Errorf("%q is %+v", b, img)
		}
	})
}
