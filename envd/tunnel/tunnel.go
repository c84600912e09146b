// Package tunnel connects the server to the ports inside a sandbox that listen
// on the loopback addresses alone. Whoever listens there sees a client on the
// same machine, as a program does that was written for one's own computer.
//
// A connection begins with the port, two bytes, the higher first. One byte
// answers; behind a yes the connection is that to the port. It holds both ends,
// and must stay small: the server and the agent carry it.
package tunnel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// Port is where the agent takes such connections. Code inside may use it too:
// it reaches nothing that way that it does not reach without.
const Port = 49982

// The answers.
const (
	answerOpen   = 0
	answerClosed = 1
)

// ErrClosed is the error of a port on which nothing listens.
var ErrClosed = errors.New("the agent cannot connect to the port")

// Ask asks the agent at the other end of a new connection for a port. After an
// error the connection is of no use.
func Ask(ctx context.Context, conn net.Conn, port uint16) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	_, err := conn.Write(binary.BigEndian.AppendUint16(nil, port))
	var answer [1]byte
	if err == nil {
		_, err = io.ReadFull(conn, answer[:])
	}
	switch {
	case !stop():
		return fmt.Errorf("asking the agent for port %d: %w", port, context.Cause(ctx))
	case err != nil:
		return fmt.Errorf("asking the agent for port %d: %w", port, err)
	case answer[0] != answerOpen:
		return ErrClosed
	}
	return nil
}

const (
	askTimeout  = 10 * time.Second // for the port to arrive
	dialTimeout = 5 * time.Second
)

// Serve serves connections until the listener is closed.
func Serve(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go serve(conn)
	}
}

func serve(conn net.Conn) {
	defer conn.Close()
	var port [2]byte
	_ = conn.SetReadDeadline(time.Now().Add(askTimeout))
	if _, err := io.ReadFull(conn, port[:]); err != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	inner, err := dialLoopback(binary.BigEndian.Uint16(port[:]))
	if err != nil {
		_, _ = conn.Write([]byte{answerClosed})
		return
	}
	defer inner.Close()
	if _, err := conn.Write([]byte{answerOpen}); err != nil {
		return
	}
	there := make(chan struct{})
	go func() {
		defer close(there)
		pass(inner, conn)
	}()
	pass(conn, inner)
	<-there
}

// dialLoopback connects to a port on either loopback address.
func dialLoopback(port uint16) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err == nil {
		return conn, nil
	}
	if six, err := dialer.Dial("tcp", net.JoinHostPort("::1", strconv.Itoa(int(port)))); err == nil {
		return six, nil
	}
	return nil, err
}

// pass copies one direction. Its end is passed on alone: the other direction
// may still have much to say. Its failure ends both.
func pass(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if half, ok := to.(*net.TCPConn); ok && err == nil {
		_ = half.CloseWrite()
		return
	}
	_ = to.Close()
	_ = from.Close()
}
