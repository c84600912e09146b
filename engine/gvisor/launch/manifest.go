package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// ManifestFile is the name of a snapshot's manifest in its directory. A
// directory that has none is no snapshot.
const ManifestFile = "manifest.json"

// manifestFormat is what Write writes and ReadManifest reads. Another format is
// another number.
const manifestFormat = 1

// maxManifest bounds a manifest, in bytes: far more than any has.
const maxManifest = 16 << 20

// Manifest says what a snapshot is: everything that a start from it needs to
// know beside its files.
type Manifest struct {
	Format int
	Memory bool // whether processes go on, or the files alone are kept
	// Layers is a snapshot that is its Root and nothing else; Added is how many
	// bytes the layers hold that came with it.
	Layers bool  `json:",omitempty"`
	Added  int64 `json:",omitempty"`

	// The state of a kernel is read by the version that wrote it alone, and by a
	// processor that can do what its programs have been told it can.
	GVisor string
	Arch   string
	CPU    []string // the processor's features, as Linux calls them

	// What the sandbox was started with.
	Root      Root // Root.Dir is a name below the images, so that the data can move
	Resources Resources

	Files []File
	Sum   uint32 // Castagnoli's CRC of the manifest as it is with a 0 here
}

// Resources are what a sandbox could use.
type Resources struct {
	CPUs     int
	MemoryMB int
	DiskMB   int
	Pids     int
}

// File is one file of a snapshot.
type File struct {
	Name string
	Size int64
	Sum  uint32 // Castagnoli's CRC: against damage, not against an attacker
}

// Bytes is how much all files of the snapshot take, and what came with it.
func (m Manifest) Bytes() int64 {
	bytes := m.Added
	for _, f := range m.Files {
		bytes += f.Size
	}
	return bytes
}

// Write writes the manifest of the snapshot in dir and waits for the disk.
func (m Manifest) Write(dir string) error {
	m.Format, m.Sum = manifestFormat, 0
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	m.Sum = crc32.Checksum(data, castagnoli())
	if data, err = json.Marshal(m); err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(dir, ManifestFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Sync(), file.Close())
}

// ReadManifest reads the manifest of the snapshot in dir.
func ReadManifest(dir string) (Manifest, error) {
	var m Manifest
	file, err := os.Open(filepath.Join(dir, ManifestFile))
	if err != nil {
		return m, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxManifest))
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("its manifest is damaged: %w", err)
	}
	if m.Format != manifestFormat {
		return m, fmt.Errorf("it has the format %d, and this version reads %d", m.Format, manifestFormat)
	}
	sum := m.Sum
	m.Sum = 0
	plain, err := json.Marshal(m)
	if err != nil {
		return m, err
	}
	if m.Sum = sum; crc32.Checksum(plain, castagnoli()) != sum {
		return m, errors.New("its manifest is damaged")
	}
	return m, nil
}

// CheckMachine returns a sentence when the snapshot cannot be continued by
// gVisor's version on a processor with these features.
func (m Manifest) CheckMachine(version string, features []string) error {
	switch {
	case !m.Memory: // files are read by every version and every processor
		return nil
	case m.GVisor != version:
		return fmt.Errorf("its memory was kept by gVisor %s, and this server has %s: start that version of the server again, or keep files only", m.GVisor, version)
	case m.Arch != runtime.GOARCH:
		return fmt.Errorf("its memory was kept on %s, and this machine is %s", m.Arch, runtime.GOARCH)
	}
	var missing []string
	for _, feature := range m.CPU {
		if !slices.Contains(features, feature) {
			missing = append(missing, feature)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("its programs may use what this machine's processor lacks (%s): start it on a machine like the one that kept it", strings.Join(missing, " "))
	}
	return nil
}
