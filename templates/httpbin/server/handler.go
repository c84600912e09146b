package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxBody  = 16 << 20
	maxBytes = 100 << 20
	maxDelay = 10 * time.Minute
	maxHops  = 100
)

func newHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "httpbin: ask /headers, /anything, /status/CODE and others\n")
	})
	mux.HandleFunc("GET /headers", func(w http.ResponseWriter, r *http.Request) {
		answer(w, map[string]any{"headers": headers(r)})
	})
	for path, methods := range map[string][]string{
		"/get": {"GET"}, "/post": {"POST"}, "/put": {"PUT"}, "/patch": {"PATCH"}, "/delete": {"DELETE"}, "/anything": {""}, "/anything/{rest...}": {""},
	} {
		for _, m := range methods {
			mux.HandleFunc(strings.TrimSpace(m+" "+path), echo)
		}
	}
	mux.HandleFunc("GET /ip", func(w http.ResponseWriter, r *http.Request) { answer(w, map[string]any{"origin": origin(r)}) })
	mux.HandleFunc("GET /user-agent", func(w http.ResponseWriter, r *http.Request) {
		answer(w, map[string]any{"user-agent": r.UserAgent()})
	})
	mux.HandleFunc("GET /hostname", func(w http.ResponseWriter, _ *http.Request) {
		name, _ := os.Hostname()
		answer(w, map[string]any{"hostname": name})
	})
	mux.HandleFunc("GET /uuid", func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]any{"uuid": uuid()}) })
	mux.HandleFunc("/status/{code}", status)
	mux.HandleFunc("/delay/{seconds}", delay)
	mux.HandleFunc("GET /bytes/{n}", someBytes)
	mux.HandleFunc("GET /stream/{n}", stream)
	mux.HandleFunc("/redirect/{n}", redirect)
	mux.HandleFunc("/redirect-to", redirectTo)
	mux.HandleFunc("GET /response-headers", responseHeaders)
	mux.HandleFunc("GET /basic-auth/{user}/{password}", basicAuth)
	mux.HandleFunc("GET /bearer", bearer)
	mux.HandleFunc("GET /cookies", cookies)
	mux.HandleFunc("GET /cookies/set", setCookies)
	return mux
}

func answer(w http.ResponseWriter, v any) { answerWith(w, http.StatusOK, v) }

func answerWith(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(v)
}

func fail(w http.ResponseWriter, code int, what string) {
	answerWith(w, code, map[string]any{"status_code": code, "error": http.StatusText(code), "detail": what})
}

// headers are those of a request, and its host, as go-httpbin shows them: lists.
func headers(r *http.Request) http.Header {
	h := r.Header.Clone()
	h.Set("Host", r.Host)
	return h
}

func origin(r *http.Request) string {
	if forwarded, _, _ := strings.Cut(r.Header.Get("X-Forwarded-For"), ","); forwarded != "" {
		return strings.TrimSpace(forwarded)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		fail(w, http.StatusRequestEntityTooLarge, err.Error())
		return
	}
	scheme := "http"
	if p := r.Header.Get("X-Forwarded-Proto"); p != "" {
		scheme = p
	}
	data := string(body)
	if !utf8.Valid(body) {
		data = "data:application/octet-stream;base64," + base64.StdEncoding.EncodeToString(body)
	}
	var parsed any
	if json.Unmarshal(body, &parsed) != nil {
		parsed = nil
	}
	form := url.Values{}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		form, _ = url.ParseQuery(data)
	}
	answer(w, map[string]any{
		"args": r.URL.Query(), "headers": headers(r), "method": r.Method, "origin": origin(r),
		"url": scheme + "://" + r.Host + r.URL.RequestURI(), "data": data, "json": parsed, "form": form, "files": map[string]any{},
	})
}

func status(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.PathValue("code"))
	if err != nil || code < 200 || code > 599 {
		fail(w, http.StatusBadRequest, "the status must be a number from 200 to 599")
		return
	}
	if code/100 == 3 && code != http.StatusNotModified {
		w.Header().Set("Location", "/redirect/1")
	}
	w.WriteHeader(code)
}

func delay(w http.ResponseWriter, r *http.Request) {
	seconds, err := strconv.ParseFloat(strings.TrimSuffix(r.PathValue("seconds"), "s"), 64)
	if err != nil || !(seconds >= 0 && seconds <= maxDelay.Seconds()) {
		fail(w, http.StatusBadRequest, "write how many seconds, up to 600")
		return
	}
	select {
	case <-r.Context().Done():
	case <-time.After(time.Duration(seconds * float64(time.Second))):
		echo(w, r)
	}
}

func someBytes(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil || n < 0 || n > maxBytes {
		fail(w, http.StatusBadRequest, "write how many bytes, up to 104857600")
		return
	}
	var seed [32]byte
	copy(seed[:], r.URL.Query().Get("seed"))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	_, _ = io.CopyN(w, mathrand.NewChaCha8(seed), n)
}

func stream(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 0 || n > maxHops {
		fail(w, http.StatusBadRequest, "write how many lines, up to 100")
		return
	}
	e := json.NewEncoder(w)
	for i := range n {
		_ = e.Encode(map[string]any{"id": i, "headers": headers(r), "url": r.URL.String()})
		_ = http.NewResponseController(w).Flush()
	}
}

func redirect(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 1 || n > maxHops {
		fail(w, http.StatusBadRequest, "write how many redirects, from 1 to 100")
		return
	}
	to := "/get"
	if n > 1 {
		to = "/redirect/" + strconv.Itoa(n-1)
	}
	http.Redirect(w, r, to, http.StatusFound)
}

func redirectTo(w http.ResponseWriter, r *http.Request) {
	code := http.StatusFound
	if s := r.URL.Query().Get("status_code"); s != "" {
		code, _ = strconv.Atoi(s)
	}
	to := r.URL.Query().Get("url")
	if to == "" || code/100 != 3 {
		fail(w, http.StatusBadRequest, "write url=, and status_code= from 300 to 399")
		return
	}
	w.Header().Set("Location", to)
	w.WriteHeader(code)
}

func responseHeaders(w http.ResponseWriter, r *http.Request) {
	for name, values := range r.URL.Query() {
		for _, v := range values {
			w.Header().Add(name, v)
		}
	}
	answer(w, r.URL.Query())
}

func basicAuth(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if user != r.PathValue("user") || password != r.PathValue("password") {
		w.Header().Set("WWW-Authenticate", `Basic realm="httpbin"`)
		answerWith(w, http.StatusUnauthorized, map[string]any{"authorized": false, "authenticated": false, "user": user})
		return
	}
	answer(w, map[string]any{"authorized": true, "authenticated": true, "user": user})
}

func bearer(w http.ResponseWriter, r *http.Request) {
	token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !found {
		w.Header().Set("WWW-Authenticate", "Bearer")
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	answer(w, map[string]any{"authenticated": true, "token": token})
}

func cookies(w http.ResponseWriter, r *http.Request) {
	all := map[string]string{}
	for _, c := range r.Cookies() {
		all[c.Name] = c.Value
	}
	answer(w, map[string]any{"cookies": all})
}

func setCookies(w http.ResponseWriter, r *http.Request) {
	for name, values := range r.URL.Query() {
		http.SetCookie(w, &http.Cookie{Name: name, Value: values[0], Path: "/", HttpOnly: true})
	}
	http.Redirect(w, r, "/cookies", http.StatusFound)
}

func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
