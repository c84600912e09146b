// Package keepalive reads how often a client wants to hear from a stream on which
// nothing happens. It must never let one keep the agent busy.
package keepalive

import (
	"net/http"
	"strconv"
	"time"
)

// Default is for a client that does not say, and for one that asks for what is
// no number of seconds from 1 to 3600.
const Default = 90 * time.Second

// Interval is what a client asks for, in the header of E2B's SDKs.
func Interval(header http.Header) time.Duration {
	seconds, err := strconv.Atoi(header.Get("Keepalive-Ping-Interval"))
	if err != nil || seconds < 1 || seconds > 3600 {
		return Default
	}
	return time.Duration(seconds) * time.Second
}
