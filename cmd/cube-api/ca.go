package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"cube/app"
)

// caCommand works on the data directory itself, whether or not a server runs.
type caCommand struct {
	Print   caPrintCommand   `cmd:"" default:"1" help:"Print the root certificate, for NODE_EXTRA_CA_CERTS or SSL_CERT_FILE."`
	Install caInstallCommand `cmd:"" help:"Have this machine trust it: put it into the machine's store."`
}

type caPrintCommand struct{}

// Run is called by kong.
func (caPrintCommand) Run(s app.Settings, out output) error {
	authority, err := s.Authority()
	if err != nil {
		return err
	}
	_, err = out.stdout.Write(authority.Root())
	return err
}

type caInstallCommand struct{}

// trustStores are where machines keep roots of their own, and what reads them.
var trustStores = []struct{ dir, command string }{
	{"/usr/local/share/ca-certificates", "update-ca-certificates"}, // Debian, Ubuntu, Alpine
	{"/etc/pki/ca-trust/source/anchors", "update-ca-trust"},        // Fedora, RHEL
	{"/etc/ca-certificates/trust-source/anchors", "update-ca-trust"},
}

// Run is called by kong.
func (caInstallCommand) Run(ctx context.Context, s app.Settings, out output) error {
	authority, err := s.Authority()
	if err != nil {
		return err
	}
	for _, store := range trustStores {
		command, err := exec.LookPath(store.command)
		if info, e := os.Stat(store.dir); err != nil || e != nil || !info.IsDir() {
			continue
		}
		file := filepath.Join(store.dir, "cube.crt")
		if err := os.WriteFile(file, authority.Root(), 0o644); err != nil { //nolint:gosec // a root is for everybody to read
			return fmt.Errorf("installing the root (are you root?): %w", err)
		}
		if text, err := exec.CommandContext(ctx, command).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", store.command, err, text)
		}
		fmt.Fprintf(out.stderr, "This machine trusts %s. Node.js has a store of its own: export NODE_EXTRA_CA_CERTS=%s\n", file, file)
		return nil
	}
	return errors.New("this machine's store of certificates is none that is known: write the output of 'cube-api ca' to a file, and give that to your system or browser")
}
