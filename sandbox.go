// Package cube is the vocabulary of the Cube API Server: what a sandbox, a
// template, a snapshot and an engine are, which states a sandbox goes through,
// and the one error type. It imports the standard library alone, and nothing
// in it talks to a network, a disk or a database.
package cube

import (
	"crypto/rand"
	"regexp"
	"time"
)

// SandboxID names one sandbox for ever: "i" and 20 characters of a-z0-9, as
// E2B's SDKs and proxies expect (they put it into host names).
type SandboxID string

const (
	sandboxIDAlphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
	sandboxIDRandom   = 20 // characters after the "i": 103 bits, not guessable
)

var sandboxIDPattern = regexp.MustCompile(`^i[a-z0-9]{20}$`)

// NewSandboxID returns an id that was never used before, from the system's
// random source.
func NewSandboxID() SandboxID {
	id := make([]byte, 0, 1+sandboxIDRandom)
	id = append(id, 'i')
	var buf [32]byte
	for len(id) < cap(id) {
		rand.Read(buf[:])
		for _, b := range buf {
			// 252 is the largest multiple of 36 in a byte: above it the
			// first letters would be likelier than the others.
			if b < 252 && len(id) < cap(id) {
				id = append(id, sandboxIDAlphabet[b%36])
			}
		}
	}
	return SandboxID(id)
}

// ParseSandboxID checks an id that came from outside. Whatever is not of the
// form of our ids cannot exist, so the error is NotFound; E2B answers the same.
func ParseSandboxID(s string) (SandboxID, error) {
	if !sandboxIDPattern.MatchString(s) {
		return "", Errorf(NotFound, "Sandbox %q not found: it doesn't exist or you don't have access to it; a sandbox id is an \"i\" and 20 characters of a-z and 0-9", abbreviate(s))
	}
	return SandboxID(s), nil
}

// abbreviate keeps a user's text from filling an error message.
func abbreviate(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

// State is where a sandbox is in its life.
type State string

// The states.
const (
	Starting State = "starting" // the row stands, the engine is at work
	Running  State = "running"  // its agent answers
	Pausing  State = "pausing"  // it is being kept, and runs on if that fails
	Paused   State = "paused"   // nothing of it runs; its snapshot holds it
	Resuming State = "resuming" // it starts from its snapshot, which stays until it runs
	Killing  State = "killing"  // decided to end, the engine is at work
	Gone     State = "gone"     // nothing is left but the row that says why
)

// transitions is the whole table of what may follow what. A server that finds
// a sandbox in a state that is not at rest finishes or undoes the transition.
var transitions = map[State][]State{
	Starting: {Running, Killing},
	Running:  {Pausing, Killing},
	Pausing:  {Paused, Running, Killing},
	Paused:   {Resuming, Killing},
	Resuming: {Running, Paused, Killing},
	Killing:  {Gone},
	Gone:     {},
}

// CanBecome tells whether the table allows the step from s to next.
func (s State) CanBecome(next State) bool {
	for _, t := range transitions[s] {
		if t == next {
			return true
		}
	}
	return false
}

// Resources are what a sandbox may use at the most.
type Resources struct {
	CPUs     int // processors; the code inside sees as many
	MemoryMB int // MiB, the sandbox's own kernel included
	DiskMB   int // MiB that may be written on top of the template
	Pids     int // processes and threads of one user inside
}

// Sandbox is one sandbox as the store keeps it.
type Sandbox struct {
	ID        SandboxID
	Template  TemplateID
	Alias     string // the template's name at creation, "" if it has none
	State     State
	StartedAt time.Time // UTC, whole milliseconds: when it was asked for
	EndAt     time.Time // UTC, whole milliseconds: the deadline; of a paused one, when it was paused
	Resources Resources
	Metadata  map[string]string
	// AccessToken opens the agent of a secured sandbox; "" means that it is
	// open to all who know the id. A secret: never logged.
	AccessToken string
	// HostKey lets the server, and nobody else, give the agent new settings.
	// A secret: never logged, never shown.
	HostKey string
	// TrafficToken opens the ports that are not the agent's; "" means that they
	// are open to all who know the id. A secret: never logged.
	TrafficToken string
	// Internet is false for a sandbox that may reach nothing outside but what
	// Network allows by name: see Reach.
	Internet bool
	// Network is what else it may reach. It holds secrets: never logged.
	Network NetworkPolicy
	// Ingress is how its ports are reached.
	Ingress Ingress
	Owner   Owner
	// Account is for whom it is counted: that of the Identity that created it.
	Account string
	// EnvVars are of every process that the agent starts. They may hold secrets:
	// never logged, never shown.
	EnvVars map[string]string
	// User and Workdir are those of its template's Defaults.
	User, Workdir string
	Expiry        Expiry
	// Snapshot is what it is kept as, or being kept as; "" while it runs. An
	// ended one has it until nothing of it is left.
	Snapshot       SnapshotID
	SnapshotMemory bool
	End            *End // set once the state is Killing or Gone
}

// Expiry is what becomes of a sandbox at its deadline, and after it.
type Expiry struct {
	Pause  bool // it is paused; else it ends
	Memory bool // with its memory; else its files alone are kept
	Resume bool // traffic wakes it
	// Timeout is the time that it was first given. Who wakes it gives it as much.
	Timeout time.Duration
}

// EndReason says why a sandbox ended.
type EndReason string

// The reasons.
const (
	EndDeadline    EndReason = "deadline"      // its time was over
	EndKilled      EndReason = "killed"        // somebody asked for it
	EndOutOfMemory EndReason = "out_of_memory" // it went over its memory limit
	EndCrashed     EndReason = "crashed"       // its kernel or its agent died
	EndLost        EndReason = "lost"          // the machine went down, or the server died while starting it
	EndFailed      EndReason = "failed"        // it never started
)

// End is why, when and by whom a sandbox ended. It stays readable after the
// sandbox is gone.
type End struct {
	Reason EndReason
	At     time.Time
	By     string // who asked, for EndKilled: the id of the request
	Detail string // one sentence for a person
}
