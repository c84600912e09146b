package auth

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cube"
	"cube/auth/cache"
	"cube/auth/callback"
	"cube/auth/decision"
)

// remembering adds a cache.
func remembering(c *Config) { c.Cache = cache.Config{TTL: time.Hour} }

func TestD1ADecisionIsForOneMethodPathAndCredential(t *testing.T) {
	o := newOperator(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Request-Method") != "GET" {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	h := newHouse(t, asking(o.URL, remembering))
	for range 3 {
		wantStatus(t, h.send(t, "GET /templates/x", "X-API-Key: key"), 200)
	}
	wantAsked(t, o, 1)
	wantStatus(t, h.send(t, "DELETE /templates/x", "X-API-Key: key"), 401)
	wantAsked(t, o, 2)
	wantStatus(t, h.send(t, "GET /templates/x", "Authorization: Bearer key"), 200)
	wantAsked(t, o, 3)
	wantStatus(t, h.send(t, "GET /templates/y", "X-API-Key: key"), 200)
	wantAsked(t, o, 4)
}

func TestD2ManyWhoAskTheSameAreOneQuestion(t *testing.T) {
	release := make(chan struct{})
	o := newOperator(t, func(http.ResponseWriter, *http.Request) { <-release })
	h := newHouse(t, asking(o.URL, remembering))
	var all sync.WaitGroup
	var allowed atomic.Int64
	const clients = 200
	for range clients {
		all.Go(func() {
			if h.send(t, "GET /sandboxes", "X-API-Key: key").StatusCode == 200 {
				allowed.Add(1)
			}
		})
	}
	close(release)
	all.Wait()
	if allowed.Load() != clients {
		t.Errorf("%d of %d were allowed", allowed.Load(), clients)
	}
	wantAsked(t, o, 1)
}

func TestD3ARevokedKeyIsRefusedFromThePurgeOn(t *testing.T) {
	var revoked atomic.Bool
	inFlight, release := make(chan struct{}, 1), make(chan struct{})
	o := newOperator(t, func(w http.ResponseWriter, r *http.Request) {
		ok := !revoked.Load()
		if r.Header.Get("X-Request-Path") == "/templates/slow" {
			inFlight <- struct{}{}
			<-release
		}
		if !ok {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	h := newHouse(t, asking(o.URL, remembering))
	wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), 200)
	slow := make(chan int)
	go func() { slow <- h.send(t, "GET /templates/slow", "X-API-Key: key").StatusCode }()
	<-inFlight
	revoked.Store(true)
	wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), 200) // remembered
	h.door.Purge()
	wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), 401)
	close(release)
	if got := <-slow; got != 200 {
		t.Errorf("the one in flight got %d", got)
	}
	wantStatus(t, h.send(t, "GET /templates/slow", "X-API-Key: key"), 401) // was not stored
}

func TestRefusalsThatHelpAreOptIn(t *testing.T) {
	busy := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
	}
	pass := func(c *Config) { c.PassRefusals = true }
	for name, row := range map[string]struct {
		answer     http.HandlerFunc
		config     func(*Config)
		want       int
		retryAfter string
	}{
		"403":                {status(403), func(*Config) {}, 401, ""},
		"403, passed on":     {status(403), pass, 403, ""},
		"429":                {busy, func(*Config) {}, 401, ""},
		"429, passed on":     {busy, pass, 429, "7"},
		"404, nothing to do": {status(404), pass, 401, ""},
		"503, nothing to do": {status(503), pass, 401, ""},
	} {
		resp := newHouse(t, asking(newOperator(t, row.answer).URL, row.config)).send(t, "GET /sandboxes", "X-API-Key: key")
		if resp.StatusCode != row.want || resp.Header.Get("Retry-After") != row.retryAfter {
			t.Errorf("%s: %s, Retry-After %q; want %d, %q", name, resp.Status, resp.Header.Get("Retry-After"), row.want, row.retryAfter)
		}
	}
}

func TestNoAnswerMayBe503(t *testing.T) {
	o := newOperator(t, status(200))
	o.Close()
	h := newHouse(t, asking(o.URL, func(c *Config) { c.ErrorStatus = 503 }))
	wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), 503)
}

