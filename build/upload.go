package build

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cube"
)

const (
	// maxUpload is what one archive may take, and maxUploads what those of one
	// tenant may take together, in bytes.
	maxUpload  = 4 << 30
	maxUploads = 32 << 30
	// linkAge is how long a link may be used; uploadAge how long an archive stays
	// that nobody uses.
	linkAge   = time.Hour
	uploadAge = 7 * 24 * time.Hour
	partial   = ".partial"
)

// UploadPrefix begins the paths of links.
const UploadPrefix = "/uploads/"

var (
	uploadHash = regexp.MustCompile(`^[0-9a-f]{64}$`)
	uploadRoom = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// uploads are the archives of steps of the kind COPY, by their tenant and by the
// hash that the client has made of what is in them. The hash names and proves
// nothing, so tenants have nothing in common.
type uploads struct {
	dir string
	key []byte // signs links; another at each start

	mu     sync.Mutex       // guards coming
	coming map[string]int64 // what uploads on their way may take, by room, in bytes
}

func openUploads(dir string) (*uploads, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of uploads: %w", err)
	}
	key := make([]byte, 32)
	rand.Read(key)
	return &uploads{dir: dir, key: key, coming: map[string]int64{}}, nil
}

// room is a tenant's directory. A tenant's name may be no file name.
func room(scope string) string {
	sum := sha256.Sum256([]byte(scope))
	return hex.EncodeToString(sum[:16])
}

func (u *uploads) sign(room, hash string, until int64) string {
	mac := hmac.New(sha256.New, u.key)
	fmt.Fprintf(mac, "%s %s %d", room, hash, until)
	return hex.EncodeToString(mac.Sum(nil))
}

// Upload tells whether an archive is there for builds of a template, and gives the
// path of a link to put it there, which needs no credential. Kinds: NotFound,
// Forbidden, Invalid.
func (s *Service) Upload(ctx context.Context, template, hash string) (present bool, link string, err error) {
	if !uploadHash.MatchString(hash) {
		return false, "", cube.Errorf(cube.Invalid, "Invalid files hash")
	}
	t, _, _, err := s.owned(ctx, template)
	if err != nil {
		return false, "", err
	}
	where := room(s.cfg.Tenancy.Tenant(t.Owner))
	path := filepath.Join(s.uploads.dir, where, hash)
	if _, err := os.Stat(path); err == nil {
		now := time.Now()
		present = os.Chtimes(path, now, now) == nil // it is in use again
	}
	until := time.Now().Add(linkAge).Unix()
	query := url.Values{"expires": {strconv.FormatInt(until, 10)}, "signature": {s.uploads.sign(where, hash, until)}}
	return present, UploadPrefix + where + "/" + hash + "?" + query.Encode(), nil
}

// Receive takes the archive of a link. size is -1 where nobody said it. Kinds:
// Forbidden (the link), TooLarge, Exhausted, Invalid (it broke off).
func (s *Service) Receive(link *url.URL, body io.Reader, size int64) error {
	where, hash, _ := strings.Cut(strings.TrimPrefix(link.Path, UploadPrefix), "/")
	query := link.Query()
	until, err := strconv.ParseInt(query.Get("expires"), 10, 64)
	valid := err == nil && uploadHash.MatchString(hash) && uploadRoom.MatchString(where) &&
		hmac.Equal([]byte(s.uploads.sign(where, hash, until)), []byte(query.Get("signature")))
	if !valid || time.Now().Unix() > until {
		return cube.Errorf(cube.Forbidden, "This link is not valid any more: ask for another with GET /templates/{templateID}/files/{hash}")
	}
	if size > maxUpload {
		return errTooLarge()
	}
	return s.uploads.receive(filepath.Join(s.uploads.dir, where), hash, body, size)
}

func errTooLarge() error {
	return cube.Errorf(cube.TooLarge, "The archive is larger than %d MiB: copy less, or fetch it in a RUN", maxUpload>>20)
}

// receive puts an archive into a room, wholly or not at all.
func (u *uploads) receive(dir, hash string, body io.Reader, size int64) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	limit := int64(maxUpload)
	if size >= 0 {
		limit = size
	}
	release, err := u.reserve(dir, limit)
	if err != nil {
		return err
	}
	defer release()
	file, err := os.CreateTemp(dir, "*"+partial)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // fails once it was renamed
	n, err := io.Copy(file, io.LimitReader(body, limit+1))
	if err == nil && n > maxUpload {
		err = errTooLarge()
	}
	if size >= 0 && err == nil && n != size {
		err = cube.Errorf(cube.Invalid, "The archive broke off")
	}
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		var ours *fs.PathError // of writing: what the client does wrong has no path
		switch {
		case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
			return cube.WrapError(cube.Exhausted, err, "there is no room on the disk for the archive: remove templates, snapshots or sandboxes that are not needed")
		case errors.As(err, &ours):
			return err
		case cube.KindOf(err) == cube.Internal:
			return cube.WrapError(cube.Invalid, err, "The archive broke off")
		}
		return err
	}
	return os.Rename(file.Name(), filepath.Join(dir, hash))
}

// reserve takes room for an upload, beside those that are on their way, until it is
// released.
func (u *uploads) reserve(dir string, size int64) (release func(), err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	kept, err := kept(dir)
	if err != nil {
		return nil, err
	}
	if taken := kept + u.coming[dir]; size > maxUploads-taken {
		return nil, cube.Errorf(cube.Exhausted, "Your uploads take %d of the %d MiB that they may take, those that are on their way included: they are removed when they were not used for a week", taken>>20, maxUploads>>20)
	}
	u.coming[dir] += size
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.coming[dir] -= size; u.coming[dir] == 0 {
			delete(u.coming, dir)
		}
	}, nil
}

// kept is what whole uploads take.
func kept(dir string) (total int64, err error) {
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && !strings.HasSuffix(entry.Name(), partial) {
			total += info.Size()
		}
	}
	return total, err
}

// Open opens an archive, and says how many bytes it has. Kind: NotFound.
func (s *Service) Open(_ context.Context, scope, hash string) (io.ReadCloser, int64, error) {
	if !uploadHash.MatchString(hash) {
		return nil, 0, cube.Errorf(cube.NotFound, "There is no upload %.64q", hash)
	}
	file, err := os.Open(filepath.Join(s.uploads.dir, room(scope), hash))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, cube.Errorf(cube.NotFound, "There is no upload %s", hash)
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

// removeOld removes archives that nobody has used for long, and those that broke
// off.
func (u *uploads) removeOld() {
	_ = filepath.WalkDir(u.dir, func(path string, entry fs.DirEntry, err error) error { // what stays is looked at again
		if err != nil || entry.IsDir() {
			return nil
		}
		info, err := entry.Info()
		age := uploadAge
		if strings.HasSuffix(path, partial) {
			age = 2 * linkAge
		}
		if err == nil && time.Since(info.ModTime()) > age {
			_ = os.Remove(path)
		}
		return nil
	})
}
