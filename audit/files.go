package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// activeName is the file that is written to. Full ones are audit-1.jsonl,
// audit-2.jsonl and so on, in the order of time: names that went by a clock
// would not be when it is set.
const activeName = "audit.jsonl"

// files are the files of a log, for its one writer.
type files struct {
	dir    string
	max    int64 // bytes of one
	keep   int   // full ones
	active *os.File
	size   int64
	torn   bool // the last line has no end
}

func openFiles(dir string, size int64, keep int) (*files, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f := &files{dir: dir, max: size, keep: keep}
	return f, f.open()
}

func (f *files) open() error {
	active, err := os.OpenFile(filepath.Join(f.dir, activeName), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	size, torn, err := ending(active)
	if err != nil {
		_ = active.Close()
		return err
	}
	f.active, f.size, f.torn = active, size, torn
	return nil
}

// ending tells how long a file is, and whether its last line has no end, as a
// server that was killed may leave it.
func ending(file *os.File) (size int64, torn bool, err error) {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return 0, false, err
	}
	last := make([]byte, 1)
	_, err = file.ReadAt(last, info.Size()-1)
	return info.Size(), last[0] != '\n', err
}

// write appends whole lines and returns how many bytes of them are written. On
// an error that is not the disk's refusal, that is all of them.
func (f *files) write(lines []byte) (n int, err error) {
	var moving error
	if f.size > 0 && f.size+int64(len(lines)) > f.max {
		moving = f.moveAside()
	}
	if f.torn { // what is half there stays, as a line of its own
		if _, err := f.active.Write(newline); err != nil {
			return 0, errors.Join(moving, err)
		}
		f.size++
	}
	n, err = f.active.Write(lines)
	f.size += int64(n)
	f.torn = n > 0 && lines[n-1] != '\n'
	return n, errors.Join(moving, err)
}

// moveAside begins a new file. If that fails, the old one is written to as
// before, and it is tried again.
func (f *files) moveAside() error {
	if err := f.active.Sync(); err != nil {
		return err
	}
	full, err := fullFiles(f.dir)
	if err != nil {
		return err
	}
	next := 1
	if len(full) > 0 {
		next = full[len(full)-1] + 1
	}
	from, to := filepath.Join(f.dir, activeName), fullName(f.dir, next)
	if err := os.Rename(from, to); err != nil {
		return err
	}
	old := f.active
	if err := f.open(); err != nil {
		return errors.Join(err, os.Rename(to, from))
	}
	full = append(full, next)
	failures := []error{old.Close(), syncDir(f.dir)}
	for _, number := range full[:max(0, len(full)-f.keep)] {
		failures = append(failures, os.Remove(fullName(f.dir, number)))
	}
	return errors.Join(failures...)
}

func (f *files) close() error {
	return errors.Join(f.active.Sync(), f.active.Close())
}

// syncDir makes a new name last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func fullName(dir string, number int) string {
	return filepath.Join(dir, fmt.Sprintf("audit-%d.jsonl", number))
}

// fullFiles returns the numbers of the full files, the oldest first.
func fullFiles(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, entry := range entries {
		middle, found := strings.CutPrefix(entry.Name(), "audit-")
		middle, ends := strings.CutSuffix(middle, ".jsonl")
		number, err := strconv.Atoi(middle)
		if found && ends && err == nil && number > 0 && strconv.Itoa(number) == middle {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// openAll opens all files for reading, the oldest first. The active one is
// opened before the others are listed: else the writer could move it aside in
// between, and it would be missed.
func openAll(dir string) (all []*os.File, err error) {
	defer func() {
		if err != nil {
			closeAll(all)
		}
	}()
	active, err := os.Open(filepath.Join(dir, activeName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	full, err := fullFiles(dir)
	if err != nil {
		return []*os.File{active}, err
	}
	for _, number := range full {
		file, err := os.Open(fullName(dir, number))
		if errors.Is(err, fs.ErrNotExist) { // it was one too many
			continue
		}
		if err != nil {
			return append(all, active), err
		}
		if isSame(file, active) {
			_ = file.Close()
			break
		}
		all = append(all, file)
	}
	if active != nil {
		all = append(all, active)
	}
	return all, nil
}

func isSame(a, b *os.File) bool {
	if b == nil {
		return false
	}
	one, err := a.Stat()
	other, e := b.Stat()
	return err == nil && e == nil && os.SameFile(one, other)
}

func closeAll(files []*os.File) {
	for _, file := range files {
		_ = file.Close() // of a nil file an error, and no more
	}
}
