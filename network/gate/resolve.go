package gate

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sync/singleflight"
)

// Bounds of what is remembered, by weight of about bytes and by time.
const (
	cacheWeight = 16 << 20
	longest     = 5 * time.Minute
	longestNone = time.Minute // that a name is not there
	troubleTime = time.Second // that nobody could say: RFC 9520, 3.2
	// maxRecords bounds one answer.
	maxRecords = 64
	// maxSockets bounds those that wait for name servers: whoever asks for names of
	// servers that never answer must not take the server's files.
	maxSockets = 1024
)

// resolver asks the operator's name servers.
type resolver struct {
	ctx       context.Context // ends with the gate
	upstreams func() []netip.AddrPort
	cache     *otter.Cache[question, *answer]
	flights   singleflight.Group
	sockets   chan struct{} // to name servers, of all questions together
	// headStart is how long a name server is waited for before the next is asked
	// too, patience for all together.
	headStart, patience time.Duration
}

type question struct {
	name string // canonical
	kind dnsmessage.Type
}

// answer is what is remembered of one: nothing that was not asked for.
type answer struct {
	code    dnsmessage.RCode
	records []dnsmessage.Resource // the chain of names, and what is at its end
	soa     *dnsmessage.Resource  // how long it is nothing
	at      time.Time
	ttl     time.Duration
}

func newResolver(ctx context.Context, fixed []netip.AddrPort) *resolver {
	r := &resolver{ctx: ctx, upstreams: systemUpstreams(), headStart: 300 * time.Millisecond, patience: 1800 * time.Millisecond, sockets: make(chan struct{}, maxSockets)}
	if len(fixed) > 0 {
		r.upstreams = func() []netip.AddrPort { return fixed }
	}
	r.cache = otter.Must(&otter.Options[question, *answer]{
		MaximumWeight: cacheWeight,
		Weigher:       func(q question, a *answer) uint32 { return uint32(256 + len(q.name) + 256*len(a.records)) }, //nolint:gosec // bounded by maxRecords
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[question, *answer]) time.Duration {
			return e.Value.ttl
		}),
	})
	return r
}

// close ends the cache's own work.
func (r *resolver) close() { r.cache.StopAllGoroutines() }

var (
	errNotFound = errors.New("there is no such name")
	errServers  = errors.New("the name servers do not answer")
	errAsksMuch = errors.New("too many questions for new names")
)

// ask answers a question from memory, or asks. s is whose question it is, nil for
// the gate's own. What the name servers say of it is no error.
func (r *resolver) ask(ctx context.Context, s *sandbox, q question) (*answer, error) {
	if known, ok := r.cache.GetIfPresent(q); ok {
		return known, nil
	}
	if s != nil && !s.unknown.Allow() {
		return nil, errAsksMuch
	}
	flight := r.flights.DoChan(q.name+" "+q.kind.String(), func() (any, error) {
		ctx, cancel := context.WithTimeout(r.ctx, r.patience)
		defer cancel()
		a := r.exchange(ctx, q)
		r.cache.Set(q, a)
		return a, nil
	})
	select {
	case result := <-flight:
		return result.Val.(*answer), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// addresses is where a name is, of one family if it has any of that.
func (r *resolver) addresses(ctx context.Context, s *sandbox, name string, four bool) ([]netip.Addr, error) {
	if name == "" || isLocalName(name) {
		return nil, errNotFound
	}
	kinds := []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA}
	if !four {
		kinds[0], kinds[1] = kinds[1], kinds[0]
	}
	for _, kind := range kinds {
		a, err := r.ask(ctx, s, question{name, kind})
		if err != nil {
			return nil, err
		}
		switch a.code {
		case dnsmessage.RCodeSuccess:
		case dnsmessage.RCodeNameError:
			return nil, errNotFound
		default:
			return nil, errServers
		}
		var found []netip.Addr
		for _, record := range a.records {
			if addr, ok := addressOf(record); ok {
				found = append(found, addr)
			}
		}
		if len(found) > 0 {
			return found, nil
		}
	}
	return nil, errNotFound
}

// addressOf is the address of an A or AAAA record.
func addressOf(record dnsmessage.Resource) (netip.Addr, bool) {
	switch body := record.Body.(type) {
	case *dnsmessage.AResource:
		return netip.AddrFrom4(body.A), true
	case *dnsmessage.AAAAResource:
		return netip.AddrFrom16(body.AAAA).Unmap(), true
	}
	return netip.Addr{}, false
}

// keep reads of a name server's message what answers the question: the chain of
// names that begins at it, and the records at its end.
func keep(message *dnsmessage.Message, q question) *answer {
	a := &answer{code: message.RCode, at: time.Now(), ttl: longest}
	name := q.name
	for range maxRecords {
		alias := ""
		for _, record := range message.Answers {
			if len(a.records) >= maxRecords || !strings.EqualFold(trimDot(record.Header.Name), name) {
				continue
			}
			target, isAlias := record.Body.(*dnsmessage.CNAMEResource)
			switch {
			case record.Header.Type == q.kind:
			case isAlias && alias == "":
				alias = strings.ToLower(trimDot(target.CNAME))
			default:
				continue
			}
			a.records = append(a.records, record)
			a.ttl = min(a.ttl, time.Duration(record.Header.TTL)*time.Second)
		}
		if alias == "" || alias == name {
			break
		}
		name = alias
	}
	if len(a.records) > 0 && a.records[len(a.records)-1].Header.Type == q.kind {
		a.ttl = max(a.ttl, time.Second)
		return a
	}
	a.ttl = min(a.ttl, longestNone)
	for _, record := range message.Authorities {
		if body, ok := record.Body.(*dnsmessage.SOAResource); ok {
			a.soa = &record
			a.ttl = min(a.ttl, time.Duration(min(record.Header.TTL, body.MinTTL))*time.Second)
			break
		}
	}
	a.ttl = max(a.ttl, time.Second)
	return a
}

func trimDot(name dnsmessage.Name) string { return strings.TrimSuffix(name.String(), ".") }

// localNames are no places on the internet: the operator's name servers may know
// them, and say what is none of a sandbox's business. RFC 6761, RFC 6762, RFC 8375
// and what is used without a document.
var localNames = []string{
	"local", "localhost", "localdomain", "internal", "intranet", "private", "corp", "home", "lan", "home.arpa",
	"invalid", "onion", "alt",
}

func isLocalName(name string) bool {
	if !strings.Contains(name, ".") {
		return true
	}
	for _, local := range localNames {
		if strings.HasSuffix(name, "."+local) || name == local {
			return true
		}
	}
	return closedReverse(name)
}

// closedReverse tells whether a name asks who has a closed address.
func closedReverse(name string) bool {
	rest, ok := strings.CutSuffix(name, ".in-addr.arpa")
	if !ok {
		return strings.HasSuffix(name, ".ip6.arpa")
	}
	labels := strings.Split(rest, ".")
	if len(labels) != 4 {
		return true
	}
	addr, err := netip.ParseAddr(labels[3] + "." + labels[2] + "." + labels[1] + "." + labels[0])
	return err != nil || Closed(addr)
}
