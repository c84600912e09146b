package envd

import (
	"net/http"
	"strconv"
	"strings"
)

// encodingOf decides how a file goes to a client (RFC 9110, section 12.5.3):
// compressed to one that asks for gzip and names nothing else, or takes nothing
// else; as it is to one that lists all that it could read, as fetch and requests
// do unasked, which would make each download slower. ok is false if the client
// takes neither.
func encodingOf(r *http.Request) (compressed, ok bool) {
	identity, gzip, others, star := 1.0, 0.0, 0, -1.0
	named := map[string]bool{}
	for item := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, parameters, _ := strings.Cut(item, ";")
		name = strings.ToLower(strings.TrimSpace(name))
		if name == "" {
			continue
		}
		named[name] = true
		switch q := quality(parameters); name {
		case "identity":
			identity = q
		case "gzip", "x-gzip":
			gzip = q
		case "*":
			star = q
		default:
			others++
		}
	}
	if star >= 0 && !named["identity"] {
		identity = star
	}
	if star > 0 && !named["gzip"] && identity == 0 {
		gzip = star
	}
	part := r.Header.Get("Range") != "" // of the file as it is
	for _, conditional := range []string{"If-Modified-Since", "If-None-Match", "If-Range"} {
		part = part || r.Header.Get(conditional) != ""
	}
	switch {
	case identity == 0:
		return true, gzip > 0 && !part
	case part, gzip == 0, others > 0, named["identity"] && identity >= gzip, star > 0:
		return false, true
	}
	return true, true
}

// quality reads the weight of an item, 1 if there is none that makes sense.
func quality(parameters string) float64 {
	for p := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if !strings.EqualFold(name, "q") {
			continue
		}
		if q, err := strconv.ParseFloat(value, 64); err == nil && q >= 0 && q <= 1 {
			return q
		}
	}
	return 1
}
