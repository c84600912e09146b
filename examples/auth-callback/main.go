// Auth-callback is an example of the service that Cube asks about each request:
// copy it, and put your own users where the file of keys is. It needs nothing
// but Go's standard library.
//
// It must never say yes by default: what no rule allows is refused.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "auth-callback:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. It writes the URL to give to Cube as one line.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("auth-callback", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:9000", "address and port to listen on")
	file := flags.String("keys", "keys.json", "file of keys; see the README beside this program")
	signingKeyFile := flags.String("signing-key-file", "", "file of the key with which Cube signs; without one, signatures are not looked at")
	if err := flags.Parse(args); err != nil {
		return err
	}
	keys, err := readKeys(*file)
	if err != nil {
		return fmt.Errorf("%s: %w", *file, err)
	}
	signingKey, err := readSigningKey(*signingKeyFile)
	if err != nil {
		return fmt.Errorf("%s: %w", *signingKeyFile, err)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "http://%s/verify\n", listener.Addr())
	server := &http.Server{
		Handler:           newService(keys, signingKey),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute, // Cube keeps its connections
		MaxHeaderBytes:    64 << 10,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return server.Shutdown(patience)
}

// newService answers POST /verify: 200 is yes, all else is no. With a signing
// key, only to Cube.
func newService(keys []key, signingKey []byte) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /verify", func(w http.ResponseWriter, r *http.Request) {
		method, path := r.Header.Get("X-Request-Method"), r.Header.Get("X-Request-Path")
		if method == "" || path == "" {
			http.Error(w, "X-Request-Method and X-Request-Path are missing: Cube sends both", http.StatusBadRequest)
			return
		}
		if signingKey != nil && !signed(signingKey, r.Header, time.Now()) {
			http.Error(w, "the signature is missing, old or wrong", http.StatusUnauthorized)
			return
		}
		k := find(keys, credential(r.Header))
		switch {
		case k == nil:
			http.Error(w, "unknown key", http.StatusUnauthorized)
		case !k.mayDo(method, path):
			http.Error(w, "this key may not do that", http.StatusForbidden)
		default:
			k.introduce(w.Header())
			w.WriteHeader(http.StatusOK)
		}
	})
	return mux
}

// credential is what the client sent. Cube passes on one of the two headers.
func credential(h http.Header) string {
	if token, is := strings.CutPrefix(h.Get("Authorization"), "Bearer "); is {
		return token
	}
	return h.Get("X-API-Key")
}

// find returns the key of a credential, nil if there is none.
func find(keys []key, credential string) *key {
	sum := sha256.Sum256([]byte(credential))
	var found *key
	for i := range keys { // all of them: how long it takes tells nothing
		if keys[i].is(sum) {
			found = &keys[i]
		}
	}
	return found
}

// introduce says whose key it is. Cube keeps tenants apart by it, counts quotas
// by it, and writes it into the audit log.
func (k *key) introduce(h http.Header) {
	for name, value := range map[string]string{
		"X-Auth-Subject": k.Subject,
		"X-Auth-Team":    k.Team,
		"X-Auth-Scopes":  strings.Join(k.Scopes, " "),
	} {
		if value != "" {
			h.Set(name, value)
		}
	}
}
