package api

import (
	"net/http"
	"regexp"
	"testing"

	"cube/api/gen"
)

func TestTemplatesAreListed(t *testing.T) {
	h := newAPI(t)
	for _, path := range []string{"/templates", "/v2/templates", "/v2/templates?limit=1", "/templates?teamID=default", "/v2/templates?teamID=default"} {
		var list []gen.Template
		if resp := call(t, h, "GET", path, "", &list); resp.StatusCode != http.StatusOK || len(list) != 1 {
			t.Fatalf("%s: %s, %+v", path, resp.Status, list)
		}
		base := list[0]
		if base.TemplateID != "base" || len(base.Names) != 1 || base.MemoryMB != 512 || base.BuildStatus != gen.BuildStatusReady || base.CreatedAt.IsZero() ||
			!regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(base.BuildID) {
			t.Errorf("%s: %+v", path, base)
		}
	}
	for _, path := range []string{"/v2/templates?limit=0", "/v2/templates?limit=x", "/v2/templates?nextToken=x", "/v2/templates?%zz", "/templates?teamID=other", "/v2/templates?teamID=other"} {
		if resp := call(t, h, "GET", path, "", nil); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}

func TestATemplateIsKnownByItsAlias(t *testing.T) {
	h := newAPI(t)
	var alias gen.TemplateAlias
	if resp := call(t, h, "GET", "/templates/aliases/base", "", &alias); resp.StatusCode != http.StatusOK || alias.TemplateID != "base" {
		t.Errorf("%s, %+v", resp.Status, alias)
	}
	if resp := call(t, h, "GET", "/templates/aliases/other", "", nil); resp.StatusCode != http.StatusNotFound {
		t.Error(resp.Status)
	}
}

func TestTagsOfATemplate(t *testing.T) {
	h := newAPI(t)
	for _, name := range []string{"base", "base:default"} {
		var tags []gen.TemplateTag
		if resp := call(t, h, "GET", "/templates/"+name+"/tags", "", &tags); resp.StatusCode != http.StatusOK || len(tags) != 1 || tags[0].Tag != "default" {
			t.Errorf("%s: %s, %+v", name, resp.Status, tags)
		}
	}
	var created gen.Sandbox
	call(t, h, "POST", "/sandboxes", `{"templateID":"base"}`, &created)
	for _, name := range []string{"kept:v1", "kept:v2"} {
		if resp := call(t, h, "POST", "/sandboxes/"+created.SandboxID+"/snapshots", `{"name":"`+name+`"}`, nil); resp.StatusCode != http.StatusCreated {
			t.Fatal(resp.Status)
		}
	}
	var tags []gen.TemplateTag
	if resp := call(t, h, "GET", "/templates/kept/tags", "", &tags); resp.StatusCode != http.StatusOK || len(tags) != 2 || tags[0].BuildID == tags[1].BuildID {
		t.Errorf("%s, %+v", resp.Status, tags)
	}
	for path, want := range map[string]int{"/templates/other/tags": 404, "/templates/aliases/tags": 404, "/templates/base/builds": 404} {
		if resp := call(t, h, "GET", path, "", nil); resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, resp.Status, want)
		}
	}
}

func TestATimeoutIsCheckedBeforeTheSandbox(t *testing.T) {
	h := newAPI(t)
	for timeout, want := range map[string]int{"259200": http.StatusBadRequest, "30": http.StatusNotFound} {
		if resp := call(t, h, "POST", "/sandboxes/itisntthere0000/connect", `{"timeout":`+timeout+`}`, nil); resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", timeout, resp.Status, want)
		}
	}
}
