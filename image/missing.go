package image

import (
	"os"
	"os/exec"
)

// Missing is something that E2B's users expect of the base and that this machine
// does not have to give.
type Missing struct {
	Name    string
	Package string // that has it, as Debian and Fedora call it
	Why     string // if there is more to say than that it is not there
}

// expected is what E2B's own base has and its suites use, with the package.
var expected = []struct{ name, pack string }{
	{"bash", "bash"}, {"curl", "curl"}, {"git", "git"}, {"node", "nodejs"}, {"npm", "npm"},
	{"pip3", "python3-pip"}, {"python3", "python3"}, {"sudo", "sudo"}, {"unshare", "util-linux"},
}

// MissingPrograms lists what a base made of this machine lacks.
func MissingPrograms() []Missing {
	var missing []Missing
	for _, program := range expected {
		if HostProgram(program.name) {
			continue
		}
		m := Missing{Name: program.name, Package: program.pack}
		if path, err := exec.LookPath(program.name); err == nil {
			m.Why = "it is in " + path + " alone: sandboxes see /usr, never people's homes"
		}
		if program.name == "sudo" {
			m.Why = "a stand-in with sudo's usual options takes its place"
		}
		missing = append(missing, m)
	}
	if _, err := os.Stat("/etc/ssl/certs/ca-certificates.crt"); err != nil {
		if _, err := os.Stat("/etc/pki/tls/certs/ca-bundle.crt"); err != nil {
			missing = append(missing, Missing{Name: "certificates", Package: "ca-certificates", Why: "nothing inside trusts a web server"})
		}
	}
	return missing
}
