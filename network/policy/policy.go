// Package policy says whether a network policy that somebody has written is one,
// in E2B's words, and brings it into the one form that the engine and the gate
// read. It decides about no packet.
package policy

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/idna"

	"cube"
)

// Bounds. Those of rules are E2B's.
const (
	maxEntries     = 1000 // of a list
	maxDomain      = 253
	maxRuleDomains = 10
	maxRuleDomain  = 128
	maxHeaders     = 20
	maxHeaderName  = 64
	maxHeaderValue = 2048
	maxCredential  = 255 // RFC 1929
)

func invalid(format string, args ...any) error { return cube.Errorf(cube.Invalid, format, args...) }

// Canonical returns a policy in its one form: ranges without the bits behind
// them, names in lower case and in ASCII, nothing twice. Kind: Invalid.
func Canonical(p cube.NetworkPolicy) (cube.NetworkPolicy, error) {
	deny, err := denied(p.DenyOut)
	if err != nil {
		return cube.NetworkPolicy{}, err
	}
	allow, named, err := allowed(p.AllowOut)
	if err != nil {
		return cube.NetworkPolicy{}, err
	}
	if named && !slices.Contains(deny, cube.AllTraffic) {
		return cube.NetworkPolicy{}, invalid("When specifying allowed domains in allow out, you must include 'ALL_TRAFFIC' in deny out to block all other traffic.")
	}
	p.AllowOut, p.DenyOut = allow, deny
	if p.Rules, err = rules(p.Rules); err != nil {
		return cube.NetworkPolicy{}, err
	}
	if p.EgressProxy, err = egressProxy(p.EgressProxy); err != nil {
		return cube.NetworkPolicy{}, err
	}
	return p, nil
}

// parse reads an address or a range. What begins with one and is none is told
// apart from names by the caller.
func parse(entry string) (string, bool) {
	if addr, err := netip.ParseAddr(entry); err == nil {
		addr = addr.Unmap()
		return addr.String(), !addr.IsUnspecified() && addr.Zone() == ""
	}
	prefix, err := netip.ParsePrefix(entry)
	if err != nil {
		return "", false
	}
	if addr := prefix.Addr(); addr.Is4In6() {
		if prefix.Bits() < 96 {
			return "", false
		}
		prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
	}
	if prefix.Addr().IsUnspecified() && entry != cube.AllTraffic && entry != "::/0" {
		return "", false
	}
	return prefix.Masked().String(), true
}

func denied(entries []string) ([]string, error) {
	if len(entries) > maxEntries {
		return nil, invalid("denyOut has %d entries: at most %d are taken; write ranges instead of addresses", len(entries), maxEntries)
	}
	var all []string
	for _, entry := range entries {
		canonical, ok := parse(entry)
		if !ok {
			return nil, invalid("invalid denied CIDR %.64s: write an address such as 203.0.113.7 or a range such as 203.0.113.0/24; names cannot be denied", entry)
		}
		all = append(all, canonical)
	}
	return unique(all), nil
}

func allowed(entries []string) (all []string, named bool, err error) {
	if len(entries) > maxEntries {
		return nil, false, invalid("allowOut has %d entries: at most %d are taken; write ranges instead of addresses, and *.example.com for all below it", len(entries), maxEntries)
	}
	for _, entry := range entries {
		canonical, ok := parse(entry)
		if !ok {
			if looksNumeric(entry) {
				return nil, false, invalid("invalid allowed address %.64s: write an address such as 203.0.113.7, a range such as 203.0.113.0/24, or a name", entry)
			}
			if canonical, err = domain(entry); err != nil {
				return nil, false, invalid("invalid allowed domain %.300q: %s", entry, err)
			}
			named = true
		}
		all = append(all, canonical)
	}
	return unique(all), named, nil
}

// looksNumeric tells whether an entry was meant to be an address: no name ends in
// a number.
func looksNumeric(entry string) bool {
	if strings.ContainsAny(entry, ":/") {
		return true
	}
	last := entry[strings.LastIndexByte(entry, '.')+1:]
	_, err := strconv.ParseUint(last, 10, 64)
	return err == nil
}

func unique(entries []string) []string {
	seen := map[string]bool{}
	return slices.DeleteFunc(entries, func(entry string) bool {
		was := seen[entry]
		seen[entry] = true
		return was
	})
}

