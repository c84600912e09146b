// Package testhost runs a package's tests on a network of their own: a network
// namespace with loopback, and behind it an internet. Tests of the engine and of
// the whole server make firewall rules, routes and interfaces; here they make them
// where the machine's own network is not.
//
// It is for tests alone, and needs root.
package testhost

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"cube/internal/internet"
)

// What of the internet the tests name. Each is an HTTP server, and one with TLS,
// which answers "/who" with where it is, the Host that it was asked for and the
// header X-Secret. The authority's certificate is at RootURL.
const (
	InternetAddr   = "192.0.2.1:80"  // answers GET with the caller's address
	PrivateAddr    = "10.99.99.1:80" // a server on a private address
	GoodName       = "good.example"
	GoodAddr       = "203.0.113.1"
	OtherName      = "other.example"
	OtherAddr      = "203.0.113.2"
	BadName        = "bad.example"
	BadAddr        = "203.0.113.66"
	PrivateName    = "rebound.example" // has the private address
	NameServerAddr = internet.NameServer + ":53"
	RootURL        = "http://" + InternetAddr + "/root.pem"
)

var world *internet.Internet

// Internet is the one behind the tests' network.
func Internet() *internet.Internet { return world }

const roleVariable = "CUBE_TESTHOST"

// Main is what TestMain calls: it runs the tests within their own network and
// does not return.
func Main(m *testing.M) {
	run := again
	if os.Getenv(roleVariable) != "" {
		run = func() (int, error) { return runTests(m) }
	}
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testhost:", err)
		code = 1
	}
	os.Exit(code)
}

// again runs this test binary once more, in a new namespace, and returns its
// exit code.
func again() (int, error) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleVariable+"=tests")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// runTests builds the network and runs the tests in it.
func runTests(m *testing.M) (int, error) {
	loopback, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(loopback)
	}
	if err != nil {
		return 0, err
	}
	here, err := internet.Here()
	if err != nil {
		return 0, err
	}
	defer here.Close()
	if world, err = internet.Open(); err != nil {
		return 0, err
	}
	defer world.Close()
	if err := world.Connect(here); err != nil {
		return 0, err
	}
	return m.Run(), nil
}
