package gvisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/unet"
	"gvisor.dev/gvisor/pkg/urpc"

	"cube"
	"cube/engine/gvisor/launch"
)

// portForward is gVisor's method on the control socket, and portForwardOptions
// its argument: it connects a socket of ours to a port on 127.0.0.1 inside. It
// works after the server was restarted and needs nothing of the sandbox's link.
const portForward = "containerManager.PortForward"

type portForwardOptions struct {
	urpc.FilePayload
	ContainerID string
	Port        uint16
}

// Dial implements cube.Engine.
func (e *Engine) Dial(ctx context.Context, id cube.SandboxID, port uint16) (net.Conn, error) {
	if _, ok := e.lookup(id); !ok {
		return nil, notRunning(id)
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("making a socket pair: %w", err)
	}
	defer theirs.Close()
	if err := e.forward(ctx, id, port, theirs); err != nil {
		_ = ours.Close()
		return nil, err
	}
	return ours, nil
}

// forward asks the sandbox's kernel to connect socket to the port.
func (e *Engine) forward(ctx context.Context, id cube.SandboxID, port uint16, socket *os.File) error {
	control, err := unet.Connect(filepath.Join(e.dir(id), launch.ControlSocket), false)
	if err != nil {
		return notRunning(id)
	}
	client := urpc.NewClient(control)
	defer client.Close()
	done := make(chan error, 1)
	go func() {
		done <- client.Call(portForward, &portForwardOptions{
			FilePayload: urpc.FilePayload{Files: []*os.File{socket}},
			ContainerID: launch.ContainerID,
			Port:        port,
		}, nil)
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		_ = control.Shutdown() // ends the call
		<-done
		return cube.WrapError(cube.Unavailable, ctx.Err(), "port %d of sandbox %s did not take a connection in time", port, id)
	}
	var refused urpc.RemoteError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused) && strings.Contains(refused.Message, "connection"):
		return cube.WrapError(cube.Unavailable, err, "nothing listens on port %d of sandbox %s", port, id)
	case errors.As(err, &refused):
		return fmt.Errorf("forwarding port %d of sandbox %s: %w", port, id, err)
	}
	return cube.WrapError(cube.NotFound, err, "sandbox %s does not run", id)
}

// socketPair returns our end as a connection and theirs as a file.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	conn, err := net.FileConn(ours) // has its own duplicate
	_ = ours.Close()
	if err != nil {
		_ = theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}
