package build

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	pb "cube/envd/gen/process"
	"cube/envd/gen/process/processconnect"
)

// maxMessage bounds one message of the agent's, in bytes: it comes out of a sandbox.
const maxMessage = 1 << 20

// command is what is run in a sandbox.
type command struct {
	shell     string   // for bash, as E2B's SDKs run theirs
	argv      []string // in place of it
	as        state
	out       *output
	maxOutput int64 // what it may print, 0 for no bound
	started   func()
}

// errExit is a command that ended badly: its status, as E2B says it.
type errExit struct{ status string }

func (e errExit) Error() string { return e.status }

// run runs a command and waits for its end. Its errors are in E2B's words.
func (w *worker) run(ctx context.Context, c command) error {
	err := w.runCommand(ctx, c)
	if err == nil {
		return nil
	}
	failed := fmt.Sprintf("failed to run command '%s'", cut(c.shell))
	if e, ok := errors.AsType[errExit](err); ok {
		return failf("%s: %s", failed, cut(e.status))
	}
	switch {
	case isMistake(err):
		return failf("%s: command failed: %v", failed, err)
	case errors.Is(context.Cause(ctx), errOutOfTime), connect.CodeOf(err) == connect.CodeDeadlineExceeded && ctx.Err() == nil:
		return failf("%s: it did not end within %s", failed, w.build.StepTimeout)
	}
	return fmt.Errorf("%s: %w", failed, err)
}

// isMistake tells whether the agent refused to run a command, as it would again.
func isMistake(err error) bool {
	code := connect.CodeOf(err)
	return code == connect.CodeUnauthenticated || code == connect.CodeInvalidArgument || code == connect.CodeNotFound
}

// runCommand runs a command and waits for its end, which is an error unless its
// status is 0.
func (w *worker) runCommand(ctx context.Context, c command) error {
	request := connect.NewRequest(c.request())
	// The SDKs name the user in the same way: the host key is what lets us in.
	request.Header().Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(c.as.user+":")))
	request.Header().Set("Keepalive-Ping-Interval", "30")
	client := processconnect.NewProcessClient(w.http, agentURL, connect.WithReadMaxBytes(maxMessage))
	stream, err := client.Start(ctx, request)
	if err != nil {
		return err
	}
	defer stream.Close()
	defer c.out.flush()
	var printed int64
	for stream.Receive() {
		event := stream.Msg().GetEvent()
		data := event.GetData()
		c.out.print("stdout", data.GetStdout())
		c.out.print("stderr", data.GetStderr())
		printed += int64(len(data.GetStdout()) + len(data.GetStderr()))
		if c.maxOutput > 0 && printed > c.maxOutput {
			return errExit{fmt.Sprintf("it printed more than %d MiB", c.maxOutput>>20)}
		}
		if event.GetStart() != nil && c.started != nil {
			c.started()
		}
		if end := event.GetEnd(); end != nil {
			if end.GetExitCode() == 0 && end.GetExited() {
				return nil
			}
			return errExit{end.GetStatus()}
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	return errors.New("the agent's stream ended before the command")
}

func (c command) request() *pb.StartRequest {
	config := &pb.ProcessConfig{Cmd: "/bin/bash", Args: []string{"-l", "-c", c.shell}, Envs: c.as.process()}
	if len(c.argv) > 0 {
		config.Cmd, config.Args = c.argv[0], c.argv[1:]
	}
	if c.as.workdir != "" {
		config.Cwd = &c.as.workdir
	}
	stdin := false
	return &pb.StartRequest{Process: config, Stdin: &stdin}
}
