package gate

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxAge bounds a connection, as that of a sandbox is bounded.
	maxAge = 25 * time.Hour
	// chunk is after how much it is noted that a connection is in use. The kernel
	// moves it from socket to socket; nothing of it is seen here.
	chunk = 1 << 20
)

// pipe carries bytes both ways until both sides have ended, one of them fails, or
// nothing has been carried for idle. first is what was read of the client before.
func pipe(client, server *net.TCPConn, first []byte, idle time.Duration) (up, down int64) {
	var last atomic.Int64
	last.Store(time.Now().UnixNano())
	cut := func() { reset(client); reset(server) }
	timer := time.AfterFunc(maxAge, cut)
	defer timer.Stop()
	move := func(to, from *net.TCPConn) (moved int64) {
		for {
			_ = from.SetReadDeadline(time.Now().Add(idle))
			n, err := io.CopyN(to, from, chunk)
			moved += n
			if n > 0 {
				last.Store(time.Now().UnixNano())
			}
			if err == nil || isTimeout(err) && time.Since(time.Unix(0, last.Load())) < idle {
				continue
			}
			if errors.Is(err, io.EOF) {
				_ = to.CloseWrite()
			} else {
				cut()
			}
			return moved
		}
	}
	var both sync.WaitGroup
	both.Go(func() { down = move(client, server) })
	if _, err := server.Write(first); err == nil {
		up = int64(len(first)) + move(server, client)
	} else {
		cut()
	}
	both.Wait()
	_, _ = client.Close(), server.Close()
	return up, down
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}
