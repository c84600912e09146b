package main

import "fmt"

// version is set by the linker: see the Makefile.
var version = "development"

type versionCommand struct{}

// Run is called by kong.
func (versionCommand) Run(out output) error {
	_, err := fmt.Fprintln(out.stdout, "cube-api", version)
	return err
}
