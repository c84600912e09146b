package app

import (
	"fmt"
	"time"

	"cube"
	"cube/auth"
	"cube/auth/cache"
	"cube/auth/callback"
)

// AuthSettings say who may do what. All of them but the first three take effect
// on SIGHUP.
type AuthSettings struct {
	AuthRequired bool   `env:"AUTH_REQUIRED" group:"auth" help:"Refuse to start as long as nobody decides: neither --auth-callback-url nor a key of 'cube-api keys create'."`
	AuthTenancy  string `env:"AUTH_TENANCY" enum:"off,subject,team" default:"off" group:"auth" help:"Who shares sandboxes with whom: 'team' or 'subject' keeps what is each one's own apart, as your service's X-Auth-Team or X-Auth-Subject says."`
	Audit        bool   `env:"CUBE_AUDIT" group:"auth" help:"Write down every decision, and what is done to sandboxes and in them: 'cube-api audit export' reads it."`

	AuthExempt       string `env:"AUTH_EXEMPT" enum:"health,none" default:"health" group:"auth" help:"What needs no credential: 'health' for GET /health alone, or 'none'."`
	AuthRateLimit    int    `env:"AUTH_RATE_LIMIT" default:"0" placeholder:"N" group:"auth" help:"Requests that one identity may make in a minute; 0 for no limit."`
	AuthRefusalLimit int    `env:"AUTH_REFUSAL_LIMIT" default:"0" placeholder:"N" group:"auth" help:"Refused credentials in a minute from one address, after which nothing from there is looked at for a while; 0 for no limit."`

	QuotaSandboxes        int `env:"CUBE_QUOTA_SANDBOXES" default:"0" placeholder:"N" group:"auth" help:"Sandboxes that one team, subject or key may have at once; 0 for no limit, here and below."`
	QuotaCPUs             int `name:"quota-cpus" env:"CUBE_QUOTA_CPUS" default:"0" placeholder:"N" group:"auth" help:"Processors of all its sandboxes together."`
	QuotaMemory           int `env:"CUBE_QUOTA_MEMORY" default:"0" placeholder:"MIB" group:"auth" help:"Memory of all its sandboxes together."`
	QuotaCreatesPerMinute int `env:"CUBE_QUOTA_CREATES_PER_MINUTE" default:"0" placeholder:"N" group:"auth" help:"Sandboxes that it may create in a minute."`
	QuotaPaused           int `env:"CUBE_QUOTA_PAUSED" default:"0" placeholder:"N" group:"auth" help:"Paused sandboxes that it may have; one more is not paused and runs on."`
	QuotaSnapshotMB       int `name:"quota-snapshot-mb" env:"CUBE_QUOTA_SNAPSHOT_MB" default:"0" placeholder:"MIB" group:"auth" help:"Disk that its paused sandboxes and its snapshots may take together; what would be more is not kept, and the sandbox runs on."`

	AuthCallbackURL             string        `name:"auth-callback-url" env:"AUTH_CALLBACK_URL" placeholder:"URL" group:"callback" help:"Your service that decides on every request: 200 allows, all else is 401. Without one the keys of this server decide, and without a key every request is allowed."`
	AuthCallbackFallbackURL     []string      `name:"auth-callback-fallback-url" env:"AUTH_CALLBACK_FALLBACK_URL" sep:"," placeholder:"URL" group:"callback" help:"Asked in order while those before give no answer."`
	AuthCallbackTimeout         time.Duration `env:"AUTH_CALLBACK_TIMEOUT" default:"10s" group:"callback" help:"How long one question may take, connecting and waiting included."`
	AuthCallbackConnectTimeout  time.Duration `env:"AUTH_CALLBACK_CONNECT_TIMEOUT" default:"2s" group:"callback" help:"How long connecting to your service may take."`
	AuthCallbackRetries         int           `env:"AUTH_CALLBACK_RETRIES" default:"1" placeholder:"N" group:"callback" help:"How often to ask again when the connection broke before any answer."`
	AuthCallbackInFlight        int           `env:"AUTH_CALLBACK_IN_FLIGHT" default:"1024" placeholder:"N" group:"callback" help:"Questions at once; others wait inside their own time."`
	AuthCallbackErrorStatus     int           `env:"AUTH_CALLBACK_ERROR_STATUS" default:"500" placeholder:"STATUS" group:"callback" help:"What a client gets when nobody answers: 500 or 503."`
	AuthCallbackPassRefusals    bool          `env:"AUTH_CALLBACK_PASS_REFUSALS" group:"callback" help:"Pass your service's 403, and 429 with Retry-After, on to the client."`
	AuthCallbackCAFile          string        `name:"auth-callback-ca-file" env:"AUTH_CALLBACK_CA_FILE" placeholder:"FILE" group:"callback" help:"Certificate authorities of your service, PEM, instead of the system's."`
	AuthCallbackCertFile        string        `env:"AUTH_CALLBACK_CERT_FILE" placeholder:"FILE" group:"callback" help:"Certificate to show to your service, PEM."`
	AuthCallbackKeyFile         string        `env:"AUTH_CALLBACK_KEY_FILE" placeholder:"FILE" group:"callback" help:"Its private key."`
	AuthCallbackHeader          []string      `env:"AUTH_CALLBACK_HEADER" sep:"none" placeholder:"NAME: VALUE" group:"callback" help:"A header of your own on each question."`
	AuthCallbackSigningKeyFile  string        `env:"AUTH_CALLBACK_SIGNING_KEY_FILE" placeholder:"FILE" group:"callback" help:"Sign each question with the key in this file, by HMAC-SHA256."`
	AuthCallbackRequireHeader   string        `env:"AUTH_CALLBACK_REQUIRE_HEADER" placeholder:"NAME: VALUE" group:"callback" help:"Take a 200 for a yes only with this header: a captive portal's page is a 200 too."`
	AuthCallbackUseProxy        bool          `env:"AUTH_CALLBACK_USE_PROXY" group:"callback" help:"Go through the proxy that the environment names. It sees the keys."`
	AuthCallbackCacheTTL        time.Duration `name:"auth-callback-cache-ttl" env:"AUTH_CALLBACK_CACHE_TTL" default:"0s" group:"callback" help:"How long an answer is remembered for the same credential, method and path, at most; 0 for not at all."`
	AuthCallbackCacheRefusalTTL time.Duration `name:"auth-callback-cache-refusal-ttl" env:"AUTH_CALLBACK_CACHE_REFUSAL_TTL" default:"5s" group:"callback" help:"The same for refusals."`
	AuthCallbackCacheSize       int           `env:"AUTH_CALLBACK_CACHE_SIZE" default:"100000" placeholder:"N" group:"callback" help:"How many answers are remembered."`
	AuthCallbackShadowURL       string        `name:"auth-callback-shadow-url" env:"AUTH_CALLBACK_SHADOW_URL" placeholder:"URL" group:"callback" help:"Another service that is asked the same and decides nothing: where it disagrees is logged."`
}

