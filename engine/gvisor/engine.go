// Package gvisor is the engine of one machine: each sandbox is a gVisor kernel
// of its own, made of processes that outlive the server. It needs root, and
// neither KVM nor Docker.
//
// What exists is found on the machine itself, in three places that carry the
// sandbox's id: its control group (all its processes are in it from the start),
// its directory, and its network interface. Mounts and namespaces belong to the
// processes and vanish with them. So a server that was killed leaves nothing
// that its successor cannot find, and Stop needs no memory of Start.
//
// It must never run two gVisor operations in one process (see cmd/runsc), and
// never trust a size, a path or a line that comes out of a sandbox.
package gvisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"cube"
	"cube/engine/gvisor/launch"
	"cube/image"
	"cube/network/gate"
)

// Config is what an engine needs to know.
type Config struct {
	// DataDir holds bin/, images/, sandboxes/ and snapshots/. It must be absolute, on a
	// file system of the machine's own, and no other engine may use it.
	DataDir string
	// Network is divided among the sandboxes, four addresses each.
	Network netip.Prefix
	// Network6 is the same of IPv6, of fc00::/7; not valid for none.
	Network6 netip.Prefix
	// Gate is where connections go that addresses alone do not decide, and
	// questions for names. nil for none: there are no names then.
	Gate *gate.Gate
	// Limits are each sandbox's, also of those that run already.
	Limits LinkLimits
	// SnapshotKeys is a file of keys with which snapshots are encrypted; "" for
	// none. See chunks.ReadKeys.
	SnapshotKeys string
	// PackAfter is after how long without use a snapshot is packed; 0 for never.
	PackAfter time.Duration
	// Packed is told what a snapshot takes on the disk once it is packed. It must not
	// call the engine. nil for nobody.
	Packed func(cube.SnapshotID, int64)
	// Spares is how many sandboxes' processes wait for what they are to become;
	// 0 for none.
	Spares int
	// FreeMemory is what the machine has left, in bytes; nil if nobody knows. No
	// snapshot is taken into memory, or unpacked there, for which it is too little.
	FreeMemory func() int64
	Log        *slog.Logger
}

// Engine implements cube.Engine.
type Engine struct {
	cfg     Config
	runsc   string // the path of the unpacked program
	cgroups *cgroups
	network *network
	table   string // the name of our nftables table and prefix of our interfaces
	roots   map[cube.SnapshotID]image.Root
	top     image.Root // lies over the layers of images
	hostNS  *os.File   // this process's network namespace, see openHostNS

	mu        sync.Mutex
	sandboxes map[cube.SandboxID]*sandbox // started here or adopted, until stopped
	starting  map[cube.SnapshotID]int     // starts that are at work, by what they start from
	writing   map[cube.SnapshotID]bool    // checkpoints that are at work
	layers    layers
	packed    packed
	spares    spares

	closing  context.Context // ends with Close
	close    context.CancelFunc
	watching sync.WaitGroup // awaitEnd, keepSpares
	checking sync.WaitGroup // watchMemory
}

// sandbox is what the engine remembers of one.
type sandbox struct {
	record        // guarded by Engine.mu
	starting bool // guarded by Engine.mu
	damaged  bool // guarded by Engine.mu: it was ended for what it started from

	conns map[*net.TCPConn]struct{} // guarded by Engine.mu: connections into it
	ended bool                      // guarded by Engine.mu: it takes no connection any more

	freezing sync.Mutex // held by the one Checkpoint or Thaw that is at work; taken before Engine.mu
	stopping sync.Mutex // held by the one Stop that is at work; taken before Engine.mu
}

// record is what stands in a sandbox's directory from when it runs, so that
// another server can adopt it.
type record struct {
	Sentry   launch.Process
	Link     int  // of the network; noLink before it has one
	Internet bool // whether it may reach anything
	Network  cube.NetworkPolicy
	Root     string // the directory that it started from

	// What a snapshot of it needs. Origin is nil in records of earlier versions.
	Origin    *launch.Root
	Resources cube.Resources
}

const (
	noLink     = -1
	recordFile = "engine.json"
	// maxSocketPath is the kernel's limit for a Unix socket's address: unix(7).
	maxSocketPath = 107
)

