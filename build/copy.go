package build

import (
	"context"
	"errors"
	"net/url"

	"cube"
)

// copyFiles does a COPY: the archive goes through the server as it came, and is
// unpacked inside.
func (b *build) copyFiles(ctx context.Context, w *worker, s step) error {
	archive, size, err := b.Uploads.Open(ctx, b.spec.Scope, s.hash)
	if e, ok := errors.AsType[*cube.Error](err); ok && e.Kind == cube.NotFound {
		return failf("the files of this COPY were not uploaded: build again, with forceUpload if they still are missing")
	}
	if err != nil {
		return err
	}
	defer archive.Close()
	if size > b.MaxArchive {
		return failf("the files of this COPY take %d MiB, compressed, and may take %d: copy less, or fetch them in a RUN", size>>20, b.MaxArchive>>20)
	}
	query := url.Values{
		"source":      {CopySource(s.args[0])},
		"destination": {b.state.expand(s.args[1])},
		"user":        {b.state.user},
		"workdir":     {b.state.workdir},
	}
	for i, name := range []string{"owner", "mode"} {
		if len(s.args) > 2+i {
			query.Set(name, s.args[2+i])
		}
	}
	return w.send(ctx, "copy?"+query.Encode(), archive, size, "failed to copy files")
}
