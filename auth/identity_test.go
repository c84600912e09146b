package auth

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cube"
)

func TestAnAnswerMaySayWhoAsks(t *testing.T) {
	for name, row := range map[string]struct {
		answer http.Header
		want   cube.Identity
		status int
	}{
		"nobody":              {http.Header{"X-Other": {"a"}}, cube.Identity{}, 200},
		"all":                 {http.Header{"X-Auth-Subject": {"ada"}, "X-Auth-Team": {"red"}, "X-Auth-Scopes": {"cube:operator  b"}}, cube.Identity{Subject: "ada", Team: "red", Scopes: []string{"cube:operator", "b"}}, 200},
		"the same team twice": {http.Header{"X-Auth-Team": {"red", "red"}}, cube.Identity{}, 500},
		"two teams":           {http.Header{"X-Auth-Team": {"red", "blue"}}, cube.Identity{}, 500},
		"an underscore":       {http.Header{"X_auth_team": {"red"}}, cube.Identity{}, 500},
		"both spellings":      {http.Header{"X-Auth-Team": {"red"}, "X-Auth_Team": {"blue"}}, cube.Identity{}, 500},
		"a list":              {http.Header{"X-Auth-Team": {"red, blue"}}, cube.Identity{}, 500},
		"no ASCII":            {http.Header{"X-Auth-Subject": {"\xff"}}, cube.Identity{}, 500},
		"257 bytes":           {http.Header{"X-Auth-Subject": {strings.Repeat("a", 257)}}, cube.Identity{}, 500},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOperator(t, func(w http.ResponseWriter, _ *http.Request) {
				for header, values := range row.answer {
					w.Header()[header] = values
				}
			})
			h := newHouse(t, asking(o.URL))
			// H2: what the client says of itself counts for nothing.
			wantStatus(t, h.send(t, "GET /sandboxes", "X-API-Key: key", "X-Auth-Team: root", "X_Auth_Subject: root"), row.status)
			if row.status != 200 {
				if len(h.got) != 0 {
					t.Error("the request went on")
				}
				return
			}
			got := cube.IdentityFrom(h.got[0].Context())
			if len(got.Fingerprint) != 16 {
				t.Errorf("the fingerprint is %q", got.Fingerprint)
			}
			got.Fingerprint = ""
			if diff := cmp.Diff(row.want, got, cmp.Transformer("nil", func(s []string) string { return strings.Join(s, " ") })); diff != "" {
				t.Errorf("who asks (-want +got):\n%s", diff)
			}
		})
	}
}
