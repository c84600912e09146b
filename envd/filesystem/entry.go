package filesystem

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "cube/envd/gen/filesystem"
	"cube/envd/users"
)

// describe returns what there is at a path.
func describe(path string, names *users.Names) (*pb.EntryInfo, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	entry := &pb.EntryInfo{
		Name:         info.Name(),
		Path:         path,
		Type:         fileType(info.Mode()),
		Size:         info.Size(),
		Mode:         uint32(info.Mode().Perm()),
		Permissions:  info.Mode().String(),
		ModifiedTime: timestamppb.New(info.ModTime()),
		Metadata:     Metadata(path),
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		entry.Owner, entry.Group = names.Owner(stat.Uid), names.Group(stat.Gid)
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		describeTarget(entry)
	}
	return entry, nil
}

// describeTarget completes the entry of a link: E2B's SDKs expect the type and
// the mode of what it leads to, and no type where that is nothing.
func describeTarget(entry *pb.EntryInfo) {
	target, err := filepath.EvalSymlinks(entry.GetPath())
	if err != nil {
		target = entry.GetPath()
	}
	entry.SymlinkTarget = &target
	entry.Type, entry.Mode = pb.FileType_FILE_TYPE_UNSPECIFIED, 0
	if info, err := os.Stat(target); err == nil {
		entry.Type, entry.Mode = fileType(info.Mode()), uint32(info.Mode().Perm())
	}
}

func fileType(mode fs.FileMode) pb.FileType {
	switch {
	case mode.IsRegular():
		return pb.FileType_FILE_TYPE_FILE
	case mode.IsDir():
		return pb.FileType_FILE_TYPE_DIRECTORY
	}
	return pb.FileType_FILE_TYPE_UNSPECIFIED
}
