package keepalive

import (
	"net/http"
	"testing"
	"time"
)

func TestTheIntervalIsWhatTheClientAsksWithinReason(t *testing.T) {
	for asked, want := range map[string]time.Duration{
		"": Default, "50": 50 * time.Second, "0": Default, "-1": Default, "many": Default, "99999": Default,
	} {
		if got := Interval(http.Header{"Keepalive-Ping-Interval": {asked}}); got != want {
			t.Errorf("asked for %q: %v, want %v", asked, got, want)
		}
	}
}
