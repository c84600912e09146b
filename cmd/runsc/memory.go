package main

import (
	"runtime/debug"
	"time"
)

// settleAfter is when a process of a sandbox gives back what only its start
// needed. It must not be within the start, which it would make slower.
const settleAfter = 5 * time.Second

// startGCPercent is what the garbage may grow by until then. Collecting it takes
// a fifth of the processor time of a start, which has little of it that is not
// in use.
const startGCPercent = 400

// settle makes a process small that is there for hours and mostly idle: what
// gVisor allocates to start is two thirds of what it ever has.
func settle() {
	debug.SetGCPercent(startGCPercent)
	time.AfterFunc(settleAfter, func() {
		debug.SetGCPercent(50)
		debug.FreeOSMemory()
	})
}
