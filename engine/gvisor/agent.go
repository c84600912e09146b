package gvisor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"cube"
	"cube/engine/gvisor/launch"
)

// awaitAgent returns when the agent has said that it listens. What it writes
// else, or more, is not read.
func awaitAgent(ctx context.Context, ready *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := bufio.NewReaderSize(io.LimitReader(ready, 64), 64).ReadString('\n')
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("waiting for the agent: %w", ctx.Err())
	case err != nil && !errors.Is(err, io.EOF):
		return fmt.Errorf("waiting for the agent: %w", err)
	case line != launch.AgentReady:
		return fmt.Errorf("the agent did not start: it wrote %q", line)
	}
	return nil
}

// awaitAnswer returns when the agent of a sandbox that goes on from a snapshot
// answers. It listens already; what it waits for is its network. It was told
// nothing, so it says nothing by itself, and is asked.
//
// A packet that is lost, because the link was not up, is sent again after a
// second. So it is asked again sooner, on another connection, while the earlier
// ones go on: on a machine that is busy any of them may be the first.
func (e *Engine) awaitAnswer(ctx context.Context, kernel launch.Process, guest string) error {
	sentry, err := findProcess(kernel)
	if err != nil {
		return fmt.Errorf("the sandbox's kernel ended: %w", err)
	}
	defer sentry.close()
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan error)
	pause, patience := 500*time.Microsecond, 30*time.Millisecond
	for {
		asking.Go(func() {
			err := askHealth(ctx, guest)
			select {
			case answers <- err:
			case <-ctx.Done():
			}
		})
		select {
		case err := <-answers:
			if err == nil {
				return nil
			}
			select { // it was refused: nothing listens yet
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, 20*time.Millisecond)
		case <-time.After(patience):
			patience = min(2*patience, time.Second)
		case <-ctx.Done():
		}
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("waiting for the agent: %w", ctx.Err())
		case sentry.exited():
			return errors.New("the sandbox's kernel ended while it read the snapshot")
		}
	}
}

// askHealth makes one attempt. What comes out of the sandbox is compared and
// not kept.
func askHealth(ctx context.Context, guest string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", net.JoinHostPort(guest, strconv.Itoa(int(cube.AgentPort))))
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	const want = "HTTP/1.1 204"
	answer := make([]byte, len(want))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if string(answer) != want {
		return fmt.Errorf("the agent answers %q", answer)
	}
	return nil
}
