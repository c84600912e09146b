package fake

import (
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"cube"
)

// Settings is what an agent is told by POST /init.
type Settings struct {
	EnvVars     map[string]string `json:"envVars"`
	AccessToken string            `json:"accessToken"`
	HostKey     string            `json:"hostKey"`
	Timestamp   time.Time         `json:"timestamp"`
	DefaultUser string            `json:"defaultUser"`
	Workdir     string            `json:"defaultWorkdir"`
	SandboxID   cube.SandboxID    `json:"sandboxID"`
	CABundle    string            `json:"caBundle"`
}

// agent answers as the real one does, as far as a server without clients of a
// sandbox is concerned.
type agent struct {
	id     cube.SandboxID
	onInit func(cube.SandboxID) error

	mu       sync.Mutex
	settings *Settings // nil before the first /init
}

func (a *agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /init", a.init)
	return mux
}

// init takes the first settings from anybody, and others only with the key that
// the last ones held.
func (a *agent) init(w http.ResponseWriter, r *http.Request) {
	if a.onInit != nil {
		if err := a.onInit(a.id); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	var settings Settings
	if err := json.NewDecoder(r.Body).Decode(&settings); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.settings != nil && subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Host-Key")), []byte(a.settings.HostKey)) != 1 {
		http.Error(w, "the host key is not the one that was set", http.StatusUnauthorized)
		return
	}
	a.settings = &settings
	w.WriteHeader(http.StatusNoContent)
}

func (a *agent) current() (Settings, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.settings == nil {
		return Settings{}, false
	}
	return *a.settings, true
}
