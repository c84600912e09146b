package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
)

// maxListing is more than any list of pages that Chromium has.
const maxListing = 16 << 20

// newProxy is Chromium's port under whatever name it is called.
func newProxy(port int) http.Handler {
	at := &url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(at)               // with it the name that Chromium is called by
			r.Out.Header.Del("Origin") // Chromium refuses pages that it does not know
			r.Out.Header.Del("Accept-Encoding")
		},
		ModifyResponse: func(resp *http.Response) error { return rename(resp, at.Host) },
		FlushInterval:  -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			http.Error(w, "Chromium is just starting: try again", http.StatusServiceUnavailable)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), outsideKey{}, asked(r))))
	})
}

// outside is how the one who asked reaches us.
type outside struct{ scheme, host string }

func asked(r *http.Request) outside {
	o := outside{scheme: "ws", host: r.Host}
	if r.Header.Get("X-Forwarded-Proto") == "https" {
		o.scheme = "wss"
	}
	return o
}

// rename writes the outer name in place of Chromium's own into what it says of
// itself: the lists below /json.
func rename(resp *http.Response, inner string) error {
	if !strings.HasPrefix(resp.Request.URL.Path, "/json") {
		return nil
	}
	in, ok := resp.Request.Context().Value(outsideKey{}).(outside)
	if !ok {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxListing))
	_ = resp.Body.Close()
	if err != nil {
		return err
	}
	body = bytes.ReplaceAll(body, []byte("ws://"+inner+"/"), []byte(in.scheme+"://"+in.host+"/"))
	body = bytes.ReplaceAll(body, []byte("ws="+inner+"/"), []byte(in.scheme+"="+in.host+"/"))
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	resp.Header.Set("Content-Length", fmt.Sprint(len(body)))
	return nil
}

type outsideKey struct{}
