package gate

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"cube"
)

// The benchmarks measure each way twice, through the gate and without it, for
// client and server share the machine with it.

// ways are the two, each giving a connection to the server at good.
func ways(b *testing.B, w *world, port string, first []byte) map[string]func() net.Conn {
	w.serveBytes(good + ":" + port)
	direct := w.at[addrPort(good+":"+port)]
	return map[string]func() net.Conn{
		"direct": func() net.Conn {
			conn, err := net.Dial("tcp", direct.String())
			if err != nil {
				b.Fatal(err)
			}
			_, _ = conn.Write(first)
			return conn
		},
		"gate": func() net.Conn {
			conn := w.dial(guestA, good+":"+port)
			_ = conn.SetDeadline(time.Time{})
			_, _ = conn.Write(first)
			return conn
		},
	}
}

// serveBytes answers each byte that follows a client's first message with one,
// or with bytes without end if it is 'x'.
func (w *world) serveBytes(address string) {
	w.serve(address, func(conn net.Conn) {
		buffer := make([]byte, 256<<10)
		n, err := conn.Read(buffer)
		for err == nil {
			if buffer[n-1] == 'x' {
				for err == nil {
					_, err = conn.Write(buffer)
				}
				return
			}
			if _, err = conn.Write(buffer[:1]); err == nil {
				n, err = conn.Read(buffer)
			}
		}
	})
}

func used() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// Download is one connection's; Gbit/cpu is what one processor carries of it, the
// client's and the server's part included.
func BenchmarkDownload(b *testing.B) {
	for name, dial := range ways(b, newWorld(b).open(), "443", []byte("\x00")) {
		b.Run(name, func(b *testing.B) {
			conn := dial()
			defer conn.Close()
			_, _ = io.ReadFull(conn, make([]byte, 1))
			_, _ = conn.Write([]byte("x"))
			buffer := make([]byte, 256<<10)
			b.SetBytes(1 << 20)
			b.ResetTimer()
			before, start := used(), time.Now()
			for range b.N {
				for range 4 {
					if _, err := io.ReadFull(conn, buffer); err != nil {
						b.Fatal(err)
					}
				}
			}
			bits := float64(b.N) * (8 << 20) / 1e9
			b.ReportMetric(bits/time.Since(start).Seconds(), "Gbit/s")
			b.ReportMetric(bits/(used()-before).Seconds(), "Gbit/cpu")
		})
	}
}

// RoundTrip is a byte there and one back.
func BenchmarkRoundTrip(b *testing.B) {
	for name, dial := range ways(b, newWorld(b).open(), "443", []byte("\x00")) {
		b.Run(name, func(b *testing.B) {
			conn := dial()
			defer conn.Close()
			one := make([]byte, 1)
			_, _ = io.ReadFull(conn, one)
			for b.Loop() {
				if _, err := conn.Write([]byte("y")); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(conn, one); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Connect is a connection, a client's first message with a name, and the server's
// first byte.
func BenchmarkConnect(b *testing.B) {
	w := newWorld(b)
	w.set(guestA, only("good.example"))
	for name, dial := range ways(b, w, "443", hello(b, "good.example")) {
		b.Run(name, func(b *testing.B) {
			one := make([]byte, 1)
			for b.Loop() {
				conn := dial()
				if _, err := io.ReadFull(conn, one); err != nil {
					b.Fatal(err)
				}
				_ = conn.Close()
			}
		})
	}
}

// Question is one that is remembered.
func BenchmarkQuestion(b *testing.B) {
	w := newWorld(b).open()
	_, packed, err := packQuestion(question{"good.example", dnsmessage.TypeA})
	if err != nil {
		b.Fatal(err)
	}
	s := w.gate.find(&net.UDPAddr{IP: net.ParseIP(guestA)})
	w.gate.answer(b.Context(), s, packed, false)
	b.ReportAllocs()
	for b.Loop() {
		if w.gate.answer(b.Context(), s, packed, false) == nil {
			b.Fatal("no answer")
		}
	}
}

func (w *world) open() *world {
	w.set(guestA, cube.NetworkPolicy{})
	return w
}
