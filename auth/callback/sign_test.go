package callback

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"cube/auth/decision"
)

const signingKey = "0123456789abcdef0123456789abcdef"

// signed returns a question as the service gets it.
func signed(t testing.TB, q decision.Question) *http.Request {
	o := newOperator(t, status(200))
	decide(t, newClient(t, Config{URLs: []string{o.URL}, SigningKeyFile: file(t, "key", "\n "+signingKey+"\t\n")}), q)
	return o.questions()[0]
}

func TestASignedQuestionIsVerified(t *testing.T) {
	bearer := question("token")
	bearer.Credential.Kind = decision.Bearer
	anonymous := question("key")
	anonymous.RequestID = ""
	for name, q := range map[string]decision.Question{"a key": question("key"), "a token": bearer, "no request id": anonymous} {
		t.Run(name, func(t *testing.T) {
			if err := Verify([]byte(signingKey), signed(t, q), time.Now(), time.Minute); err != nil {
				t.Error(err)
			}
		})
	}
}

// The format is a promise: others check it in other languages.
func TestTheSignatureIsThisOne(t *testing.T) {
	h := http.Header{"X-Request-Method": {"GET"}, "X-Request-Path": {"/sandboxes"}, "X-Request-Id": {"r1"}, "X-Api-Key": {"key"}}
	// printf 'v1\n1800000000\nGET\n/sandboxes\nr1\nx-api-key\nkey\n' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
	const want = "v1=17860c34db672bef468cc5d458cc1ec838a58df65d3bc88627fd97038bfa76dc"
	if got := Sign([]byte(signingKey), "1800000000", h); got != want {
		t.Errorf("the signature is %s, want %s", got, want)
	}
}

func TestWhatWasNotSignedSoIsRefused(t *testing.T) {
	good := signed(t, question("key"))
	seconds, err := strconv.ParseInt(good.Header.Get(TimestampHeader), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(seconds, 0)
	for name, row := range map[string]struct {
		key    string
		now    time.Time
		change func(http.Header)
		good   bool
	}{
		"nothing is wrong":        {good: true},
		"a minute late":           {now: at.Add(time.Minute), good: true},
		"a minute early":          {now: at.Add(-time.Minute), good: true},
		"more than a minute late": {now: at.Add(time.Minute + 1)},
		"more than a minute soon": {now: at.Add(-time.Minute - 1)},
		"another key":             {key: signingKey + "0"},
		"no key":                  {key: "-"},
		"another path":            {change: func(h http.Header) { h.Set("X-Request-Path", "/sandboxes/a") }},
		"another method":          {change: func(h http.Header) { h.Set("X-Request-Method", "DELETE") }},
		"another request id":      {change: func(h http.Header) { h.Set("X-Request-Id", "r2") }},
		"no request id":           {change: func(h http.Header) { h.Del("X-Request-Id") }},
		"another credential":      {change: func(h http.Header) { h.Set("X-Api-Key", "other") }},
		"the key as a token":      {change: func(h http.Header) { h["Authorization"] = h["X-Api-Key"]; h.Del("X-Api-Key") }},
		"a second credential":     {change: func(h http.Header) { h.Set("Authorization", "Bearer other") }},
		"a second key":            {change: func(h http.Header) { h.Add("X-Api-Key", "other") }},
		"a second path":           {change: func(h http.Header) { h.Add("X-Request-Path", "/") }},
		"no credential":           {change: func(h http.Header) { h.Del("X-Api-Key") }},
		"another time":            {change: func(h http.Header) { h.Set(TimestampHeader, strconv.FormatInt(seconds+1, 10)) }},
		"no time":                 {change: func(h http.Header) { h.Del(TimestampHeader) }},
		"no signature":            {change: func(h http.Header) { h.Del(SignatureHeader) }},
		"two signatures":          {change: func(h http.Header) { h.Add(SignatureHeader, h.Get(SignatureHeader)) }},
		"another version":         {change: func(h http.Header) { h.Set(SignatureHeader, "v2"+h.Get(SignatureHeader)[2:]) }},
		"no version":              {change: func(h http.Header) { h.Set(SignatureHeader, h.Get(SignatureHeader)[3:]) }},
		"half a signature":        {change: func(h http.Header) { h.Set(SignatureHeader, h.Get(SignatureHeader)[:35]) }},
		// Lines that move their bounds are no other lines.
		"a longer method": {change: func(h http.Header) { h.Set("X-Request-Method", "GET/"); h.Set("X-Request-Path", "sandboxes") }},
		"a signed time that is none": {change: func(h http.Header) {
			h.Set(TimestampHeader, "now")
			h.Set(SignatureHeader, Sign([]byte(signingKey), "now", h))
		}},
		"a signed time that is too large": {change: func(h http.Header) {
			h.Set(TimestampHeader, "18446744073709551615")
			h.Set(SignatureHeader, Sign([]byte(signingKey), "18446744073709551615", h))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := good.Clone(t.Context())
			if row.change != nil {
				row.change(r.Header)
			}
			key, now := signingKey, at
			switch row.key {
			case "":
			case "-":
				key = ""
			default:
				key = row.key
			}
			if !row.now.IsZero() {
				now = row.now
			}
			if err := Verify([]byte(key), r, now, time.Minute); (err == nil) != row.good {
				t.Errorf("the error is %v", err)
			}
		})
	}
}
