package gvisor

import (
	"io"
	"net/http"
	"strconv"
	"testing"

	"cube"
	"cube/internal/testhost"
)

// What goes over a sandbox's link is counted by the machine, and stays in the sum
// when the link is no more.
func TestTrafficIsCounted(t *testing.T) {
	const bytes = 2_000_000
	guest := newGuest(t, nil, LinkLimits{Connections: 100}, true, cube.NetworkPolicy{})
	client := http.Client{Transport: &http.Transport{DialContext: guest.Dial, DisableKeepAlives: true}}
	response, err := client.Get("http://" + testhost.InternetAddr + "/zeros?bytes=" + strconv.Itoa(bytes))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if n, err := io.Copy(io.Discard, response.Body); err != nil || n != bytes {
		t.Fatalf("there are %d bytes (%v)", n, err)
	}
	link, err := guest.network.linkStats(guest.link)
	if err != nil || link.Received < bytes || link.Received > 2*bytes || link.Sent == 0 || link.Sent > bytes {
		t.Errorf("the link has carried %+v (%v)", link, err)
	}
	if err := guest.network.release(guest.link); err != nil {
		t.Fatal(err)
	}
	all, err := guest.network.counted()
	if err != nil || all.Received < link.Received || all.Sent < link.Sent || all.Connections != 1 || all.Refused != 0 {
		t.Errorf("all have carried %+v (%v)", all, err)
	}
}
