package cache

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

// token is a JWT with these claims.
func token(claims string) string {
	return "eyJhbGciOiJub25lIn0." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

func TestATokensOwnExpiryIsRead(t *testing.T) {
	now := time.Unix(1_000, 0)
	for name, row := range map[string]struct {
		token string
		want  time.Duration
	}{
		"in a minute":         {token(`{"sub":"a","exp":1060}`), time.Minute},
		"with a fraction":     {token(`{"exp":1000.5}`), 500 * time.Millisecond},
		"with an exponent":    {token(`{"exp":1.06e3}`), time.Minute},
		"now":                 {token(`{"exp":1000}`), 0},
		"long ago":            {token(`{"exp":-1e300}`), 0},
		"far away":            {token(`{"exp":1e300}`), longestExpiry * time.Second},
		"beside another case": {token(`{"exp":1060,"EXP":9999}`), time.Minute},
		"the last of two":     {token(`{"exp":9999,"exp":1060}`), time.Minute},
	} {
		if got, ok := untilExpiry(row.token, now); !ok || got != row.want {
			t.Errorf("%s: %v, %v; want %v", name, got, ok, row.want)
		}
	}
}

func TestWhatSaysNothingOfAnExpiryIsNotRead(t *testing.T) {
	for name, token := range map[string]string{
		"no token":             "e2b_0123456789abcdef",
		"empty":                "",
		"two dots":             "..",
		"two parts":            strings.TrimSuffix(token(`{"exp":1}`), ".c2ln"),
		"four parts":           token(`{"exp":1}`) + ".x",
		"five, encrypted":      token(`{"exp":1}`) + ".x.y",
		"no base64":            "a.{\"exp\":1}.c",
		"no JSON":              token(`exp=1`),
		"no object":            token(`[1]`),
		"null":                 token(`null`),
		"no claim":             token(`{"sub":"a"}`),
		"a null claim":         token(`{"exp":null}`),
		"a claim in words":     token(`{"exp":"1060"}`),
		"a number of no float": token(`{"exp":1e999}`),
		"a nested claim":       token(`{"x":{"exp":1}}`),
		"too long":             token(`{"exp":1,"x":"` + strings.Repeat("a", maxToken) + `"}`),
	} {
		if got, ok := untilExpiry(token, time.Unix(0, 0)); ok {
			t.Errorf("%s: it expires in %v", name, got)
		}
	}
}

func FuzzExpiry(f *testing.F) {
	f.Add(token(`{"exp":1060}`))
	f.Add(token(`{"exp":-1.5e-300,"exp":{}}`))
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		left, ok := untilExpiry(token, time.Unix(1_000, 0))
		if left < 0 || left > longestExpiry*time.Second || (!ok && left != 0) {
			t.Errorf("%q expires in %v, %v", token, left, ok)
		}
	})
}
