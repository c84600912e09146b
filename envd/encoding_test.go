package envd

import (
	"net/http"
	"testing"
)

func TestHowAFileGoesToAClient(t *testing.T) {
	for _, row := range []struct {
		accepts          string
		ranged           bool
		compressed, fine bool
	}{
		{"", false, false, true},
		{"gzip", false, true, true},
		{"GZIP", false, true, true},
		{"gzip;q=0", false, false, true},
		{"gzip, deflate", false, false, true},
		{"gzip, deflate, br, zstd", false, false, true},
		{"identity", false, false, true},
		{"gzip;q=0.5, identity;q=0.9", false, false, true},
		{"gzip, identity;q=0.5", false, true, true},
		{"gzip, *;q=0", false, true, true},
		{"gzip, deflate, identity;q=0", false, true, true},
		{"*", false, false, true},
		{"*, identity;q=0", false, true, true},
		{"br, identity;q=0", false, true, false},
		{"br, *;q=0", false, true, false},
		{"gzip", true, false, true},
		{"gzip, *;q=0", true, true, false},
		{"gzip;q=nonsense", false, true, true},
		{",,;", false, false, true},
	} {
		r := &http.Request{Header: http.Header{"Accept-Encoding": {row.accepts}}}
		if row.ranged {
			r.Header.Set("Range", "bytes=0-1")
		}
		if compressed, fine := encodingOf(r); fine != row.fine || fine && compressed != row.compressed {
			t.Errorf("%q, ranged %v: compressed %v, fine %v", row.accepts, row.ranged, compressed, fine)
		}
	}
}