func TestOneIdentityMayAskSoOften(t *testing.T) {
	o := newOperator(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Auth-Team", r.Header.Get("X-Api-Key")[:1])
	})
	h := newHouse(t, asking(o.URL, func(c *Config) { c.RequestsPerMinute = 3 }))
	for _, key := range []string{"a1", "a2", "a1"} {
		wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: "+key), 200)
	}
	resp := h.send(t, "GET /sandboxes", "X-API-Key: a3")
	wantStatus(t, resp, 429)
	if resp.Header.Get("Retry-After") == "" {
		t.Error("it is not told when to come back")
	}
	wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: b"), 200)
}

func TestAnAddressMayGuessSoOften(t *testing.T) {
	o := newOperator(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Api-Key") != "good" {
			w.WriteHeader(401)
		}
	})
	h := newHouse(t, asking(o.URL, func(c *Config) { c.RefusalsPerMinute = 3 }))
	for i := range 3 {
		wantStatus(t, h.send(t, "GET /sandboxes", fmt.Sprintf("X-API-Key: bad%d", i)), 401)
	}
	wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: bad"), 429)
	wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: good"), 429) // nothing from there is looked at
	wantStatus(t, h.send(t, "GET /health"), 200)
	wantAsked(t, o, 3)
	// What Reload leaves as it was goes on counting.
	if err := h.door.Reload(asking(o.URL, func(c *Config) { c.RefusalsPerMinute = 3 }).Rules); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: bad"), 429)
}

func TestTheNetworkOfAnAddress(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7",
		"2001:db8:1:2:3::4": "2001:db8:1:2::/64", "2001:db8:1:2::9": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := network(remote); got != want {
			t.Errorf("network(%q) = %q, want %q", remote, got, want)
		}
	}
}

func TestAShadowIsAskedTheSameAndDecidesNothing(t *testing.T) {
	first := newOperator(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Request-Method") == "DELETE" {
			w.WriteHeader(401)
		}
	})
	shadowed := newOperator(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("X-Request-Path") {
		case "/templates/stricter":
			w.WriteHeader(403)
		case "/templates/other":
			w.Header().Set("X-Auth-Team", "red")
		case "/templates/broken":
			w.Header().Set("X-Auth-Team", "two words")
		}
	})
	h := newHouse(t, asking(first.URL, func(c *Config) {
		c.Shadow = c.Callback
		c.Shadow.Name, c.Shadow.URLs = "--auth-callback-shadow", []string{shadowed.URL}
	}))
	wantStatus(t, h.send(t, "GET /templates/same", "X-API-Key: key"), 200)
	wantStatus(t, h.send(t, "DELETE /templates/looser", "X-API-Key: key"), 401)
	wantStatus(t, h.send(t, "GET /templates/stricter", "X-API-Key: key"), 200)
	wantStatus(t, h.send(t, "GET /templates/other", "X-API-Key: key"), 200)
	wantStatus(t, h.send(t, "GET /templates/broken", "X-API-Key: key"), 200)
	shadow := h.door.judge.Load().shadow
	shadow.asking.Wait()
	for _, result := range []ShadowResult{ShadowSame, ShadowAllowsMore, ShadowRefusesMore, ShadowIdentity, ShadowNoAnswer} {
		if n := shadow.stats()[result]; n != 1 {
			t.Errorf("%s: %d, want 1", result, n)
		}
	}
	var said []string
	for _, o := range h.seen() {
		if o.Source == decision.FromShadow {
			said = append(said, o.Path+" "+string(o.Reason))
		}
	}
	slices.Sort(said)
	want := []string{"/templates/broken unavailable", "/templates/looser allowed", "/templates/other allowed", "/templates/stricter refused"}
	if !slices.Equal(said, want) {
		t.Errorf("recorded %q, want %q", said, want)
	}
	if log := h.log.String(); strings.Count(log, "disagrees") != 4 || strings.Contains(log, "key=") {
		t.Errorf("the log holds %s", log)
	}
}

