package watch

import "golang.org/x/sys/unix"

// overNetwork are the file systems whose changes elsewhere the kernel does not
// tell, by their magic numbers (statfs(2)).
var overNetwork = map[int64]bool{
	unix.NFS_SUPER_MAGIC: true, unix.SMB_SUPER_MAGIC: true, unix.CIFS_SUPER_MAGIC: true, unix.SMB2_SUPER_MAGIC: true,
	unix.FUSE_SUPER_MAGIC: true, unix.AFS_FS_MAGIC: true, unix.AFS_SUPER_MAGIC: true, unix.CEPH_SUPER_MAGIC: true,
	unix.CODA_SUPER_MAGIC: true,
}

// IsOverNetwork tells whether a directory may change without a word of the
// kernel's: then watching it shows only a part of what happens.
func IsOverNetwork(dir string) (bool, error) {
	var on unix.Statfs_t
	if err := unix.Statfs(dir, &on); err != nil {
		return false, err
	}
	return overNetwork[int64(uint32(on.Type))], nil
}
