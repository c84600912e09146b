package gateway

import (
	"context"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"

	"cube"
)

// previewPath begins an address that needs no name of its own: /preview/ID/PORT/…
//
// A page that is served so has the API's own origin. The browser is told to treat
// it as one of no origin at all (previewPolicy), so that it can do no more than
// any page of the world: it shares no storage, registers no service worker, and
// reads no answer of the API.
const previewPath = "/preview/"

// previewPolicy stands beside whatever policy the page has: browsers keep both.
const previewPolicy = "sandbox allow-scripts allow-forms allow-modals allow-popups allow-downloads"

// ofOrigins are the headers that speak for a whole origin, which is not a
// sandbox's to do. The last two have a browser report each request to it: links
// with signatures in them, to wherever the sandbox likes.
var ofOrigins = []string{
	"Service-Worker-Allowed", "Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc",
	"Public-Key-Pins", "Expect-Ct", "Use-As-Dictionary", "Nel", "Report-To",
}

// isPreview tells whether a request is for such an address: a host of a sandbox's
// own, and headers that name one, come before it.
func (g *Gateway) isPreview(r *http.Request) bool {
	host, label := splitHost(r.Host)
	named := hostLabel.MatchString(label) || len(r.Header.Values(sandboxHeader)) > 0 && g.shared(host)
	return strings.HasPrefix(r.URL.EscapedPath(), previewPath) && !named
}

// previewTarget reads which sandbox and port a preview is of.
func previewTarget(r *http.Request) (target, error) {
	id, port, _ := splitPreview(r)
	t, err := parseTarget(id, port)
	if err == nil && t.port == cube.AgentPort {
		// Its clients use the headers or the host; a browser has no business there.
		err = errNoAgent
	}
	return t, err
}

// splitPreview cuts an escaped path; rest begins with a slash, or is empty.
func splitPreview(r *http.Request) (id, port, rest string) {
	id, rest, _ = strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), previewPath), "/")
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return id, rest[:i], rest[i:]
	}
	return id, rest, ""
}

type prefixKey struct{}

// withPrefix notes what is cut off the paths of a preview.
func withPrefix(ctx context.Context, t target) context.Context {
	_, port, _ := strings.Cut(t.host(), ":")
	return context.WithValue(ctx, prefixKey{}, previewPath+string(t.id)+"/"+port)
}

// prefixOf returns it, "" where a request is no preview.
func prefixOf(ctx context.Context) string {
	prefix, _ := ctx.Value(prefixKey{}).(string)
	return prefix
}

// addSlash sends a browser from the address of a preview to its root: links that
// are relative would lead elsewhere.
func addSlash(w http.ResponseWriter, r *http.Request) bool {
	if _, _, rest := splitPreview(r); rest != "" {
		return false
	}
	to := url.URL{Path: r.URL.Path + "/", RawQuery: r.URL.RawQuery} // of digits and an id
	w.Header().Set("Location", to.String())
	w.WriteHeader(http.StatusPermanentRedirect)
	return true
}

// rewritePreview cuts the prefix off what goes into the sandbox.
func rewritePreview(r *httputil.ProxyRequest) {
	prefix := prefixOf(r.In.Context())
	if prefix == "" {
		return
	}
	_, _, rest := splitPreview(r.In)
	if plain, err := url.PathUnescape(rest); err == nil { // the server has parsed it before
		r.Out.URL.Path, r.Out.URL.RawPath = plain, rest
	}
	r.Out.Header.Set("X-Forwarded-Prefix", prefix)
}

// receivePreview makes an answer fit below the prefix, and harmless beside the
// API.
func receivePreview(resp *http.Response) {
	prefix := prefixOf(resp.Request.Context())
	if prefix == "" {
		return
	}
	h := resp.Header
	h.Add("Content-Security-Policy", previewPolicy)
	for _, name := range ofOrigins {
		h.Del(name)
	}
	if location := h.Get("Location"); location != "" {
		h.Set("Location", below(prefix, resp.Request.Host, location))
	}
	cookies := h["Set-Cookie"]
	h.Del("Set-Cookie")
	for _, line := range cookies {
		cookie, err := http.ParseSetCookie(line)
		if err != nil || strings.HasPrefix(strings.ToLower(cookie.Name), "__host-") { // which want the whole host
			continue
		}
		cookie.Domain = ""
		if !strings.HasPrefix(cookie.Path, "/") {
			cookie.Path = "/"
		}
		if cookie.Path = path.Clean(cookie.Path); !isBelow(prefix, cookie.Path) {
			cookie.Path = strings.TrimSuffix(prefix+cookie.Path, "/")
		}
		h.Add("Set-Cookie", cookie.String())
	}
}

// below is where a redirect of the server inside leads to: one to its own host
// stays in the preview.
func below(prefix, host, location string) string {
	to, err := url.Parse(location)
	if err != nil || to.Host != "" && to.Host != host || to.Host == "" && !strings.HasPrefix(to.Path, "/") {
		return location
	}
	rest := to.EscapedPath()
	if !strings.HasPrefix(rest, "/") {
		rest = "/" + rest
	}
	if to.RawQuery != "" {
		rest += "?" + to.RawQuery
	}
	if to.Fragment != "" {
		rest += "#" + to.EscapedFragment()
	}
	if isBelow(prefix, to.EscapedPath()) {
		return rest
	}
	return prefix + rest
}

// isBelow tells whether a path has the prefix: servers that know
// X-Forwarded-Prefix write it themselves.
func isBelow(prefix, path string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }
