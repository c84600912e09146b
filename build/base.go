package build

import (
	"context"
	"errors"
	"os"
	"strings"

	"cube"
	envdbuild "cube/envd/build"
	"cube/image"
)

// e2bBase is the image that E2B's SDKs begin with where nobody names one.
const e2bBase = "e2bdev/base"

// defaultUser is the account that a template's steps and sandboxes have, unless it
// says otherwise.
const defaultUser = "user"

// base finds or makes what the steps begin with.
func (b *build) base(ctx context.Context) error {
	switch name := strings.TrimSuffix(b.spec.From, ":latest"); {
	case b.spec.FromTemplate != nil:
		return b.baseTemplate(*b.spec.FromTemplate)
	case b.spec.FromArchive != "":
		return b.baseArchive(ctx)
	case name != "" && name != e2bBase:
		return b.baseImage(ctx, b.spec.From)
	case b.BaseImage != "":
		return b.baseImage(ctx, b.BaseImage)
	default:
		return b.baseTemplate(Base{Snapshot: cube.BaseSnapshot})
	}
}

// baseTemplate begins with what a template left for others.
func (b *build) baseTemplate(from Base) error {
	if from.Snapshot == "" {
		return failf("this template holds the memory of a sandbox, and nothing can be built on it: build from the one that it was made of")
	}
	b.state = stateOf(from.Defaults)
	if b.state.user == "" {
		b.state.user = defaultUser
	}
	base := string(from.Snapshot)
	if from.Snapshot == cube.BaseSnapshot {
		base += " " + b.HostBase
	}
	b.snapshot, b.cached = from.Snapshot, true
	b.key = baseKey(b.spec.Scope, "template", base, b.state)
	b.log.info("base", "CACHED [base] %s [%s]", b.describeBase(), shortKey(b.key))
	return nil
}

func (b *build) describeBase() string {
	switch {
	case b.spec.FromTemplate != nil:
		return "FROM TEMPLATE " + b.spec.From
	case b.spec.FromArchive != "":
		return "FROM ARCHIVE " + shortKey(b.spec.FromArchive)
	case b.spec.From == "":
		return "FROM " + e2bBase
	}
	return "FROM " + b.spec.From
}

// baseImage begins with an image of a registry.
func (b *build) baseImage(ctx context.Context, name string) error {
	img, err := b.Pull(ctx, name, b.spec.Credentials)
	if err != nil {
		return err
	}
	return b.beginWith(ctx, img)
}

// maxUnpacked bounds an archive's image, unpacked, in bytes.
const maxUnpacked = 64 << 30

// baseArchive begins with an image that was uploaded.
func (b *build) baseArchive(ctx context.Context) error {
	content, size, err := b.Uploads.Open(ctx, b.spec.Scope, b.spec.FromArchive)
	if cube.KindOf(err) == cube.NotFound {
		return failf("the archive of this build was not uploaded: import it again")
	}
	if err != nil {
		return err
	}
	file, ok := content.(*os.File)
	if !ok {
		return errors.Join(errors.New("the archive is no file"), content.Close())
	}
	if size > b.MaxArchive {
		return errors.Join(failf("the archive takes %d MiB, and may take %d", size>>20, b.MaxArchive>>20), content.Close())
	}
	archive, err := image.ReadArchive(ctx, file, maxUnpacked)
	if err != nil {
		return err
	}
	defer archive.Close()
	return b.beginWith(ctx, archive.Image)
}

// beginWith begins with an image. The first layer over it is what sandboxes need of
// a system.
func (b *build) beginWith(ctx context.Context, img image.Image) error {
	b.image = &img
	b.state = state{env: parseEnv(img.Env), user: defaultUser}
	b.key = baseKey(b.spec.Scope, "image "+envdbuild.Version, img.Digest, b.state)
	if !b.spec.Force {
		id, ok, err := b.Cache.Layer(ctx, b.key)
		if err != nil {
			return err
		}
		b.snapshot, b.cached = id, ok
	}
	b.log.info("base", "%s[base] %s [%s]", cachedMark(b.cached), b.describeBase(), shortKey(b.key))
	if b.cached {
		return nil
	}
	unpacked := cube.NewSnapshotID()
	if _, err := b.Engine.AddImage(ctx, cube.ImageRequest{Snapshot: unpacked, Layers: img.Layers, Prove: b.spec.Scope != ""}); err != nil {
		return err
	}
	defer b.discard(unpacked)
	b.snapshot = unpacked
	b.log.info("base", "[base] DEFAULT USER %s", defaultUser)
	return b.layer(ctx, b.key, func(ctx context.Context, w *worker) error {
		return w.ask(ctx, "provision", agentRequest{}, "failed to make the image one that sandboxes can work in")
	})
}

// parseEnv reads NAME=value.
func parseEnv(list []string) map[string]string {
	env := map[string]string{}
	for _, variable := range list {
		if name, value, ok := strings.Cut(variable, "="); ok && name != "" {
			env[name] = value
		}
	}
	return env
}

// entryPoint returns what an image runs, as whom and where.
func (b *build) entryPoint() (*Start, error) {
	if b.image == nil {
		return nil, errors.New("no image, so no entry point")
	}
	argv := append(append([]string{}, b.image.Entrypoint...), b.image.Cmd...)
	if len(argv) == 0 {
		return nil, failf("the image says nothing of what it runs: it has neither an entry point nor a command. Give a start command")
	}
	as := b.state
	as.user, _, _ = strings.Cut(b.image.User, ":")
	if as.user == "" {
		as.user = "root"
	}
	if as.workdir = b.image.Workdir; as.workdir == "" {
		as.workdir = "/"
	}
	return &Start{Argv: argv, Defaults: as.defaults()}, nil
}
