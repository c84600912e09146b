package api

import (
	"context"
	"time"

	"cube"
	"cube/build"
	"cube/engine/fake"
)

// standIn builds templates without steps: each is a sandbox's files as they were.
type standIn struct{ engine *fake.Engine }

// A standIn fails at this step, and waits at that one until it is ended.
const (
	failingStep = "FAIL"
	hangingStep = "HANG"
)

func (s standIn) Run(ctx context.Context, id string, spec build.Spec, log func(cube.LogEntry)) (build.Result, error) {
	log(cube.LogEntry{Time: time.Now().UTC(), Level: "info", Message: "Building template " + id})
	for _, step := range spec.Steps {
		log(cube.LogEntry{Time: time.Now().UTC(), Level: "info", Step: "1", Message: step.Type})
		switch step.Type {
		case failingStep:
			log(cube.LogEntry{Time: time.Now().UTC(), Level: "error", Step: "1", Message: "it failed"})
			return build.Result{}, &build.Error{Failure: cube.BuildFailure{Step: "1", Message: "it failed"}}
		case hangingStep:
			<-ctx.Done()
			return build.Result{}, ctx.Err()
		}
	}
	sandbox, snapshot := cube.NewSandboxID(), cube.NewSnapshotID()
	if _, err := s.engine.Start(ctx, cube.StartRequest{ID: sandbox, Snapshot: cube.BaseSnapshot, Resources: spec.Resources}); err != nil {
		return build.Result{}, err
	}
	defer func() { _ = s.engine.Stop(context.WithoutCancel(ctx), sandbox) }()
	_, err := s.engine.Checkpoint(ctx, cube.CheckpointRequest{Sandbox: sandbox, Snapshot: snapshot})
	defaults := cube.Defaults{EnvVars: map[string]string{"FROM": spec.From}, User: "root", Workdir: "/app"}
	return build.Result{Snapshot: snapshot, Defaults: defaults, Base: build.Base{Snapshot: snapshot, Defaults: defaults}}, err
}
