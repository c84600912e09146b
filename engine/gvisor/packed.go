package gvisor

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"cube"
	"cube/engine/gvisor/chunks"
	"cube/engine/gvisor/launch"
)

// A packed snapshot's directory has a list of chunks in place of its files. Where
// there is a key no snapshot is ever anything else; else those are packed that
// nobody has used for a while. One that has both is packed: its files are on their
// way out. See docs/operations.md.

const (
	listFile = "chunks.list"
	// readySuffix is a list's that is not in its place yet.
	readySuffix = ".ready"
	// packEvery is how often to look for what is to be packed, at the most.
	packEvery = time.Minute
)

// packed is what the engine knows of packed snapshots.
type packed struct {
	store *chunks.Store
	keys  chunks.Keys

	used     map[cube.SnapshotID]time.Time // when one was last started from; guarded by Engine.mu
	unpacked map[cube.SnapshotID]*unpacked // guarded by Engine.mu

	unpacking sync.Mutex // held by the one start that unpacks; taken before Engine.mu
}

// sealed tells whether snapshots are encrypted.
func (p *packed) sealed() bool { return len(p.keys) > 0 }

func isPacked(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, listFile))
	return err == nil
}

// Packed tells how much is packed, and what that takes.
func (e *Engine) Packed() chunks.Stats { return e.packed.store.Stats() }

// openPacked opens the store of chunks, and removes what packing has left behind.
func (e *Engine) openPacked() error {
	e.packed.used, e.packed.unpacked = map[cube.SnapshotID]time.Time{}, map[cube.SnapshotID]*unpacked{}
	if e.cfg.SnapshotKeys != "" {
		keys, err := chunks.ReadKeys(e.cfg.SnapshotKeys)
		if err != nil {
			return fmt.Errorf("--snapshot-key-file: %w", err)
		}
		e.packed.keys = keys
	}
	dir := filepath.Join(e.cfg.DataDir, "chunks")
	if err := chunks.CheckKeys(dir, e.packed.keys); err != nil {
		return err
	}
	entries, err := os.ReadDir(e.snapshotsDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var lists []chunks.List
	whole := true
	for _, entry := range entries {
		at := filepath.Join(e.snapshotsDir(), entry.Name())
		if strings.HasPrefix(entry.Name(), ".") || !isPacked(at) {
			continue
		}
		list, err := e.readList(at, cube.SnapshotID(entry.Name()))
		switch {
		case chunks.MissingKey(err):
			return fmt.Errorf("opening the snapshot %s: %w", entry.Name(), err)
		case err != nil:
			// Which chunks are its own is not known: they stay until it is discarded.
			e.cfg.Log.Error("a packed snapshot is damaged", "snapshot", entry.Name(), "error", err)
			whole = false
			continue
		}
		lists = append(lists, list)
		if err := removePlain(at); err != nil {
			return err
		}
	}
	e.packed.store, err = chunks.Open(dir, e.packed.keys, lists, whole)
	if err != nil {
		return fmt.Errorf("opening the snapshots' chunks: %w", err)
	}
	return nil
}

func (e *Engine) readList(dir string, id cube.SnapshotID) (chunks.List, error) {
	return chunks.ReadList(filepath.Join(dir, listFile), string(id), e.packed.keys)
}

// removePlain removes a packed snapshot's files. Who has them open reads on.
func removePlain(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		if entry.Name() != launch.ManifestFile && entry.Name() != listFile {
			err = errors.Join(err, os.Remove(filepath.Join(dir, entry.Name())))
		}
	}
	return err
}

// removeSnapshot removes a snapshot's directory, which has another name already,
// and its chunks that no other has.
func (e *Engine) removeSnapshot(id cube.SnapshotID, gone string) error {
	e.mu.Lock()
	delete(e.packed.used, id)
	e.mu.Unlock()
	list, err := e.readList(gone, id) // none, or a damaged one: Open sweeps what it had
	if removed := os.RemoveAll(gone); removed != nil {
		return removed
	}
	if err == nil {
		e.packed.store.Release(list)
	}
	return nil
}

// bytesOnDisk is what a snapshot takes.
func (e *Engine) bytesOnDisk(id cube.SnapshotID, m launch.Manifest) int64 {
	dir := filepath.Join(e.snapshotsDir(), string(id))
	if !isPacked(dir) {
		return m.Bytes()
	}
	list, err := e.readList(dir, id)
	if err != nil {
		return 0
	}
	return e.packed.store.Bytes(list)
}