// domain is a name, "*." and a name, or "*" for all.
func domain(text string) (string, error) {
	if text == "*" {
		return text, nil
	}
	name, wild := strings.CutPrefix(text, "*.")
	name = strings.TrimSuffix(name, ".")
	if strings.Contains(name, "*") {
		return "", fmt.Errorf("* can stand alone or before the first dot, as in *.example.com")
	}
	ascii, err := names.ToASCII(name)
	if again, failed := names.ToASCII(ascii); err != nil || failed != nil || again != ascii || ascii == "" || !utf8.ValidString(name) {
		return "", fmt.Errorf("it is no name such as example.com or *.example.com, without a port and without a path")
	}
	if len(ascii) > maxDomain {
		return "", fmt.Errorf("it is longer than %d characters", maxDomain)
	}
	ascii = strings.ToLower(ascii)
	for label := range strings.SplitSeq(ascii, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", fmt.Errorf("each part between dots has 1 to 63 letters, digits and dashes")
		}
	}
	if looksNumeric(ascii) {
		return "", fmt.Errorf("no name ends in a number")
	}
	if wild {
		ascii = "*." + ascii
	}
	return ascii, nil
}

// names takes what a browser takes, and underscores, which some servers have.
var names = idna.New(idna.MapForLookup(), idna.StrictDomainName(false), idna.Transitional(false), idna.ValidateLabels(true))

func rules(all map[string]cube.NetworkRule) (map[string]cube.NetworkRule, error) {
	if len(all) > maxRuleDomains {
		return nil, invalid("Network rules can have at most %d domains.", maxRuleDomains)
	}
	if len(all) == 0 {
		return nil, nil
	}
	canonical := map[string]cube.NetworkRule{}
	for name, rule := range all {
		switch {
		case name == "":
			return nil, invalid("Rule domain must not be empty.")
		case len(name) > maxRuleDomain:
			return nil, invalid("Rule domain %.64q exceeds maximum length of %d characters.", name, maxRuleDomain)
		}
		ascii, err := domain(name)
		if err != nil || looksNumeric(name) || strings.Contains(ascii, "*") {
			return nil, invalid("Rule domain %q is not a valid domain name.", name)
		}
		if _, twice := canonical[ascii]; twice {
			return nil, invalid("Rule domain %q is there twice.", name)
		}
		if err := headers(name, rule.Headers); err != nil {
			return nil, err
		}
		canonical[ascii] = rule
	}
	return canonical, nil
}

// headers checks what a rule sets. Its values are secrets: no error repeats one.
func headers(domain string, all map[string]string) error {
	if len(all) > maxHeaders {
		return invalid("Domain %q can have at most %d headers per rule.", domain, maxHeaders)
	}
	for name, value := range all {
		switch {
		case name == "":
			return invalid("Header name in rule for domain %q must not be empty.", domain)
		case !httpguts.ValidHeaderFieldName(name):
			return invalid("Header name %.64q in rule for domain %q must contain only valid HTTP token characters.", name, domain)
		case len(name) > maxHeaderName:
			return invalid("Header name %.64q in rule for domain %q exceeds maximum length of %d characters.", name, domain, maxHeaderName)
		case !httpguts.ValidHeaderFieldValue(value):
			return invalid("Value for header %q in rule for domain %q contains invalid characters.", name, domain)
		case len(value) > maxHeaderValue:
			return invalid("Value for header %q in rule for domain %q exceeds maximum length of %d characters.", name, domain, maxHeaderValue)
		case strings.Contains(value, "${e2b."):
			return invalid("Value for header %q in rule for domain %q has a placeholder of E2B's (${e2b.…}), which this server does not fill in: write the value itself.", name, domain)
		}
	}
	return nil
}

// egressProxy checks where a proxy is; whether it may be there, the gate knows.
func egressProxy(p *cube.EgressProxy) (*cube.EgressProxy, error) {
	if p == nil {
		return nil, nil
	}
	host, port, err := net.SplitHostPort(strings.TrimSpace(p.Address))
	number, failed := strconv.ParseUint(port, 10, 16)
	if err != nil || failed != nil || number == 0 {
		return nil, invalid("Invalid egress proxy config: the address must be a host and a port, such as proxy.example.com:1080")
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.Unmap().String()
	} else if host, err = domain(host); err != nil || looksNumeric(host) || strings.Contains(host, "*") {
		return nil, invalid("Invalid egress proxy config: the host of its address is no name and no address")
	}
	if p.Username == "" && p.Password != "" {
		return nil, invalid("Invalid egress proxy config: a password needs a username")
	}
	if len(p.Username) > maxCredential || len(p.Password) > maxCredential {
		return nil, invalid("Invalid egress proxy config: username and password have at most %d bytes each", maxCredential)
	}
	return &cube.EgressProxy{Address: net.JoinHostPort(host, port), Username: p.Username, Password: p.Password}, nil
}
