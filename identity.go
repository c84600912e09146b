package cube

import "context"

// Identity is who asks, as the operator's service or a key of this server's own
// says. It is made at the door alone and travels in the request's context, never
// in a header.
type Identity struct {
	Subject string   // a person or a program, "" if nobody said
	Team    string   // "" if nobody said
	Scopes  []string // what it may do, in the operator's words; see ScopeOperator
	// Key is the id of the built-in key, "" for another credential.
	Key string
	// Fingerprint tells credentials apart in logs without being one; "" if there
	// was no credential.
	Fingerprint string
	// Templates are the ids and aliases that it may use; nil for all.
	Templates []string
	// Limits are its own, and come before the settings'. A zero is no limit of
	// its own.
	Limits Limits
}

// ScopeOperator is the scope of the operator: it sees what belongs to all, and
// to nobody.
const ScopeOperator = "cube:operator"

// Operator tells whether the identity is the operator's.
func (i Identity) Operator() bool {
	for _, scope := range i.Scopes {
		if scope == ScopeOperator {
			return true
		}
	}
	return false
}

// Limits are how much one identity may have at once. A zero is no limit.
type Limits struct {
	Sandboxes        int
	CPUs             int // of all its sandboxes together
	MemoryMB         int // MiB, of all its sandboxes together
	CreatesPerMinute int
	Paused           int // sandboxes that are paused
	SnapshotMB       int // MiB on the disk, of what is paused and of snapshots
}

// Owner is to whom an object belongs, from its creation on and for ever. The
// zero Owner is nobody: under tenancy, the operator alone sees such an object.
type Owner struct {
	Subject string
	Team    string
}

// Tenancy says who shares objects with whom.
type Tenancy string

// The tenancies.
const (
	TenancyOff     Tenancy = "off"     // everybody sees everything
	TenancySubject Tenancy = "subject" // to each subject its own
	TenancyTeam    Tenancy = "team"    // to each team its own
)

// Tenant is the part of an owner that the tenancy goes by; "" if there is none.
func (t Tenancy) Tenant(o Owner) string {
	switch t {
	case TenancySubject:
		return o.Subject
	case TenancyTeam:
		return o.Team
	case TenancyOff:
	}
	return ""
}

type identityKey struct{}

// WithIdentity returns a context of requests that id makes.
func WithIdentity(ctx context.Context, id Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, id)
}

// IdentityFrom returns who makes the request; the zero Identity, which is
// nobody, if the door let it pass without asking who.
func IdentityFrom(ctx context.Context) Identity {
	id, _ := ctx.Value(identityKey{}).(Identity)
	return id
}

// Owner is the owner of what the identity creates.
func (i Identity) Owner() Owner { return Owner{Subject: i.Subject, Team: i.Team} }

// Account is the name under which what the identity uses is counted: its team's
// if it has one, else its subject's, its key's or its credential's; "" for
// nobody. No two of them can be the same.
func (i Identity) Account() string {
	switch {
	case i.Team != "":
		return "team:" + i.Team
	case i.Subject != "":
		return "subject:" + i.Subject
	case i.Key != "":
		return "key:" + i.Key
	case i.Fingerprint != "":
		return "credential:" + i.Fingerprint
	}
	return ""
}
