package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"cube"
	"cube/api/gen"
	"cube/lifecycle"
)

// createVersion is what the two versions of the route have not in common.
type createVersion struct {
	name           string
	defaultTimeout int64 // seconds
	known          []string
	secure         func(gen.NewSandbox) bool
}

var (
	createV1 = createVersion{
		name: "v1", defaultTimeout: 15,
		known:  []string{"templateID", "timeout", "allow_internet_access", "network", "metadata", "envVars", "secure", "autoPause", "autoPauseMemory", "autoResume", "mcp"},
		secure: func(n gen.NewSandbox) bool { return n.Secure != nil && *n.Secure },
	}
	createV2 = createVersion{
		name: "v2", defaultTimeout: 300,
		known:  []string{"templateID", "timeout", "allow_internet_access", "network", "metadata", "envVars", "autoPause", "autoPauseMemory", "autoResume", "mcp"},
		secure: func(gen.NewSandbox) bool { return true },
	}
)

// POST /sandboxes
func (a *api) createSandbox(w http.ResponseWriter, r *http.Request) error {
	return a.create(w, r, createV1)
}

// POST /v2/sandboxes
func (a *api) createSandboxV2(w http.ResponseWriter, r *http.Request) error {
	return a.create(w, r, createV2)
}

func (a *api) create(w http.ResponseWriter, r *http.Request, version createVersion) error {
	start := time.Now()
	data, err := readBody(w, r)
	if err != nil {
		return err
	}
	f, err := decodeFields(data)
	if err != nil {
		return err
	}
	if err := f.refuseUnsupported(); err != nil {
		return err
	}
	var body gen.NewSandbox
	unknown, err := f.decode(&body, version.known)
	if err != nil {
		return err
	}
	request, err := createRequest(body, version)
	if err != nil {
		return err
	}
	if request.Idempotency, err = idempotency(r.Header, version, f); err != nil {
		return err
	}
	created, err := a.sandboxes.Create(r.Context(), request)
	if err != nil {
		return err
	}
	warnUnknown(w, unknown)
	w.Header().Set("Server-Timing", serverTiming(created.Timings, time.Since(start)))
	return writeJSON(w, http.StatusCreated, a.sandbox(created.Sandbox))
}

// Limits of what a sandbox is created with.
const (
	maxPairs    = 100 // of metadata
	maxEnvVars  = 1000
	maxPairSize = 128 << 10 // bytes of one key with its value: Linux's own limit for a variable
)

func createRequest(body gen.NewSandbox, version createVersion) (lifecycle.CreateRequest, error) {
	if body.TemplateID == "" {
		return lifecycle.CreateRequest{}, cube.Errorf(cube.Invalid, "validation error: templateID is missing: write the name of a template, such as \"base\"")
	}
	timeout := version.defaultTimeout
	if body.Timeout != nil {
		timeout = *body.Timeout
	}
	if timeout <= 0 {
		return lifecycle.CreateRequest{}, cube.Errorf(cube.Invalid, "Timeout must be greater than 0")
	}
	request := lifecycle.CreateRequest{
		Template: body.TemplateID,
		Timeout:  seconds(timeout),
		Secure:   version.secure(body),
		Private:  body.Network != nil && body.Network.AllowPublicTraffic != nil && !*body.Network.AllowPublicTraffic,
	}
	var err error
	reach := gen.SandboxNetworkUpdate{AllowInternetAccess: body.AllowInternetAccess}
	if n := body.Network; n != nil {
		if request.Ingress, err = ingress(*n); err != nil {
			return lifecycle.CreateRequest{}, err
		}
		reach.AllowOut, reach.DenyOut, reach.Rules, reach.EgressProxy = n.AllowOut, n.DenyOut, n.Rules, n.EgressProxy
	}
	if request.Internet, request.Network, err = networkPolicy(reach); err != nil {
		return lifecycle.CreateRequest{}, err
	}
	if request.Expiry, err = expiry(body); err != nil {
		return lifecycle.CreateRequest{}, err
	}
	if body.Metadata != nil {
		request.Metadata = *body.Metadata
	}
	if body.EnvVars != nil {
		request.EnvVars = *body.EnvVars
	}
	if err := checkPairs("metadata", request.Metadata, maxPairs, func(string) bool { return true }); err != nil {
		return request, err
	}
	return request, checkPairs("envVars", request.EnvVars, maxEnvVars, isVariableName)
}

