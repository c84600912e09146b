package auth

import (
	"net/http"
	"time"

	"cube"
	"cube/auth/decision"
	"cube/internal/httperror"
)

// The constant sentences of a refusal: they tell a stranger nothing.
const (
	messageNoCredential    = "Unauthorized: send your key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
	messageMalformed       = "Unauthorized: the credential cannot be read: send one header, 'Authorization: Bearer KEY' or 'X-API-Key: KEY', of at most 8 KiB without blanks in the key"
	messageRefused         = "Unauthorized: the key does not allow this request"
	messageForbidden       = "Forbidden: the key is known, and does not allow this request"
	messageReadOnly        = "Forbidden: this key may only read"
	messageNobody          = "Forbidden: this server keeps what belongs to each %s apart, and it was not told yours: ask its operator"
	messageTooMany         = "Too many requests: the operator's service refuses more of them for now"
	messageTooManyRequests = "Too many requests with this key: wait as long as Retry-After says"
	messageTooManyRefusals = "Too many refused keys from this address: wait as long as Retry-After says, and look at the key"
	messageUnavailable     = "Authentication is not available: the operator finds the cause in the server's log, under this answer's X-Request-Id"
	messageMethod          = "This method is never served: send one of " + servedMethods
)

// refusal is a request's answer from the door.
type refusal struct {
	err        error
	retryAfter string // the header as it is, "" for what err says
}

var (
	refuseNoCredential = &refusal{err: cube.Errorf(cube.Unauthorized, messageNoCredential)}
	refuseMalformed    = &refusal{err: cube.Errorf(cube.Unauthorized, messageMalformed)}
)

// refused makes a refusal of somebody's no. The page's contract is 401 for all;
// what else a service says is passed on if the operator wants it. A key of our
// own says what it may not do.
func refused(a decision.Answer, pass bool) *refusal {
	switch {
	case a.Source == decision.FromKey && a.Status == http.StatusForbidden:
		return &refusal{err: cube.Errorf(cube.Forbidden, messageReadOnly)}
	case pass && a.Status == http.StatusForbidden:
		return &refusal{err: cube.Errorf(cube.Forbidden, messageForbidden)}
	case pass && a.Status == http.StatusTooManyRequests:
		return &refusal{err: cube.Errorf(cube.Exhausted, messageTooMany), retryAfter: a.RetryAfter}
	}
	return &refusal{err: cube.Errorf(cube.Unauthorized, messageRefused)}
}

func refuseNobody(t cube.Tenancy) *refusal {
	return &refusal{err: cube.Errorf(cube.Forbidden, messageNobody, t)}
}

func tooManyRequests(wait time.Duration) *refusal {
	return &refusal{err: &cube.Error{Kind: cube.Exhausted, Message: messageTooManyRequests, RetryAfter: wait}}
}

func tooManyRefusals(wait time.Duration) *refusal {
	return &refusal{err: &cube.Error{Kind: cube.Exhausted, Message: messageTooManyRefusals, RetryAfter: wait}}
}

func (f *refusal) status() int { return httperror.Status(cube.KindOf(f.err)) }

func (f *refusal) write(w http.ResponseWriter) {
	if f.retryAfter != "" {
		w.Header().Set("Retry-After", f.retryAfter)
	}
	httperror.Write(w, f.err)
}
