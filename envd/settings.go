package envd

import (
	"crypto/subtle"
	"errors"
	"maps"
	"sync"

	"cube/envd/users"
)

// settings are what /init sets.
type settings struct {
	mu sync.RWMutex // guards all below

	initialised bool
	envVars     map[string]string
	accessToken string // "" for a sandbox that is open
	hostKey     string // what the next /init must know
	defaultUser string
	workdir     string
}

// fallbackUser is who commands run as when nobody says otherwise.
const fallbackUser = "user"

// initRequest is the body of POST /init: E2B's, with ids and a key of ours.
// E2B's timestamp is not read: the clock in here is the machine's, also after a
// restore, and gVisor lets nobody set it.
type initRequest struct {
	EnvVars        map[string]string `json:"envVars"`
	AccessToken    string            `json:"accessToken"`    // "" opens the sandbox to all who reach it
	DefaultUser    string            `json:"defaultUser"`    // "" means fallbackUser
	DefaultWorkdir string            `json:"defaultWorkdir"` // "" means the user's home
	SandboxID      string            `json:"sandboxID"`
	TemplateID     string            `json:"templateID"`
	CABundle       string            `json:"caBundle"`    // PEM: whom programs inside trust beside those in the root
	HostKey        string            `json:"hostKey"`     // what the next /init must present
	KeepStreams    bool              `json:"keepStreams"` // the sandbox ran meanwhile: whoever follows still does
}

var errHostKey = errors.New("the agent is initialised: only the server may change its settings")

// mayApply tells whether settings are the server's. The first come from it, before
// any foreign code runs, and are believed; all later ones must present the key
// that the last ones left.
func (s *settings) mayApply(presentedKey string) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.initialised && (s.hostKey == "" || !equal(presentedKey, s.hostKey)) {
		return errHostKey
	}
	return nil
}

// isServer tells whether a key is the server's.
func (s *settings) isServer(presentedKey string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.initialised && s.hostKey != "" && equal(presentedKey, s.hostKey)
}

// isFor tells whether the settings are those of a sandbox.
func (s *settings) isFor(id string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.envVars["E2B_SANDBOX_ID"] == id
}

// apply sets everything.
func (s *settings) apply(r initRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.initialised = true
	s.hostKey, s.accessToken = r.HostKey, r.AccessToken
	s.defaultUser, s.workdir = r.DefaultUser, r.DefaultWorkdir
	s.envVars = map[string]string{"E2B_SANDBOX": "true"}
	if r.SandboxID != "" {
		s.envVars["E2B_SANDBOX_ID"] = r.SandboxID
	}
	if r.TemplateID != "" {
		s.envVars["E2B_TEMPLATE_ID"] = r.TemplateID
	}
	maps.Copy(s.envVars, r.EnvVars)
}

func (s *settings) isInitialised() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.initialised
}

// token returns the access token and whether one is set.
func (s *settings) token() (string, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.accessToken, s.accessToken != ""
}

// environment returns a copy of the global environment variables.
func (s *settings) environment() map[string]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.envVars)
}

// user finds the account of that name, or the default one for "".
func (s *settings) user(name string) (users.User, error) {
	if name == "" {
		s.mu.RLock()
		name = s.defaultUser
		s.mu.RUnlock()
	}
	if name == "" {
		name = fallbackUser
	}
	return users.Lookup(name)
}

// resolve returns the absolute path that a user means.
func (s *settings) resolve(u users.User, path string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return u.Resolve(path, s.workdir)
}

// equal compares secrets in a time that tells nothing of them.
func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
