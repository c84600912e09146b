package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// attack is one row: requests that are sent as they stand, and what each system
// must make of them.
type attack struct {
	id, name string
	// requests are request lines, with headers after them; a request has a key
	// unless it brings its own credential.
	requests []string
	// service is what the auth service says meanwhile.
	service answer
	// rule judges what became of one request.
	rule func(s system, r result) finding
}

// finding is what is wrong; the zero finding is that nothing is.
type finding struct {
	wrong string
	// severe: somebody believed what is not so, or waited in vain. What is not
	// severe only needs another who errs.
	severe bool
}

func severe(format string, args ...any) finding { return finding{fmt.Sprintf(format, args...), true} }
func mild(format string, args ...any) finding   { return finding{fmt.Sprintf(format, args...), false} }

// result is what one request led to.
type result struct {
	request string
	status  int // 0: no answer in time
	took    time.Duration
	asked   []head // what the auth service saw
	served  []head // what the backend saw
}

const attackPatience = 3 * time.Second

// foreign is what an attacker would have somebody believe.
const foreign = "/evil"

// attacks sends each attack to each system and says what became of it.
func (b *bench) attacks() error {
	fmt.Print("\n### Attacks\n\n")
	fmt.Print("A system stops an attack if it does so in every form. Else the number is of the forms that came through, with one of them as evidence: what the auth service was asked, and what the backend served. In bold: somebody believed what is not so, or waited in vain.\n\n| |")
	var running []*process
	for _, s := range b.systems {
		p, err := b.start(variant{s, true, false}, callbackTimeout)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		defer p.stop()
		running = append(running, p)
		fmt.Printf(" %s |", s.name)
	}
	fmt.Printf("\n|---|%s\n", strings.Repeat("---|", len(running)))
	for _, a := range attackList() {
		fmt.Printf("| %s %s |", a.id, a.name)
		for _, p := range running {
			fmt.Printf(" %s |", b.verdict(p, a))
		}
		fmt.Println()
	}
	b.redirects(running)
	return b.reused()
}

// verdict plays an attack on a system.
func (b *bench) verdict(p *process, a attack) string {
	b.service.set(a.service)
	defer b.service.set(allow)
	var severe, mild []string
	for _, request := range a.requests {
		r := b.send(p.Listen, request)
		f := a.rule(p.system, r)
		line := fmt.Sprintf("`%s` %s", show(request), f.wrong)
		switch {
		case f.severe:
			severe = append(severe, line)
		case f.wrong != "":
			mild = append(mild, line)
		}
	}
	var parts []string
	if n := len(severe); n > 0 {
		parts = append(parts, fmt.Sprintf("**%d of %d**: %s", n, len(a.requests), severe[0]))
	}
	if n := len(mild); n > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d: %s", n, len(a.requests), mild[0]))
	}
	return cmp.Or(strings.Join(parts, "; "), "stops")
}

// send sends one request and waits until it is over.
func (b *bench) send(addr, text string) (r result) {
	line, headers, _ := strings.Cut(text, "\n")
	raw := line + " HTTP/1.1\r\nHost: cube\r\n"
	folded := strings.ToLower(headers)
	if !strings.Contains(folded, "authorization:") && !strings.Contains(folded, "x-api-key:") {
		raw += "X-API-Key: key\r\n"
	}
	if headers != "" {
		raw += strings.ReplaceAll(headers, "\n", "\r\n") + "\r\n"
	}
	r.request = text
	r.asked = b.service.recorded(func() {
		r.served = b.backend.recorded(func() {
			r.status, r.took = ask(addr, []byte(raw+"\r\n"), attackPatience)
		})
	})
	return r
}

// show makes a request fit for a cell of a table.
func show(request string) string {
	quoted := fmt.Sprintf("%q", request)
	quoted = strings.NewReplacer(`\n`, " ⏎ ", `\"`, `"`, "|", "\\|").Replace(quoted[1 : len(quoted)-1])
	if len(quoted) > 70 {
		quoted = quoted[:40] + " … "
	}
	return quoted
}

