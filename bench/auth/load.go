package main

import (
	"bytes"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// load is what clients send. One thread does it all, on epoll and a timer of the
// kernel: Go's own timers come up to a millisecond late, which is more than what
// is measured.
type load struct {
	addr    string
	request []byte
	// perSecond requests go out at a fixed rate, whether or not the ones before
	// them were answered. 0: each connection sends when it has its answer.
	perSecond int
	// duration is for how long they go out, count how many at most. One of both
	// is enough.
	duration time.Duration
	count    int
	// connections are opened before the first request, up to maxConnections when
	// all are busy.
	connections, maxConnections int
	// patience is how long an answer is awaited.
	patience time.Duration
	// across sends from the core of the systems, as one of them would ask.
	across bool
}

// outcome is one request.
type outcome struct {
	intended time.Duration // when it should have gone out, from the start on
	late     time.Duration // how much later it did
	took     time.Duration // from when it should have gone out to the whole answer
	status   int           // 0: no answer
}

// connection is one to the system that is measured.
type connection struct {
	fd    int
	busy  bool
	reply []byte
	now   outcome
}

// run sends the load and returns what became of each request, in the order of
// their ends.
func (l load) run() ([]outcome, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if l.across {
		if err := moveTo(systemCore); err != nil {
			return nil, err
		}
		defer func() { _ = moveTo(othersCore) }()
	}
	g, err := newGenerator(l)
	if err != nil {
		return nil, err
	}
	defer g.close()
	for range l.connections {
		if err := g.open(); err != nil {
			return nil, err
		}
	}
	return g.outcomes, g.loop()
}

// moveTo pins the calling thread to another core.
func moveTo(core int) error {
	var cores unix.CPUSet
	cores.Set(core)
	return unix.SchedSetaffinity(0, &cores)
}

type generator struct {
	load
	epoll, timer int
	address      unix.SockaddrInet4
	start        time.Time
	conns        map[int]*connection
	free         []*connection
	waiting      []time.Duration // intended, of those that no connection is free for
	inFlight     int
	sent         int
	outcomes     []outcome
}

func newGenerator(l load) (*generator, error) {
	host, err := net.ResolveTCPAddr("tcp4", l.addr)
	if err != nil {
		return nil, err
	}
	g := &generator{load: l, conns: map[int]*connection{}, address: unix.SockaddrInet4{Port: host.Port, Addr: [4]byte(host.IP.To4())}}
	if g.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if g.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return nil, err
	}
	return g, unix.EpollCtl(g.epoll, unix.EPOLL_CTL_ADD, g.timer, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(g.timer)})
}

func (g *generator) close() {
	for fd := range g.conns {
		_ = unix.Close(fd)
	}
	_ = unix.Close(g.timer)
	_ = unix.Close(g.epoll)
}

