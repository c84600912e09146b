// Package decision is the question that the door asks about a request, and the
// answer: the words that whoever decides (the operator's service, the keys of
// this server, the cache before them) shares with the door. It decides nothing.
package decision

import (
	"context"
	"time"

	"cube"
)

// Decider answers questions. It may be called concurrently.
//
// An error means that there is no answer: nobody said yes or no. It is fit for a
// log: it holds no credential, no URL, and nothing that the other side sent.
type Decider interface {
	Decide(ctx context.Context, q Question) (Answer, error)
}

// Kind is the header in which a credential came.
type Kind byte

// The kinds.
const (
	Bearer Kind = iota // Authorization: Bearer SECRET
	APIKey             // X-API-Key: SECRET
)

// Credential is what a client proves itself with.
type Credential struct {
	Kind   Kind
	Secret string // without "Bearer "; never logged
}

// Header returns the header that carries it, in net/http's spelling.
func (c Credential) Header() (name, value string) {
	if c.Kind == Bearer {
		return "Authorization", "Bearer " + c.Secret
	}
	return "X-Api-Key", c.Secret
}

// Question is one request: all that is known about it before it is decided.
type Question struct {
	Credential  Credential
	Path        string // escaped, as on the wire, without the query
	Method      string
	RequestID   string // "" for none; not part of what is decided
	Fingerprint string // of the credential, for logs
}

// Source says where an answer came from.
type Source string

// The sources.
const (
	FromCallback  Source = "callback"
	FromKey       Source = "key"       // a key of this server's own
	FromCache     Source = "cache"     // asked before
	FromCoalesced Source = "coalesced" // somebody else was asking the same at that moment
	FromShadow    Source = "shadow"    // the shadow callback, which decides nothing
)

// Answer is a decision.
type Answer struct {
	// Allowed is the answer; all else serves to say it well.
	Allowed bool
	// Status is the one that the decider answered with: 200 for a yes.
	Status int
	// RetryAfter is the decider's own header of that name, if it is one by
	// RFC 9110; else "".
	RetryAfter string
	// Identity is who asks, on a yes; its Fingerprint is set by the door.
	Identity cube.Identity
	// Reuse says how long the answer may be kept: nil if nobody said, 0 if it
	// must not be.
	Reuse  *time.Duration
	Source Source
}