func TestReloadChangesEverythingOrNothing(t *testing.T) {
	yes, no := newOperator(t, status(200)), newOperator(t, status(401))
	h := newHouse(t, asking(yes.URL, remembering))
	wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), 200)
	for _, broken := range []Rules{
		{Callback: callback.Config{Name: "--auth-callback", URLs: []string{"ftp://x"}}},
		{ErrorStatus: 418},
		{Shadow: callback.Config{URLs: []string{yes.URL}}},
	} {
		if err := h.door.Reload(broken); err == nil || !strings.HasPrefix(err.Error(), "--auth-") {
			t.Errorf("%+v: %v", broken, err)
		}
	}
	wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), 200)
	wantAsked(t, yes, 1)
	if err := h.door.Reload(asking(no.URL, remembering).Rules); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key"), 401)
	wantAsked(t, no, 1)
}

// ownKeys are keys of the server's own in a test.
type ownKeys struct {
	inUse bool
	err   error
}

func (k ownKeys) InUse(context.Context) (bool, error) { return k.inUse, k.err }

func (k ownKeys) Decide(_ context.Context, q decision.Question) (decision.Answer, error) {
	switch q.Credential.Secret {
	case "full":
		return decision.Answer{Allowed: true, Status: 200, Source: decision.FromKey, Identity: cube.Identity{Key: "k1"}}, nil
	case "reader":
		return decision.Answer{Status: 403, Source: decision.FromKey}, nil
	}
	return decision.Answer{Status: 401, Source: decision.FromKey}, nil
}

func TestKeysDecideWhereThereIsNoCallback(t *testing.T) {
	open := newHouse(t, Config{Keys: ownKeys{}})
	wantStatus(t, open.send(t, "GET /sandboxes"), 200)
	broken := newHouse(t, Config{Keys: ownKeys{err: context.DeadlineExceeded}})
	wantStatus(t, broken.send(t, "GET /sandboxes", "X-API-Key: full"), 500)
	wantStatus(t, broken.send(t, "GET /health"), 200)
	h := newHouse(t, Config{Keys: ownKeys{inUse: true}})
	for key, want := range map[string]int{"full": 200, "reader": 403, "other": 401} {
		wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: "+key), want)
	}
	wantStatus(t, h.send(t, "GET /sandboxes"), 401)
	asked := newOperator(t, status(401))
	both := newHouse(t, asking(asked.URL, func(c *Config) { c.Keys = ownKeys{inUse: true} }))
	wantStatus(t, both.send(t, "GET /sandboxes", "X-API-Key: full"), 401)
	wantAsked(t, asked, 1)
}

func TestEveryOutcomeIsSeenOnce(t *testing.T) {
	o := newOperator(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("X-Api-Key") {
		case "bad":
			w.WriteHeader(401)
		case "odd":
			w.Header().Set("X-Auth-Team", "two words")
		case "nobody":
		default:
			w.Header().Set("X-Auth-Team", "red")
		}
	})
	h := newHouse(t, asking(o.URL, func(c *Config) { c.Tenancy = cube.TenancyTeam }))
	for _, row := range []struct {
		line, header string
		want         int
		reason       decision.Reason
	}{
		{"GET /health", "A: b", 200, decision.ReasonExempt},
		{"GET /sandboxes", "X-API-Key: good", 200, decision.ReasonAllowed},
		{"GET /sandboxes", "X-API-Key: bad", 401, decision.ReasonRefused},
		{"GET /sandboxes", "X-API-Key: nobody", 403, decision.ReasonNobody},
		{"GET /sandboxes", "X-API-Key: odd", 500, decision.ReasonUnavailable},
		{"GET /sandboxes", "A: b", 401, decision.ReasonNoCredential},
		{"GET /sandboxes", "X-API-Key: a b", 401, decision.ReasonMalformed},
		{"GET //sandboxes", "X-API-Key: good", 400, decision.ReasonPath},
		{"TRACE /sandboxes", "X-API-Key: good", 405, decision.ReasonMethod},
	} {
		before := len(h.seen())
		wantStatus(t, h.send(t, row.line, row.header), row.want)
		seen := h.seen()[before:]
		if len(seen) != 1 || seen[0].Reason != row.reason || seen[0].Status != row.want || seen[0].Allowed != (row.want == 200) || seen[0].Remote != "127.0.0.1" {
			t.Errorf("%s %s: seen %+v, want %s", row.line, row.header, seen, row.reason)
		}
	}
}

func wantAsked(t *testing.T, o *operator, n int) {
	t.Helper()
	if got := len(o.questions()); got != n {
		t.Errorf("asked %d times, want %d", got, n)
	}
}
