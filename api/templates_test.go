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
		if base.TemplateID != "base" || len(base.Names) != 1 || base.MemoryMB != 512 || base.BuildStatus != gen.Ready || base.CreatedAt.IsZero() ||
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
