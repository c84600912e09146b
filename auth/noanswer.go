package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
)

// The reasons for which there is no answer, where the error's own words are not
// fit for a log.
var (
	errSlow    = errors.New("no whole answer within --auth-callback-timeout, or no connection within --auth-callback-connect-timeout")
	errBroken  = errors.New("the connection was closed before the answer was whole")
	errNotHTTP = errors.New("the answer is not HTTP of the URL's scheme, or its headers are over 64 KiB")
)

// loggable makes of an error of net/http one that can be logged. Its own text
// holds the URL, which may hold a secret, and quotes what the other side sent:
// that has any length, and may be our question come back with the key in it.
func loggable(err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Canceled
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
