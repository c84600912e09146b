package api

import (
	"maps"
	"slices"

	"cube"
	"cube/api/gen"
	"cube/build"
	"cube/image"
)

// imageSpec puts what a body of CubeSandbox's form says into a spec, and returns
// the template that it goes on from, if it does so as before.
func imageSpec(body gen.NewTemplate, spec *build.Spec) (fromTemplate string, err error) {
	if name := text(body.Image); name != "" {
		spec.From, spec.EntryPoint = name, true
	}
	if user := text(body.RegistryUsername); user != "" || text(body.RegistryPassword) != "" {
		spec.Credentials = &image.Credentials{Username: user, Password: text(body.RegistryPassword)}
	}
	if body.Force != nil {
		spec.Force = *body.Force
	}
	if body.StartCmd != nil {
		spec.StartCmd = *body.StartCmd
	}
	if body.ReadyCmd != nil {
		spec.ReadyCmd = *body.ReadyCmd
	}
	if body.Env != nil {
		env := map[string]string(*body.Env)
		if err := checkPairs("env", env, maxEnvVars, isVariableName); err != nil {
			return "", err
		}
		step := build.Step{Type: "ENV"}
		for _, name := range slices.Sorted(maps.Keys(env)) {
			step.Args = append(step.Args, name, env[name])
		}
		spec.Steps = slices.DeleteFunc(spec.Steps, func(s build.Step) bool { return s.Type == "ENV" })
		if len(step.Args) > 0 {
			spec.Steps = append(spec.Steps, step)
		}
	}
	return "", probe(body, spec)
}

// probe reads what tells that a template is ready.
func probe(body gen.NewTemplate, spec *build.Spec) error {
	port := 0
	switch {
	case body.ProbePort != nil:
		port = *body.ProbePort
	case body.ExposedPorts != nil && len(*body.ExposedPorts) > 0:
		port = (*body.ExposedPorts)[0]
	case spec.Probe != nil:
		port = int(spec.Probe.Port)
	case body.ProbePath != nil:
		return cube.Errorf(cube.Invalid, "validation error: probePath needs probePort, or a port in exposedPorts")
	default:
		return nil
	}
	if port < 1 || port > 65535 {
		return cube.Errorf(cube.Invalid, "validation error: probePort and exposedPorts must be numbers from 1 to 65535")
	}
	path := "/"
	if spec.Probe != nil {
		path = spec.Probe.Path
	}
	if p := text(body.ProbePath); p != "" {
		path = p
	}
	if path[0] != '/' || len(path) > 1024 {
		return cube.Errorf(cube.Invalid, "validation error: probePath must begin with a slash, and have up to 1024 characters")
	}
	spec.Probe = &build.Probe{Port: uint16(port), Path: path}
	return nil
}