// judgedIsServed: what comes through is refused before anybody is asked, or else
// it is at least the same that is judged and that is served.
func judgedIsServed(s system, r result) finding {
	switch {
	case len(r.served) == 0 && len(r.asked) == 0:
		return finding{}
	case len(r.served) == 0:
		return mild("asks about %s, and answers %d", judged(s, r), r.status)
	case len(r.asked) == 0:
		return refusedIsNotServed(s, r)
	case judged(s, r) != target(r.served):
		return severe("asks about %s, serves %s", judged(s, r), target(r.served))
	}
	return mild("asks about and serves %s", target(r.served))
}

// refusedIsNotServed: the auth service says no, or was not asked. What is free may
// be served, but another path should not be made into it.
func refusedIsNotServed(_ system, r result) finding {
	switch {
	case len(r.served) == 0:
		return finding{}
	case target(r.served) == "`/health`":
		return mild("serves `/health`")
	}
	return severe("serves %s all the same", target(r.served))
}

// neverServed: the auth service says yes, and it is wrong all the same.
func neverServed(_ system, r result) finding {
	if len(r.served) > 0 {
		method, _ := r.served[0].line()
		return mild("serves %s %s", method, target(r.served))
	}
	return finding{}
}

// asksNobody: a credential that two readers read differently is refused.
func asksNobody(_ system, r result) finding {
	switch {
	case len(r.asked) > 0:
		return mild("asks with Authorization %.30q, X-API-Key %.30q, answers %d", r.asked[0].values("Authorization"), r.asked[0].values("X-API-Key"), r.status)
	case len(r.served) > 0:
		return severe("serves without asking")
	}
	return finding{}
}

// oneTruth: the auth service is told one path and one method, the true ones, in
// whatever spelling.
func oneTruth(s system, r result) finding {
	if len(r.asked) == 0 {
		return refusedIsNotServed(s, r)
	}
	first, _, _ := strings.Cut(r.request, "\n")
	method, path, _ := strings.Cut(first, " ")
	for _, row := range []struct{ name, want string }{{s.pathHeader, path}, {s.methodHeader, method}} {
		if got := r.asked[0].values(row.name); len(got) != 1 || got[0] != row.want {
			return severe("the auth service reads %s %q", row.name, got)
		}
	}
	return finding{}
}

// toldNothingForeign: nothing of what the client made up is told.
func toldNothingForeign(s system, r result) finding {
	if f := oneTruth(s, r); f.wrong != "" {
		return f
	}
	for _, h := range r.asked {
		if strings.Contains(string(h), foreign) {
			return mild("is sent to the auth service too")
		}
	}
	return finding{}
}

// noIdentity: the auth service named nobody, so the backend hears of nobody.
func noIdentity(_ system, r result) finding {
	for _, h := range r.served {
		for _, value := range h.values("X-Auth-Team") {
			if value != "" {
				return severe("the backend reads a team %q", value)
			}
		}
	}
	return finding{}
}

// errorInTime: no answer of the auth service is an error, and soon.
func errorInTime(_ system, r result) finding {
	switch {
	case len(r.served) > 0:
		return severe("serves")
	case r.status == 0:
		return severe("has no answer within %s", attackPatience)
	case r.status < 500:
		return mild("answers %d", r.status)
	}
	return finding{}
}

// answeredInTime: a yes with a body that has no end holds nothing up.
func answeredInTime(_ system, r result) finding {
	if r.status == 0 {
		return severe("has no answer within %s", attackPatience)
	}
	return finding{}
}

func judged(s system, r result) string {
	return "`" + strings.Join(r.asked[0].values(s.pathHeader), "` and `") + "`"
}

func target(heads []head) string {
	_, target := heads[0].line()
	return "`" + target + "`"
}
