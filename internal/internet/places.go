package internet

// place is a host: an address with a web server. What it answers stands in web.go.
type place struct {
	addr  string
	names []string // "*.name" for all below it that have none of their own
	// server is what it calls itself.
	server string
	// home is where its front page leads, with which status; without one it answers
	// with the caller's address.
	home   string
	status int
	// resolves tells that it is a name server for everybody, on all ways: UDP, TCP,
	// TLS and HTTPS.
	resolves bool
}

// NameServer is the one that the machine under test asks.
const NameServer = "192.0.2.53"

// Metadata is where clouds tell machines their secrets.
const Metadata = "169.254.169.254"

var places = []place{
	{addr: "192.0.2.1"},
	{addr: NameServer, resolves: true},
	{addr: "203.0.113.1", names: []string{"good.example", "www.good.example"}},
	{addr: "203.0.113.2", names: []string{"other.example"}},
	{addr: "203.0.113.66", names: []string{"bad.example"}},

	// What nobody behind the server may reach: the operator's network and the
	// cloud's metadata service. A router leads there, so that a closed range can be
	// told from a dead one.
	{addr: "10.99.99.1", names: []string{"rebound.example"}},
	{addr: Metadata, names: []string{"metadata.example"}},

	// Under the names and addresses that E2B's own tests ask for, with the answers
	// that they look at.
	{addr: "1.1.1.1", names: []string{"one.one.one.one"}, server: "cloudflare", home: "https://one.one.one.one/", status: 301, resolves: true},
	{addr: "1.1.1.2", server: "cloudflare"},
	{addr: "8.8.8.8", names: []string{"dns.google"}, home: "https://dns.google/", status: 302, resolves: true},
	{addr: "8.8.4.4", home: "https://dns.google/", status: 302, resolves: true},
	{addr: "9.9.9.9", resolves: true},
	{addr: "203.0.113.110", names: []string{"google.com", "*.google.com"}, server: "gws"},
	{addr: "203.0.113.111", names: []string{"connectivitycheck.gstatic.com", "www.gstatic.com"}},
	{addr: "203.0.113.112", names: []string{"cloudflare.com"}, server: "cloudflare"},
	{addr: "203.0.113.113", names: []string{"example.com"}},
	{addr: "203.0.113.114", names: []string{"github.com"}, server: "github.com"},
	{addr: "203.0.113.115", names: []string{"postman-echo.com"}},
	{addr: "203.0.113.116", names: []string{"e2b.dev"}},
}
