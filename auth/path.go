package auth

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"cube"
)

// The callback judges one string, and the router must serve that same string.
// So whatever two readers could read differently is refused before anybody is
// asked: nothing is cleaned, nothing is redirected.

// maxPath is the length of the longest path, in bytes.
const maxPath = 4 << 10

// wirePath is the path as it was sent, without the query: what the callback is
// told. What else may stand in its place ("*", a whole URL) checkPath refuses.
func wirePath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	return path
}

// slashInName are the routes where a name may hold an escaped slash: templates
// are named "team/name:tag". The slash never separates segments there.
var slashInName = regexp.MustCompile(`^/(v2/|v3/)?templates/(aliases/)?[^/]+(/tags|/files/[^/]+|/builds/[^/]+(/status|/logs)?)?$`)

// checkPath refuses a path that is not exactly what a router serves.
func checkPath(r *http.Request) error {
	path := wirePath(r)
	refuse := func(what string) error {
		return cube.Errorf(cube.Invalid, "The path is refused: %s", what)
	}
	switch {
	case !strings.HasPrefix(path, "/"):
		return refuse("it must begin with a slash, without a scheme and a host before it")
	case len(path) > maxPath:
		return refuse("it is longer than 4096 bytes")
	case path != "/" && strings.HasSuffix(path, "/"):
		return refuse("it must not end with a slash")
	case strings.Contains(path, "//"):
		return refuse("it has an empty segment")
	case strings.ContainsAny(path, "\\;#"):
		return refuse(`it holds one of \ ; #`)
	}
	if path != r.URL.EscapedPath() { // what the router reads
		return refuse("it holds a byte that must be escaped")
	}
	for segment := range strings.SplitSeq(path[1:], "/") {
		if err := checkSegment(segment); err != "" {
			return refuse(err)
		}
	}
	if strings.Contains(strings.ToUpper(path), "%2F") && !slashInName.MatchString(path) {
		return refuse("it holds an escaped slash, which only a template's name may")
	}
	return nil
}

// checkSegment says what is wrong with the text between two slashes.
func checkSegment(segment string) string {
	decoded, err := url.PathUnescape(segment)
	if err != nil {
		return "it holds a broken escape"
	}
	for part := range strings.SplitSeq(decoded, "/") {
		if part == "." || part == ".." {
			return "it holds a dot segment"
		}
		if part == "" && decoded != "" {
			return "it has an empty segment"
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
	// Escaped twice: a second reader would see something else.
	if strings.Contains(decoded, "%") {
		return "it holds an escape within an escape"
	}
	return ""
}
