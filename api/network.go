package api

import (
	"cmp"
	"net/http"
	"regexp"
	"strconv"

	"cube"
	"cube/api/gen"
	"cube/network/journal"
	egress "cube/network/policy"
)

// PUT /sandboxes/{sandboxID}/network
func (a *api) setSandboxNetwork(w http.ResponseWriter, r *http.Request) error {
	id, err := sandboxID(r)
	if err != nil {
		return err
	}
	var body gen.SandboxNetworkUpdate
	unknown, err := decodeBody(w, r, &body, []string{"allowOut", "denyOut", "allow_internet_access", "rules", "egressProxy"}, false)
	if err != nil {
		return err
	}
	if len(unknown) > 0 {
		return cube.Errorf(cube.Invalid, "The field %.64s is unknown: what a network policy holds is never ignored", unknown[0])
	}
	internet, network, err := networkPolicy(body)
	if err != nil {
		return err
	}
	if err := a.sandboxes.SetNetwork(r.Context(), id, internet, network); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// GET /sandboxes/{sandboxID}/network/log
func (a *api) getNetworkLog(w http.ResponseWriter, r *http.Request) error {
	id, query, err := sandboxQuery(r)
	if err != nil {
		return err
	}
	limit := 100
	if text := query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > journal.Each {
			return cube.Errorf(cube.Invalid, "validation error: limit must be a number from 1 to %d", journal.Each)
		}
	}
	denied, err := strconv.ParseBool(cmp.Or(query.Get("denied"), "false"))
	if err != nil {
		return cube.Errorf(cube.Invalid, "validation error: denied must be true or false")
	}
	if _, err := a.sandboxes.Get(r.Context(), id); err != nil {
		return err
	}
	answer := []gen.NetworkEvent{}
	if a.journal == nil {
		return writeJSON(w, http.StatusOK, answer)
	}
	for _, e := range a.journal.Newest(id, limit, denied) {
		shown := gen.NetworkEvent{
			Timestamp: e.Time.UTC(), Kind: gen.NetworkEventKind(e.Kind), Name: optional(e.Name), Port: int(e.Port), Allowed: e.Allowed, Rule: e.Rule,
		}
		if e.Address.IsValid() {
			shown.Address = optional(e.Address.String())
		}
		if e.Ended {
			shown.Ended, shown.BytesUp, shown.BytesDown = &e.Ended, &e.Up, &e.Down
		}
		answer = append(answer, shown)
	}
	return writeJSON(w, http.StatusOK, answer)
}

// networkPolicy reads what a sandbox may reach, and keeps it as it was written:
// cube.Sandbox.Reach says what comes of both.
func networkPolicy(n gen.SandboxNetworkUpdate) (internet bool, p cube.NetworkPolicy, err error) {
	internet = n.AllowInternetAccess == nil || *n.AllowInternetAccess
	if n.AllowOut != nil {
		p.AllowOut = *n.AllowOut
	}
	if n.DenyOut != nil {
		p.DenyOut = *n.DenyOut
	}
	if n.Rules != nil {
		p.Rules = map[string]cube.NetworkRule{}
		for domain, rules := range *n.Rules {
			if len(rules) > 1 {
				return false, p, cube.Errorf(cube.Invalid, "Domain %.128q can have at most 1 transform rule.", domain)
			}
			rule := cube.NetworkRule{}
			if len(rules) == 1 && rules[0].Transform != nil && rules[0].Transform.Headers != nil {
				rule.Headers = *rules[0].Transform.Headers
			}
			p.Rules[domain] = rule
		}
	}
	if proxy := n.EgressProxy; proxy != nil {
		p.EgressProxy = &cube.EgressProxy{Address: proxy.Address}
		if proxy.Username != nil {
			p.EgressProxy.Username = *proxy.Username
		}
		if proxy.Password != nil {
			p.EgressProxy.Password = *proxy.Password
		}
	}
	if internet {
		p, err = egress.Canonical(p)
		return internet, p, err
	}
	denied, err := egress.Canonical(cube.NetworkPolicy{DenyOut: p.DenyOut})
	if err != nil {
		return false, p, err
	}
	p.DenyOut = []string{cube.AllTraffic} // so names in allowOut need no other
	p, err = egress.Canonical(p)
	p.DenyOut = denied.DenyOut
	return internet, p, err
}

// maxHTTPSPorts bounds a list that is looked through for every request.
const maxHTTPSPorts = 100

// ingress reads how the ports of a new sandbox are reached.
func ingress(n gen.NewSandboxNetwork) (i cube.Ingress, err error) {
	if n.MaskRequestHost != nil {
		i.MaskRequestHost = *n.MaskRequestHost
		if i.MaskRequestHost != "" && !maskPattern.MatchString(i.MaskRequestHost) {
			return i, cube.Errorf(cube.Invalid, "mask request host is not valid: %.64q: write a host name, and a port or :${PORT} behind it if servers shall see one", i.MaskRequestHost)
		}
	}
	if n.HttpsPorts != nil {
		i.HTTPSPorts = *n.HttpsPorts
	}
	if len(i.HTTPSPorts) > maxHTTPSPorts {
		return i, cube.Errorf(cube.Invalid, "network.httpsPorts has %d entries: at most %d are taken", len(i.HTTPSPorts), maxHTTPSPorts)
	}
	for _, port := range i.HTTPSPorts {
		if port < 1 || port > 65535 || port == int(cube.AgentPort) {
			return i, cube.Errorf(cube.Invalid, "network.httpsPorts has %d: write ports from 1 to 65535, the agent's (%d) left out", port, cube.AgentPort)
		}
	}
	return i, nil
}

// maskPattern is a host in ASCII, in which ${PORT} may stand, and a port.
var maskPattern = regexp.MustCompile(`^(?:[A-Za-z0-9._-]|\$\{PORT\}){1,253}(?::(?:[0-9]{1,5}|\$\{PORT\}))?$`)

// networkOf shows a policy, without its proxy's password.
func networkOf(s cube.Sandbox) gen.SandboxNetwork {
	n := gen.SandboxNetwork{AllowPublicTraffic: s.TrafficToken == ""}
	if i := s.Ingress; i.MaskRequestHost != "" || len(i.HTTPSPorts) > 0 {
		n.MaskRequestHost = optional(i.MaskRequestHost)
		if len(i.HTTPSPorts) > 0 {
			n.HttpsPorts = &i.HTTPSPorts
		}
	}
	if len(s.Network.AllowOut) > 0 {
		n.AllowOut = &s.Network.AllowOut
	}
	if len(s.Network.DenyOut) > 0 {
		n.DenyOut = &s.Network.DenyOut
	}
	if len(s.Network.Rules) > 0 {
		rules := gen.SandboxNetworkRules{}
		for domain, rule := range s.Network.Rules {
			shown := gen.SandboxNetworkRule{}
			if headers := gen.StringMap(rule.Headers); headers != nil {
				shown.Transform = &gen.SandboxNetworkTransform{Headers: &headers}
			}
			rules[domain] = []gen.SandboxNetworkRule{shown}
		}
		n.Rules = &rules
	}
	if p := s.Network.EgressProxy; p != nil {
		n.EgressProxy = &gen.SandboxEgressProxy{Address: p.Address, Username: optional(p.Username)}
	}
	return n
}
