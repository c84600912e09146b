package gvisor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"cube"
	"cube/engine/gvisor/launch"
	"cube/image"
)

// Check is one thing that a machine needs, or should have, to run sandboxes.
type Check struct {
	Name    string
	Finding string // what was found, in plain words
	Fix     string // what to do about it; "" when all is well
	Fatal   bool   // sandboxes cannot run until it is fixed
}

// minFreeMB is the disk space below which the data directory is of little use.
const minFreeMB = 2048

// Diagnose checks this machine. The last check starts a real sandbox, on a data
// directory of its own, and is left out if an earlier one is fatal. It changes
// nothing that outlasts it.
func Diagnose(ctx context.Context, dataDir string, network netip.Prefix, template cube.Resources) []Check {
	checks := []Check{
		checkPlatform(), checkRoot(), checkNamespaces(), checkCgroups(),
		checkFirewall(), checkForwarding(), checkIPv6(), checkDisk(dataDir), checkPrograms(),
	}
	for _, c := range checks {
		if c.Fatal {
			return checks
		}
	}
	return append(checks, checkSandbox(ctx, network, template))
}

func checkPlatform() Check {
	c := Check{Name: "machine", Finding: runtime.GOOS + "/" + runtime.GOARCH}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		c.Finding += ", Linux " + unix.ByteSliceToString(u.Release[:])
	}
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		c.Fix, c.Fatal = "gVisor runs on amd64 and arm64 alone: use such a machine", true
	}
	return c
}

func checkRoot() Check {
	if os.Geteuid() != 0 {
		return Check{"root", "this is not root", "start it with sudo: namespaces, control groups and firewall rules belong to root", true}
	}
	return Check{Name: "root", Finding: "yes"}
}

func checkNamespaces() Check {
	c := Check{Name: "namespaces", Finding: "mount, network, process and user namespaces can be made"}
	cmd := exec.Command("/proc/self/exe", "version")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		UidMappings: []syscall.SysProcIDMap{{Size: 1 << 16}},
		GidMappings: []syscall.SysProcIDMap{{Size: 1 << 16}},
	}
	if err := cmd.Run(); err != nil {
		c.Finding = "they cannot be made: " + err.Error()
		c.Fix = "allow them: sysctl user.max_user_namespaces=10000; in a container, run it privileged"
		c.Fatal = true
	}
	return c
}

func checkCgroups() Check {
	name := fmt.Sprintf("cube-doctor-%d", os.Getpid())
	groups, err := openCgroups(name)
	if err == nil {
		err = groups.close()
	}
	if err != nil {
		return Check{"control groups", err.Error(), "mount them: systemd does; in a container, run it privileged and with its own cgroup namespace (--cgroupns=private)", true}
	}
	finding := "version 2"
	if groups.version == 1 {
		finding = "version 1"
		if mounts, err := cgroupMounts(); err == nil && mounts["unified"] != "" {
			finding = "hybrid: the controllers are in version 1"
		}
	}
	return Check{Name: "control groups", Finding: finding}
}

func checkFirewall() Check {
	const name = "cubedoctor"
	err := errors.Join(
		(&network{table: name, prefix: name, pool: netip.MustParsePrefix("192.0.2.0/30")}).installRules(),
		installLimits(name, name, LinkLimits{Bandwidth: 1, Connections: 1, ConnectionRate: 1}),
	)
	if err == nil {
		err = removeRules(name)
	}
	if err != nil {
		return Check{"nftables", "firewall rules cannot be set: " + err.Error(), "load the kernel's modules: modprobe nf_tables nft_masq nft_redir nft_reject_inet nft_fib_inet nft_ct nft_limit nft_connlimit sch_tbf", true}
	}
	return Check{Name: "nftables", Finding: "the rules that keep sandboxes in can be set"}
}

func checkForwarding() Check {
	value, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	switch {
	case err != nil:
		return Check{"forwarding", err.Error(), "mount /proc", true}
	case strings.TrimSpace(string(value)) == "1":
		return Check{Name: "forwarding", Finding: "on"}
	case unix.Access("/proc/sys/net/ipv4/ip_forward", unix.W_OK) != nil:
		return Check{"forwarding", "off, and cannot be changed from here", "sysctl net.ipv4.ip_forward=1 on the host", true}
	}
	return Check{Name: "forwarding", Finding: "off; the server turns it on (net.ipv4.ip_forward=1), or sandboxes reach nothing"}
}

func checkIPv6() Check {
	if err := IPv6Ready(true); err != nil {
		return Check{Name: "IPv6", Finding: "sandboxes have none: " + err.Error()}
	}
	return Check{Name: "IPv6", Finding: "sandboxes have it"}
}

func checkDisk(dataDir string) Check {
	dir := dataDir
	var s unix.Statfs_t
	for errors.Is(unix.Statfs(dir, &s), unix.ENOENT) && dir != "/" {
		dir = filepath.Dir(dir) // the server makes what is missing
	}
	c := Check{Name: "disk"}
	free := int64(s.Bavail) * s.Bsize >> 20
	c.Finding = fmt.Sprintf("%d MiB free for %s", free, dataDir)
	if free < minFreeMB {
		c.Fix = fmt.Sprintf("make room, or choose another place with --data-dir: sandboxes write there, and %d MiB are little", minFreeMB)
	}
	return c
}

// checkPrograms looks for what the official suites and most users expect in
// the template base, which is made of this machine's /usr.
func checkPrograms() Check {
	missing := image.MissingPrograms()
	if len(missing) == 0 {
		return Check{Name: "programs", Finding: "the template base has all that E2B's has: python3, pip, node, npm, git, curl, sudo"}
	}
	c := Check{Name: "programs", Finding: "the template base, made of this machine's /usr, will lack "}
	var names, packages []string
	for _, m := range missing {
		if m.Why != "" {
			m.Name += " (" + m.Why + ")"
		}
		names, packages = append(names, m.Name), append(packages, m.Package)
	}
	c.Finding += strings.Join(names, ", ")
	install := "install with your package manager:"
	for _, manager := range []string{"apt-get", "dnf"} {
		if _, err := exec.LookPath(manager); err == nil {
			install = manager + " install"
			break
		}
	}
	c.Fix = install + " " + strings.Join(packages, " ") + "; the server makes the base anew when it starts"
	return c
}

func checkSandbox(ctx context.Context, network netip.Prefix, template cube.Resources) (c Check) {
	c = Check{Name: "a real sandbox"}
	fail := func(err error) Check {
		c.Finding, c.Fix, c.Fatal = err.Error(), "see the sentence above; 'dmesg' may tell more", true
		return c
	}
	dir, err := os.MkdirTemp("", "cube-doctor")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil { // the sandbox's kernel runs as nobody
		return fail(err)
	}
	engine, err := New(Config{DataDir: dir, Network: network})
	if err != nil {
		return fail(err)
	}
	defer engine.Close()
	id := cube.NewSandboxID()
	start := time.Now()
	if _, err := engine.Start(ctx, cube.StartRequest{ID: id, Snapshot: cube.BaseSnapshot, Resources: template, Internet: true}); err != nil {
		return fail(err)
	}
	c.Finding = fmt.Sprintf("started in %d ms, its agent %s answers", time.Since(start).Milliseconds(), launch.AgentPath)
	if err := engine.Stop(context.WithoutCancel(ctx), id); err != nil {
		return fail(err)
	}
	return c
}
