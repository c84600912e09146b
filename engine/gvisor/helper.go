package gvisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"cube"
	"cube/engine/gvisor/launch"
)

// helper is the process that creates one sandbox and ends: see launch.
type helper struct {
	cmd     *exec.Cmd
	request *os.File // to it
	ready   *os.File // the sandbox's standard output
	result  *os.File // from it
	answers *json.Decoder
}

// maxResults bounds what a helper says, in bytes.
const maxResults = 1 << 20

// startHelper starts one in a sandbox's control group, where it waits for a
// request. unpacked is the directory of the snapshot's files where that has no
// name, else nil.
func (e *Engine) startHelper(id cube.SandboxID, unpacked *os.File) (*helper, error) {
	var pipes pipes
	defer pipes.closeTheirs()
	requestIn, requestOut := pipes.make()
	readyIn, readyOut := pipes.make()
	resultIn, resultOut := pipes.make()
	if pipes.err != nil {
		pipes.closeOurs()
		return nil, fmt.Errorf("launching the sandbox: %w", pipes.err)
	}
	pipes.theirs = []*os.File{requestIn, readyOut, resultOut}
	pipes.ours = []*os.File{requestOut, readyIn, resultIn}

	cmd := exec.Command(e.runsc, launch.Command)
	cmd.Env = []string{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = requestIn, readyOut, readyOut
	cmd.ExtraFiles = []*os.File{resultOut, e.hostNS}
	if unpacked != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, unpacked)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// Root's right to make namespaces: the sandbox's mounts and network
		// exist in these alone.
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		Setsid:     true, // a signal to the server's group is none to the sandbox
	}
	if err := cmd.Start(); err != nil {
		pipes.closeOurs()
		return nil, fmt.Errorf("launching the sandbox: %w", err)
	}
	h := &helper{cmd: cmd, request: requestOut, ready: readyIn, result: resultIn, answers: json.NewDecoder(io.LimitReader(resultIn, maxResults))}
	if err := e.cgroups.add(id, cmd.Process.Pid); err != nil {
		h.abandon()
		return nil, fmt.Errorf("launching the sandbox: %w", err)
	}
	return h, nil
}

// ask sends a message and reads the result of it. A start that is given up ends
// the helper, and with it what is read.
func (h *helper) ask(ctx context.Context, message any) (launch.Result, error) {
	stop := context.AfterFunc(ctx, func() { _ = h.cmd.Process.Kill() })
	defer stop()
	var result launch.Result
	err := json.NewEncoder(h.request).Encode(message)
	if err == nil {
		err = h.answers.Decode(&result)
	}
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case err == nil && result.Refused:
		return result, cube.Errorf(cube.Unsupported, "the snapshot cannot be started from: %s", result.Error)
	case err == nil && result.Error != "":
		err = errors.New(result.Error)
	}
	if err != nil {
		return result, fmt.Errorf("launching the sandbox: %w", err)
	}
	return result, nil
}

// finish waits for the helper's end when its last result is there.
func (h *helper) finish(result launch.Result, err error) (*helper, launch.Result, error) {
	if err != nil {
		h.abandon()
		return nil, launch.Result{}, err
	}
	_ = h.request.Close()
	_ = h.cmd.Wait() // how it went is in the result
	return h, result, nil
}

// abandon ends the helper. What it has made is in the sandbox's control group.
func (h *helper) abandon() {
	_ = h.cmd.Process.Kill()
	for _, file := range []*os.File{h.request, h.ready, h.result} {
		_ = file.Close()
	}
	_ = h.cmd.Wait()
}

// openHostNS opens what helper processes make a sandbox's link from, with a high
// number: see launch.HighFD.
func openHostNS() (*os.File, error) {
	file, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, launch.HighFD)
	if err != nil {
		return nil, fmt.Errorf("opening a file with the number %d: %w", launch.HighFD, err)
	}
	return os.NewFile(uintptr(fd), file.Name()), nil
}

// pipes are the pipes between the server and a helper process.
type pipes struct {
	ours, theirs []*os.File
	err          error
}

func (p *pipes) make() (r, w *os.File) {
	r, w, err := os.Pipe()
	if err != nil {
		p.err = errors.Join(p.err, err)
		return nil, nil
	}
	p.ours = append(p.ours, r, w) // until it is known whose they are
	return r, w
}

func (p *pipes) closeOurs() {
	for _, f := range p.ours {
		_ = f.Close()
	}
}

func (p *pipes) closeTheirs() {
	for _, f := range p.theirs {
		_ = f.Close()
	}
	p.theirs = nil
}
