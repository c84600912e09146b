package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"path"
	"regexp"
	"strconv"
	"strings"

	"cube"
)

// target is a port of a sandbox.
type target struct {
	id   cube.SandboxID
	port uint16
}

// host is how a target stands in the URLs of the proxy's own connections, which
// are of one sandbox: see pools.
func (t target) host() string { return "sandbox:" + strconv.Itoa(int(t.port)) }

// The headers by which E2B's SDKs name a sandbox on a host that is for all.
const (
	sandboxHeader = "E2b-Sandbox-Id"
	portHeader    = "E2b-Sandbox-Port"
)

var (
	errBadHost = errors.New("the host has characters that no name has")
	errNoPort  = errors.New("send the header E2b-Sandbox-Port with the port's number beside E2b-Sandbox-Id")
	errBadPort = errors.New("the port must be a number from 1 to 65535")
	errNoAgent = errors.New("the agent has no preview: use its host name, or the headers")
	errNoID    = errors.New("send the header E2b-Sandbox-Id once, with the sandbox's id")
)

// hostLabel is the leftmost label of a sandbox's host name. What looks like one
// is one, on any domain: no other host name of a server of ours does. Old clients
// write the client's id behind the sandbox's, which says nothing.
var hostLabel = regexp.MustCompile(`^(\d{1,10})-([a-z0-9]+)(?:-[a-z0-9]+)?$`)

// plainHost is a host that every server inside reads in the same way. net/http
// takes what RFC 3986 does, quotes and brackets among it.
var plainHost = regexp.MustCompile(`^[a-z0-9._-]+$`)

// Takes tells whether a request is for a sandbox and not for the API.
func (g *Gateway) Takes(r *http.Request) bool {
	host, label := splitHost(r.Host)
	if hostLabel.MatchString(label) {
		return true
	}
	return (len(r.Header.Values(sandboxHeader)) > 0 || isSigned(r)) && g.shared(host) || g.isPreview(r)
}

// shared tells whether a host is one that stands for all sandboxes. On another,
// such as the API's own, the headers mean nothing.
func (g *Gateway) shared(host string) bool {
	if host == "localhost" || (g.domain != "" && host == "sandbox."+domainOnly(g.domain)) {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

// target reads which sandbox and port a request is for. An id of another form
// than ours cannot exist, and is answered as one that does not.
func (g *Gateway) target(r *http.Request) (target, error) {
	host, label := splitHost(r.Host)
	if match := hostLabel.FindStringSubmatch(label); match != nil {
		if !plainHost.MatchString(host) {
			return target{}, errBadHost
		}
		return parseTarget(match[2], match[1])
	}
	if g.isPreview(r) {
		return previewTarget(r)
	}
	ids, ports := r.Header.Values(sandboxHeader), r.Header.Values(portHeader)
	if len(ids) == 0 && isSigned(r) {
		id, found := g.signedFor(r.Context(), r)
		if !found {
			return target{}, errBadLink
		}
		return target{id, cube.AgentPort}, nil
	}
	if len(ids) != 1 {
		return target{}, errNoID
	}
	if len(ports) != 1 {
		return target{}, errNoPort
	}
	return parseTarget(ids[0], ports[0])
}

func parseTarget(id, port string) (target, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return target{}, errBadPort
	}
	parsed, err := cube.ParseSandboxID(id)
	if err != nil {
		return target{id: cube.SandboxID(id), port: uint16(n)}, err
	}
	return target{parsed, uint16(n)}, nil
}

// splitHost returns a Host header's host in lower case without the port, and
// its leftmost label.
func splitHost(host string) (name, label string) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	name = strings.ToLower(strings.TrimSuffix(host, "."))
	label, _, _ = strings.Cut(name, ".")
	return name, label
}

// domainOnly cuts the port off a domain.
func domainOnly(domain string) string {
	name, _ := splitHost(domain)
	return name
}

// isInternal tells whether the agent could take a path for one that is for the
// server alone. The agent's router cleans paths and reads escapes, so both are
// done here; nothing that a client needs looks like one of these.
func isInternal(r *http.Request) bool {
	cleaned := path.Clean("/" + strings.ToLower(r.URL.Path))
	return internalPaths[cleaned] || strings.HasPrefix(cleaned, internalPrefix)
}

type contextKey struct{}

func withTarget(ctx context.Context, t target) context.Context {
	return context.WithValue(ctx, contextKey{}, t)
}

// targetOf returns the target of a request that is being served.
func targetOf(ctx context.Context) target {
	t, _ := ctx.Value(contextKey{}).(target)
	return t
}
