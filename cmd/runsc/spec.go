package main

import (
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"cube/engine/gvisor/launch"
)

// sandboxCapabilities are root's rights inside the sandbox, where they are
// checked by the sandbox's own kernel: the host's never sees them. Left out are
// those with which code would reach beyond files, users and processes.
var sandboxCapabilities = strings.Fields(`
	CAP_AUDIT_WRITE CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER
	CAP_FSETID CAP_IPC_LOCK CAP_IPC_OWNER CAP_KILL CAP_LEASE
	CAP_LINUX_IMMUTABLE CAP_MKNOD CAP_NET_ADMIN CAP_NET_BIND_SERVICE
	CAP_NET_BROADCAST CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID
	CAP_SYS_ADMIN CAP_SYS_CHROOT CAP_SYS_NICE CAP_SYS_PTRACE CAP_SYS_TTY_CONFIG`)

// sandboxSpec is the OCI runtime specification of a sandbox: the agent as the
// first process of a Linux system.
func sandboxSpec(req launch.Request) *specs.Spec {
	pids := uint64(req.Pids)
	return &specs.Spec{
		Version: "1.2.0",
		Root:    &specs.Root{Path: req.Root.Dir},
		// Bound parts of the root are read-only by their mounts.
		Hostname: req.ID,
		Annotations: map[string]string{
			annotationCPUs:   strconv.Itoa(req.CPUs),
			annotationMemory: strconv.FormatInt(req.MemoryBytes, 10),
		},
		Process: &specs.Process{
			Args: []string{launch.AgentPath, "-notify", "-own-machine", "-pids-max=" + strconv.Itoa(req.Pids)},
			Cwd:  "/",
			Env:  []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Capabilities: &specs.LinuxCapabilities{
				Bounding:  sandboxCapabilities,
				Effective: sandboxCapabilities,
				Permitted: sandboxCapabilities,
			},
			Rlimits: []specs.POSIXRlimit{
				{Type: "RLIMIT_NOFILE", Soft: 65536, Hard: 1 << 20},
				{Type: "RLIMIT_NPROC", Soft: pids, Hard: pids},
			},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"ro"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts"},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=1777"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup"},
			{Destination: "/run", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=755"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.MountNamespace},
				// The one that this process lives in, made by the server.
				{Type: specs.NetworkNamespace, Path: networkNamespace()},
			},
		},
	}
}

// networkNamespace is this process's own, by a path that its children can open.
func networkNamespace() string {
	return "/proc/" + strconv.Itoa(os.Getpid()) + "/ns/net"
}
