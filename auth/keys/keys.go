// Package keys is for people without an auth service: keys of this server's own,
// and the decider that asks for one.
//
// It must never keep a key, but its hash; never remember a decision, so that a
// key counts from the moment it is made, and no longer from the moment it is
// revoked, whoever wrote the row; and never let anybody make a key that may do
// more than they may.
package keys

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"cube"
	"cube/auth/decision"
)

// Config is what Keys work with.
type Config struct {
	Store cube.APIKeyStore
	// Tenancy says who sees and changes whose keys. Default "": as
	// cube.TenancyOff, everybody with a key all of them.
	Tenancy cube.Tenancy
}

// Keys decides on requests by their keys, and lets the keys' holders manage
// them. It may be used concurrently.
type Keys struct {
	store   cube.APIKeyStore
	tenancy cube.Tenancy
	inUse   atomic.Bool // once true, for ever
}

var _ decision.Decider = (*Keys)(nil)

// New makes a decider. There is nothing to close but the store.
func New(c Config) *Keys {
	return &Keys{store: c.Store, tenancy: c.Tenancy}
}

// InUse tells whether requests need a key: from the first key on, and then for
// good, for revoking the last key must not open the door. It is asked for each
// request. An error means that nobody knows: then the door stays closed.
func (k *Keys) InUse(ctx context.Context) (bool, error) {
	if k.inUse.Load() {
		return true, nil
	}
	has, err := k.store.HasAPIKeys(ctx)
	if has {
		k.inUse.Store(true)
	}
	return has, err
}

// Decide implements decision.Decider. The status of a refusal is 401 for a key
// that is none, or none any more, and 403 for one that may only read.
func (k *Keys) Decide(ctx context.Context, q decision.Question) (decision.Answer, error) {
	if !isSecret(q.Credential.Secret) {
		return refusal(http.StatusUnauthorized), nil
	}
	// The index compares hashes, not keys: how long that takes tells nothing
	// that leads to a key.
	key, err := k.store.APIKeyByHash(ctx, sha256.Sum256([]byte(q.Credential.Secret)))
	switch {
	case err != nil && cube.KindOf(err) == cube.NotFound:
		return refusal(http.StatusUnauthorized), nil
	case err != nil:
		return decision.Answer{}, fmt.Errorf("looking the key up: %w", err)
	case !isLive(key, time.Now()):
		return refusal(http.StatusUnauthorized), nil
	case !mayDo(key.Role, q.Method):
		return refusal(http.StatusForbidden), nil
	}
	answer := decision.Answer{
		Allowed: true, Status: http.StatusOK, Source: decision.FromKey, Reuse: new(time.Duration),
		Identity: cube.Identity{
			Subject: key.Owner.Subject, Team: key.Owner.Team, Key: string(key.ID), Templates: key.Templates,
		},
	}
	if key.Operator {
		answer.Identity.Scopes = []string{cube.ScopeOperator}
	}
	return answer, nil
}

// refusal is an answer that nobody may keep: a key may be made the next moment.
func refusal(status int) decision.Answer {
	return decision.Answer{Status: status, Source: decision.FromKey, Reuse: new(time.Duration)}
}

// isLive tells whether the key opens anything at that time.
func isLive(k cube.APIKey, now time.Time) bool {
	return k.RevokedAt.IsZero() && (k.ExpiresAt.IsZero() || now.Before(k.ExpiresAt))
}

// readMethods are the safe ones of RFC 9110, section 9.2.1, that are served.
var readMethods = []string{http.MethodGet, http.MethodHead, http.MethodOptions}

// mayDo tells whether keys of a role may make requests with a method. A role
// that this version does not know may do nothing.
func mayDo(role cube.APIKeyRole, method string) bool {
	switch role {
	case cube.RoleFull:
		return true
	case cube.RoleReadOnly:
		return slices.Contains(readMethods, method)
	}
	return false
}
