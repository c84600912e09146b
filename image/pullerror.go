package image

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	registry "github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"cube"
)

// explain says in a person's words why an image cannot be had. The sentences
// begin with E2B's, which its users know. An error that is one already stays.
func (r *Registries) explain(ref reference, asked *Credentials, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("pulling image '%s': %w", ref.asked, err)
	}
	if e, ok := errors.AsType[*cube.Error](err); ok {
		return e
	}
	fail := func(kind cube.Kind, format string, args ...any) error {
		return cube.WrapError(kind, err, format, args...)
	}
	if busy, ok := errors.AsType[*busyError](err); ok {
		hint := "try again later"
		if asked == nil {
			hint += ", or give the registry's username and password: it lets those who have some ask more often"
		}
		return &cube.Error{Kind: cube.Exhausted, Cause: err, RetryAfter: busy.after,
			Message: fmt.Sprintf("failed to pull image '%s': its registry has been asked too often (429 Too Many Requests): %s", ref.asked, hint)}
	}
	if refused, ok := errors.AsType[*refusedAddressError](err); ok {
		return fail(cube.Forbidden, "failed to pull image '%s': %s is not on the public internet; if it is a registry of this server's operator, the server must be started with --registry-allow %[2]s", ref.asked, refused.host)
	}
	if _, ok := errors.AsType[*tooLongError](err); ok {
		return fail(cube.Invalid, "failed to pull image '%s': its registry sends more than it has announced, or more than an image may have", ref.asked)
	}
	if answer, ok := errors.AsType[*registry.Error](err); ok {
		return explainAnswer(ref, asked, answer, fail)
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return fail(cube.NotFound, "failed to pull image '%s': its registry %s is not found: check the image's name; a server without the internet needs a --registry-mirror, or archives that are imported", ref.asked, ref.registry)
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fail(cube.Unavailable, "failed to pull image '%s': the certificate of %s is none that this server trusts", ref.asked, ref.registry)
	}
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		return fail(cube.Unavailable, "failed to pull image '%s': %s speaks no HTTPS; if it is a registry of this server's operator, the server must be started with --registry-insecure %[2]s", ref.asked, ref.registry)
	}
	if errors.Is(err, errStalled) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isTimeout(err) {
		return fail(cube.Unavailable, "failed to pull image '%s': its registry answers too slowly or breaks off; try again later", ref.asked)
	}
	return fail(cube.Unavailable, "failed to pull image '%s': unable to retrieve image from registry", ref.asked)
}

func isTimeout(err error) bool {
	network, ok := errors.AsType[net.Error](err)
	return ok && network.Timeout()
}

// explainAnswer is for what a registry has answered.
func explainAnswer(ref reference, asked *Credentials, answer *registry.Error, fail func(cube.Kind, string, ...any) error) error {
	for _, e := range answer.Errors {
		switch e.Code {
		case registry.ManifestUnknownErrorCode:
			return fail(cube.NotFound, "image '%s' not found: the image or tag does not exist in the registry", ref.asked)
		case registry.NameUnknownErrorCode:
			return fail(cube.NotFound, "repository '%s' not found: verify the image name is correct", ref.asked)
		case registry.BlobUnknownErrorCode, registry.ManifestBlobUnknownErrorCode:
			return fail(cube.NotFound, "failed to pull image '%s': its registry has lost one of its layers; push it again", ref.asked)
		case registry.DeniedErrorCode:
			return fail(cube.Forbidden, "access denied to '%s': you don't have permission to pull this image, or it does not exist%s", ref.asked, whichFields(asked))
		}
	}
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fail(cube.Forbidden, "access denied to '%s': authentication required or insufficient permissions, or it does not exist%s", ref.asked, whichFields(asked))
	case http.StatusNotFound:
		return fail(cube.NotFound, "image '%s' not found: the image or tag does not exist in the registry", ref.asked)
	}
	return fail(cube.Unavailable, "failed to pull image '%s': registry returned status code %d", ref.asked, answer.StatusCode)
}

// whichFields says what to give, or what was wrong with what was given.
func whichFields(asked *Credentials) string {
	if asked == nil {
		return "; for a private image give fromImageRegistry with its username and password (type registry), awsAccessKeyId, awsSecretAccessKey and awsRegion (type aws), or serviceAccountJson (type gcp)"
	}
	return "; check the " + asked.fields() + " given for this registry"
}
