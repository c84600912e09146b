package callback

import (
	"bufio"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cube"
)

func TestAnAnswerMaySayWhoAsksAndWhatItMayHave(t *testing.T) {
	long := strings.Repeat("a", maxName)
	for name, row := range map[string]struct {
		answer http.Header
		want   cube.Identity
		err    string // "": none
	}{
		"nothing": {http.Header{"X-Other": {"a"}, "X-Auth-By": {"us", "us"}}, cube.Identity{}, ""},
		"all": {http.Header{
			"X-Auth-Subject": {"ada@example.com"}, "X-Auth-Team": {"red"}, "X-Auth-Scopes": {"cube:operator  b,c"}, "X-Auth-Templates": {"base, team/name:tag"},
			"X-Auth-Limit-Sandboxes": {"1"}, "X-Auth-Limit-Cpus": {"2"}, "X-Auth-Limit-Memory-Mb": {"1000000"}, "X-Auth-Limit-Creates-Per-Minute": {"0004"},
		}, cube.Identity{
			Subject: "ada@example.com", Team: "red", Scopes: []string{"cube:operator", "b", "c"}, Templates: []string{"base", "team/name:tag"},
			Limits: cube.Limits{Sandboxes: 1, CPUs: 2, MemoryMB: 1_000_000, CreatesPerMinute: 4},
		}, ""},
		"256 bytes":                {http.Header{"X-Auth-Subject": {long}}, cube.Identity{Subject: long}, ""},
		"257 bytes":                {http.Header{"X-Auth-Subject": {long + "a"}}, cube.Identity{}, "X-Auth-Subject"},
		"a scope of 257 bytes":     {http.Header{"X-Auth-Scopes": {"a " + long + "a"}}, cube.Identity{}, "X-Auth-Scopes"},
		"another spelling of case": {http.Header{"x-auth-TEAM": {"red"}}, cube.Identity{Team: "red"}, ""},
		"the same team twice":      {http.Header{"X-Auth-Team": {"red", "red"}}, cube.Identity{}, "2 times"},
		"two teams":                {http.Header{"X-Auth-Team": {"red", "blue"}}, cube.Identity{}, "2 times"},
		"scopes twice":             {http.Header{"X-Auth-Scopes": {"a", "b"}}, cube.Identity{}, "2 times"},
		"a limit twice":            {http.Header{"X-Auth-Limit-Cpus": {"1", "2"}}, cube.Identity{}, "2 times"},
		"underscores":              {http.Header{"X_auth_team": {"red"}}, cube.Identity{}, "spells X-Auth-Team"},
		"one underscore":           {http.Header{"X-Auth_Subject": {"red"}}, cube.Identity{}, "spells X-Auth-Subject"},
		"an underscore in a limit": {http.Header{"X-Auth-Limit-Memory_mb": {"1"}}, cube.Identity{}, "spells X-Auth-Limit-Memory-Mb"},
		"dots":                     {http.Header{"X.auth.templates": {"a"}}, cube.Identity{}, "spells X-Auth-Templates"},
		"both spellings":           {http.Header{"X-Auth-Team": {"red"}, "X-Auth_Team": {"blue"}}, cube.Identity{}, "spells X-Auth-Team"},
		"a list":                   {http.Header{"X-Auth-Team": {"red, blue"}}, cube.Identity{}, "X-Auth-Team"},
		"no ASCII":                 {http.Header{"X-Auth-Subject": {"ad\xe4"}}, cube.Identity{}, "X-Auth-Subject"},
		"UTF-8":                    {http.Header{"X-Auth-Subject": {"adä"}}, cube.Identity{}, "X-Auth-Subject"},
		"a tab between scopes":     {http.Header{"X-Auth-Scopes": {"a\tb"}}, cube.Identity{}, "X-Auth-Scopes"},
		"an empty subject":         {http.Header{"X-Auth-Subject": {""}}, cube.Identity{}, "X-Auth-Subject"},
		"an empty team":            {http.Header{"X-Auth-Team": {""}}, cube.Identity{}, "or leave it out"},
		"no scopes":                {http.Header{"X-Auth-Scopes": {""}}, cube.Identity{}, "X-Auth-Scopes"},
		"no templates":             {http.Header{"X-Auth-Templates": {" , "}}, cube.Identity{}, "X-Auth-Templates"},
		"a limit of 0":             {http.Header{"X-Auth-Limit-Sandboxes": {"0"}}, cube.Identity{}, "a number from 1 to 1000000"},
		"a limit over a million":   {http.Header{"X-Auth-Limit-Cpus": {"1000001"}}, cube.Identity{}, "X-Auth-Limit-Cpus"},
		"a limit over all bounds":  {http.Header{"X-Auth-Limit-Cpus": {"99999999999999999999999"}}, cube.Identity{}, "X-Auth-Limit-Cpus"},
		"a negative limit":         {http.Header{"X-Auth-Limit-Cpus": {"-1"}}, cube.Identity{}, "X-Auth-Limit-Cpus"},
		"a limit with a sign":      {http.Header{"X-Auth-Limit-Cpus": {"+1"}}, cube.Identity{}, "X-Auth-Limit-Cpus"},
		"a limit with a unit":      {http.Header{"X-Auth-Limit-Memory-Mb": {"512M"}}, cube.Identity{}, "X-Auth-Limit-Memory-Mb"},
		"an empty limit":           {http.Header{"X-Auth-Limit-Creates-Per-Minute": {""}}, cube.Identity{}, "X-Auth-Limit-Creates-Per-Minute"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOperator(t, answering(200, row.answer))
			a, err := newClient(t, Config{URLs: []string{o.URL}}).Decide(t.Context(), question("key"))
			if diff := cmp.Diff(row.want, a.Identity); diff != "" || a.Allowed != (row.err == "") {
				t.Errorf("allowed: %t, who asks (-want +got):\n%s", a.Allowed, diff)
			}
			if (err == nil) != (row.err == "") || (err != nil && !strings.Contains(err.Error(), row.err)) {
				t.Errorf("the error is %v, want %q", err, row.err)
			}
		})
	}
}

