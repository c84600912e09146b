package cube

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what sort of failure an Error is. The set is closed: whoever maps
// kinds to something else (HTTP statuses, exit codes) handles every one.
type Kind int

// The kinds of failure.
const (
	Internal     Kind = iota // our fault; the message says nothing of the cause
	Invalid                  // the request can never succeed as it stands
	Unauthorized             // no credential, or one that was refused
	Forbidden                // known, but not allowed to do this
	NotFound                 // no such sandbox, template, port or file
	Conflict                 // the thing is in a state that does not allow this
	TooLarge                 // over a documented limit of size
	Exhausted                // a limit or quota is reached; may succeed later
	Unsupported              // part of the protocol that this server does not serve
	Unavailable              // cannot serve now; may succeed later
	Timeout                  // a bound on time was reached
)

// String names the kind as logs show it.
func (k Kind) String() string {
	switch k {
	case Internal:
		return "internal"
	case Invalid:
		return "invalid"
	case Unauthorized:
		return "unauthorized"
	case Forbidden:
		return "forbidden"
	case NotFound:
		return "not found"
	case Conflict:
		return "conflict"
	case TooLarge:
		return "too large"
	case Exhausted:
		return "exhausted"
	case Unsupported:
		return "unsupported"
	case Unavailable:
		return "unavailable"
	case Timeout:
		return "timeout"
	}
	return fmt.Sprintf("kind(%d)", int(k))
}

// Error is the one error type that crosses package boundaries on its way to a
// user. Message is a sentence for that user and says what to do next; Cause is
// for the operator's log and is never shown.
type Error struct {
	Kind    Kind
	Message string
	Cause   error
	// Ended is set on a NotFound for a sandbox that existed: why it is gone.
	Ended *End
	// RetryAfter is when the same request may succeed, where that is known;
	// 0 where it is not.
	RetryAfter time.Duration
}

// Error returns the message with its cause, for logs.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Errorf makes an Error without a cause. The message is shown to the user.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// WrapError makes an Error whose cause is kept for the log and not shown.
func WrapError(kind Kind, cause error, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...), Cause: cause}
}

// KindOf returns the kind of the first Error in err's chain; Internal if none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
