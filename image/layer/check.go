package layer

import (
	"os"

	"golang.org/x/sys/unix"
)

// Check tells whether the file system that dir is on keeps what layers are made
// of. One that is itself overlayfs, as in a container without a volume, does not.
func Check(dir string) error {
	probe, err := os.MkdirTemp(dir, ".tmp-check-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(probe)
	fd, err := unix.Open(probe, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Mknodat(fd, "deleted", unix.S_IFCHR, 0); err != nil {
		return err
	}
	return unix.Fsetxattr(fd, opaque, []byte("y"), 0)
}
