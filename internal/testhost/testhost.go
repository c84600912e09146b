// Package testhost runs a package's tests on a network of their own: a network
// namespace with loopback, and behind it a second one that plays the internet.
// Tests of the engine and of the whole server make firewall rules, routes and
// interfaces; here they make them where the machine's own network is not.
//
// It is for tests alone, and needs root.
package testhost

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The internet of the tests: addresses of RFC 5737, and a private one that its
// router also serves, so that a test can tell a closed range from a dead one.
const (
	InternetAddr = "192.0.2.1:80"    // answers GET with the caller's address
	PrivateAddr  = "10.99.99.1:80"   // the same server, on a private address
	gatewayAddr  = "198.51.100.1/30" // the tests' machine, on its link to the internet
	peerAddr     = "198.51.100.2/30"
)

const (
	roleVariable = "CUBE_TESTHOST"
	roleTests    = "tests"
	roleInternet = "internet"
	linkName     = "internet0"
)

// Main is what TestMain calls: it runs the tests within their own network and
// does not return.
func Main(m *testing.M) {
	var code int
	var err error
	switch os.Getenv(roleVariable) {
	case roleInternet:
		err = serveInternet()
	case roleTests:
		code, err = runTests(m)
	default:
		code, err = again(roleTests)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testhost:", err)
		code = 1
	}
	os.Exit(code)
}

// again runs this test binary once more, in new namespaces, and returns its
// exit code.
func again(role string) (int, error) {
	cmd := child(role)
	cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func child(role string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	return cmd
}

// runTests builds the network and runs the tests in it.
func runTests(m *testing.M) (int, error) {
	internet := child(roleInternet)
	up, err := internet.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := internet.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = internet.Process.Kill()
		_ = internet.Wait()
	}()
	if err := setUp("lo", ""); err != nil {
		return 0, err
	}
	err = netlink.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: linkName},
		PeerName:      linkName,
		PeerNamespace: netlink.NsPid(internet.Process.Pid),
	})
	if err != nil {
		return 0, fmt.Errorf("making the link to the internet: %w", err)
	}
	if err := setUp(linkName, gatewayAddr); err != nil {
		return 0, err
	}
	peer, _, _ := strings.Cut(peerAddr, "/")
	if err := netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(peer)}); err != nil {
		return 0, fmt.Errorf("adding the default route: %w", err)
	}
	if _, err := up.Read(make([]byte, 1)); err != nil {
		return 0, fmt.Errorf("waiting for the internet: %w", err)
	}
	return m.Run(), nil
}

// serveInternet is the other side.
func serveInternet() error {
	// The link arrives once the parent has made it.
	deadline := time.Now().Add(10 * time.Second)
	for {
		if _, err := netlink.LinkByName(linkName); err == nil {
			break
		} else if time.Now().After(deadline) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	for _, link := range []struct{ name, address string }{
		{"lo", "192.0.2.1/32"}, {"lo", "10.99.99.1/32"}, {linkName, peerAddr},
		{"lo", "192.0.2.53/32"}, {"lo", GoodAddr + "/32"}, {"lo", OtherAddr + "/32"}, {"lo", BadAddr + "/32"},
	} {
		if err := setUp(link.name, link.address); err != nil {
			return err
		}
	}
	root, leaf, err := authority()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp4", ":80")
	if err != nil {
		return err
	}
	encrypted, err := tls.Listen("tcp4", ":443", &tls.Config{Certificates: []tls.Certificate{leaf}, NextProtos: []string{"http/1.1"}})
	if err != nil {
		return err
	}
	if err := serveNames(); err != nil {
		return err
	}
	// Clients that do not trust it are what tests are about.
	server := &http.Server{Handler: handler(root), ErrorLog: log.New(io.Discard, "", 0)} //nolint:gosec // of tests
	go func() { _ = server.Serve(encrypted) }()
	fmt.Print(".")
	return server.Serve(listener)
}

// setUp gives a link an address, if any, and sets it up.
func setUp(name, address string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding %s: %w", name, err)
	}
	if address != "" {
		addr, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("adding %s to %s: %w", address, name, err)
		}
	}
	return netlink.LinkSetUp(link)
}