func (g *generator) open() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, &g.address); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("connecting: %w", err)
	}
	_ = unix.SetNonblock(fd, true)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	c := &connection{fd: fd}
	g.conns[fd] = c
	g.free = append(g.free, c)
	return unix.EpollCtl(g.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (g *generator) loop() error {
	events := make([]unix.EpollEvent, 256)
	g.start = time.Now()
	for {
		elapsed := time.Since(g.start)
		g.plan(elapsed)
		if err := g.send(); err != nil {
			return err
		}
		over := g.over(elapsed)
		if over && g.inFlight == 0 && len(g.waiting) == 0 {
			return nil
		}
		g.giveUp(elapsed)
		if err := g.arm(over); err != nil {
			return err
		}
		n, err := unix.EpollWait(g.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return err
		}
		for _, event := range events[:max(n, 0)] {
			if c := g.conns[int(event.Fd)]; c != nil {
				g.read(c)
			}
		}
	}
}

// over tells whether no more requests are to be sent.
func (g *generator) over(elapsed time.Duration) bool {
	return (g.duration > 0 && elapsed >= g.duration) || (g.count > 0 && g.sent+len(g.waiting) >= g.count)
}

// plan adds the requests that are due.
func (g *generator) plan(elapsed time.Duration) {
	for !g.over(elapsed) {
		due := elapsed
		if g.perSecond > 0 {
			due = g.due()
		} else if len(g.waiting) >= len(g.free) {
			return
		}
		if due > elapsed {
			return
		}
		g.waiting = append(g.waiting, due)
	}
}

// due is when the next request should go out.
func (g *generator) due() time.Duration {
	return time.Duration(g.sent+len(g.waiting)) * time.Second / time.Duration(g.perSecond)
}

// send gives those that wait to free connections.
func (g *generator) send() error {
	for len(g.waiting) > 0 {
		if len(g.free) == 0 {
			if len(g.conns) >= max(g.maxConnections, g.connections) {
				return nil
			}
			if err := g.open(); err != nil {
				return err
			}
		}
		c := g.free[len(g.free)-1]
		g.free = g.free[:len(g.free)-1]
		c.busy, c.reply = true, c.reply[:0]
		c.now = outcome{intended: g.waiting[0], late: time.Since(g.start) - g.waiting[0]}
		g.waiting = g.waiting[1:]
		g.sent++
		g.inFlight++
		if _, err := unix.Write(c.fd, g.request); err != nil {
			g.drop(c)
		}
	}
	return nil
}

// arm wakes the loop when the next request is due, and often enough to see whose
// patience is at its end.
func (g *generator) arm(over bool) error {
	wake := 20 * time.Millisecond
	if !over && g.perSecond > 0 {
		wake = min(wake, g.due()-time.Since(g.start))
	}
	return unix.TimerfdSettime(g.timer, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(max(int64(wake), 1))}, nil)
}

// giveUp ends those whose patience is at its end.
func (g *generator) giveUp(elapsed time.Duration) {
	if g.patience == 0 {
		return
	}
	if len(g.waiting) > 0 && elapsed-g.waiting[0] > g.patience {
		for _, intended := range g.waiting {
			g.outcomes = append(g.outcomes, outcome{intended: intended, took: elapsed - intended})
			g.sent++
		}
		g.waiting = nil
	}
	for _, c := range g.conns {
		if c.busy && elapsed-c.now.intended > g.patience {
			g.drop(c)
		}
	}
}

// read takes what has come on a connection.
func (g *generator) read(c *connection) {
	var buf [4096]byte
	n, err := unix.Read(c.fd, buf[:])
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if err != nil || n == 0 {
		g.drop(c)
		return
	}
	c.reply = append(c.reply, buf[:n]...)
	status, whole, last := parseReply(c.reply)
	if !whole {
		return
	}
	if !c.busy { // bytes that nobody asked for
		g.drop(c)
		return
	}
	c.now.status = status
	g.finish(c)
	if last {
		g.drop(c)
		return
	}
	g.free = append(g.free, c)
}

func (g *generator) finish(c *connection) {
	c.busy = false
	c.now.took = time.Since(g.start) - c.now.intended
	g.outcomes = append(g.outcomes, c.now)
	g.inFlight--
}

// drop ends a connection, and with it the request that is on it.
func (g *generator) drop(c *connection) {
	if c.busy {
		g.finish(c)
	}
	g.free = slices.DeleteFunc(g.free, func(other *connection) bool { return other == c })
	delete(g.conns, c.fd)
	_ = unix.Close(c.fd)
}

// parseReply reads an answer: its status, whether it is whole, and whether it is
// the last on its connection.
func parseReply(reply []byte) (status int, whole, last bool) {
	end := bytes.Index(reply, []byte("\r\n\r\n"))
	if end < 0 || end < len("HTTP/1.1 200") {
		return 0, false, false
	}
	status, _ = strconv.Atoi(string(reply[9:12]))
	last = bytes.EqualFold(header(reply[:end], "Connection"), []byte("close"))
	body := reply[end+4:]
	if bytes.EqualFold(header(reply[:end], "Transfer-Encoding"), []byte("chunked")) {
		return status, bytes.HasSuffix(body, []byte("0\r\n\r\n")), last
	}
	length, _ := strconv.Atoi(string(header(reply[:end], "Content-Length")))
	return status, len(body) >= length, last
}

// header returns the value of a header, nil if there is none.
func header(head []byte, name string) []byte {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		if len(line) > len(name) && line[len(name)] == ':' && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return bytes.TrimSpace(line[len(name)+1:])
		}
	}
	return nil
}
