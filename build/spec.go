// Package build makes templates: it runs the steps of a build inside sandboxes,
// keeps what each has written as a layer, and ends with the snapshot from which
// the template's sandboxes start. It runs nothing on the machine itself, follows
// no path that an image or a build names outside a sandbox, and must never show
// a secret of a build: registry credentials in no log, and environment in the
// build's own log alone, where it stands as it was written.
package build

import (
	"cube"
	"cube/image"
)

// Spec is what a template is made of.
type Spec struct {
	Template cube.TemplateID
	// Scope is who shares what was built before: layers that others built are not
	// looked for.
	Scope string
	// From is an image, by its name in a registry, or the name by which
	// FromTemplate was asked for. "" means E2B's own base image.
	From        string
	Credentials *image.Credentials // for the registry; nil for none
	// FromTemplate is what a template that is ready gave to those who go on from
	// it; nil for an image.
	FromTemplate *Base
	// FromArchive is the hash of an uploaded archive of an image, in place of From; ""
	// for none.
	FromArchive string
	Steps       []Step
	// Force builds every step, whatever was built before.
	Force bool
	// StartCmd runs when the template's sandboxes begin, and goes on in them; ""
	// for none. ReadyCmd is tried until it succeeds. Where both are "", those of
	// FromTemplate hold.
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
	Type string   // COPY, RUN, ENV, WORKDIR, USER; also ADD and ARG
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
	// Base is for builds from this template. Its snapshot may be Snapshot, and one
	// that the cache or another template names too.
	Base Base
}

// Base is what a build from a template begins with.
type Base struct {
	// Snapshot holds the files as the last step left them, and no memory: nothing
	// was started yet. cube.BaseSnapshot for the host-made base.
	Snapshot cube.SnapshotID
	Defaults cube.Defaults
	Start    *Start // what runs in the template's sandboxes, nil for nothing
}

// Start is what runs when a template's sandboxes begin, and when they are ready.
// Defaults are as they were where it was written: later steps do not change them.
type Start struct {
	StartCmd string   `json:",omitempty"`
	Argv     []string `json:",omitempty"` // an image's entry point, in place of StartCmd
	ReadyCmd string   `json:",omitempty"`
	Probe    *Probe   `json:",omitempty"`
	Defaults cube.Defaults
}
