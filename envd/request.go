package envd

import (
	"encoding/base64"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	"cube/envd/users"
)

// requestUser returns the account that an RPC is for: E2B's SDKs name it as the
// user of HTTP basic authentication, without a password. The token has decided
// already who may ask; this only says as whom.
func (a *Agent) requestUser(header http.Header) (users.User, error) {
	u, err := a.settings.user(basicUser(header))
	if err != nil {
		return users.User{}, connect.NewError(connect.CodeUnauthenticated, err)
	}
	return u, nil
}

// basicUser returns the user of basic authentication (RFC 7617), "" if there is
// none.
func basicUser(header http.Header) string {
	scheme, encoded, ok := strings.Cut(header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Basic") {
		return ""
	}
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return ""
	}
	name, _, _ := strings.Cut(string(decoded), ":")
	return name
}
