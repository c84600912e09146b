package app

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"cube"
)

// Settings are all that an operator can set: flags, environment variables and
// the text of --help come from the tags. A flag beats its variable.
type Settings struct {
	Bind    string `env:"CUBE_API_BIND" default:"127.0.0.1:3000" placeholder:"ADDRESS" group:"server" help:"Address and port to listen on, for the API and for traffic into sandboxes."`
	Domain  string `env:"CUBE_API_SANDBOX_DOMAIN" placeholder:"NAME" group:"server" help:"Domain of the server's names: api.NAME, sandbox.NAME, and PORT-ID.NAME of the sandboxes. With HTTPS, the port of --bind is added where it is not 443. Without one, traffic is told by the SDK's headers, or by PORT-ID.localhost."`
	TLS     string `name:"tls" env:"CUBE_TLS" enum:"off,internal" default:"off" group:"server" help:"off for plain HTTP, or internal: HTTPS for --domain with certificates of an authority of this machine's own, whose root 'cube-api ca' prints."`
	TLSCert string `name:"tls-cert" env:"CUBE_TLS_CERT" placeholder:"FILE" group:"server" help:"HTTPS with this certificate (PEM, the chain included), which should name --domain and *.DOMAIN. Read again when it changes, and at SIGHUP."`
	TLSKey  string `name:"tls-key" env:"CUBE_TLS_KEY" placeholder:"FILE" group:"server" help:"The key of --tls-cert."`

	DNSBind    string `name:"dns-bind" env:"CUBE_DNS_BIND" placeholder:"ADDRESS" group:"server" help:"Address and port, such as 127.0.0.53:53, to answer DNS questions on (UDP and TCP) for --domain and all names below it, and for no others. Without one, nothing does."`
	DNSAddress string `name:"dns-address" env:"CUBE_DNS_ADDRESS" placeholder:"IP" group:"server" help:"What to answer there: where clients reach --bind. Without one, the address of --bind, or 127.0.0.1 where that is every address."`

	DataDir string `env:"CUBE_DATA_DIR" default:"/var/lib/cube" placeholder:"DIR" group:"server" help:"Directory for everything that the server keeps."`

	AdminBind string `env:"CUBE_ADMIN_BIND" placeholder:"ADDRESS" group:"server" help:"Address and port for operators: GET /metrics, /healthz, /readyz, POST /auth/purge. It asks nobody who they are: 127.0.0.1:9090 is a good one. Without one there is none."`

	AuthSettings `embed:""`

	SandboxCPUs    int           `name:"sandbox-cpus" env:"CUBE_SANDBOX_CPUS" default:"2" placeholder:"N" group:"sandboxes" help:"Processors of a sandbox, at most those of the machine."`
	SandboxMemory  int           `env:"CUBE_SANDBOX_MEMORY" default:"1024" placeholder:"MIB" group:"sandboxes" help:"Memory of a sandbox."`
	SandboxDisk    int           `env:"CUBE_SANDBOX_DISK" default:"10240" placeholder:"MIB" group:"sandboxes" help:"What a sandbox may write."`
	SandboxPids    int           `env:"CUBE_SANDBOX_PIDS" default:"1024" placeholder:"N" group:"sandboxes" help:"Processes and threads of a user in a sandbox."`
	SandboxNetwork netip.Prefix  `env:"CUBE_SANDBOX_NETWORK" default:"10.213.0.0/16" placeholder:"CIDR" group:"sandboxes" help:"IPv4 network to give the sandboxes' addresses from, four each. Nothing outside this machine sees it."`
	MaxSandboxes   int           `env:"CUBE_MAX_SANDBOXES" default:"0" placeholder:"N" group:"sandboxes" help:"How many sandboxes may run at once; 0 for as many as there are addresses."`
	PoolSize       int           `env:"CUBE_POOL_SIZE" default:"2" placeholder:"N" group:"sandboxes" help:"How many sandboxes of a template wait, running, for whoever comes next, of base from the start and of others once one was asked for, also by the server before, within a day; up to four times as many under demand. 0 for none."`
	Spares         int           `env:"CUBE_SPARES" default:"2" placeholder:"N" group:"sandboxes" help:"How many sandboxes' processes are started before it is known what they continue from, which halves the time of a start without the pool, of a resume and of a fork's first children. They take some 20 MiB each. 0 for none."`
	MaxTimeout     time.Duration `env:"CUBE_MAX_TIMEOUT" default:"24h" group:"sandboxes" help:"The longest time to live that a client may ask for."`

	PausedRetention time.Duration `env:"CUBE_PAUSED_RETENTION" default:"0" group:"sandboxes" help:"How long a paused sandbox is kept, such as 720h, before it ends and its disk is free again; 0 for ever."`

	NetworkSettings `embed:""`

	TemplateSettings `embed:""`
	RegistrySettings `embed:""`

	SnapshotPackAfter time.Duration `env:"CUBE_SNAPSHOT_PACK_AFTER" default:"24h" group:"sandboxes" help:"How long after its last use a snapshot, that of a paused sandbox included, is packed: compressed, and what several have is kept once. It takes less of the disk and longer to start from; 0 for never."`
	SnapshotKeyFile   string        `env:"CUBE_SNAPSHOT_KEY_FILE" placeholder:"FILE" group:"sandboxes" help:"Encrypt snapshots with the key in this file: 32 bytes, as 'openssl rand -hex 32' gives. Older keys on further lines open what was kept with them. All snapshots are packed then."`

	LogLevel  string `env:"LOG_LEVEL" enum:"debug,info,warn,error" default:"info" group:"log" help:"How much to log: debug, info, warn or error."`
	LogFormat string `env:"LOG_FORMAT" enum:"text,json" default:"text" group:"log" help:"Form of a log line: text or json."`
}

