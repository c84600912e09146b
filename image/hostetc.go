package image

import "io/fs"

// The account that sandboxes work as: E2B's SDKs expect this name.
const (
	userName = "user"
	userID   = 1000
)

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

	home := "home/" + userName
	t.directory(home, 0o755, userID)
	t.file(home+"/.bashrc", "PS1='\\u@\\h:\\w\\$ '\nalias ls='ls --color=auto'\n", 0o644)
	t.owner(home+"/.bashrc", userID)
	t.file(home+"/.profile", "[ -n \"$BASH_VERSION\" ] && [ -f ~/.bashrc ] && . ~/.bashrc\n", 0o644)
	t.owner(home+"/.profile", userID)
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
		"debian_version", "ethertypes", "gai.conf", "host.conf", "localtime", "lsb-release", "magic", "mime.types",
		"os-release", "protocols", "rpc", "services", "timezone",
		// signing in and becoming another user, inside
		"login.defs", "pam.conf", "pam.d", "security/*.conf", "shells",
		// languages and programs
		"fonts", "inputrc", "java-*", "perl", "python3*", "terminfo", "xattr.conf",
	} {
		t.copyEtc(pattern)
	}
}

// generatedEtc writes what must not be the host's.
func (t *tree) generatedEtc() {
	t.file("etc/passwd", `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
sys:x:3:3:sys:/dev:/usr/sbin/nologin
mail:x:8:8:mail:/var/mail:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
_apt:x:42:65534::/nonexistent:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
user:x:1000:1000:user:/home/user:/bin/bash
`, 0o644)
	t.file("etc/group", `root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
mail:x:8:
sudo:x:27:user
www-data:x:33:
shadow:x:42:
utmp:x:43:
staff:x:50:
users:x:100:user
nogroup:x:65534:
user:x:1000:
`, 0o644)
	// "*" is no password's hash: nobody signs in with one.
	t.file("etc/shadow", "root:*:19000:0:99999:7:::\nuser:*:19000:0:99999:7:::\n", 0o640)
	t.file("etc/sudoers", "Defaults env_reset\nDefaults !use_pty\nroot ALL=(ALL:ALL) ALL\nuser ALL=(ALL:ALL) NOPASSWD: ALL\n", 0o440)
	t.file("etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n", 0o644)
	t.file("etc/hostname", "cube\n", 0o644)
	t.file("etc/resolv.conf", "nameserver 1.1.1.1\nnameserver 8.8.8.8\noptions timeout:2 attempts:2\n", 0o644)
	t.file("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\nethers: files\nrpc: files\n", 0o644)
	t.file("etc/profile", `[ -n "$PATH" ] || PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
for script in /etc/profile.d/*.sh; do [ -r "$script" ] && . "$script"; done
unset script
`, 0o644)
	t.directory("etc/profile.d", 0o755, 0)
	t.file("etc/bash.bashrc", "[ -z \"$PS1\" ] || PS1='\\u@\\h:\\w\\$ '\n", 0o644)
	t.link("etc/mtab", "/proc/mounts")
}
