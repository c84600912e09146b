package process

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"connectrpc.com/connect"

	pb "cube/envd/gen/process"
	"cube/envd/users"
)

// defaultPath is where commands are looked for.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/cube/bin"

// command makes the command that a request asks for, as the user it is for.
func (s *Service) command(r *connect.Request[pb.StartRequest]) (*exec.Cmd, error) {
	u, err := s.cfg.User(r.Header())
	if err != nil {
		return nil, err
	}
	config := r.Msg.GetProcess()
	if config.GetCmd() == "" {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("no command is given: 'process.cmd' is empty"))
	}
	dir := s.cfg.Resolve(u, config.GetCwd())
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("cwd '%s' does not exist", dir))
	}
	environment := s.environment(u, config.GetEnvs())
	path, err := lookPath(config.GetCmd(), dir, environment["PATH"])
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	cmd := &exec.Cmd{
		Path:        path,
		Args:        append([]string{config.GetCmd()}, config.GetArgs()...),
		Dir:         dir,
		SysProcAttr: &syscall.SysProcAttr{Credential: credential(u)},
	}
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		cmd.Env = append(cmd.Env, name+"="+environment[name])
	}
	return cmd, nil
}

// environment layers what the user's account says, what holds for every process
// of the sandbox, and what this one asks for.
func (s *Service) environment(u users.User, own map[string]string) map[string]string {
	environment := map[string]string{
		"PATH": defaultPath, "HOME": u.Home, "USER": u.Name, "LOGNAME": u.Name, "SHELL": "/bin/bash",
	}
	maps.Copy(environment, s.cfg.Environment())
	maps.Copy(environment, own)
	return environment
}

// credential is nil if the agent runs as that user already: then it needs no
// right to change.
func credential(u users.User) *syscall.Credential {
	if os.Geteuid() != 0 && os.Geteuid() == int(u.UID) {
		return nil
	}
	return &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
}

// lookPath finds a command as a shell with this PATH would: package exec looks
// in the agent's own.
func lookPath(name, dir, path string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return name, nil
	}
	for _, place := range filepath.SplitList(path) {
		if !filepath.IsAbs(place) {
			place = filepath.Join(dir, place)
		}
		candidate := filepath.Join(place, name)
		if info, err := os.Stat(candidate); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("command '%s' is not in the PATH %s", name, path)
}
