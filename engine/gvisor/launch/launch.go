// Package launch is what the server and the short-lived process that creates a
// sandbox say to each other. It holds the words only: the server's side is in
// engine/gvisor, the other in cmd/runsc. It must import nothing of either, so
// that a sandbox's processes stay small.
package launch

import (
	"net/netip"
	"time"
)

// Command is the first argument that makes runsc read a Request from its
// standard input and create that sandbox.
const Command = "launch"

// The files that the server passes beside standard input and output. Standard
// output becomes the first process's, which says AgentReady there.
const (
	ResultFD = 3 // the helper writes one Result, JSON
	HostNSFD = 4 // the server's network namespace
	// UnpackedFD is the directory of a packed snapshot's files, which has no name.
	UnpackedFD = 5
)

// HighFD is a descriptor's number above all that gVisor uses (it puts a sandbox's
// standard files at 253). A process that starts with a table of files that large
// need not make it larger while it has several threads, for which the kernel
// waits 5 ms. A child's table is as large as what its parent has open.
const HighFD = 500

// ContainerID is gVisor's name for a sandbox within the sandbox's own state
// directory. It is the same for all, so that the path of gVisor's control
// socket stays short.
const ContainerID = "sandbox"

// ControlSocket is that socket within a sandbox's directory.
const ControlSocket = "runsc-" + ContainerID + ".sock"

// StateFile is what gVisor writes down of a sandbox in its directory, JSON, and
// StatusRunning the status in it of one that runs and is not frozen.
const (
	StateFile     = ContainerID + "_sandbox:" + ContainerID + ".state"
	StatusRunning = "running"
)

// AgentPath is where the agent stands inside a sandbox.
const AgentPath = "/opt/cube/envd"

// AgentReady is the line that the agent writes once it listens.
const AgentReady = "ready\n"

// Request is one sandbox to create.
type Request struct {
	ID          string // also its host name
	Dir         string // its own directory: state, control socket, what it writes
	Root        Root   // what it sees as /
	CPUs        int    // processors that the code inside sees
	MemoryBytes int64  // memory that the code inside sees
	DiskBytes   int64  // what may be written on top of Root
	Pids        int    // RLIMIT_NPROC of the code inside
	Network     Network
	Snapshot    *Snapshot     `json:",omitempty"` // what it goes on from; nil for Root as it is
	Timeout     time.Duration // after which the helper gives up
	// Spare has the helper make all that is needed before it is known what for. It
	// answers with a Result, and does the rest when it is told with a Begin. If
	// none comes, because the server is gone, it ends what it has made.
	Spare bool `json:",omitempty"`
}

// Begin is what a spare is to become.
type Begin struct {
	Dir      string        // the sandbox's directory, renamed
	Snapshot *Snapshot     `json:",omitempty"` // one with memory, or nil for the root as it is
	Timeout  time.Duration // after which the helper gives up
}

// Snapshot is a directory that the checkpoint command has made.
type Snapshot struct {
	Dir      string
	Manifest Manifest
}

// Root is a directory with layers over or below it and parts of the host bound
// into it, all read-only.
type Root struct {
	Dir string
	// Layers are directories in overlayfs's form, the lowest first. They lie over
	// Dir and over what is bound into it, or with Top below it.
	Layers []string `json:",omitempty"`
	Top    bool     `json:",omitempty"`
	Binds  []Bind   // in the order in which they are made
	Masked []string // files below Dir that read as empty
}

// Bind puts the host's Source at Target below the root's directory.
type Bind struct {
	Source string
	Target string
}

// Network is the sandbox's link to the host: a veth pair with one address at
// each end, and one of IPv6 beside it if Guest6 is valid.
type Network struct {
	HostInterface string // the host's end, by name
	Host, Guest   netip.Prefix
	Host6, Guest6 netip.Prefix
	// Forward6 makes the machine forward IPv6 from this link, for it does not from all.
	Forward6 bool
}

// NameServer is the address that sandboxes' /etc/resolv.conf names, in all
// templates: the firewall takes what is sent there to the server's own resolver.
const NameServer = "169.254.53.53"

// Result is how a creation went.
type Result struct {
	Error     string        `json:",omitempty"`
	Refused   bool          // the error says why this machine cannot start from the snapshot
	Sentry    Process       // the sandbox's kernel: it lives as long as the sandbox
	Network   time.Duration // spent on interfaces and addresses
	Mounts    time.Duration // spent on the root
	Container time.Duration // spent by gVisor
}

// Process names a process for as long as the machine runs: process ids are
// used again, the pair is not.
type Process struct {
	PID       int
	StartTime uint64 // clock ticks after the machine's start: proc(5), stat, field 22
}
