package api

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"cube"
	"cube/api/gen"
	"cube/build"
	"cube/image"
)

// maxBuildLines is how many lines of a log one answer holds.
const maxBuildLines = 100

// pathBuildID reads the build that a path names.
func pathBuildID(r *http.Request) (cube.BuildID, error) {
	id := strings.ToLower(r.PathValue("buildID"))
	if !cube.IsBuildID(id) {
		return "", cube.Errorf(cube.Invalid, "Invalid build ID: %.64s", id)
	}
	return cube.BuildID(id), nil
}

// POST /v2/templates/{templateID}/builds/{buildID}
func (a *api) startBuildV2(w http.ResponseWriter, r *http.Request) error {
	id, err := pathBuildID(r)
	if err != nil {
		return err
	}
	var body gen.BuildStart
	unknown, err := decodeBody(w, r, &body, []string{"fromImage", "fromTemplate", "fromArchive", "fromImageRegistry", "force", "steps", "startCmd", "readyCmd"}, true)
	if err != nil {
		return err
	}
	request := build.StartRequest{Template: r.PathValue("templateID"), Build: id, FromTemplate: text(body.FromTemplate)}
	request.Spec = build.Spec{
		From: text(body.FromImage), FromArchive: text(body.FromArchive), Steps: steps(body.Steps), Force: body.Force != nil && *body.Force,
		StartCmd: text(body.StartCmd), ReadyCmd: text(body.ReadyCmd),
	}
	if request.Spec.Credentials, err = credentials(body.FromImageRegistry); err != nil {
		return err
	}
	if err := a.templates.Start(r.Context(), request); err != nil {
		return err
	}
	warnUnknown(w, unknown)
	w.WriteHeader(http.StatusAccepted) // with nothing, as E2B's
	return nil
}

// credentials reads those of a registry; nil for none.
func credentials(r *gen.ImageRegistry) (*image.Credentials, error) {
	if r == nil {
		return nil, nil
	}
	switch r.Type {
	case gen.Registry:
		return &image.Credentials{Username: text(r.Username), Password: text(r.Password)}, nil
	case gen.Aws:
		return &image.Credentials{AWSAccessKeyID: text(r.AwsAccessKeyId), AWSSecretAccessKey: text(r.AwsSecretAccessKey), AWSRegion: text(r.AwsRegion)}, nil
	case gen.Gcp:
		return &image.Credentials{GCPServiceAccount: text(r.ServiceAccountJson)}, nil
	}
	return nil, cube.Errorf(cube.Invalid, "validation error: fromImageRegistry.type must be registry, aws or gcp")
}

// POST /templates/{templateID}/builds/{buildID}
func (a *api) startBuild(w http.ResponseWriter, r *http.Request) error {
	id, err := pathBuildID(r)
	if err != nil {
		return err
	}
	name := r.PathValue("templateID")
	if err := a.templates.StartKept(r.Context(), name, id); err != nil {
		return err
	}
	t, err := a.templates.Template(r.Context(), name)
	if err != nil {
		return err
	}
	b, err := a.templates.Build(r.Context(), name, id)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusAccepted, templateJob(t, b.Build, b.Percent))
}

// GET /templates/{templateID}/builds/{buildID}/status
func (a *api) getBuildStatus(w http.ResponseWriter, r *http.Request) error {
	b, query, q, err := a.buildLogQuery(r)
	if err != nil {
		return err
	}
	if offset := query.Get("logsOffset"); offset != "" {
		if q.Offset, err = strconv.Atoi(offset); err != nil || q.Offset < 0 {
			return cube.Errorf(cube.Invalid, "validation error: logsOffset must be a number from 0")
		}
	}
	lines, err := a.templates.Log(r.Context(), b.ID, q)
	if err != nil {
		return err
	}
	answer := gen.BuildInfo{
		TemplateID: string(b.Template), BuildID: string(b.ID), Status: gen.BuildStatus(b.Status),
		Logs: []string{}, LogEntries: buildLines(lines), Progress: b.Percent, Message: b.Failure.Message,
	}
	if b.Status == cube.BuildError {
		answer.Reason = &gen.BuildReason{Message: b.Failure.Message, Step: optional(b.Failure.Step), LogEntries: []gen.BuildLogEntry{}}
		for _, line := range answer.LogEntries {
			if b.Failure.Step != "" && text(line.Step) == b.Failure.Step && (line.Level == gen.BuildLogEntryLevelWarn || line.Level == gen.BuildLogEntryLevelError) {
				answer.Reason.LogEntries = append(answer.Reason.LogEntries, line)
			}
		}
	}
	return writeJSON(w, http.StatusOK, answer)
}

// GET /templates/{templateID}/builds/{buildID}/logs
func (a *api) getBuildLogs(w http.ResponseWriter, r *http.Request) error {
	b, query, q, err := a.buildLogQuery(r)
	if err != nil {
		return err
	}
	switch query.Get("direction") {
	case "", "forward":
	case "backward":
		q.Backward = true
	default:
		return cube.Errorf(cube.Invalid, "validation error: direction must be forward or backward")
	}
	if source := query.Get("source"); source != "" && source != "temporary" && source != "persistent" {
		return cube.Errorf(cube.Invalid, "validation error: source must be temporary or persistent")
	}
	if cursor := query.Get("cursor"); cursor != "" {
		ms, err := strconv.ParseInt(cursor, 10, 64)
		if err != nil || ms < 0 {
			return cube.Errorf(cube.Invalid, "validation error: cursor must be a time in Unix milliseconds")
		}
		q.From = time.UnixMilli(ms)
	}
	lines, err := a.templates.Log(r.Context(), b.ID, q)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, gen.BuildLogs{Logs: buildLines(lines)})
}

// buildLogQuery finds the build of a request for its log, and reads what both have.
func (a *api) buildLogQuery(r *http.Request) (b build.Progress, query url.Values, q cube.BuildLogQuery, err error) {
	id, err := pathBuildID(r)
	if err != nil {
		return b, nil, q, err
	}
	if query, err = parseQuery(r); err != nil {
		return b, nil, q, err
	}
	q.Limit = maxBuildLines
	if limit := query.Get("limit"); limit != "" {
		n, err := strconv.Atoi(limit)
		if err != nil || n < 0 {
			return b, nil, q, cube.Errorf(cube.Invalid, "validation error: limit must be a number from 0 to %d", maxBuildLines)
		}
		q.Limit = min(n, maxBuildLines)
	}
	if q.Level = query.Get("level"); q.Level != "" && !slices.Contains([]string{"debug", "info", "warn", "error"}, q.Level) {
		return b, nil, q, cube.Errorf(cube.Invalid, "validation error: level must be debug, info, warn or error")
	}
	b, err = a.templates.Build(r.Context(), r.PathValue("templateID"), id)
	return b, query, q, err
}

func buildLines(lines []cube.LogEntry) []gen.BuildLogEntry {
	list := make([]gen.BuildLogEntry, len(lines))
	for i, l := range lines {
		list[i] = gen.BuildLogEntry{Timestamp: l.Time, Level: gen.BuildLogEntryLevel(l.Level), Message: l.Message, Step: optional(l.Step)}
	}
	return list
}
