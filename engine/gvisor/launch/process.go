package launch

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// FindProcess returns the process that has the id pid now.
func FindProcess(pid int) (Process, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Process{}, err
	}
	// Field 2 is the command's name in parentheses and may hold anything, a
	// parenthesis too; field 3 follows the last one.
	_, rest, ok := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(") "))
	fields := bytes.Fields(rest)
	const startTime = 22 - 3
	if !ok || len(fields) <= startTime {
		return Process{}, fmt.Errorf("unexpected form of /proc/%d/stat", pid)
	}
	ticks, err := strconv.ParseUint(string(fields[startTime]), 10, 64)
	if err != nil {
		return Process{}, fmt.Errorf("start time in /proc/%d/stat: %w", pid, err)
	}
	return Process{PID: pid, StartTime: ticks}, nil
}
