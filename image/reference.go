package image

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"cube"
)

// maxName is longer than any name that a registry accepts.
const maxName = 1024

// reference is an image's name and where it is really asked for.
type reference struct {
	asked    string // as it was written
	registry string // the host that the name means
	at       name.Reference
}

// parse reads a name as docker does: "ubuntu" is docker.io/library/ubuntu:latest.
func (r *Registries) parse(written string) (reference, error) {
	written = strings.TrimSpace(written)
	if len(written) > maxName {
		return reference{}, cube.Errorf(cube.Invalid, "invalid image reference '%.100s…': it is longer than %d bytes", written, maxName)
	}
	if _, rest, found := strings.Cut(written, "://"); found {
		return reference{}, cube.Errorf(cube.Invalid, "invalid image reference '%s': write it without what precedes '//', as '%s'", written, rest)
	}
	meant, err := name.ParseReference(written)
	if err == nil && path.Clean("/"+meant.Context().RepositoryStr()) != "/"+meant.Context().RepositoryStr() {
		err = errors.New("its path leads elsewhere") // out of a mirror's, for one
	}
	if err != nil {
		return reference{}, cube.WrapError(cube.Invalid, err, "invalid image reference '%s': write it as 'ubuntu:22.04', 'registry.example/team/image:tag' or 'image@sha256:…'", written)
	}
	registry := meant.Context().Registry
	ref := reference{asked: written, registry: registry.RegistryStr(), at: meant}

	repository := meant.Context().RepositoryStr()
	host := registry.RegistryStr()
	if m := r.hosts.mirror(host); m != nil {
		host, repository = m.Host, strings.TrimPrefix(m.Path+"/"+repository, "/")
	}
	var options []name.Option
	if r.hosts.insecure(host) {
		options = append(options, name.Insecure)
	}
	reg, err := name.NewRegistry(host, options...)
	if err != nil {
		return reference{}, cube.WrapError(cube.Invalid, err, "invalid image reference '%s'", written)
	}
	switch at := meant.(type) {
	case name.Digest:
		ref.at = reg.Repo(repository).Digest(at.DigestStr())
	default:
		ref.at = reg.Repo(repository).Tag(at.Identifier())
	}
	return ref, nil
}

// hostRules is what the operator has said of registries.
type hostRules struct {
	mirrors   map[string]*url.URL // by registry
	plain     map[string]bool     // asked by HTTP
	permitted map[string]bool     // wherever they are
}

// newHostRules refuses what cannot be meant, with the flag that it stands behind.
func newHostRules(c RegistryConfig) (*hostRules, error) {
	h := &hostRules{mirrors: map[string]*url.URL{}, plain: map[string]bool{}, permitted: map[string]bool{}}
	for _, host := range c.Allow {
		if err := checkHost("--registry-allow", host); err != nil {
			return nil, err
		}
		h.permitted[canonical(host)] = true
	}
	for _, host := range c.Insecure {
		if err := checkHost("--registry-insecure", host); err != nil {
			return nil, err
		}
		h.plain[canonical(host)], h.permitted[canonical(host)] = true, true
	}
	for host, at := range c.Mirrors {
		if err := checkHost("--registry-mirror", host); err != nil {
			return nil, err
		}
		u, err := url.Parse(at)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return nil, cube.Errorf(cube.Invalid, "--registry-mirror %s=%s: write a registry and where it is asked for, such as docker.io=http://127.0.0.1:5000", host, at)
		}
		u.Path = strings.TrimSuffix(u.Path, "/")
		h.mirrors[canonical(host)] = u
		h.permitted[canonical(u.Host)] = true
		if u.Scheme == "http" {
			h.plain[canonical(u.Host)] = true
		}
	}
	return h, nil
}

func checkHost(flag, host string) error {
	if u, err := url.Parse("//" + host); err != nil || host == "" || u.Host != host {
		return cube.Errorf(cube.Invalid, "%s %q: write a registry's host, such as registry.example or 127.0.0.1:5000", flag, host)
	}
	return nil
}

// canonical writes a host one way; docker.io has two names.
func canonical(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "docker.io" {
		return name.DefaultRegistry
	}
	return host
}

func (h *hostRules) mirror(host string) *url.URL { return h.mirrors[canonical(host)] }

// insecure and allowed take a host with or without a port: a rule without one is
// for all its ports.
func (h *hostRules) insecure(host string) bool { return matches(h.plain, host) }
func (h *hostRules) allowed(host string) bool  { return matches(h.permitted, host) }

func matches(rules map[string]bool, host string) bool {
	host = canonical(host)
	if rules[host] {
		return true
	}
	if alone, _, err := net.SplitHostPort(host); err == nil {
		alone = canonical(alone)
		if a, err := netip.ParseAddr(alone); err == nil && a.Is6() {
			alone = "[" + alone + "]"
		}
		return rules[alone]
	}
	return false
}
