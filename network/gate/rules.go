package gate

import (
	"errors"
	"net/netip"
	"strings"

	"cube"
)

// rules is a sandbox's policy, made ready for deciding.
type rules struct {
	internet        bool
	names           patterns // of AllowOut
	allowed, denied []prefixRule
	deniesAll       string // the entry that leaves no address open but those that are named
	changes         map[string]*change
	proxy           *cube.EgressProxy
	authority       *authority
}

type prefixRule struct {
	prefix netip.Prefix
	text   string
}

// change is what becomes of requests to a domain.
type change struct {
	domain  string
	headers map[string]string
}

// The rules that are not a policy's, for the observer.
const (
	ruleClosed  = "closed"           // the address is closed to all
	ruleNone    = "no internet"      // the sandbox has none
	ruleDefault = "default"          // nothing speaks of it
	ruleEnded   = "ended"            // the sandbox is no more
	ruleLimit   = "limit"            // too many connections or questions
	ruleDirect  = "not redirected"   // to the gate's own port
	ruleAnswer  = "no open address"  // of a name, none of which may be reached
	ruleType    = "type"             // a kind of question that is not answered
	ruleLocal   = "local name"       // a name that is no place on the internet
	ruleBefore  = "policy of before" // which has just been replaced
)

// verdict is what the rules say of an address and a name.
type verdict struct {
	allowed bool
	rule    string
	// pinned means that the name decides: it is the gate that says where it is.
	pinned bool
	change *change // of requests to it, nil for none
}

func (r *rules) grant(v verdict) grant {
	g := grant{pinned: v.pinned, changed: v.change != nil}
	if r.proxy != nil {
		g.proxy = *r.proxy
	}
	return g
}

func newRules(s Sandbox) (*rules, error) {
	r := &rules{internet: s.Internet, changes: map[string]*change{}, proxy: s.Policy.EgressProxy}
	for _, entry := range s.Policy.AllowOut {
		if prefix, ok := parsePrefix(entry); ok {
			r.allowed = append(r.allowed, prefixRule{prefix, entry})
		} else {
			r.names = append(r.names, strings.ToLower(entry))
		}
	}
	for _, entry := range s.Policy.DenyOut {
		prefix, ok := parsePrefix(entry)
		if !ok {
			return nil, errors.New("denyOut has something that is no address and no range")
		}
		r.denied = append(r.denied, prefixRule{prefix, entry})
		if prefix.Addr().Is4() {
			r.denied = append(r.denied, prefixRule{Translated(prefix), entry})
		}
		if prefix.Bits() == 0 && prefix.Addr().Is4() {
			r.deniesAll = entry // of E2B's ALL_TRAFFIC, which knows one family, and means both
			r.denied = append(r.denied, prefixRule{netip.PrefixFrom(netip.IPv6Unspecified(), 0), entry})
		}
	}
	for _, p := range r.allowed {
		if p.prefix.Bits() == 0 {
			r.deniesAll = "" // what is allowed beats it: no address is left that only a name opens
		}
	}
	for domain, rule := range s.Policy.Rules {
		if len(rule.Headers) > 0 {
			r.changes[strings.ToLower(domain)] = &change{domain: domain, headers: rule.Headers}
		}
	}
	if len(s.Authority) > 0 {
		var err error
		if r.authority, err = parseAuthority(s.Authority); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func parsePrefix(text string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	prefix, err := netip.ParsePrefix(text)
	return prefix.Masked(), err == nil
}

// ByAddress is what the rules of the sandbox at an address say of another that no
// name leads to, and which of them. Nobody's rules allow nothing.
func (g *Gate) ByAddress(guest, addr netip.Addr) (allowed bool, rule string) {
	g.mu.RLock()
	s := g.sandboxes[guest.Unmap()]
	g.mu.RUnlock()
	if s == nil {
		return false, ruleEnded
	}
	r := s.current()
	if r == nil {
		return false, ruleEnded
	}
	v := g.decide(r, addr.Unmap(), "")
	return v.allowed, v.rule
}

// decide is the whole of the rules: what is closed is closed; a name that is
// allowed is; an address that is allowed is; one that is denied is not; all else
// is allowed.
func (g *Gate) decide(r *rules, addr netip.Addr, name string) verdict {
	if !r.internet {
		return verdict{rule: ruleNone}
	}
	if g.closed(addr) {
		return verdict{rule: ruleClosed}
	}
	v := verdict{change: r.changeOf(name)}
	if domain, ok := r.names.match(name); ok {
		v.allowed, v.rule, v.pinned = true, domain, true
		return v
	}
	v.allowed, v.rule = r.byAddress(addr)
	v.pinned = v.change != nil
	return v
}

// byAddress is what the rules say of an address alone: allow beats deny.
func (r *rules) byAddress(addr netip.Addr) (allowed bool, rule string) {
	for _, p := range r.allowed {
		if p.prefix.Contains(addr) {
			return true, p.text
		}
	}
	for _, p := range r.denied {
		if p.prefix.Contains(addr) {
			return false, p.text
		}
	}
	return true, ruleDefault
}

// changeOf is the change of requests to a name: that of the name itself, or of
// the longest pattern that it is of.
func (r *rules) changeOf(name string) *change {
	if name == "" || len(r.changes) == 0 {
		return nil
	}
	if c := r.changes[name]; c != nil {
		return c
	}
	for rest := name; ; {
		_, parent, ok := strings.Cut(rest, ".")
		if !ok {
			return r.changes["*"]
		}
		if c := r.changes["*."+parent]; c != nil {
			return c
		}
		rest = parent
	}
}

// patterns are domains: one name, "*." and all below it, "*" for all.
type patterns []string

func (p patterns) match(name string) (string, bool) {
	if name == "" {
		return "", false
	}
	for _, pattern := range p {
		suffix, wild := strings.CutPrefix(pattern, "*")
		if pattern == name || wild && len(name) > len(suffix) && strings.HasSuffix(name, suffix) {
			return pattern, true
		}
	}
	return "", false
}

// canonical is a host name as rules compare it: in lower case, without the dot
// at its end. "" is for what is none, an address among it.
func canonical(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" || len(host) > 253 {
		return ""
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return ""
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 {
			return ""
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return ""
			}
		}
	}
	return host
}
