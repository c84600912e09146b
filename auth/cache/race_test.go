//go:build race

package cache

// raceDetector watches this run: it takes no more than 8,128 goroutines, and
// makes everything slow and allocate.
const raceDetector = true
