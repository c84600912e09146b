package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cube"
)

func TestCanonical(t *testing.T) {
	all := []string{cube.AllTraffic}
	for name, c := range map[string]struct{ in, want cube.NetworkPolicy }{
		"nothing":          {cube.NetworkPolicy{}, cube.NetworkPolicy{}},
		"ranges":           {cube.NetworkPolicy{DenyOut: []string{"203.0.113.7/24", "1.2.3.4/0", "198.51.100.1"}}, cube.NetworkPolicy{DenyOut: []string{"203.0.113.0/24", cube.AllTraffic, "198.51.100.1"}}},
		"mapped ranges":    {cube.NetworkPolicy{DenyOut: []string{"::ffff:203.0.113.7/120", "::ffff:198.51.100.1/128"}}, cube.NetworkPolicy{DenyOut: []string{"203.0.113.0/24", "198.51.100.1/32"}}},
		"twice":            {cube.NetworkPolicy{DenyOut: []string{"203.0.113.7", "203.0.113.7"}}, cube.NetworkPolicy{DenyOut: []string{"203.0.113.7"}}},
		"names":            {cube.NetworkPolicy{AllowOut: []string{"Google.COM", "*.Example.com.", "*", "1.1.1.1"}, DenyOut: all}, cube.NetworkPolicy{AllowOut: []string{"google.com", "*.example.com", "*", "1.1.1.1"}, DenyOut: all}},
		"other letters":    {cube.NetworkPolicy{AllowOut: []string{"bücher.example", "xn--bcher-kva.example", "a_b.example"}, DenyOut: all}, cube.NetworkPolicy{AllowOut: []string{"xn--bcher-kva.example", "a_b.example"}, DenyOut: all}},
		"closed addresses": {cube.NetworkPolicy{AllowOut: []string{"10.0.0.0/8", "fd00::/8"}}, cube.NetworkPolicy{AllowOut: []string{"10.0.0.0/8", "fd00::/8"}}},
		"a rule":           {cube.NetworkPolicy{Rules: map[string]cube.NetworkRule{"API.example.com": {Headers: map[string]string{"A": "b"}}}}, cube.NetworkPolicy{Rules: map[string]cube.NetworkRule{"api.example.com": {Headers: map[string]string{"A": "b"}}}}},
		"a proxy":          {cube.NetworkPolicy{EgressProxy: &cube.EgressProxy{Address: " Proxy.example.com:1080 ", Username: "u", Password: "p"}}, cube.NetworkPolicy{EgressProxy: &cube.EgressProxy{Address: "proxy.example.com:1080", Username: "u", Password: "p"}}},
	} {
		got, err := Canonical(c.in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		again, err := Canonical(got)
		if diff := cmp.Diff(got, again); diff != "" || err != nil {
			t.Errorf("%s, twice: %v %s", name, err, diff)
		}
	}
}

func TestWhatIsNone(t *testing.T) {
	many := make([]string, 10_000)
	for i := range many {
		many[i] = fmt.Sprintf("203.0.%d.%d", i/250, i%250)
	}
	rule := func(domain string, headers map[string]string) cube.NetworkPolicy {
		return cube.NetworkPolicy{Rules: map[string]cube.NetworkRule{domain: {Headers: headers}}}
	}
	deny := func(entry string) cube.NetworkPolicy { return cube.NetworkPolicy{DenyOut: []string{entry}} }
	allow := func(entry string) cube.NetworkPolicy {
		return cube.NetworkPolicy{AllowOut: []string{entry}, DenyOut: []string{cube.AllTraffic}}
	}
	proxy := func(address, user, password string) cube.NetworkPolicy {
		return cube.NetworkPolicy{EgressProxy: &cube.EgressProxy{Address: address, Username: user, Password: password}}
	}
	tooMany := map[string]string{}
	for i := range 21 {
		tooMany[fmt.Sprintf("X-%d", i)] = "v"
	}
	for name, c := range map[string]struct {
		in   cube.NetworkPolicy
		want string
	}{
		"name without all traffic denied": {cube.NetworkPolicy{AllowOut: []string{"google.com"}}, "ALL_TRAFFIC"},
		"denied name":                     {deny("google.com"), "invalid denied CIDR google.com"},
		"denied nothing":                  {deny(""), "invalid denied CIDR"},
		"unspecified":                     {deny("0.0.0.0"), "invalid denied CIDR 0.0.0.0"},
		"unspecified range":               {deny("0.0.0.0/8"), "invalid denied CIDR"},
		"range that is none":              {deny("1.2.3.4/33"), "1.2.3.4/33"},
		"allowed range that is none":      {allow("1.2.3.4/33"), "invalid allowed address 1.2.3.4/33"},
		"allowed address that is none":    {allow("1.2.3.400"), "invalid allowed address 1.2.3.400"},
		"address with leading zeros":      {allow("1.2.3.004"), "invalid allowed address"},
		"name with a port":                {allow("example.com:443"), "example.com:443"},
		"name with a path":                {allow("https://example.com/"), "example.com"},
		"star in the middle":              {allow("a.*.example.com"), "*.example.com"},
		"star without a dot":              {allow("*example.com"), "*.example.com"},
		"long name":                       {allow(strings.Repeat("abcdefg.", 32) + "com"), "253"},
		"long part":                       {allow(strings.Repeat("a", 64) + ".com"), "invalid allowed domain"},
		"empty part":                      {allow("a..com"), "invalid allowed domain"},
		"blank":                           {allow("exa mple.com"), "invalid allowed domain"},
		"many":                            {cube.NetworkPolicy{DenyOut: many}, "10000"},
		"many allowed":                    {cube.NetworkPolicy{AllowOut: many}, "10000"},
		"rule for no name":                {rule("", nil), "must not be empty"},
		"rule for an address":             {rule("1.2.3.4", nil), "not a valid domain"},
		"rule for a pattern":              {rule("*.example.com", nil), "not a valid domain"},
		"rule for a long name":            {rule(strings.Repeat("a.", 70)+"com", nil), "128"},
		"too many headers":                {rule("a.com", tooMany), "at most 20 headers"},
		"header without a name":           {rule("a.com", map[string]string{"": "v"}), "must not be empty"},
		"header with a blank":             {rule("a.com", map[string]string{"a b": "v"}), "token characters"},
		"long header name":                {rule("a.com", map[string]string{strings.Repeat("a", 65): "v"}), "64"},
		"value with a line's end":         {rule("a.com", map[string]string{"A": "secret\r\nB: c"}), "invalid characters"},
		"long value":                      {rule("a.com", map[string]string{"A": strings.Repeat("secret", 500)}), "2048"},
		"placeholder":                     {rule("a.com", map[string]string{"A": "${e2b.identity.tokens.aws}"}), "placeholder"},
		"proxy without a port":            {proxy("proxy.example.com", "", ""), "egress proxy"},
		"proxy at port 0":                 {proxy("proxy.example.com:0", "", ""), "egress proxy"},
		"proxy nowhere":                   {proxy(":1080", "", ""), "egress proxy"},
		"password without a user":         {proxy("proxy.example.com:1080", "", "secret"), "username"},
		"long password":                   {proxy("proxy.example.com:1080", "u", strings.Repeat("secret", 50)), "255"},
	} {
		_, err := Canonical(c.in)
		if cube.KindOf(err) != cube.Invalid || !strings.Contains(fmt.Sprint(err), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
	many10 := map[string]cube.NetworkRule{}
	for i := range 11 {
		many10[fmt.Sprintf("a%d.com", i)] = cube.NetworkRule{}
	}
	if _, err := Canonical(cube.NetworkPolicy{Rules: many10}); err == nil || !strings.Contains(err.Error(), "at most 10 domains") {
		t.Errorf("eleven domains: %v", err)
	}
}

func FuzzCanonical(f *testing.F) {
	f.Add("Google.com", "10.0.0.1/8")
	f.Fuzz(func(t *testing.T, allow, deny string) {
		got, err := Canonical(cube.NetworkPolicy{AllowOut: []string{allow}, DenyOut: []string{deny, cube.AllTraffic}})
		if err != nil {
			return
		}
		again, err := Canonical(got)
		if diff := cmp.Diff(got, again); diff != "" || err != nil {
			t.Errorf("%q, %q: %v %s", allow, deny, err, diff)
		}
	})
}
