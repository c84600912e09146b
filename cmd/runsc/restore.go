package main

import (
	"strings"
	"sync"

	"gvisor.dev/gvisor/pkg/cpuid"

	"cube/engine/gvisor/launch"
)

// refusal is why this machine cannot start from a snapshot, in words for whoever
// asked for it.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }

// check reads a snapshot's files while the sandbox's processes are created. Its
// zero value has nothing to check.
type check struct {
	reading sync.WaitGroup
	err     error // once reading is done
}

// begin refuses what can be seen to be wrong at once.
func (c *check) begin(s *launch.Snapshot) error {
	if err := s.Manifest.CheckMachine(gvisorVersion(), cpuFeatures()); err != nil {
		return &refusal{err}
	}
	if err := s.Manifest.CheckSizes(s.Dir); err != nil {
		return err
	}
	small := func(f launch.File) bool { return f.Size <= launch.Largest }
	c.reading.Go(func() { c.err = s.Manifest.CheckSums(s.Dir, small) })
	return nil
}

func (c *check) wait() error {
	c.reading.Wait()
	return c.err
}

// cpuFeatures are those of this machine's processor that gVisor shows to the
// code inside.
func cpuFeatures() []string {
	cpuid.Initialize()
	return strings.Fields(cpuid.HostFeatureSet().FlagString())
}
