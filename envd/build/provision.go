package build

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Version is that of what Provision does: layers made by another are not used.
const Version = "1"

// userName is the account that sandboxes work as: E2B's SDKs expect this name.
const userName = "user"

// agentBin is where the agent's stand-ins for missing programs are.
const agentBin = "opt/cube/bin"

// programDirs are where an image has its programs, below its root.
var programDirs = []string{"usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"}

// profile is read by every login shell, in which the SDKs run commands. Debian's
// own profile sets the PATH anew before it; the template's is what the shell was
// started with.
const profile = `# The PATH with which this shell was started, as the template has it.
if [ -n "$BASH_VERSION" ]; then
  while IFS= read -r -d '' cube_variable; do
    case "$cube_variable" in PATH=?*) PATH="${cube_variable#PATH=}" ;; esac
  done </proc/$$/environ
  unset cube_variable
fi
for cube_dir in /opt/cube/bin "$HOME/.local/bin"; do
  case ":$PATH:" in *":$cube_dir:"*) ;; *) PATH="$PATH:$cube_dir" ;; esac
done
unset cube_dir
export PATH
`

// shell stands in for bash, which the SDKs run every command with, in an image
// that has another shell alone.
const shell = "#!/bin/sh\n# Stands in for bash, which this image does not have.\nexec /bin/sh \"$@\"\n"

// Provision makes an image that was unpacked at root into one that sandboxes can
// work in: it gives it the account "user", who may become root without a
// password, and what E2B's SDKs need of a system. What the image has it leaves
// as it is. agent is the agent's own program.
func Provision(root, agent string) error {
	p := provision{root: root, agent: agent, accounts: accounts{root}}
	for _, step := range []func() error{p.directories, p.people, p.programs, p.shared, p.settings} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

type provision struct {
	root, agent string
	accounts    accounts
}

func (p provision) path(name string) string { return filepath.Join(p.root, name) }

// directories makes those that every system has.
func (p provision) directories() error {
	for _, dir := range []string{"etc", "home", "opt", "root", "run", "usr/bin", "usr/local/bin", "var/log", "tmp", "var/tmp", "code"} {
		if err := os.MkdirAll(p.path(dir), 0o755); err != nil {
			return err
		}
	}
	return errors.Join(
		os.Chmod(p.path("tmp"), fs.ModeSticky|0o777),
		os.Chmod(p.path("var/tmp"), fs.ModeSticky|0o777),
		os.Chmod(p.path("code"), 0o777), // where E2B's templates have room for code
	)
}

// people sees to root, and to the user.
func (p provision) people() error {
	_, ok, err := p.accounts.find("root")
	if err == nil && !ok {
		err = p.accounts.append("passwd", "root:x:0:0:root:/root:/bin/bash", 0o644)
	}
	if err != nil {
		return err
	}
	if err := p.accounts.group("root", 0); err != nil {
		return err
	}
	u, err := p.accounts.add(userName)
	if err != nil {
		return err
	}
	if err := p.accounts.makeHome(u); err != nil { // also where the image has the account
		return err
	}
	return AllowSudo(p.root, userName)
}

// AllowSudo lets an account become root without a password.
func AllowSudo(root, name string) error {
	a := accounts{root}
	if err := a.group("sudo", 27); err != nil { // Debian's number; the agent's stand-in asks for the name
		return err
	}
	if err := a.join(name, "sudo"); err != nil {
		return err
	}
	rule := name + " ALL=(ALL:ALL) NOPASSWD: ALL\n"
	dir := a.path("sudoers.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(dir, "90-"+name)
	if err := errors.Join(os.WriteFile(file, []byte(rule), 0o440), os.Chmod(file, 0o440)); err != nil {
		return err
	}
	// One who installs sudo later gets its own sudoers, which names the directory.
	content, err := readBounded(a.path("sudoers"))
	if err != nil || strings.Contains(string(content), "includedir /etc/sudoers.d") || strings.Contains(string(content), rule) {
		return skipMissing(err)
	}
	return os.WriteFile(a.path("sudoers"), append(content, "\n"+rule...), 0o440)
}

// programs gives the image stand-ins for what it does not have.
func (p provision) programs() error {
	if !p.has("sudo") {
		if err := p.standInForSudo(); err != nil {
			return err
		}
	}
	if _, err := os.Stat(p.path("bin/sh")); err != nil || p.has("bash") {
		return nil // a shell of its own, or none at all
	}
	return replace(p.path("bin/bash"), func() error { return writeProgram(p.path("bin/bash"), strings.NewReader(shell), 0o755) })
}

// standInForSudo puts the agent's own program in its place, by the name of which
// it knows that it is meant. A package of the real one takes its place.
func (p provision) standInForSudo() error {
	standIn := p.path(agentBin + "/sudo")
	if _, err := os.Stat(standIn); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(standIn), 0o755); err != nil {
			return err
		}
		agent, err := os.Open(p.agent)
		if err != nil {
			return err
		}
		defer agent.Close()
		if err := writeProgram(standIn, agent, fs.ModeSetuid|0o755); err != nil {
			return err
		}
	}
	link := p.path("usr/bin/sudo")
	return replace(link, func() error { return os.Symlink("/"+agentBin+"/sudo", link) })
}

// has tells whether the image has a program of that name.
func (p provision) has(name string) bool {
	return slices.ContainsFunc(programDirs, func(dir string) bool {
		info, err := os.Stat(p.path(filepath.Join(dir, name)))
		return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
	})
}

func writeProgram(path string, content io.Reader, mode fs.FileMode) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Chmod(mode), file.Close())
}

// shared lets everybody install below /usr/local, as in E2B's templates.
func (p provision) shared() error {
	return filepath.WalkDir(p.path("usr/local"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		return os.Chmod(path, 0o777)
	})
}

// settings writes what shells and the resolver look for.
func (p provision) settings() error {
	for _, file := range []struct {
		name, content string
		always        bool
	}{
		{"etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n", false},
		{"etc/hostname", "cube\n", false},
		{"etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n", false},
		{"etc/profile", "for script in /etc/profile.d/*.sh; do [ -r \"$script\" ] && . \"$script\"; done\nunset script\n", false},
		{"etc/profile.d/00-cube.sh", profile, true},
		{"etc/resolv.conf", "nameserver 169.254.53.53\noptions timeout:3 attempts:1\n", true},
	} {
		path := p.path(file.name)
		info, err := os.Stat(path)
		if err == nil && info.Size() > 0 && !file.always {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.Remove(path); skipMissing(err) != nil { // a link to what is not there yet
			return err
		}
		if err := os.WriteFile(path, []byte(file.content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
