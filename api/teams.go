package api

import (
	"cmp"
	"net/http"
	"time"

	"cube"
	"cube/api/gen"
	"cube/history"
)

// defaultTeam is the team of those of whom nobody said one.
const defaultTeam = "default"

func callersTeam(r *http.Request) string {
	return cmp.Or(cube.IdentityFrom(r.Context()).Team, defaultTeam)
}

// GET /teams
func (a *api) listTeams(w http.ResponseWriter, r *http.Request) error {
	team := callersTeam(r)
	return writeJSON(w, http.StatusOK, []gen.Team{{TeamID: team, Name: team, IsDefault: true}})
}

// teamMetrics are those that a request asks for.
func (a *api) teamMetrics(r *http.Request) ([]history.TeamMetric, error) {
	if r.PathValue("teamID") != callersTeam(r) {
		return nil, cube.Errorf(cube.Forbidden, "You are not allowed to access this team's metrics: yours is %q", callersTeam(r))
	}
	query, err := parseQuery(r)
	if err != nil {
		return nil, err
	}
	from, to, err := span(query)
	if err != nil {
		return nil, err
	}
	if query.Get("start") == "" {
		from = to.Add(-time.Hour)
	}
	return a.history.Team(r.Context(), from, to)
}

// GET /teams/{teamID}/metrics
func (a *api) getTeamMetrics(w http.ResponseWriter, r *http.Request) error {
	metrics, err := a.teamMetrics(r)
	if err != nil {
		return err
	}
	list := make([]gen.TeamMetric, len(metrics))
	for i, m := range metrics {
		list[i] = gen.TeamMetric{
			Timestamp: m.At.UTC(), TimestampUnix: m.At.Unix(), ConcurrentSandboxes: int32(m.Concurrent), SandboxStartRate: m.StartRate,
		}
	}
	return writeJSON(w, http.StatusOK, list)
}

// GET /teams/{teamID}/metrics/max
func (a *api) getTeamMetricsMax(w http.ResponseWriter, r *http.Request) error {
	of := map[string]func(history.TeamMetric) float64{
		"concurrent_sandboxes": func(m history.TeamMetric) float64 { return float64(m.Concurrent) },
		"sandbox_start_rate":   func(m history.TeamMetric) float64 { return m.StartRate },
	}[r.URL.Query().Get("metric")]
	if of == nil {
		return cube.Errorf(cube.Invalid, "validation error: metric must be concurrent_sandboxes or sandbox_start_rate")
	}
	metrics, err := a.teamMetrics(r)
	if err != nil {
		return err
	}
	var most gen.MaxTeamMetric
	for i, m := range metrics {
		if value := of(m); i == 0 || value > most.Value {
			most = gen.MaxTeamMetric{Timestamp: m.At.UTC(), TimestampUnix: m.At.Unix(), Value: value}
		}
	}
	return writeJSON(w, http.StatusOK, most)
}
