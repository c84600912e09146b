package auth

import (
	"errors"
	"net/http"
	"strings"

	"cube"
)

// maxIdentity is the length of the longest subject, team or scope, in bytes.
const maxIdentity = 256

var errIdentity = errors.New("the answer's X-Auth-Subject, X-Auth-Team or X-Auth-Scopes came twice, was spelt with an underscore, or holds other bytes than printable ASCII (a blank only between scopes), or more than 256")

// identityOf reads who asks from the headers of a 200. What could be read in two
// ways is an error, never the first of two, and never nobody.
func identityOf(h http.Header) (id cube.Identity, err error) {
	for name, values := range h {
		folded := foldName.Replace(strings.ToLower(name))
		if !strings.HasPrefix(folded, "x-auth-") {
			continue
		}
		var field *string
		var scopes string
		switch folded {
		case "x-auth-subject":
			field = &id.Subject
		case "x-auth-team":
			field = &id.Team
		case "x-auth-scopes":
			field = &scopes
		default:
			continue
		}
		if len(values) != 1 || strings.ToLower(name) != folded {
			return cube.Identity{}, errIdentity
		}
		*field = values[0]
		id.Scopes = append(id.Scopes, strings.Fields(scopes)...)
	}
	for _, name := range append([]string{id.Subject, id.Team}, id.Scopes...) {
		if len(name) > maxIdentity || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return cube.Identity{}, errIdentity
		}
	}
	return id, nil
}
