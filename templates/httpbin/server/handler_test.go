package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

func TestHTTPBin(t *testing.T) {
	server := httptest.NewServer(newHandler())
	defer server.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	for _, c := range []struct {
		method, path, body string
		status             int
		has                string
	}{
		{"GET", "/", "", 200, "httpbin"},
		{"GET", "/headers", "", 200, `"X-Test": [ "a", "b" ]`},
		{"GET", "/headers", "", 200, `"Host": [`},
		{"GET", "/get?a=1&a=2", "", 200, `"args": { "a": [ "1", "2" ] }`},
		{"POST", "/post", `{"x":1}`, 200, `"json": { "x": 1 }`},
		{"POST", "/post", "\xff", 200, `base64,/w==`},
		{"GET", "/post", "", 405, ""},
		{"PUT", "/anything/deep/er", "text", 200, `"data": "text"`},
		{"OPTIONS", "/anything", "", 200, `"method": "OPTIONS"`},
		{"GET", "/ip", "", 200, `"origin": "127.0.0.1"`},
		{"GET", "/user-agent", "", 200, "Go-http-client"},
		{"GET", "/status/204", "", 204, ""},
		{"GET", "/status/503", "", 503, ""},
		{"GET", "/status/99", "", 400, "from 200 to 599"},
		{"GET", "/delay/0", "", 200, `"method": "GET"`},
		{"GET", "/delay/NaN", "", 400, "up to 600"},
		{"GET", "/delay/601", "", 400, "up to 600"},
		{"GET", "/bytes/-1", "", 400, "how many bytes"},
		{"GET", "/stream/2", "", 200, `"id":1`},
		{"GET", "/redirect/3", "", 200, `/get"`},
		{"GET", "/redirect/0", "", 400, ""},
		{"GET", "/redirect-to?url=" + url.QueryEscape("/status/201"), "", 201, ""},
		{"GET", "/redirect-to", "", 400, ""},
		{"GET", "/response-headers?X-A=b", "", 200, `"X-A"`},
		{"GET", "/basic-auth/a/b", "", 401, `"authorized": false`},
		{"GET", "/bearer", "", 401, ""},
		{"GET", "/cookies/set?a=b", "", 200, `"a": "b"`},
		{"GET", "/uuid", "", 200, "-4"},
		{"GET", "/nothing", "", 404, ""},
	} {
		req, err := http.NewRequest(c.method, server.URL+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header["X-Test"] = []string{"a", "b"}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(strings.Fields(string(body)), " "); resp.StatusCode != c.status || !strings.Contains(text, c.has) {
			t.Errorf("%s %s: %d %s; want %d with %s", c.method, c.path, resp.StatusCode, text, c.status, c.has)
		}
		if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") && !json.Valid(body) {
			t.Errorf("%s %s: no JSON: %s", c.method, c.path, body)
		}
	}
	resp, err := client.Get(server.URL + "/bytes/70000")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); n != 70000 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(address.Port())
	if err != nil {
		t.Fatal(err)
	}
	if err := answers(port); err != nil {
		t.Error(err)
	}
	server.Close()
	if err := answers(port); err == nil {
		t.Error("what is closed answers")
	}
}
