package app

import (
	"bytes"
	"math"
	"os"
	"strconv"
)

// freeMemory is what the machine could give to new processes, in bytes: the
// kernel's own estimate (proc(5), MemAvailable). A machine that does not tell has
// as much as one likes.
func freeMemory() int64 {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return math.MaxInt64
	}
	for line := range bytes.Lines(data) {
		if fields := bytes.Fields(line); len(fields) > 1 && string(fields[0]) == "MemAvailable:" {
			if kb, err := strconv.ParseInt(string(fields[1]), 10, 64); err == nil {
				return kb << 10
			}
		}
	}
	return math.MaxInt64
}
