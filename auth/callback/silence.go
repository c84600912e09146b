package callback

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
)

// The reasons for which there is no answer, where an error's own words are not
// fit for a log.
var (
	errSlow    = errors.New("no whole answer within --auth-callback-timeout, or no connection within --auth-callback-connect-timeout")
	errNoPlace = errors.New("no place among the --auth-callback-in-flight questions came free within --auth-callback-timeout")
	errBroken  = errors.New("the connection was closed before the answer was whole")
	errNoByte  = errors.New("the connection broke before any byte of an answer")
	errNotHTTP = errors.New("the answer is not HTTP of the URL's scheme, or its headers are over 64 KiB")
	errDown    = errors.New("the service stopped answering again")
	errEnded   = errors.New("the server is being stopped, or has other settings by now")
)

// over returns why a question cannot go on: errSlow if its time is over, another
// error if whoever asked went away, nil if it can.
func over(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	if errors.Is(context.Cause(ctx), errSlow) {
		return errSlow
	}
	return ctx.Err()
}

// blamed tells whether it is the service's fault that there is no answer.
func blamed(ctx context.Context) bool {
	err := over(ctx)
	return err == nil || errors.Is(err, errSlow)
}

// loggable makes of an error of net/http one that can be logged. Its own text
// quotes what the other side sent: that has any length, and may be our question
// come back with the key in it.
func loggable(ctx context.Context, err error) error {
	if err := over(ctx); err != nil {
		return err
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return errSlow
	}
	if network, ok := errors.AsType[*net.OpError](err); ok { // an address and the system's reason
		return network
	}
	if certificate, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return certificate
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errBroken
	}
	return errNotHTTP
}
