package build

import (
	"context"
	"errors"
	"fmt"

	"cube"
)

// Error is why a build failed.
type Error struct {
	Failure cube.BuildFailure
	Cause   error // for the operator's log; nil for what the build's author did
}

// Error returns the message with its cause, for logs.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Failure.Message + ": " + e.Cause.Error()
	}
	return e.Failure.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Messages for what is nobody's mistake. The first two are E2B's.
const (
	messageCancelled = "build was cancelled"
	messageTimeout   = "build timed out"
	messageInternal  = "the server could not do this step: its log says why. Build again, or ask whoever runs the server"
)

// failf is a mistake in the build, in words for its author.
func failf(format string, args ...any) error {
	return &Error{Failure: cube.BuildFailure{Message: fmt.Sprintf(format, args...)}}
}

// at says in which step an error was, unless it says so itself.
func at(step string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		if e.Failure.Step == "" {
			return &Error{cube.BuildFailure{Step: step, Message: e.Failure.Message}, e.Cause}
		}
		return e
	}
	message := messageInternal
	if e, ok := errors.AsType[*cube.Error](err); ok && e.Kind != cube.Internal {
		message = e.Message
	}
	return &Error{cube.BuildFailure{Step: step, Message: message}, err}
}

// asError is the last that is done to an error: what comes of the end of ctx is
// told as such.
func asError(ctx context.Context, err error) *Error {
	e, ok := errors.AsType[*Error](at("", err))
	if !ok {
		e = &Error{cube.BuildFailure{Message: messageInternal}, err}
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return &Error{cube.BuildFailure{Message: messageCancelled}, e}
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &Error{cube.BuildFailure{Message: messageTimeout}, e}
	}
	return e
}

// failureOf is why a build failed, as its error says.
func failureOf(err error) cube.BuildFailure {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Failure
	}
	return cube.BuildFailure{Message: messageInternal}
}
