package image

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// binDir is where the base has what the host's /usr lacks. It is last in Path:
// the host's own programs go first.
const binDir = "/opt/cube/bin"

// Path is the PATH of the base.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:" + binDir

// HostProgram tells whether the base will have a program of the host's under
// this name: in a directory of the PATH, for everybody to run, and itself below
// /usr. One that is a link into somebody's home, as version managers make them,
// is none.
func HostProgram(name string) bool {
	_, found := hostProgram("/", name)
	return found
}

func hostProgram(root, name string) (string, bool) {
	for dir := range strings.SplitSeq(Path, ":") {
		path := filepath.Join(dir, name)
		real, err := filepath.EvalSymlinks(filepath.Join(root, path))
		if err != nil {
			continue
		}
		inside := slices.ContainsFunc([]string{"usr", "bin", "sbin"}, func(top string) bool {
			return strings.HasPrefix(real, filepath.Join(root, top)+"/")
		})
		info, err := os.Stat(real)
		if inside && err == nil && info.Mode().IsRegular() && info.Mode()&0o005 == 0o005 {
			return path, true
		}
	}
	return "", false
}

// standIns gives what people and E2B's SDKs type and this host does not have
// under that name: python and pip, which Debian calls python3 and pip3, and
// sudo, whose place the agent's own program takes: see cube/envd/sudo.
func (t *tree) standIns(agent string) {
	t.directory(binDir, 0o755, 0)
	for _, link := range [][2]string{{"python", "python3"}, {"pip", "pip3"}} {
		name, other := link[0], link[1]
		target, found := hostProgram("/", other)
		if found && !HostProgram(name) {
			t.link(binDir+"/"+name, target)
		}
	}
	if !HostProgram("sudo") {
		t.file(binDir+"/sudo", agent, fs.ModeSetuid|0o755)
	}
}
