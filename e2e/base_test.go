package e2e

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"cube/image"
)

// TestBase uses what E2B's suites expect of the template "base", as far as this
// machine has it. Nothing here needs the internet.
func TestBase(t *testing.T) {
	s := start(t)
	// Without a way out nothing waits for an answer from there.
	_, body := s.call("POST", "/v2/sandboxes", map[string]any{"templateID": "base", "timeout": 300, "allow_internet_access": false}, "X-API-Key", fullKey)
	var c sandbox
	if err := json.Unmarshal(body, &c); err != nil || c.SandboxID == "" {
		t.Fatalf("creating: %s", body)
	}
	const project = `mkdir -p ~/py && cd ~/py &&
printf '[build-system]\nrequires=[]\nbuild-backend="setuptools.build_meta"\n[project]\nname="hello"\nversion="1"\n[project.scripts]\nhello-py="hello:main"\n' > pyproject.toml &&
echo 'def main(): print("from pip")' > hello.py &&
`
	const packageJSON = `mkdir -p ~/js && cd ~/js &&
echo '{"name":"hello","version":"1.0.0","bin":{"hello-js":"hello.js"}}' > package.json &&
printf '#!/usr/bin/env node\nconsole.log("from npm")\n' > hello.js &&
`
	for _, row := range []struct {
		name, user, script, want string
		needs                    []string
	}{
		{"who works", "user", "id -un; id -u; pwd; umask", "user\n1000\n/home/user\n0022\n", nil},
		{"sudo", "user", "sudo whoami; sudo -n -u user whoami; sudo -i pwd", "root\nuser\n/root\n", nil},
		{"sudo keeps variables outside", "user", `export FOO=bar; sudo sh -c 'echo "[$FOO]"'; sudo FOO=given sh -c 'echo "[$FOO]"'`, "[]\n[given]\n", nil},
		{"sudo passes the exit code on", "user", "sudo sh -c 'exit 7'; echo $?; sudo nosuchcommand 2>/dev/null; echo $?", "7\n1\n", nil},
		{"sudo writes where only root may", "user", "echo x | sudo tee /usr/local/bin/mine >/dev/null && sudo rm /usr/local/bin/mine && echo ok", "ok\n", nil},
		{"sudo is not for all", "root", "useradd -m other && su other -c 'sudo -n id -u' 2>/dev/null || echo refused", "refused\n", []string{"useradd"}},
		{"python under both names", "user", "python -c 'print(6*7)'; python3 -c 'print(6*7)'; sudo python -c 'print(6*7)'; su - user -c true 2>/dev/null; bash -c 'python -c \"print(6*7)\"'", "42\n42\n42\n42\n", []string{"python3"}},
		{"pip installs as the user", "user", project + "pip install -q --no-index --no-build-isolation . && hash -r && hello-py", "from pip\n", []string{"python3", "pip3"}},
		{"a virtual environment", "user", "cd /tmp && python3 -m venv --without-pip v && v/bin/python -c 'print(1)'", "1\n", []string{"python3"}},
		{"npm installs as the user", "user", packageJSON + "npm install -g --offline --no-audit --no-update-notifier . >/dev/null 2>&1 && hello-js", "from npm\n", []string{"node", "npm"}},
		{"git", "user", "cd /tmp && git init -q g && cd g && git -c user.name=u -c user.email=u@example.com commit -q --allow-empty -m first && git log --format=%s", "first\n", []string{"git"}},
		{"git over a network", "user", `git init -q --bare /tmp/srv/r.git && git daemon --base-path=/tmp/srv --export-all --enable=receive-pack --listen=127.0.0.1 --detach &&
for try in $(seq 600); do git ls-remote git://127.0.0.1/r.git >/dev/null 2>&1 && break; sleep 0.1; done
cd /tmp/g && git push -q git://127.0.0.1/r.git HEAD:main && git clone -q -b main git://127.0.0.1/r.git /tmp/clone && git -C /tmp/clone log --format=%s`, "first\n", []string{"git"}},
		{"its own name", "user", `[ "$(hostname)" = "$E2B_SANDBOX_ID" ] && getent ahostsv4 "$(hostname)" | head -1 | cut -d' ' -f1 && cat /etc/hostname | head -c1`, "127.0.1.1\ni", nil},
		{"E2B's marks", "user", `cat /run/e2b/.E2B_SANDBOX; echo; [ "$(cat /run/e2b/.E2B_SANDBOX_ID)" = "$E2B_SANDBOX_ID" ] && cat /run/e2b/.E2B_TEMPLATE_ID; echo " $E2B_SANDBOX $E2B_TEMPLATE_ID"`, "true\nbase true base\n", nil},
		{"a language", "user", `echo $LANG; printf 'ü' | wc -m`, "C.UTF-8\n1\n", nil},
		{"the time of all machines", "user", "date +%Z", "UTC\n", nil},
		{"room for code", "user", "touch /code/x && stat -c %a /code", "777\n", nil},
		{"nothing of the machine's people", "root", "ls /home; ls -A /root /mnt /srv /media | grep -v :$ | grep .; true", "other\nuser\n", []string{"useradd"}},
		{"one boot", "user", "cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/boot_id | sort -u | wc -l", "1\n", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, program := range row.needs {
				if !image.HostProgram(program) {
					t.Skipf("this machine has no %s: 'cube-api doctor' says how to get it", program)
				}
			}
			if got, code := s.shell(c, row.user, row.script); code != 0 || got != row.want {
				t.Errorf("exit code %d:\n%s\nwant:\n%s", code, got, row.want)
			}
		})
	}
	t.Run("another boot in another sandbox", func(t *testing.T) {
		const script = "cat /proc/sys/kernel/random/boot_id"
		first, _ := s.shell(c, "user", script)
		second, _ := s.shell(s.create(), "user", script)
		if first == second || !regexp.MustCompile(`^[0-9a-f-]{36}\n$`).MatchString(second) {
			t.Errorf("the boots are %q and %q", first, second)
		}
	})
	t.Run("the host's own secrets are not there", func(t *testing.T) {
		for _, path := range []string{"/etc/ssh", "/etc/ssl/private", "/etc/machine-id", "/var/lib/dpkg", "/etc/sudoers.d"} {
			if got, _ := s.shell(c, "root", "test -e "+path+" && echo there; true"); strings.Contains(got, "there") {
				t.Errorf("%s is there", path)
			}
		}
	})
}
