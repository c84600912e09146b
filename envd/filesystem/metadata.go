package filesystem

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Metadata of a file are extended attributes in a namespace of E2B's, which
// programs inside can write too.
const metadataNamespace = "user.e2b."

// The bounds of what an upload may attach.
const (
	maxMetadataKey   = 246  // bytes: with the namespace 255, which is Linux's bound
	maxMetadataBytes = 4096 // keys and values together
	// maxAttributes bounds what is read of a file whose attributes programs inside
	// have written: names, and one value.
	maxAttributes = 64 << 10
)

// CheckMetadata refuses what cannot be kept.
func CheckMetadata(metadata map[string]string) error {
	total := 0
	for key, value := range metadata {
		switch {
		case key == "":
			return errors.New("invalid metadata: a key is empty")
		case len(key) > maxMetadataKey:
			return fmt.Errorf("invalid metadata: a key has %d bytes, and may have %d", len(key), maxMetadataKey)
		}
		for _, text := range []string{key, value} {
			if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
				return fmt.Errorf("invalid metadata: %q holds what is no printable ASCII", key)
			}
		}
		total += len(key) + len(value)
	}
	if total > maxMetadataBytes {
		return fmt.Errorf("invalid metadata: keys and values have %d bytes, and may have %d", total, maxMetadataBytes)
	}
	return nil
}

// SetMetadata replaces what is attached to an open file.
func SetMetadata(file *os.File, metadata map[string]string) error {
	fd := int(file.Fd())
	names, err := attributeNames(func(p []byte) (int, error) { return unix.Flistxattr(fd, p) })
	if isUnsupported(err) && len(metadata) == 0 {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "flistxattr", Path: file.Name(), Err: err}
	}
	for _, name := range names {
		key, ours := strings.CutPrefix(name, metadataNamespace)
		if _, stays := metadata[key]; !ours || stays {
			continue
		}
		if err := unix.Fremovexattr(fd, name); err != nil && !errors.Is(err, unix.ENODATA) {
			return &os.PathError{Op: "fremovexattr", Path: file.Name(), Err: err}
		}
	}
	for key, value := range metadata {
		if err := unix.Fsetxattr(fd, metadataNamespace+key, []byte(value), 0); err != nil {
			return &os.PathError{Op: "fsetxattr", Path: file.Name(), Err: err}
		}
	}
	return nil
}

// Metadata returns what is attached to what there is at a path, nil if nothing
// is, or cannot be read: a description without it is better than none.
func Metadata(path string) map[string]string {
	names, err := attributeNames(func(p []byte) (int, error) { return unix.Llistxattr(path, p) })
	if err != nil {
		return nil
	}
	var metadata map[string]string
	for _, name := range names {
		key, ours := strings.CutPrefix(name, metadataNamespace)
		if !ours || key == "" {
			continue
		}
		value := make([]byte, maxMetadataBytes)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			continue // removed meanwhile, or larger than an upload could have made it
		}
		if metadata == nil {
			metadata = map[string]string{}
		}
		metadata[strings.ToValidUTF8(key, "\uFFFD")] = strings.ToValidUTF8(string(value[:n]), "\uFFFD")
	}
	return metadata
}

// attributeNames lists the names of extended attributes.
func attributeNames(list func([]byte) (int, error)) ([]string, error) {
	n, err := list(nil)
	if err != nil || n == 0 {
		return nil, err
	}
	buffer := make([]byte, min(n+1024, maxAttributes))
	if n, err = list(buffer); err != nil {
		return nil, err
	}
	names := strings.Split(string(buffer[:n]), "\x00")
	return slices.DeleteFunc(names, func(name string) bool { return name == "" }), nil
}

func isUnsupported(err error) bool {
	return errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS)
}
