package cube

import "time"

// Metric is what a sandbox used at one time.
type Metric struct {
	At         time.Time // UTC, whole seconds
	CPUs       int
	CPUUsedPct float64 // of all its processors together, 0 to 100
	// In bytes. Cache and disk are as the sandbox itself says, and may be wrong.
	MemoryUsed, MemoryTotal, MemoryCache int64
	DiskUsed, DiskTotal                  int64
}

// LogLine is a line that a process in a sandbox printed, or that says what became
// of one. All of it comes out of the sandbox.
type LogLine struct {
	At      time.Time // UTC, whole milliseconds: when the server got to know it
	Level   LogLevel
	Message string
	Fields  map[string]string
}

// LogLevel is how much a line matters.
type LogLevel string

// The levels, the least first.
const (
	LevelDebug LogLevel = "debug"
	LevelInfo  LogLevel = "info"
	LevelWarn  LogLevel = "warn"
	LevelError LogLevel = "error"
)

// LogLevels are all, the least first.
var LogLevels = []LogLevel{LevelDebug, LevelInfo, LevelWarn, LevelError}

// LogQuery selects lines. The zero value of a field filters nothing.
type LogQuery struct {
	From     time.Time // at or after it; in backward order, at or before it
	Backward bool      // newest first
	Level    LogLevel  // this one and those that matter more
	Search   string    // what the message holds, as it is written
	Limit    int       // at most so many
}
