package main

import (
	"fmt"
	"strings"
)

// attackList are the attacks that make sense at a proxy. Those on what only a
// server with sandboxes has are tested in package auth.
func attackList() []attack {
	gets := func(paths ...string) (requests []string) {
		for _, path := range paths {
			requests = append(requests, "GET "+path)
		}
		return requests
	}
	with := func(line string, headers ...string) (requests []string) {
		for _, h := range headers {
			requests = append(requests, line+"\n"+h)
		}
		return requests
	}
	ambiguous := gets("//sandboxes", "/sandboxes//x", "/templates/../health", "/templates/%2e%2e/health", "/templates/..%2fhealth",
		"/sandboxes/a%2fb", "/sandboxes/a%5Cb", `/sandboxes/a\b`, "/sandboxes/%00", "/sandboxes/x;x=1", "/sandboxes/..;/health", "/sandboxes/%252e%252e/health")
	long := strings.Repeat("a", 9<<10)
	return []attack{
		{"P1", "paths that two readers read differently", ambiguous, allow, judgedIsServed},
		{"P1", "the same, refused by the auth service", ambiguous, refuse, refusedIsNotServed},
		{"P2", "what only looks like /health, refused", append(gets("/health/", "/healthz", "/health?x", "/Health", "//health", "/%68ealth", "http://cube/health", "http://cube/sandboxes"),
			"POST /health", "OPTIONS /health", "OPTIONS *"), refuse, refusedIsNotServed},
		{"P2", "CONNECT and TRACE, allowed", []string{"CONNECT cube:80", "TRACE /sandboxes"}, allow, neverServed},
		{"H1", "own headers for the path and the method", with("DELETE /sandboxes/x",
			"X-Request-Path: "+foreign, "X_Request_Path: "+foreign, "X.Request.Path: "+foreign, "x-request-path: "+foreign+"\nX-Request-Path: "+foreign,
			"X-Forwarded-Uri: "+foreign, "X_Forwarded_Uri: "+foreign, "X.Forwarded.Uri: "+foreign, "X-Forwarded-Method: GET\nX_Forwarded_Method: GET",
			"Connection: X-Request-Path, X-Request-Method", "Connection: X-Forwarded-Uri, X-Forwarded-Method", "Connection: X-API-Key"), allow, oneTruth},
		{"H2", "own X-Auth-Team, none in the answer", with("GET /sandboxes",
			"X-Auth-Team: root", "x_auth_team: root", "X.Auth.Team: root", "X-Auth_Team: root", "X-Auth-Team: root\nConnection: X-Auth-Team"), allow, noIdentity},
		{"H3", "overrides", with("DELETE /sandboxes/x",
			"X-HTTP-Method-Override: GET "+foreign, "X-Original-URL: "+foreign, "X-Rewrite-URL: "+foreign, "X-Forwarded-Prefix: "+foreign, "X-Original-Method: GET "+foreign), allow, toldNothingForeign},
		{"C1", "credentials that two readers read differently", with("GET /sandboxes",
			"Authorization: Bearer a\nAuthorization: Bearer b", "X-API-Key: a\nX-API-Key: b", "Authorization: Bearer\tabc", "Authorization: Bearer a b",
			"X-API-Key: a b", "Authorization: Bearer caf\xe9", "X-API-Key: "+long), allow, asksNobody},
		{"K2", "hangs", gets("/sandboxes"), hang, errorInTime},
		{"K2", "resets", gets("/sandboxes"), reset, errorInTime},
		{"K2", "drips its headers", gets("/sandboxes"), drip, errorInTime},
		{"K2", "a 200 with a body without end", gets("/sandboxes"), flood, answeredInTime},
	}
}

// redirects is K1: the auth service sends the question to another server.
func (b *bench) redirects(running []*process) {
	fmt.Print("| K1 redirected by the auth service to a second server |")
	defer b.service.set(allow)
	second, err := startOrigin(allow)
	if err != nil {
		return
	}
	defer second.down()
	for _, p := range running {
		var statuses []string
		for _, code := range []int{302, 307, 308} {
			b.service.set(say(fmt.Sprintf("HTTP/1.1 %d Elsewhere\r\nLocation: http://%s/\r\nContent-Length: 0\r\n\r\n", code, second.addr)))
			statuses = append(statuses, fmt.Sprint(b.send(p.Listen, "GET /sandboxes").status))
		}
		verdict := "stops"
		if n := second.questions.Load(); n > 0 {
			verdict = fmt.Sprintf("**asks the second server %d times**", n)
		}
		fmt.Printf(" %s: the client gets %s |", verdict, strings.Join(statuses, ", "))
		second.questions.Store(0)
	}
	fmt.Println()
}

// reused is D1: an answer is given again to no other question.
func (b *bench) reused() error {
	fmt.Print("\n### A remembered yes is no answer to another question (D1)\n\n")
	for _, v := range b.asking() {
		if !v.cache {
			continue
		}
		p, err := b.start(v, callbackTimeout)
		if err != nil {
			return err
		}
		asked := func(text string) int { return len(b.send(p.Listen, text).asked) }
		first, again := asked("GET /sandboxes/d1\nX-API-Key: k"), asked("GET /sandboxes/d1\nX-API-Key: k")
		fmt.Printf("- %s: a GET asks %d times, the same again %d, a DELETE on the same path %d, the same token as Bearer %d, another path %d\n", v, first, again,
			asked("DELETE /sandboxes/d1\nX-API-Key: k"), asked("GET /sandboxes/d1\nAuthorization: Bearer k"), asked("GET /sandboxes/d2\nX-API-Key: k"))
		p.stop()
	}
	return b.ctx.Err()
}