func TestOnlyAYesSaysWhoAsks(t *testing.T) {
	for _, code := range []int{201, 204, 401, 403, 429, 500} {
		o := newOperator(t, answering(code, http.Header{"X-Auth-Subject": {"ada"}, "X-Auth-Team": {"red", "blue"}}))
		a := decide(t, newClient(t, Config{URLs: []string{o.URL}}), question("key"))
		if a.Allowed || a.Status != code || a.Identity.Subject != "" {
			t.Errorf("a %d is %+v", code, a)
		}
	}
}

func TestA200WithoutTheRequiredHeaderIsNoYes(t *testing.T) {
	for name, row := range map[string]struct {
		require string
		answer  http.Header
		want    bool
	}{
		"any value":       {"x-auth-by", http.Header{"X-Auth-By": {"anybody"}}, true},
		"the value":       {"X-Auth-By: us", http.Header{"X-Auth-By": {"us"}}, true},
		"another value":   {"X-Auth-By: us", http.Header{"X-Auth-By": {"them"}}, false},
		"another case":    {"X-Auth-By: us", http.Header{"X-Auth-By": {"US"}}, false},
		"no header":       {"X-Auth-By", http.Header{"X-Auth-Team": {"red"}}, false},
		"the value twice": {"X-Auth-By: us", http.Header{"X-Auth-By": {"us", "us"}}, false},
		"a wrong one too": {"X-Auth-By: us", http.Header{"X-Auth-By": {"us", "them"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOperator(t, answering(200, row.answer))
			a := decide(t, newClient(t, Config{URLs: []string{o.URL}, RequireHeader: row.require}), question("key"))
			if a.Allowed != row.want || a.Status != 200 || a.Identity.Team != "" {
				t.Errorf("answered %+v", a)
			}
		})
	}
}

func TestRetryAfterIsKeptOfRefusalsThatItHelps(t *testing.T) {
	const date = "Fri, 31 Dec 2027 23:59:59 GMT"
	for value, want := range map[string]string{
		"0": "0", "120": "120", "086400": "86400", "86401": "", "99999999999999999999": "", "-1": "", "+1": "", "1.5": "", "soon": "", "": "", "1\t": "1",
		date: date, "Friday, 31-Dec-27 23:59:59 GMT": date, "Fri Dec 31 23:59:59 2027": date, "Fri, 31 Dec 2027": "",
	} {
		for code, kept := range map[int]bool{200: false, 401: false, 403: true, 429: true, 503: false} {
			o := newOperator(t, answering(code, http.Header{"Retry-After": {value}}))
			want := want
			if !kept {
				want = ""
			}
			if got := decide(t, newClient(t, Config{URLs: []string{o.URL}}), question("key")).RetryAfter; got != want {
				t.Errorf("of a %d with %q is kept %q, want %q", code, value, got, want)
			}
		}
	}
	if got := retryAfter([]string{"1", "2"}); got != "" {
		t.Errorf("of two is kept %q", got)
	}
}

func TestCacheControl(t *testing.T) {
	const unsaid = -1
	for line, want := range map[string]time.Duration{
		"":                                   unsaid,
		"private":                            unsaid,
		"must-revalidate, proxy-revalidate":  unsaid,
		`private="a, max-age=1, b"`:          unsaid,
		"x=y, z":                             unsaid,
		"max-age=30":                         30 * time.Second,
		"Max-Age=30":                         30 * time.Second,
		`max-age="30"`:                       30 * time.Second,
		" ,max-age=30 , ,\tprivate,":         30 * time.Second,
		"private, max-age=030":               30 * time.Second,
		"max-age=30, max-age=20":             20 * time.Second,
		"max-age=20 | max-age=30":            20 * time.Second,
		"max-age=30, s-maxage=10":            10 * time.Second,
		"max-age=0":                          0,
		"no-store":                           0,
		"no-cache":                           0,
		`no-cache="Set-Cookie"`:              0,
		"NO-STORE, max-age=30":               0,
		"max-age=30, no-store":               0,
		"max-age=30 | no-store":              0,
		"max-age":                            0,
		"max-age=":                           0,
		"max-age=-1":                         0,
		"max-age=1.5":                        0,
		"max-age=ten":                        0,
		"max-age = 30":                       0,
		"max-age=30 private":                 0,
		"max-age=30; private":                0,
		`max-age="30`:                        0,
		`max-age="30"1`:                      0,
		`private="\`:                         0,
		"=30":                                0,
		"max-age=30, \xff":                   0,
		"max-age=3000000000":                 1 << 31 * time.Second,
		"max-age=99999999999999999999999999": 1 << 31 * time.Second,
	} {
		got := reuse(strings.Split(line, " | "))
		switch {
		case want == unsaid && got != nil:
			t.Errorf("%q is %v, want nothing", line, *got)
		case want != unsaid && (got == nil || *got != want):
			t.Errorf("%q is %v, want %v", line, got, want)
		}
	}
	if got := reuse(nil); got != nil {
		t.Errorf("without a header it is %v", *got)
	}
	for _, code := range []int{200, 403, 500} {
		o := newOperator(t, answering(code, http.Header{"Cache-Control": {"max-age=7"}}))
		if a := decide(t, newClient(t, Config{URLs: []string{o.URL}}), question("key")); a.Reuse == nil || *a.Reuse != 7*time.Second {
			t.Errorf("a %d with max-age=7 is %+v", code, a)
		}
	}
}

func FuzzAnswerHeaders(f *testing.F) {
	for _, head := range []string{
		"X-Auth-Subject: ada\r\nX-Auth-Team: red", "X-Auth-Scopes: a b,c\r\nX-Auth-Templates: base", "x_auth_team: red", "X-Auth-Team: a\r\nX-Auth-Team: b",
		"X-Auth-Limit-Cpus: 12", "X-Auth-Limit-Memory-Mb: 0", "Cache-Control: max-age=\"1\\0\", no-store", "Cache-Control: private=\"a", "Retry-After: 10",
		"Retry-After: Fri, 31 Dec 2027 23:59:59 GMT",
	} {
		f.Add(200, head)
		f.Add(429, head)
	}
	f.Fuzz(func(t *testing.T, status int, head string) {
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader("HTTP/1.1 200 OK\r\n"+head+"\r\n\r\n")), nil)
		if err != nil {
			return
		}
		a, err := reply{status, resp.Header}.decision(header{})
		if a.Allowed != (status == 200 && err == nil) {
			t.Fatalf("a %d is %+v, %v", status, a, err)
		}
		if !a.Allowed && !cmp.Equal(a.Identity, cube.Identity{}) {
			t.Errorf("a no has an identity: %+v", a.Identity)
		}
		if a.Reuse != nil && *a.Reuse < 0 {
			t.Errorf("it may be kept for %v", *a.Reuse)
		}
		if a.RetryAfter != "" {
			if n, err := strconv.Atoi(a.RetryAfter); (err != nil || n > maxRetryAfter) && !strings.HasSuffix(a.RetryAfter, " GMT") {
				t.Errorf("Retry-After is %q", a.RetryAfter)
			}
		}
		// What is there was said once, in this spelling, and is made of this.
		id := a.Identity
		for name, words := range map[string][]string{"X-Auth-Subject": {id.Subject}, "X-Auth-Team": {id.Team}, "X-Auth-Scopes": id.Scopes, "X-Auth-Templates": id.Templates} {
			said := a.Allowed && len(resp.Header[name]) > 0
			for _, word := range words {
				if said != (word != "") || len(word) > maxName || strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
					t.Errorf("%s is %q of %q", name, word, resp.Header[name])
				}
			}
			if said && (len(words) == 0 || len(resp.Header[name]) != 1) {
				t.Errorf("%s is %q of %q", name, words, resp.Header[name])
			}
		}
		for _, limit := range []int{id.Limits.Sandboxes, id.Limits.CPUs, id.Limits.MemoryMB, id.Limits.CreatesPerMinute} {
			if limit < 0 || limit > maxLimit {
				t.Errorf("a limit is %d", limit)
			}
		}
	})
}
