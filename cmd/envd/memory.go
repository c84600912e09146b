package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"
)

const (
	// memoryLook is how often the agent looks at its own memory, and slack how
	// much it may hold that it does not use before it gives that back.
	memoryLook = 30 * time.Second
	slack      = 16 << 20
)

// giveBackMemory returns to the system what a thousand commands once took, until
// ctx ends. Go's runtime does so by itself, but slowly, and hardly at all in a
// program that sleeps.
func giveBackMemory(ctx context.Context) {
	ticks := time.NewTicker(memoryLook)
	defer ticks.Stop()
	var last uint64 // bytes allocated since the start
	for {
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		idle := m.TotalAlloc-last < slack // what is at work needs its heap
		last = m.TotalAlloc
		if held := m.HeapSys - m.HeapReleased; idle && held > slack {
			debug.FreeOSMemory()
		}
	}
}
