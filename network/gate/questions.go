package gate

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// maxQuestion bounds a question: one name and EDNS take far less.
	maxQuestion = 1232
	// questionsEach and questionWait bound a TCP connection with questions.
	questionsEach = 256
	questionWait  = 10 * time.Second
)

// serveQuestions answers sandboxes by UDP, and nobody else.
func (g *Gate) serveQuestions() {
	buffer := make([]byte, maxQuestion+1)
	for {
		n, from, err := g.names.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n > maxQuestion {
			continue
		}
		s := g.find(from)
		if s == nil || !s.questions.Allow() {
			continue
		}
		select {
		case s.asking <- struct{}{}:
		default:
			continue // it asks again, if it means it
		}
		asked := slices.Clone(buffer[:n])
		g.all.Go(func() {
			defer func() { <-s.asking }()
			if answer := g.answer(g.ctx, s, asked, false); answer != nil {
				_, _ = g.names.WriteTo(answer, from)
			}
		})
	}
}

// admitQuestions answers one TCP connection.
func (g *Gate) admitQuestions(conn *net.TCPConn) {
	s := g.find(conn.RemoteAddr())
	if s == nil {
		reset(conn)
		return
	}
	f, err := s.open(g.ctx, client{conn}, netip.AddrPort{}, g.config.MaxConnections)
	if err != nil {
		reset(conn)
		return
	}
	defer f.done()
	defer func() { _ = conn.Close() }()
	buffer := make([]byte, maxQuestion)
	for range questionsEach {
		_ = conn.SetDeadline(time.Now().Add(questionWait))
		if _, err := io.ReadFull(conn, buffer[:2]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(buffer))
		if n > len(buffer) {
			return
		}
		if _, err := io.ReadFull(conn, buffer[:n]); err != nil || !s.questions.Allow() {
			return
		}
		answer := g.answer(f.ctx, s, buffer[:n], true)
		if answer == nil {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil { //nolint:gosec // bounded by maxRecords
			return
		}
	}
}

// kinds are what may be asked for. HTTPS and SVCB records have keys that hide
// names from the gate (ECH) and addresses that nobody has looked at: there are
// none of them here. Other kinds carry anything.
var kinds = map[dnsmessage.Type]bool{
	dnsmessage.TypeA: true, dnsmessage.TypeAAAA: true, dnsmessage.TypeCNAME: true, dnsmessage.TypeMX: true,
	dnsmessage.TypeTXT: true, dnsmessage.TypeSRV: true, dnsmessage.TypeNS: true, dnsmessage.TypeSOA: true,
	dnsmessage.TypePTR: true, typeCAA: true,
	dnsmessage.TypeHTTPS: false, dnsmessage.TypeSVCB: false,
}

const typeCAA dnsmessage.Type = 257

// asked is a question as it came.
type asked struct {
	id       uint16
	recurse  bool
	question dnsmessage.Question
	size     int // that an answer may have
	edns     bool
}

// answer answers one question, nil for what is none: whoever sends an answer, or
// nonsense, gets nothing.
func (g *Gate) answer(ctx context.Context, s *sandbox, data []byte, stream bool) []byte {
	q, code := parseAsked(data, stream)
	if q == nil {
		return nil
	}
	if code != dnsmessage.RCodeSuccess {
		return q.pack(code, nil, nil, 0)
	}
	name := canonical(q.question.Name.String())
	event := Event{Sandbox: s.id, Kind: KindDNS, Name: name, Port: 53}
	denied := func(code dnsmessage.RCode, rule string) []byte {
		event.Rule = rule
		g.observe(event)
		reason := prohibited
		if code == dnsmessage.RCodeServerFailure {
			reason = 0
		}
		return q.pack(code, nil, nil, reason)
	}
	r := s.current()
	served, known := kinds[q.question.Type]
	switch {
	case r == nil:
		return nil
	case !r.internet:
		return denied(dnsmessage.RCodeRefused, ruleNone)
	case !known || name == "":
		return denied(dnsmessage.RCodeRefused, ruleType)
	case isLocalName(name):
		return denied(dnsmessage.RCodeNameError, ruleLocal)
	}
	rule, named := r.names.match(name)
	if !named && r.deniesAll != "" {
		return denied(dnsmessage.RCodeRefused, r.deniesAll)
	}
	if !named {
		rule = ruleDefault
	}
	if !served {
		return q.pack(dnsmessage.RCodeSuccess, nil, nil, 0)
	}
	found, err := g.resolver.ask(ctx, s, question{name, q.question.Type})
	if errors.Is(err, errAsksMuch) {
		return denied(dnsmessage.RCodeRefused, ruleLimit)
	}
	if err != nil {
		return denied(dnsmessage.RCodeServerFailure, rule)
	}
	records, lost := g.openRecords(r, name, found)
	if lost != "" && !slices.ContainsFunc(records, func(record dnsmessage.Resource) bool { return record.Header.Type == q.question.Type }) {
		return denied(dnsmessage.RCodeRefused, lost)
	}
	event.Allowed, event.Rule = true, rule
	g.observe(event)
	return q.pack(found.code, records, found.soa, 0)
}

// openRecords leaves the addresses out that may not be reached, and says by which
// rule: a name that leads to a closed address must not be believed there.
func (g *Gate) openRecords(r *rules, name string, found *answer) (records []dnsmessage.Resource, lost string) {
	age := uint32(time.Since(found.at) / time.Second) //nolint:gosec // less than the longest time in the cache
	for _, record := range found.records {
		if addr, ok := addressOf(record); ok {
			if v := g.decide(r, addr, name); !v.allowed {
				lost = v.rule
				continue
			}
		}
		record.Header.TTL = min(record.Header.TTL, uint32(longest/time.Second)) //nolint:gosec // a constant
		record.Header.TTL -= min(record.Header.TTL, age)
		records = append(records, record)
	}
	return records, lost
}

// parseAsked reads a question. A code says what is wrong with it.
func parseAsked(data []byte, stream bool) (*asked, dnsmessage.RCode) {
	var parser dnsmessage.Parser
	header, err := parser.Start(data)
	if err != nil || header.Response {
		return nil, 0
	}
	q := &asked{id: header.ID, recurse: header.RecursionDesired, size: 512}
	if q.question, err = parser.Question(); err != nil {
		return nil, 0
	}
	if stream {
		q.size = maxMessage
	}
	if header.OpCode != 0 {
		return q, dnsmessage.RCodeNotImplemented
	}
	if _, err := parser.Question(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		return q, dnsmessage.RCodeFormatError
	}
	if q.question.Class != dnsmessage.ClassINET {
		return q, dnsmessage.RCodeRefused
	}
	if parser.SkipAllAnswers() != nil || parser.SkipAllAuthorities() != nil {
		return q, dnsmessage.RCodeFormatError
	}
	for {
		extra, err := parser.AdditionalHeader()
		if err != nil {
			return q, dnsmessage.RCodeSuccess
		}
		if extra.Type == dnsmessage.TypeOPT {
			q.edns = true
			if !stream { // RFC 6891, 6.2.3
				q.size = min(max(int(extra.Class), 512), udpSize)
			}
		}
		if parser.SkipAdditional() != nil {
			return q, dnsmessage.RCodeFormatError
		}
	}
}

// prohibited is why a rule's answer is what it is, for who can read it: RFC 8914,
// 4.19.
const prohibited uint16 = 18

// optionReason is the option that carries it.
const optionReason = 15

// pack writes an answer; one that is too large says so and is empty.
func (q *asked) pack(code dnsmessage.RCode, records []dnsmessage.Resource, soa *dnsmessage.Resource, reason uint16) []byte {
	message := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: q.id, Response: true, RecursionDesired: q.recurse, RecursionAvailable: true, RCode: code,
		},
		Questions: []dnsmessage.Question{q.question},
		Answers:   records,
	}
	if soa != nil {
		message.Authorities = []dnsmessage.Resource{*soa}
	}
	if q.edns {
		opt := &dnsmessage.OPTResource{}
		if reason != 0 {
			text := "denied by the sandbox's network policy"
			opt.Options = []dnsmessage.Option{{Code: optionReason, Data: append(binary.BigEndian.AppendUint16(nil, reason), text...)}}
		}
		edns := dnsmessage.Resource{Body: opt}
		if edns.Header.SetEDNS0(udpSize, code, false) == nil {
			message.Additionals = []dnsmessage.Resource{edns}
		}
	}
	packed, err := message.Pack()
	if err == nil && len(packed) <= q.size {
		return packed
	}
	message.Truncated = true
	message.Answers, message.Authorities = nil, nil
	if packed, err = message.Pack(); err != nil {
		return nil
	}
	return packed
}
