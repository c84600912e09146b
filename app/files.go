package app

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

const (
	// wantedFiles is how many files the server likes to be able to open: an idle
	// connection into a sandbox holds two, and one through the gate too.
	wantedFiles = 1 << 20
	// fewFiles is what a machine's login shells often allow, and servers outgrow.
	fewFiles = 1 << 16
)

// raiseFileLimit lets the server open as many files as it may, and says if those
// are few. Where the hard limit may be raised it is.
func raiseFileLimit(log *slog.Logger) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		log.Warn("it is not known how many files the server may open", "error", err)
		return
	}
	for _, most := range []uint64{max(limit.Max, wantedFiles), limit.Max} {
		next := unix.Rlimit{Cur: most, Max: most}
		if next == limit || unix.Setrlimit(unix.RLIMIT_NOFILE, &next) == nil {
			limit = next
			break
		}
	}
	if limit.Cur < fewFiles {
		log.Warn("the server may open few files, and each connection into a sandbox needs two: raise the limit (LimitNOFILE= of systemd, ulimit -n of a shell)", "files", limit.Cur)
	}
}
