package image

import "io/fs"

// skeleton makes the directories of a Linux system, empty.
func (t *tree) skeleton() {
	for _, dir := range []string{
		"boot", "dev", "etc", "home", "media", "mnt", "opt", "proc", "run", "srv", "sys",
		"var/cache", "var/lib", "var/log", "var/mail", "var/opt", "var/spool",
	} {
		t.directory(dir, 0o755, 0)
	}
	t.link("var/run", "/run")
	t.link("var/lock", "/run/lock")
	t.directory("root", 0o700, 0)
	t.directory("tmp", fs.ModeSticky|0o777, 0)
	t.directory("var/tmp", fs.ModeSticky|0o777, 0)
	// gVisor puts a file system in memory over an empty /tmp. Files there would
	// count as the sandbox's memory; with this directory, which every Linux
	// desktop has, they count as its disk.
	t.directory("tmp/.X11-unix", fs.ModeSticky|0o777, 0)
	// Where E2B's templates have room for code, for everybody.
	t.directory("code", 0o777, 0)
	// What update-ca-certificates expects to find.
	t.directory("etc/ca-certificates/update.d", 0o755, 0)
}

// hostEtc copies the settings that programs in /usr need and that say nothing
// about this machine or its people.
func (t *tree) hostEtc() {
	for _, pattern := range []string{
		// where libraries and commands are
		"alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
		// whom to trust
		"ca-certificates.conf", "ssl/certs", "ssl/openssl.cnf", "pki/tls/certs", "pki/ca-trust/extracted",
		// names and numbers
		"debian_version", "ethertypes", "gai.conf", "host.conf", "lsb-release", "magic", "manpath.config", "mime.types",
		"os-release", "protocols", "rpc", "services",
		// signing in and becoming another user, inside
		"login.defs", "pam.conf", "pam.d", "security/*.conf", "shells",
		// languages and programs
		"fonts", "inputrc", "java-*", "perl", "python3*", "terminfo", "xattr.conf",
	} {
		t.copyEtc(pattern)
	}
}

// names writes the files by which names are found.
func (t *tree) names() {
	t.file("etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n", 0o644)
	t.file("etc/hostname", "cube\n", 0o644)
	t.file("etc/resolv.conf", resolv, 0o644)
}

// resolv is /etc/resolv.conf: the address is launch.NameServer of engine/gvisor,
// which always answers, if only that it could not find out.
const resolv = "nameserver 169.254.53.53\noptions timeout:3 attempts:1\n"

// generatedEtc writes what must not be the host's.
func (t *tree) generatedEtc() {
	t.names()
	t.file("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\nethers: files\nrpc: files\n", 0o644)
	// Commands of the SDKs run in a login shell, so this is where they get a
	// language, and find what the user has installed below ~/.local.
	t.file("etc/profile", `[ -n "$PATH" ] || PATH=`+Path+`
for dir in `+binDir+` "$HOME/.local/bin"; do
  case ":$PATH:" in *":$dir:"*) ;; *) PATH="$PATH:$dir" ;; esac
done
LANG="${LANG:-C.UTF-8}"
export PATH LANG
for script in /etc/profile.d/*.sh; do [ -r "$script" ] && . "$script"; done
unset script dir
`, 0o644)
	t.directory("etc/profile.d", 0o755, 0)
	t.file("etc/bash.bashrc", "[ -z \"$PS1\" ] || PS1='\\u@\\h:\\w\\$ '\n", 0o644)
	t.link("etc/mtab", "/proc/mounts")
	// The same on every machine. Without time zones on the host it is UTC too.
	t.link("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")
	t.file("etc/timezone", "Etc/UTC\n", 0o644)
	// Nobody but the sandbox uses its Python, so pip need not protect the
	// system's packages. As the user it installs below ~/.local.
	t.file("etc/pip.conf", "[global]\nbreak-system-packages = true\n", 0o644)
}
