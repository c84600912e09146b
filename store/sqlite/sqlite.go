// Package sqlite keeps the rows of one server in one SQLite file. It translates
// between rows and the vocabulary's types, and never decides what a row should
// say: that is lifecycle's alone.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"

	"github.com/pressly/goose/v3"
	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // registers the driver, which is pure Go

	"cube"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store implements cube.Store.
type Store struct {
	// SQLite takes one writer at a time. With a single connection for writes
	// they queue here, in order, instead of failing as busy; readers have
	// connections of their own and see the last write that ended.
	write *sql.DB
	read  *sql.DB

	insert *sql.Stmt
	update *sql.Stmt
}

var _ cube.Store = (*Store)(nil)

// Open opens the database at path, makes it when it is missing, and brings its
// tables to what this version knows. The file can be read by its owner alone,
// for it holds the sandboxes' secrets. One server at a time may have it open, and
// beside it the commands that write keys.
func Open(ctx context.Context, path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := makePrivate(path); err != nil {
		return nil, fmt.Errorf("preparing the database: %w", err)
	}
	unlock, err := lockOpening(path)
	if err != nil {
		return nil, fmt.Errorf("preparing the database: %w", err)
	}
	defer unlock()
	s := &Store{}
	if s.write, err = connect(path, 1); err != nil {
		return nil, err
	}
	if s.read, err = connect(path, max(4, runtime.NumCPU()), "query_only(1)"); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the database %s: %w", path, err), s.Close())
	}
	return s, nil
}

// Readable returns why rows cannot be read now.
func (s *Store) Readable(ctx context.Context) error {
	var n int
	return s.read.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM sandboxes LIMIT 1)").Scan(&n)
}

// Close ends all connections. The file is whole before and after.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// makePrivate makes sure that the file exists with mode 0600. SQLite gives its
// -wal and -shm files the same mode.
func makePrivate(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o600), f.Close())
}

// lockOpening keeps others waiting until the tables stand: two that make the
// same ones at once would both fail. The kernel gives the lock back when the
// process ends, however it ends.
func lockOpening(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path+".opening", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// connect returns a pool of at most conns connections that stay open.
func connect(path string, conns int, pragmas ...string) (*sql.DB, error) {
	query := url.Values{
		"_txlock": {"deferred"},
		"_pragma": append([]string{
			"busy_timeout(10000)", // first: the others may have to wait
			"journal_mode(WAL)",
			// NORMAL syncs the file now and then instead of at each write. A
			// write survives the death of the server, which is what we promise.
			// The last ones may be lost when the machine loses its power; but
			// then the sandboxes that they tell of are lost as well, and
			// recovery says so. FULL would add a disk's sync to every create.
			// What must last longer is written by durably.
			"synchronous(NORMAL)",
		}, pragmas...),
	}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, fmt.Errorf("opening the database %s: %w", path, err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// durably runs f on the connection for writes so that what it writes is on the
// disk when durably returns, as is all that was written before.
func (s *Store) durably(ctx context.Context, f func(*sql.Conn) error) (err error) {
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if _, err := conn.ExecContext(ctx, "PRAGMA synchronous = FULL"); err != nil {
		return err
	}
	defer func() {
		// Should it fail, the connection stays slower, and nothing is lost.
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA synchronous = NORMAL")
	}()
	return f(conn)
}

// prepare migrates the tables and compiles the statements of a create.
func (s *Store) prepare(ctx context.Context) error {
	if err := migrate(ctx, s.write); err != nil {
		return err
	}
	var err error
	if s.insert, err = s.write.PrepareContext(ctx, insertSQL); err != nil {
		return err
	}
	s.update, err = s.write.PrepareContext(ctx, updateSQL)
	return err
}

func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files)
	if err != nil {
		return err
	}
	has, err := provider.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	sources := provider.ListSources()
	if knows := sources[len(sources)-1].Version; has > knows {
		return fmt.Errorf("it was written by a newer version of this program (its tables are at %d, this program knows %d): use that version, or another data directory", has, knows)
	}
	_, err = provider.Up(ctx)
	return err
}