// expiry is what becomes of the sandbox at its deadline, and after it.
func expiry(body gen.NewSandbox) (cube.Expiry, error) {
	x := cube.Expiry{
		Pause:  body.AutoPause != nil && *body.AutoPause,
		Memory: body.AutoPauseMemory == nil || *body.AutoPauseMemory,
		Resume: body.AutoResume != nil && body.AutoResume.Enabled,
	}
	switch {
	case !x.Memory && !x.Pause:
		return x, cube.Errorf(cube.Invalid, "autoPauseMemory: false needs autoPause: true")
	case !x.Memory && x.Resume:
		return x, cube.Errorf(cube.Invalid, "autoPauseMemory: false cannot be combined with autoResume: a sandbox that was paused without its memory is resumed by connecting to it, not by traffic")
	}
	return x, nil
}

// seconds makes a duration of any number: one too large for a duration is as
// good as the largest, which is over every limit.
func seconds(n int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Second)
	return time.Duration(max(-most, min(n, most))) * time.Second
}

func checkPairs(field string, pairs map[string]string, most int, validKey func(string) bool) error {
	if len(pairs) > most {
		return cube.Errorf(cube.Invalid, "validation error: %s has %d entries: at most %d are taken", field, len(pairs), most)
	}
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		switch value := pairs[key]; {
		case !validKey(key):
			return cube.Errorf(cube.Invalid, "validation error: %s has the name %.64q, which is not one", field, key)
		case strings.Contains(key+value, "\x00"):
			return cube.Errorf(cube.Invalid, "validation error: %s has a zero byte in %.64q", field, key)
		case len(key)+len(value) >= maxPairSize:
			return cube.Errorf(cube.Invalid, "validation error: the entry %.64q of %s is longer than %d bytes", key, field, maxPairSize)
		}
	}
	return nil
}

// isVariableName tells whether a process's environment can hold the name.
func isVariableName(name string) bool { return name != "" && !strings.Contains(name, "=") }

// idempotency makes the request repeatable if the client asks for it. Two bodies
// are the same if they mean the same JSON, whatever the order of their fields.
func idempotency(h http.Header, version createVersion, f fields) (*lifecycle.Idempotency, error) {
	keys := h.Values("Idempotency-Key")
	if len(keys) == 0 {
		return nil, nil
	}
	key := keys[0]
	printable := strings.IndexFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) < 0
	if len(keys) > 1 || key == "" || len(key) > 255 || !printable {
		return nil, cube.Errorf(cube.Invalid, "Idempotency-Key must be one header of 1 to 255 printable ASCII characters")
	}
	canonical, err := canonicalJSON(f)
	if err != nil {
		return nil, err
	}
	return &lifecycle.Idempotency{Key: key, BodyHash: sha256.Sum256(append([]byte(version.name+"\n"), canonical...))}, nil
}

// canonicalJSON writes fields sorted by name, without blanks, numbers as sent.
func canonicalJSON(f fields) ([]byte, error) {
	data, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	var value any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	return json.Marshal(value)
}

// serverTiming tells how long the stages took, as the W3C's Server Timing has it.
func serverTiming(t cube.Timings, total time.Duration) string {
	var b strings.Builder
	for _, stage := range []struct {
		name string
		took time.Duration
	}{
		{"queue", t.Queue}, {"root", t.Root}, {"network", t.Network}, {"boot", t.Boot}, {"agent", t.Agent}, {"total", total},
	} {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s;dur=%.1f", stage.name, float64(stage.took.Microseconds())/1000)
	}
	return b.String()
}
