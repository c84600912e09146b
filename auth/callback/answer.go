package callback

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"cube"
	"cube/auth/decision"
)

const (
	maxName       = 256       // bytes of a subject, a team, a scope or a template
	maxLimit      = 1_000_000 // of each limit
	maxRetryAfter = 24 * 60 * 60
)

// decision reads what an answer means. An error means that it cannot be read,
// and so is none; it holds nothing that the service sent.
func (r reply) decision(required header) (decision.Answer, error) {
	a := decision.Answer{Status: r.status, Source: decision.FromCallback, Reuse: reuse(r.header["Cache-Control"])}
	switch {
	case r.status == http.StatusForbidden, r.status == http.StatusTooManyRequests:
		a.RetryAfter = retryAfter(r.header["Retry-After"])
		return a, nil
	case r.status != http.StatusOK, !required.on(r.header):
		return a, nil
	}
	var err error
	if a.Identity, err = identity(r.header); err != nil {
		return decision.Answer{}, err
	}
	a.Allowed = true
	return a, nil
}

// on tells whether headers hold the required one, exactly once.
func (required header) on(h http.Header) bool {
	if required.name == "" {
		return true
	}
	values := h[required.name]
	return len(values) == 1 && (required.value == "" || values[0] == required.value)
}

// fields are what an answer may say, by the lower-case names of its headers. A
// field returns false if the value is none.
var fields = map[string]func(id *cube.Identity, value string) bool{
	"x-auth-subject":                  func(id *cube.Identity, v string) bool { return setName(&id.Subject, v) },
	"x-auth-team":                     func(id *cube.Identity, v string) bool { return setName(&id.Team, v) },
	"x-auth-scopes":                   func(id *cube.Identity, v string) bool { return setNames(&id.Scopes, v) },
	"x-auth-templates":                func(id *cube.Identity, v string) bool { return setNames(&id.Templates, v) },
	"x-auth-limit-sandboxes":          func(id *cube.Identity, v string) bool { return setLimit(&id.Limits.Sandboxes, v) },
	"x-auth-limit-cpus":               func(id *cube.Identity, v string) bool { return setLimit(&id.Limits.CPUs, v) },
	"x-auth-limit-memory-mb":          func(id *cube.Identity, v string) bool { return setLimit(&id.Limits.MemoryMB, v) },
	"x-auth-limit-paused":             func(id *cube.Identity, v string) bool { return setLimit(&id.Limits.Paused, v) },
	"x-auth-limit-snapshot-mb":        func(id *cube.Identity, v string) bool { return setLimit(&id.Limits.SnapshotMB, v) },
	"x-auth-limit-creates-per-minute": func(id *cube.Identity, v string) bool { return setLimit(&id.Limits.CreatesPerMinute, v) },
}

// identity reads who asks, and what it may have. What could be read in two ways
// is an error: never the first of two, and never nobody.
func identity(h http.Header) (id cube.Identity, err error) {
	for name, values := range h {
		set := fields[fold(name)]
		if set == nil {
			continue
		}
		canonical := http.CanonicalHeaderKey(fold(name))
		switch {
		case !strings.EqualFold(name, canonical):
			return cube.Identity{}, fmt.Errorf("the answer spells %s with another character for '-': send it as it stands here", canonical)
		case len(values) != 1:
			return cube.Identity{}, fmt.Errorf("the answer holds %s %d times: send it once", canonical, len(values))
		case !set(&id, values[0]):
			return cube.Identity{}, fmt.Errorf("the answer's %s cannot be read: send %s, or leave it out", canonical, wanted(canonical))
		}
	}
	return id, nil
}

// wanted says what a header may hold.
func wanted(name string) string {
	switch {
	case strings.HasPrefix(name, "X-Auth-Limit-"):
		return fmt.Sprintf("a number from 1 to %d", maxLimit)
	case name == "X-Auth-Scopes", name == "X-Auth-Templates":
		return fmt.Sprintf("words of at most %d printable ASCII characters, with blanks or commas between", maxName)
	}
	return fmt.Sprintf("1 to %d printable ASCII characters without blanks", maxName)
}

func setName(to *string, value string) bool {
	*to = value
	return value != "" && len(value) <= maxName && !strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// setNames reads a list. An empty one is refused: it could mean all as well as
// none.
func setNames(to *[]string, value string) bool {
	for word := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == ' ' || r == ',' }) {
		var name string
		if !setName(&name, word) {
			return false
		}
		*to = append(*to, name)
	}
	return len(*to) > 0
}

// setLimit reads a limit. There is no 0: in the settings it is no limit, and
// here it would look like the smallest.
func setLimit(to *int, value string) bool {
	n, ok := digits(value)
	*to = int(min(n, maxLimit))
	return ok && n >= 1 && n <= maxLimit
}

// digits reads a number that is made of nothing else. One that is too large is
// some number above 1<<31.
func digits(value string) (n uint64, ok bool) {
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r < '0' || r > '9' }) {
		return 0, false
	}
	n, _ = strconv.ParseUint(value, 10, 64) // the largest if it is out of range
	return n, true
}

// retryAfter reads Retry-After: a number of seconds, at most a day, or a date
// (RFC 9110, section 10.2.3). Another one is none.
func retryAfter(values []string) string {
	if len(values) != 1 {
		return ""
	}
	if n, ok := digits(values[0]); ok && n <= maxRetryAfter {
		return strconv.FormatUint(n, 10)
	}
	if date, err := http.ParseTime(values[0]); err == nil {
		return date.UTC().Format(http.TimeFormat)
	}
	return ""
}