// packIdle packs, one after the other, what nobody has used for a while; with a
// key, at once, what an earlier server has kept without one.
func (e *Engine) packIdle() {
	after := e.cfg.PackAfter
	if after <= 0 && !e.packed.sealed() {
		return
	}
	if e.packed.sealed() {
		after = 0
	}
	every := packEvery
	if after > 0 {
		every = min(every, max(after/2, 10*time.Millisecond))
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		e.packAll(after)
		select {
		case <-e.closing.Done():
			return
		case <-tick.C:
		}
	}
}

func (e *Engine) packAll(after time.Duration) {
	entries, err := os.ReadDir(e.snapshotsDir())
	if err != nil {
		e.cfg.Log.Error("looking for snapshots to pack", "error", err)
	}
	for _, entry := range entries {
		id := cube.SnapshotID(entry.Name())
		if strings.HasPrefix(entry.Name(), ".") || e.closing.Err() != nil || !e.idle(id, after) {
			continue
		}
		start := time.Now()
		plain, err := e.pack(id)
		switch {
		case errors.Is(err, fs.ErrNotExist) || e.closing.Err() != nil: // discarded meanwhile, or the server stops
		case err != nil:
			e.cfg.Log.Error("a snapshot could not be packed and stays as it is", "snapshot", id, "error", err)
		case plain > 0:
			stats := e.packed.store.Stats()
			e.cfg.Log.Info("snapshot packed", "snapshot", id, "bytes", plain, "took", time.Since(start), "all_plain", stats.Plain, "all_on_disk", stats.Disk)
		}
	}
}

// idle tells whether nobody has used a snapshot for so long.
func (e *Engine) idle(id cube.SnapshotID, after time.Duration) bool {
	e.mu.Lock()
	used, starting := e.packed.used[id], e.starting[id] > 0
	e.mu.Unlock()
	if starting {
		return false
	}
	info, err := os.Stat(filepath.Join(e.snapshotsDir(), string(id), launch.ManifestFile))
	if err != nil {
		return false
	}
	if info.ModTime().After(used) {
		used = info.ModTime()
	}
	return time.Since(used) >= after
}

// pack packs a snapshot and returns how many bytes it had; 0 for one that has
// nothing to pack.
func (e *Engine) pack(id cube.SnapshotID) (int64, error) {
	dir := filepath.Join(e.snapshotsDir(), string(id))
	m, err := launch.ReadManifest(dir)
	if err != nil || len(m.Files) == 0 {
		return 0, err
	}
	if isPacked(dir) {
		e.mu.Lock()
		starting := e.starting[id] > 0
		e.mu.Unlock()
		if starting {
			return 0, nil
		}
		return 0, removePlain(dir)
	}
	list, err := e.packFiles(e.closing, dir, m)
	if err != nil {
		return 0, err
	}
	path := filepath.Join(dir, listFile)
	starting := false
	if err = e.packed.store.WriteList(path+readySuffix, string(id), list); err == nil {
		// At once for those who start from it, and for Discard.
		e.mu.Lock()
		err = os.Rename(path+readySuffix, path)
		starting = e.starting[id] > 0
		e.mu.Unlock()
	}
	if err != nil {
		_ = os.Remove(path + readySuffix)
		e.packed.store.Release(list)
		return 0, err
	}
	if e.cfg.Packed != nil {
		e.cfg.Packed(id, e.packed.store.Bytes(list))
	}
	if err := syncDir(dir); err != nil || starting {
		return m.Bytes(), err // the files go the next time
	}
	return m.Bytes(), removePlain(dir)
}

// packFiles puts the files of a snapshot, which are in dir, into the store, for
// good. They are compared with their checksums on the way.
func (e *Engine) packFiles(ctx context.Context, dir string, m launch.Manifest) (list chunks.List, err error) {
	defer func() {
		if err != nil {
			e.packed.store.Release(list)
		}
	}()
	for _, f := range m.Files {
		packed, err := e.packFile(ctx, dir, f)
		if err != nil {
			return list, err
		}
		list.Files = append(list.Files, packed)
	}
	return list, e.packed.store.Sync()
}

func (e *Engine) packFile(ctx context.Context, dir string, f launch.File) (chunks.File, error) {
	file, err := os.Open(filepath.Join(dir, f.Name))
	if err != nil {
		return chunks.File{}, err
	}
	defer file.Close()
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	packed, err := e.packed.store.Pack(f.Name, io.TeeReader(untilDone{ctx, file}, sum))
	if err == nil && sum.Sum32() != f.Sum {
		e.packed.store.Release(chunks.List{Files: []chunks.File{packed}})
		err = fmt.Errorf("the snapshot is damaged: %s is not what was written", f.Name)
	}
	return packed, err
}

// untilDone is a reader that ends with its context.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}
