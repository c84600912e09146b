package decision

import (
	"time"

	"cube"
)

// Reason says in one word why a request went on or was refused: for the audit
// log, and as a label of metrics.
type Reason string

// The reasons.
const (
	ReasonOpen         Reason = "open"          // nobody is there to ask
	ReasonExempt       Reason = "exempt"        // needs no credential
	ReasonAllowed      Reason = "allowed"       // somebody said yes
	ReasonRefused      Reason = "refused"       // somebody said no
	ReasonNobody       Reason = "nobody"        // allowed, and the tenancy has no place for it
	ReasonNoCredential Reason = "no_credential" // asked nobody
	ReasonMalformed    Reason = "malformed"     // the credential cannot be read
	ReasonPath         Reason = "path"          // two readers could read the path differently
	ReasonMethod       Reason = "method"        // never served
	ReasonUnavailable  Reason = "unavailable"   // asked, and there was no answer
	ReasonGone         Reason = "gone"          // the client went away while it was asked
	ReasonRateLimited  Reason = "rate_limited"  // too many requests of one identity
	ReasonRefusalLimit Reason = "refusal_limit" // too many refused credentials from one address
)

// Reasons are all of them.
var Reasons = []Reason{
	ReasonOpen, ReasonExempt, ReasonAllowed, ReasonRefused, ReasonNobody, ReasonNoCredential, ReasonMalformed, ReasonPath,
	ReasonMethod, ReasonUnavailable, ReasonGone, ReasonRateLimited, ReasonRefusalLimit,
}

// Outcome is what the door did with one request. It holds no credential, but
// what the client sent for a path and a method, at any length the server takes.
type Outcome struct {
	Time        time.Time // of the decision
	RequestID   string
	Method      string
	Path        string // as on the wire, without the query
	Remote      string // the client's address, without the port
	Fingerprint string // of the credential, "" if there was none
	Identity    cube.Identity
	Allowed     bool
	Status      int // what the client got from the door; 200 for a yes
	Reason      Reason
	Source      Source        // "" if nobody was asked
	Latency     time.Duration // until it was decided
}

// Refused returns the outcome of a request that the door answers with status.
func (o Outcome) Refused(status int, why Reason) Outcome {
	o.Allowed, o.Status, o.Reason = false, status, why
	return o
}

// Granted returns the outcome of a request that goes on.
func (o Outcome) Granted(why Reason) Outcome {
	o.Allowed, o.Status, o.Reason = true, 200, why
	return o
}
