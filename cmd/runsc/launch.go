package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/container"
	"gvisor.dev/gvisor/runsc/flag"

	"cube/engine/gvisor/launch"
)

// launchMain creates one sandbox and ends; the sandbox goes on without it. The
// server has started this process in a mount and a network namespace of its
// own, which become the sandbox's and so vanish with the last process in them:
// there is no mount and no namespace that could be left behind.
//
// It is a process of its own because gVisor's container package assumes one
// container operation a process: descriptors of a creation leak into another
// that runs beside it.
func launchMain() {
	// What gVisor opens without close-on-exec must not reach the sandbox.
	_ = unix.CloseRange(launch.ResultFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	if _, err := unix.FcntlInt(launch.HostNSFD, unix.F_DUPFD_CLOEXEC, launch.HighFD); err != nil {
		os.Exit(1) // whoever has so few files open at once could not have started this
	}
	log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}})

	answers := json.NewEncoder(os.NewFile(launch.ResultFD, "result"))
	result := launch.Result{}
	if err := run(&result, answers); err != nil {
		result.Error = err.Error()
		_, result.Refused = errors.AsType[*refusal](err)
	}
	if err := answers.Encode(result); err != nil {
		os.Exit(1) // the server is gone: its successor removes what we made
	}
}

func run(result *launch.Result, answers *json.Encoder) error {
	var req launch.Request
	// Standard input is a pipe that is empty from here on, which is what the
	// sandbox's first process gets to read. It must not be /dev/null: gVisor
	// gives a sandbox's standard files to nobody, the machine's own included.
	//
	// The server sends nothing before this process is in its control group; if
	// it dies first we read the end of the file and have made nothing.
	messages := json.NewDecoder(os.Stdin)
	if err := messages.Decode(&req); err != nil {
		return fmt.Errorf("reading the request: %w", err)
	}
	watchdog := time.AfterFunc(req.Timeout, func() { os.Exit(1) })
	defer watchdog.Stop()

	start := time.Now()
	if err := setUpNetwork(req.Network); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	result.Network = time.Since(start)

	start = time.Now()
	if err := mountRoot(req.Root); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	result.Mounts = time.Since(start)

	start = time.Now()
	spec := sandboxSpec(req)
	if err := writeSpec(req.Dir, spec); err != nil {
		return err
	}
	conf, err := runscConfig(req)
	if err != nil {
		return fmt.Errorf("gVisor's settings: %w", err)
	}
	args := container.Args{ID: launch.ContainerID, Spec: spec, BundleDir: req.Dir}
	var c *container.Container
	if req.Spare {
		c, err = beginSpare(conf, args, messages, watchdog, func(c *container.Container) error {
			if result.Sentry, err = launch.FindProcess(c.SandboxPid()); err != nil {
				return err
			}
			return answers.Encode(launch.Result{Sentry: result.Sentry})
		})
	} else {
		c, err = begin(conf, args, req.Snapshot)
	}
	if err != nil {
		return err
	}
	result.Container = time.Since(start)

	result.Sentry, err = launch.FindProcess(c.SandboxPid())
	return err
}

// begin creates the container and starts it, or has it go on from a snapshot.
// What is refused or damaged never runs.
func begin(conf *config.Config, args container.Args, snapshot *launch.Snapshot) (*container.Container, error) {
	var check check
	if snapshot != nil {
		if err := check.begin(snapshot); err != nil {
			return nil, err
		}
		if !snapshot.Manifest.Memory {
			args.FSRestoreImagePath = snapshot.Dir
		}
	}
	c, err := container.New(conf, args)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("creating the container: %w", err), check.wait())
	}
	return c, goOn(conf, c, snapshot, &check)
}

// goOn starts a container that has been created. One that does not start is
// destroyed.
func goOn(conf *config.Config, c *container.Container, snapshot *launch.Snapshot, check *check) error {
	// What is damaged must not be read as a kernel's state.
	err := check.wait()
	switch {
	case err != nil:
		return errors.Join(err, c.Destroy())
	case snapshot != nil && snapshot.Manifest.Memory:
		// In the background: the processes run before all memory is read.
		err = c.Restore(conf, snapshot.Dir, false, true, nil)
	default:
		err = c.Start(conf)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("starting the container: %w", err), c.Destroy())
	}
	return nil
}

func runscConfig(req launch.Request) (*config.Config, error) {
	flags := flag.NewFlagSet(launch.Command, flag.ContinueOnError)
	config.RegisterFlags(flags)
	if err := flags.Parse([]string{
		"--root=" + req.Dir,
		"--platform=systrap",
		// The sentry runs as nobody, without capabilities and without access
		// to the file system; the gofer opens files for it.
		"--directfs=false",
		// With version 1 gVisor asks only one of seven controllers, taken at
		// random, whether a process may start: six forks in seven pass the limit.
		"--in-sandbox-cgroup=v2",
		"--network=sandbox",
		// The one that it is started in, which is the sandbox's. Its system call
		// filter lets it make no socket; a namespace of its own takes 6 ms.
		"--gofer-network-namespace=host",
		// Control groups are the server's work, see withLimits.
		"--ignore-cgroups",
		"--host-settings=ignore",
		// The root is read-only; what is written goes to an unlinked file in
		// the sandbox's directory, so it ends with the sandbox.
		fmt.Sprintf("--overlay2=root:dir=%s,size=%d", req.Dir, req.DiskBytes),
		// sudo works inside. Rights gained that way are rights in the sandbox.
		"--allow-suid",
		"--sidecar-usage-policy=LEGACY_DEPRECATED_SLOW_EMBEDDED_FALLBACK",
	}); err != nil {
		return nil, err
	}
	return config.NewFromFlags(flags)
}