// breakAfter are the failures in a row after which one question at a time tries
// whether a service is back.
const breakAfter = 5

func (s *AuthSettings) validate() error {
	for _, n := range []struct {
		flag         string
		value, least int
	}{
		{"--auth-rate-limit", s.AuthRateLimit, 0},
		{"--auth-refusal-limit", s.AuthRefusalLimit, 0},
		{"--quota-sandboxes", s.QuotaSandboxes, 0},
		{"--quota-cpus", s.QuotaCPUs, 0},
		{"--quota-memory", s.QuotaMemory, 0},
		{"--quota-creates-per-minute", s.QuotaCreatesPerMinute, 0},
		{"--quota-paused", s.QuotaPaused, 0},
		{"--quota-snapshot-mb", s.QuotaSnapshotMB, 0},
		{"--auth-callback-retries", s.AuthCallbackRetries, 0},
		{"--auth-callback-in-flight", s.AuthCallbackInFlight, 1},
		{"--auth-callback-cache-size", s.AuthCallbackCacheSize, 1},
	} {
		if n.value < n.least {
			return fmt.Errorf("%s %d: write %d or more", n.flag, n.value, n.least)
		}
	}
	for _, d := range []struct {
		flag         string
		value, least time.Duration
	}{
		{"--auth-callback-timeout", s.AuthCallbackTimeout, 1},
		{"--auth-callback-connect-timeout", s.AuthCallbackConnectTimeout, 1},
		{"--auth-callback-cache-ttl", s.AuthCallbackCacheTTL, 0},
		{"--auth-callback-cache-refusal-ttl", s.AuthCallbackCacheRefusalTTL, 1},
	} {
		if d.value < d.least {
			return fmt.Errorf("%s %s: write a time above zero, such as 10s", d.flag, d.value)
		}
	}
	if s.AuthCallbackURL == "" && len(s.AuthCallbackFallbackURL) > 0 {
		return fmt.Errorf("--auth-callback-fallback-url: there is no --auth-callback-url before it")
	}
	return nil
}

// rules are the settings as the door knows them. asked is told of each question
// to the callback; it may be nil.
func (s *AuthSettings) rules(asked func(took time.Duration, outcome string)) auth.Rules {
	first := callback.Config{
		Name:           "--auth-callback",
		Timeout:        s.AuthCallbackTimeout,
		ConnectTimeout: s.AuthCallbackConnectTimeout,
		Retries:        s.AuthCallbackRetries,
		InFlight:       s.AuthCallbackInFlight,
		ErrorsToOpen:   breakAfter,
		CAFile:         s.AuthCallbackCAFile,
		CertFile:       s.AuthCallbackCertFile,
		KeyFile:        s.AuthCallbackKeyFile,
		UseProxy:       s.AuthCallbackUseProxy,
		RequireHeader:  s.AuthCallbackRequireHeader,
		Headers:        s.AuthCallbackHeader,
		SigningKeyFile: s.AuthCallbackSigningKeyFile,
	}
	shadow := first
	first.Observe = asked
	shadow.Name = "--auth-callback-shadow"
	if s.AuthCallbackURL != "" {
		first.URLs = append([]string{s.AuthCallbackURL}, s.AuthCallbackFallbackURL...)
	}
	if s.AuthCallbackShadowURL != "" {
		shadow.URLs = []string{s.AuthCallbackShadowURL}
	}
	return auth.Rules{
		Callback: first,
		Shadow:   shadow,
		Cache: cache.Config{
			TTL:        s.AuthCallbackCacheTTL,
			RefusalTTL: s.AuthCallbackCacheRefusalTTL,
			MaxEntries: s.AuthCallbackCacheSize,
		},
		Exempt:            auth.Exempt(s.AuthExempt),
		PassRefusals:      s.AuthCallbackPassRefusals,
		ErrorStatus:       s.AuthCallbackErrorStatus,
		RequestsPerMinute: s.AuthRateLimit,
		RefusalsPerMinute: s.AuthRefusalLimit,
	}
}

// limits are those of an account of which nobody said others.
func (s *AuthSettings) limits() cube.Limits {
	return cube.Limits{
		Sandboxes: s.QuotaSandboxes, CPUs: s.QuotaCPUs, MemoryMB: s.QuotaMemory, CreatesPerMinute: s.QuotaCreatesPerMinute,
		Paused: s.QuotaPaused, SnapshotMB: s.QuotaSnapshotMB,
	}
}

func (s *AuthSettings) tenancy() cube.Tenancy { return cube.Tenancy(s.AuthTenancy) }
