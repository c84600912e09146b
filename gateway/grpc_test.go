package gateway

import (
	"io"
	"net/http"
	"testing"
)

// TestAGRPCAnswerWithoutABodyEndsWithItsStatus has a server refuse a call, which is
// headers alone: whatever moment they are sent at, the status is in what ends the
// stream.
func TestAGRPCAnswerWithoutABodyEndsWithItsStatus(t *testing.T) {
	w := newWorld(t, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/grpc")
		h.Set("Grpc-Status", "9")
		h.Set("Grpc-Message", "not today")
		h.Set("Retry-In", "a while")
		h.Set("X-Request-Id", "forged")
	})
	id := w.create(t)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), "POST", w.URL+"/a.Service/Call", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "8000-" + string(id) + ".cube.test"
	req.Header.Set("Content-Type", "application/grpc")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(resp.Body); err != nil || len(body) > 0 {
		t.Fatalf("the body is %q, %v", body, err)
	}
	for name, want := range map[string]string{"Grpc-Status": "9", "Grpc-Message": "not today", "Retry-In": "a while"} {
		if got := resp.Trailer.Get(name); got != want || resp.Header.Get(name) != "" {
			t.Errorf("%s is %q behind the body and %q before it, want %q behind it", name, got, resp.Header.Get(name), want)
		}
	}
	if got := resp.Header.Values("X-Request-Id"); resp.StatusCode != http.StatusOK || len(got) != 1 || got[0] == "forged" || resp.Header.Get("Content-Type") != "application/grpc" {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}
}
