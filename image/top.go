package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// topPrefix starts the names of the directories that MakeTop makes. It begins as
// hostBasePrefix does: RemoveHostBases removes them too.
const topPrefix = hostBasePrefix + "top-"

// MakeTop makes the directory that lies over the layers of images: the agent, the
// places where each sandbox has file systems of its own, and the names that an
// image cannot know. It stands below imagesDir, named for its content.
func MakeTop(imagesDir string, agent []byte, agentPath string) (Root, error) {
	if err := errors.Join(os.MkdirAll(imagesDir, 0o700), os.Chmod(imagesDir, 0o700)); err != nil {
		return Root{}, err
	}
	dir, err := makeOnce(imagesDir, topPrefix, func(t *tree) error {
		for _, dir := range []string{"dev", "etc", "opt", "proc", "run", "sys"} {
			t.directory(dir, 0o755, 0)
		}
		t.directory("tmp", fs.ModeSticky|0o777, 0)
		t.directory("tmp/.X11-unix", fs.ModeSticky|0o777, 0) // see skeleton
		t.names()
		t.file(agentPath, string(agent), 0o755)
		return t.err
	})
	if err != nil {
		return Root{}, fmt.Errorf("making what lies over images: %w", err)
	}
	return Root{Dir: dir, Top: true}, nil
}
