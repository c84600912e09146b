package process

import (
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"

	pb "cube/envd/gen/process"
)

// openTerminal makes a terminal. The master's reads and writes can be
// interrupted by deadlines: a terminal stays open while anything that its
// process left behind holds it. (That is why no library opens it: the usual one
// makes it blocking.)
func openTerminal(size *pb.PTY_Size) (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	var number uint32
	err = control(master, func(fd int) (err error) {
		if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil { // unlocks it
			number, err = unix.IoctlGetUint32(fd, unix.TIOCGPTN)
		}
		return err
	})
	if err == nil {
		err = setSize(master, size)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		_ = master.Close()
		return nil, nil, fmt.Errorf("opening a terminal: %w", err)
	}
	return master, slave, nil
}

func setSize(master *os.File, size *pb.PTY_Size) error {
	bound := func(n uint32) uint16 { return uint16(min(n, math.MaxUint16)) }
	return control(master, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: bound(size.GetRows()), Col: bound(size.GetCols())})
	})
}

// control does something with a file's descriptor. File.Fd would make the file
// blocking.
func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	if err := raw.Control(func(fd uintptr) { done = do(int(fd)) }); err != nil {
		return err
	}
	return done
}
