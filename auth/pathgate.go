package auth

import (
	"net/http"
	"net/url"
	"strings"

	"cube"
)

// The callback judges one string, and the router must serve that same string.
// So whatever two readers could read differently is refused before anybody is
// asked: nothing is cleaned, nothing is redirected.

// maxPath is the length of the longest path, in bytes.
const maxPath = 4 << 10

// slashInName are the routes where {name} may hold an escaped slash, because
// templates are named "team/name:tag". It never separates segments there. Any
// other segment, {} too, holds none.
var slashInName = []string{
	"/templates/{name}",
	"/templates/{name}/tags",
	"/templates/{name}/files/{}",
	"/templates/{name}/builds/{}",
	"/templates/{name}/builds/{}/status",
	"/templates/{name}/builds/{}/logs",
	"/templates/aliases/{name}",
	"/v2/templates/{name}",
	"/v2/templates/{name}/builds/{}",
}

// wirePath is the path as it was sent, without the query: what the callback is
// told. What else may stand in its place ("*", a whole URL) checkPath refuses.
func wirePath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	return path
}

// checkPath refuses a path that is not exactly what a router serves.
func checkPath(r *http.Request) error {
	path := wirePath(r)
	if wrong := wrongWithPath(path, r.URL.EscapedPath()); wrong != "" {
		return cube.Errorf(cube.Invalid, "The path is refused: %s", wrong)
	}
	return nil
}

// wrongWithPath says what is wrong with a path that was sent, "" for nothing.
// routed is the path that the router reads.
func wrongWithPath(path, routed string) string {
	switch {
	case !strings.HasPrefix(path, "/"):
		return "it must begin with a slash, without a scheme and a host before it"
	case len(path) > maxPath:
		return "it is longer than 4096 bytes"
	case path == "/":
		return ""
	case strings.HasSuffix(path, "/"):
		return "it must not end with a slash"
	case strings.Contains(path, "//"):
		return "it has an empty segment"
	case strings.ContainsAny(path, `\;#`):
		return `it holds one of \ ; #`
	case path != routed:
		return "it holds a byte that must be escaped"
	}
	segments := strings.Split(path, "/")
	for _, segment := range segments[1:] {
		if wrong := wrongWithSegment(segment); wrong != "" {
			return wrong
		}
	}
	if holdsSlash(path) && !mayHoldSlash(segments) {
		return "it holds an escaped slash, which only a template's name may"
	}
	return ""
}

// wrongWithSegment says what is wrong with the text between two slashes.
func wrongWithSegment(segment string) string {
	decoded, err := url.PathUnescape(segment)
	if err != nil {
		return "it holds a broken escape"
	}
	for part := range strings.SplitSeq(decoded, "/") {
		switch part {
		case "":
			return "it has an empty segment"
		case ".", "..":
			return "it holds a dot segment"
		}
	}
	for _, b := range []byte(decoded) {
		if b < ' ' || b >= 0x7f {
			return "it holds an escaped control or non-ASCII byte"
		}
	}
	if strings.ContainsAny(decoded, `\;#?`) {
		return `it holds one of \ ; # ? in escaped form`
	}
	if strings.Contains(decoded, "%") { // a second reader might decode it again
		return "it holds an escape within an escape"
	}
	if escapesLetter(segment) {
		return "it holds an escaped letter, digit or one of - . _ ~, which must stand as they are"
	}
	return ""
}

// escapesLetter tells whether a segment escapes a character that needs no
// escape in any URL (RFC 3986, section 2.3). The router takes "%74emplates" for
// "templates", and a callback that compares strings does not.
func escapesLetter(segment string) bool {
	for _, rest := range strings.Split(segment, "%")[1:] {
		char, err := url.PathUnescape("%" + rest[:2])
		if err != nil || url.QueryEscape(char) == char { // escaping leaves it alone
			return true
		}
	}
	return false
}

func holdsSlash(path string) bool {
	return strings.Contains(path, "%2F") || strings.Contains(path, "%2f")
}

// mayHoldSlash tells whether a path is one of slashInName, with its escaped
// slashes nowhere but in the name.
func mayHoldSlash(segments []string) bool {
	for _, route := range slashInName {
		if fits(strings.Split(route, "/"), segments) {
			return true
		}
	}
	return false
}

func fits(route, segments []string) bool {
	if len(route) != len(segments) {
		return false
	}
	for i, segment := range segments {
		switch route[i] {
		case "{name}":
		case "{}":
			if holdsSlash(segment) {
				return false
			}
		default:
			if segment != route[i] {
				return false
			}
		}
	}
	return true
}
