package launch

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
)

// castagnoli has an instruction on amd64 and arm64: some 10 GB/s. It is made when
// it is needed, for this package is part of every process of a sandbox.
var castagnoli = sync.OnceValue(func() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) })

// Largest is the size up to which a file is read whole and compared with its
// checksum before anything starts from it; in bytes. It takes 10 ms at the most
// while the sandbox's processes start beside it. Larger ones, which are memory,
// are compared while the sandbox runs already.
const Largest = 64 << 20

// Checksum reads a file and returns its size and its checksum.
func Checksum(path string) (int64, uint32, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	return checksum(file)
}

func checksum(file io.Reader) (int64, uint32, error) {
	var sum uint32
	var size int64
	table := castagnoli()
	buffer := make([]byte, 256<<10)
	for {
		n, err := file.Read(buffer)
		sum = crc32.Update(sum, table, buffer[:n])
		size += int64(n)
		if err == io.EOF {
			return size, sum, nil
		}
		if err != nil {
			return size, sum, err
		}
		runtime.Gosched() // whoever starts a sandbox has one processor, and is waited for
	}
}

// CheckSizes compares the sizes of a snapshot's files, which costs nothing.
func (m Manifest) CheckSizes(dir string) error {
	for _, f := range m.Files {
		info, err := os.Stat(filepath.Join(dir, f.Name))
		if err != nil {
			return fmt.Errorf("the snapshot is damaged: %w", err)
		}
		if info.Size() != f.Size {
			return fmt.Errorf("the snapshot is damaged: %s has %d bytes, not %d", f.Name, info.Size(), f.Size)
		}
	}
	return nil
}

// CheckSums reads those files of a snapshot for which which answers yes and
// compares their checksums.
func (m Manifest) CheckSums(dir string, which func(File) bool) error {
	for _, f := range m.Files {
		if !which(f) {
			continue
		}
		file, err := os.Open(filepath.Join(dir, f.Name))
		if err == nil {
			err = errors.Join(f.Check(file), file.Close())
		}
		if err != nil {
			return fmt.Errorf("the snapshot is damaged: %w", err)
		}
	}
	return nil
}

// Check reads an open file of a snapshot and compares its checksum.
func (f File) Check(file io.Reader) error {
	size, sum, err := checksum(file)
	if err == nil && (size != f.Size || sum != f.Sum) {
		err = fmt.Errorf("%s is not what was written", f.Name)
	}
	return err
}