// New prepares the machine and adopts the sandboxes that run already. Its
// errors say what the operator can do.
func New(cfg Config) (*Engine, error) {
	longest := filepath.Join(cfg.DataDir, "sandboxes", string(cube.NewSandboxID()), launch.ControlSocket)
	if len(longest) > maxSocketPath {
		return nil, fmt.Errorf("the data directory's path is %d characters too long for the sockets in it: choose a shorter --data-dir", len(longest)-maxSocketPath)
	}
	e := &Engine{
		cfg:       cfg,
		table:     launch.Name(cfg.DataDir),
		sandboxes: map[cube.SandboxID]*sandbox{},
		starting:  map[cube.SnapshotID]int{},
		writing:   map[cube.SnapshotID]bool{},
		spares:    spares{max: cfg.Spares, wake: make(chan struct{}, 1)},
	}
	e.closing, e.close = context.WithCancel(context.Background())
	if e.cfg.Log == nil {
		e.cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(e.dir(""), 0o711); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	if err := e.openPacked(); err != nil {
		return nil, err
	}
	var err error
	if e.hostNS, err = openHostNS(); err != nil {
		return nil, err
	}
	agent, err := embedded("envd")
	if err != nil {
		return nil, err
	}
	if e.runsc, err = unpack("runsc", filepath.Join(cfg.DataDir, "bin")); err != nil {
		return nil, fmt.Errorf("unpacking gVisor: %w", err)
	}
	base, err := image.MakeHostBase(e.imagesDir(), agent, launch.AgentPath)
	if err != nil {
		return nil, err
	}
	e.roots = map[cube.SnapshotID]image.Root{cube.BaseSnapshot: base}
	if e.top, err = image.MakeTop(e.imagesDir(), agent, launch.AgentPath); err != nil {
		return nil, err
	}
	if e.cgroups, err = openCgroups(e.table); err != nil {
		return nil, err
	}
	if e.network, err = openNetwork(cfg.Network, cfg.Network6, e.table, cfg.Gate, cfg.Limits); err != nil {
		_ = e.cgroups.close() // those that hold sandboxes stay
		return nil, err
	}
	if cfg.Gate != nil {
		if e.network.refusals, err = listenForRefusals(e.table, cfg.Gate); err != nil {
			e.cfg.Log.Warn("what the firewall refuses is in no log", "error", err)
		}
	}
	if err := e.adopt(); err != nil {
		return e, err
	}
	e.watching.Go(e.packIdle)
	if cfg.Spares > 0 {
		e.watching.Go(e.keepSpares)
	}
	return e, nil
}

// adopt remembers the sandboxes that run and removes what belongs to none.
func (e *Engine) adopt() error {
	entries, err := os.ReadDir(e.dir(""))
	if err != nil {
		return err
	}
	inUse := map[string]bool{e.roots[cube.BaseSnapshot].Dir: true, e.top.Dir: true}
	err = e.openSnapshots(func(m launch.Manifest) {
		inUse[filepath.Join(e.imagesDir(), filepath.Base(m.Root.Dir))] = true
	})
	if err != nil {
		return err
	}
	for _, entry := range entries {
		id, err := cube.ParseSandboxID(entry.Name())
		if err != nil {
			continue
		}
		r, err := readRecord(e.dir(id))
		if err != nil {
			continue // half-made or half-removed: List shows it, Stop removes it
		}
		e.sandboxes[id] = &sandbox{record: r}
		inUse[r.Root] = true
		e.network.keep(r.Link)
		if err := e.network.hold(id, r.Link, r.Internet, r.Network); err != nil {
			e.cfg.Log.Error("the network rules of a sandbox could not be put back; it reaches nothing", "sandbox", id, "error", err)
		}
		if err := e.network.shape(r.Link, r.Sentry); err != nil {
			e.cfg.Log.Warn("the bandwidth of a sandbox could not be set", "sandbox", id, "error", err)
		}
	}
	stray, err := e.network.strayInterfaces()
	for _, name := range stray {
		err = errors.Join(err, removeLink(name))
	}
	err = errors.Join(err, e.openLayers())
	return errors.Join(err, image.RemoveHostBases(e.imagesDir(), func(dir string) bool { return inUse[dir] }))
}

// Close removes the firewall's table if nothing runs that needs it. Sandboxes
// stay.
func (e *Engine) Close() error {
	e.spares.close()
	e.close()
	e.watching.Wait()
	e.checking.Wait()
	e.dropSpares(context.Background())
	e.network.close()
	_ = e.hostNS.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.sandboxes) > 0 {
		return nil
	}
	return errors.Join(stopForwarding(e.table, e.network.guarded), removeRules(e.table), e.cgroups.close())
}

// Base names what BaseSnapshot holds: another name is another content.
func (e *Engine) Base() string { return filepath.Base(e.roots[cube.BaseSnapshot].Dir) }

// Limits returns the largest resources that one sandbox can have here.
func (e *Engine) Limits() cube.Resources {
	return cube.Resources{CPUs: runtime.NumCPU()}
}

// dir is a sandbox's directory; for "" the one that holds them all.
func (e *Engine) dir(id cube.SandboxID) string {
	return filepath.Join(e.cfg.DataDir, "sandboxes", string(id))
}

func (e *Engine) imagesDir() string { return filepath.Join(e.cfg.DataDir, "images") }

func readRecord(dir string) (record, error) {
	var r record
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(data, &r)
}

// writeRecord writes it whole or not at all. It need not outlive the machine's
// power: the sandbox does not either.
func writeRecord(dir string, r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, recordFile)
	if err := os.WriteFile(path+".tmp", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}
