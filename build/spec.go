// Package build makes templates: it runs the steps of a build inside sandboxes,
// keeps what each has written as a layer, and ends with the snapshot from which
// the template's sandboxes start. It runs nothing on the machine itself, follows
// no path that an image or a build names outside a sandbox, and must never show
// a secret of a build (registry credentials, environment) in its log.
package build

import (
	"cube"
	"cube/image"
)

// Spec is what a template is made of.
type Spec struct {
	// From is an image, by its name in a registry; "" for FromTemplate.
	From        string
	Credentials *image.Credentials // for the registry; nil for none
	// FromTemplate is a template that is ready.
	FromTemplate *cube.Template
	Steps        []Step
	// Force builds every step, whatever was built before.
	Force bool
	// StartCmd runs when the template's sandboxes begin, and goes on in them; ""
	// for none. ReadyCmd is tried until it succeeds.
	StartCmd, ReadyCmd string
	// EntryPoint has the image's own entry point run where StartCmd is "".
	EntryPoint bool
	// Probe is asked by HTTP until it answers below 400, nil for none.
	Probe     *Probe
	Resources cube.Resources
}

// Probe is a port and a path inside that answer when a sandbox is ready.
type Probe struct {
	Port uint16
	Path string
}

// Step is one step, as E2B's SDKs write it.
type Step struct {
	Type string   // COPY, RUN, ENV, WORKDIR, USER
	Args []string // COPY: source, destination, user, mode; RUN: command, user; ENV: name, value, …; WORKDIR: path; USER: name
	// FilesHash names the uploaded archive of a COPY: 64 hexadecimal digits.
	FilesHash string
	Force     bool // build it, and what follows it, whatever was built before
}

// Result is a template that was built.
type Result struct {
	Snapshot cube.SnapshotID
	Memory   bool
	HostKey  string // of the agent in the memory; a secret
	Defaults cube.Defaults
}
