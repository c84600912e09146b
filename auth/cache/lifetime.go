package cache

import (
	"net/http"
	"time"

	"cube/auth/decision"
)

// lifetime is how long an answer may be given again to the same question, from
// the moment on that it was asked; 0 or less is never. What is neither a yes nor
// a plain no (429, 5xx) says nothing about the next moment.
func (c *Cache) lifetime(q *decision.Question, a *decision.Answer, asked time.Time) time.Duration {
	var longest time.Duration
	switch {
	case a.Allowed:
		longest = c.ttl
		if left, ok := untilExpiry(q.Credential.Secret, asked); ok {
			longest = min(longest, left)
		}
	case a.Status == http.StatusUnauthorized, a.Status == http.StatusForbidden:
		// A token's expiry is no matter here: an expired one stays refused.
		longest = c.refusalTTL
	}
	if a.Reuse != nil {
		longest = min(longest, *a.Reuse)
	}
	return longest
}

// forOneOnly tells whether an answer is for nobody but who asked: one that must
// not be stored must not answer another request either, though it be asked at
// the same moment (RFC 9111, section 5.2.2.5).
func forOneOnly(a *decision.Answer) bool { return a.Reuse != nil && *a.Reuse <= 0 }