// Validate refuses what cannot work, with what to write instead. It is called
// when the settings were read.
func (s *Settings) Validate() error {
	if err := checkAddress("--bind", s.Bind); err != nil {
		return err
	}
	if s.AdminBind != "" {
		if err := checkAddress("--admin-bind", s.AdminBind); err != nil {
			return err
		}
	}
	if err := s.validate(); err != nil {
		return err
	}
	if err := s.validateDomain(); err != nil {
		return err
	}
	if err := s.validateRegistries(); err != nil {
		return err
	}
	if err := s.validateNetwork(); err != nil {
		return err
	}
	var err error
	if s.DataDir, err = filepath.Abs(s.DataDir); err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	if s.MaxTimeout <= 0 {
		return fmt.Errorf("--max-timeout %s: write a time above zero, such as 24h", s.MaxTimeout)
	}
	if s.BuildStepTimeout <= 0 {
		return fmt.Errorf("--build-step-timeout %s: write a time above zero, such as 1h", s.BuildStepTimeout)
	}
	if s.PausedRetention < 0 {
		return fmt.Errorf("--paused-retention %s: write how long paused sandboxes are kept, such as 720h, or 0 for ever", s.PausedRetention)
	}
	if s.SnapshotPackAfter < 0 {
		return fmt.Errorf("--snapshot-pack-after %s: write how long after their last use snapshots are packed, such as 24h, or 0 for never", s.SnapshotPackAfter)
	}
	for _, n := range []struct {
		flag  string
		value int
		least int
	}{
		{"--sandbox-cpus", s.SandboxCPUs, 1},
		{"--sandbox-memory", s.SandboxMemory, 64},
		{"--sandbox-disk", s.SandboxDisk, 1},
		{"--sandbox-pids", s.SandboxPids, 16},
		{"--max-sandboxes", s.MaxSandboxes, 0},
		{"--pool-size", s.PoolSize, 0},
		{"--spares", s.Spares, 0},
		{"--build-slots", s.BuildSlots, 0},
		{"--max-templates", s.MaxTemplates, 0},
	} {
		if n.value < n.least {
			return fmt.Errorf("%s %d: write %d or more", n.flag, n.value, n.least)
		}
	}
	return nil
}

// checkAddress refuses what nobody can listen on.
func checkAddress(flag, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s %q: write an address and a port, such as 127.0.0.1:3000", flag, address)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%s %q: the port must be a number from 0 to 65535", flag, address)
	}
	if host != "" && host != "localhost" {
		if _, err := netip.ParseAddr(host); err != nil {
			return fmt.Errorf("%s %q: write an IP address before the port, such as 127.0.0.1 or 0.0.0.0", flag, address)
		}
	}
	return nil
}

// Resources are what each sandbox of the template base gets.
func (s *Settings) Resources() cube.Resources {
	return cube.Resources{
		CPUs:     min(s.SandboxCPUs, runtime.NumCPU()),
		MemoryMB: s.SandboxMemory,
		DiskMB:   s.SandboxDisk,
		Pids:     s.SandboxPids,
	}
}

// exposed tells whether others than this machine can reach an address.
func exposed(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "localhost" {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err != nil || !addr.IsLoopback()
}
