package main

import (
	"context"
	"errors"
	"fmt"

	"cube/app"
	"cube/engine/gvisor"
)

type doctorCommand struct{}

var errUnfit = errors.New("this machine cannot run sandboxes yet: do what stands behind the arrows")

// Run is called by kong.
func (doctorCommand) Run(ctx context.Context, s app.Settings, out output) error {
	var unfit bool
	for _, check := range gvisor.Diagnose(ctx, s.DataDir, s.SandboxNetwork, s.Resources()) {
		mark := "ok  "
		switch {
		case check.Fatal:
			mark, unfit = "FAIL", true
		case check.Fix != "":
			mark = "note"
		}
		fmt.Fprintf(out.stdout, "%s  %-15s %s\n", mark, check.Name, check.Finding)
		if check.Fix != "" {
			fmt.Fprintf(out.stdout, "%21s → %s\n", "", check.Fix)
		}
	}
	if unfit {
		return errUnfit
	}
	_, err := fmt.Fprintln(out.stdout, "\nThis machine can run sandboxes.")
	return err
}
