package internet

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
)

// serveWeb answers on ports 80 and 443 of all places:
//
//	/              the caller's address, or where the place's front page leads
//	/who           the place's address, the Host that was asked for, the header X-Secret
//	/headers       what was asked, as JSON
//	/redirect?to=  somewhere else
//	/generate_204  nothing
//	/dns-query     DNS over HTTPS, of name servers
//	/zeros?bytes=  so many of them
//	/swallow       how many bytes the body had
//	/root.pem      the authority's certificate
func (i *Internet) serveWeb() error {
	at := map[string]place{}
	for _, p := range places {
		at[p.addr] = p
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if p := at[here(r)]; p.home != "" {
			http.Redirect(w, r, p.home, p.status)
			return
		}
		fmt.Fprintln(w, r.RemoteAddr)
	})
	mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s\n", here(r), r.Host, r.Header.Get("X-Secret"))
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"headers": r.Header, "host": r.Host, "url": r.URL.String()})
	})
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusFound)
	})
	mux.HandleFunc("/generate_204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/zeros", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.ParseInt(r.URL.Query().Get("bytes"), 10, 64)
		_, _ = io.CopyN(w, zeros{}, n)
	})
	mux.HandleFunc("/swallow", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintln(w, n)
	})
	mux.HandleFunc("/root.pem", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(i.Root) })
	mux.HandleFunc("/dns-query", func(w http.ResponseWriter, r *http.Request) {
		question, err := io.ReadAll(io.LimitReader(r.Body, maxMessage))
		if answer := i.answer(question, here(r), "https"); at[here(r)].resolves && err == nil && answer != nil {
			w.Header().Set("Content-Type", "application/dns-message")
			_, _ = w.Write(answer)
			return
		}
		http.NotFound(w, r)
	})
	return i.serve("tcp4", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		added := i.hosts[here(r)]
		i.mu.Unlock()
		if added != nil {
			added.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Server", cmp.Or(at[here(r)].server, "internet"))
		mux.ServeHTTP(w, r)
	}))
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// serve serves HTTP and HTTPS on every address of tcp4 or tcp6.
func (i *Internet) serve(network string, handler http.Handler) error {
	for port, secure := range map[string]bool{":80": false, ":443": true} {
		l, err := i.Listen(network, port)
		if err != nil {
			return err
		}
		// Clients that break off, or do not trust it, are what tests are about.
		server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)} //nolint:gosec // of tests
		i.closers = append(i.closers, server)
		if secure {
			server.TLSConfig = i.authority.config()
			i.all.Go(func() { _ = server.ServeTLS(l, "", "") })
		} else {
			i.all.Go(func() { _ = server.Serve(l) })
		}
	}
	return nil
}

// here is the address that a request came to.
func here(r *http.Request) string {
	return hostOf(r.Context().Value(http.LocalAddrContextKey).(net.Addr))
}

func hostOf(a net.Addr) string {
	host, _, _ := net.SplitHostPort(a.String())
	return host
}

// serveEchoes answers each datagram and each connection on port 7 with itself.
func (i *Internet) serveEchoes() error {
	for _, p := range places {
		conn, err := i.ListenPacket("udp4", net.JoinHostPort(p.addr, "7"))
		if err != nil {
			return err
		}
		i.closers = append(i.closers, conn)
		i.all.Go(func() {
			buffer := make([]byte, 1<<16)
			for {
				n, from, err := conn.ReadFrom(buffer)
				if err != nil {
					return
				}
				_, _ = conn.WriteTo(buffer[:n], from)
			}
		})
	}
	return i.serveStream("tcp4", ":7", false, echo)
}

// echo answers with what it is told.
func echo(c net.Conn) { _, _ = io.Copy(c, c) }
