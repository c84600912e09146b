package api

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNetworkPolicies(t *testing.T) {
	h := newAPI(t)
	network := func(id string) (got struct {
		AllowInternetAccess bool
		Network             map[string]any
	}) {
		t.Helper()
		call(t, h, "GET", "/sandboxes/"+id, "", &got)
		return got
	}
	id := create(t, h, "/v2/sandboxes", `{"templateID":"base","network":{
		"allowOut":["Example.com","203.0.113.9/24"],"denyOut":["0.0.0.0/0"],
		"egressProxy":{"address":"proxy.example.com:1080","username":"u","password":"hidden"}}}`)["sandboxID"].(string)
	want := map[string]any{
		"allowPublicTraffic": true,
		"allowOut":           []any{"example.com", "203.0.113.0/24"}, "denyOut": []any{"0.0.0.0/0"},
		"egressProxy": map[string]any{"address": "proxy.example.com:1080", "username": "u"},
	}
	if diff := cmp.Diff(want, network(id).Network); diff != "" {
		t.Error(diff)
	}
	// Each is refused with a sentence, and changes nothing.
	for _, body := range []string{
		`{"allowOut":["example.com"]}`, `{"denyOut":["example.com"]}`, `{"denyOut":"0.0.0.0/0"}`, `{"deny":[]}`, `[]`, ``,
		`{"rules":{"example.com":[{"transform":{"headers":{"a b":"c"}}}]}}`, `{"egressProxy":{"address":"nowhere"}}`,
	} {
		var got struct{ Message string }
		if resp := call(t, h, "PUT", "/sandboxes/"+id+"/network", body, &got); resp.StatusCode != 400 || got.Message == "" {
			t.Errorf("%s: %s %q", body, resp.Status, got.Message)
		}
	}
	if diff := cmp.Diff(want, network(id).Network); diff != "" {
		t.Error(diff)
	}
	// An update replaces all, and what it leaves out is cleared.
	for _, step := range []struct {
		body     string
		internet bool
		want     string
	}{
		{`{"denyOut":["203.0.113.7"]}`, true, `{"allowPublicTraffic":true,"denyOut":["203.0.113.7"]}`},
		{`{"allow_internet_access":false}`, false, `{"allowPublicTraffic":true}`},
		// As it was written, and the engine is told what comes of it.
		{`{"allow_internet_access":false,"allowOut":["203.0.113.7"]}`, false, `{"allowPublicTraffic":true,"allowOut":["203.0.113.7"]}`},
		{`{"allow_internet_access":false,"allowOut":["a.example"],"denyOut":["203.0.113.7"]}`, false, `{"allowPublicTraffic":true,"allowOut":["a.example"],"denyOut":["203.0.113.7"]}`},
		{`{"allow_internet_access":false,"allowOut":["a.example"],"denyOut":["1.2.3.4/0"]}`, false, `{"allowPublicTraffic":true,"allowOut":["a.example"],"denyOut":["0.0.0.0/0"]}`},
		{`{}`, true, `{"allowPublicTraffic":true}`},
	} {
		if resp := call(t, h, "PUT", "/sandboxes/"+id+"/network", step.body, nil); resp.StatusCode != 204 {
			t.Errorf("%s: %s", step.body, resp.Status)
		}
		var want map[string]any
		if err := json.Unmarshal([]byte(step.want), &want); err != nil {
			t.Fatal(err)
		}
		got := network(id)
		if diff := cmp.Diff(want, got.Network); diff != "" || got.AllowInternetAccess != step.internet {
			t.Errorf("%s: internet is %v, %s", step.body, got.AllowInternetAccess, diff)
		}
	}
	if resp := call(t, h, "PUT", "/sandboxes/i00000000000000000000/network", `{}`, nil); resp.StatusCode != 404 {
		t.Errorf("of no sandbox: %s", resp.Status)
	}
	call(t, h, "POST", "/sandboxes/"+id+"/pause", ``, nil)
	if resp := call(t, h, "PUT", "/sandboxes/"+id+"/network", `{}`, nil); resp.StatusCode != 409 {
		t.Errorf("of a paused one: %s", resp.Status)
	}
}
