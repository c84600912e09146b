package envd

import (
	"bufio"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// metrics remembers the processor's counters of the last question, because use
// is a difference.
type metrics struct {
	mu          sync.Mutex // guards the two below
	total, idle uint64
}

// measurement is the answer to GET /metrics, by E2B's names. Sizes are in bytes.
type measurement struct {
	Timestamp  int64   `json:"ts"`
	CPUCount   int     `json:"cpu_count"`
	CPUUsedPct float64 `json:"cpu_used_pct"`
	MemTotal   uint64  `json:"mem_total"`
	MemUsed    uint64  `json:"mem_used"`
	MemCache   uint64  `json:"mem_cache"`
	MemTotalMB uint64  `json:"mem_total_mib"`
	MemUsedMB  uint64  `json:"mem_used_mib"`
	DiskUsed   uint64  `json:"disk_used"`
	DiskTotal  uint64  `json:"disk_total"`
}

func (a *Agent) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, a.measure())
}

func (a *Agent) measure() measurement {
	m := measurement{
		Timestamp:  time.Now().Unix(),
		CPUCount:   runtime.NumCPU(),
		CPUUsedPct: a.metrics.cpuUsed(readCPU()),
	}
	memory := readMemory()
	m.MemTotal, m.MemCache = memory["MemTotal"], memory["Cached"]
	m.MemUsed = m.MemTotal - min(m.MemTotal, memory["MemAvailable"])
	m.MemTotalMB, m.MemUsedMB = m.MemTotal>>20, m.MemUsed>>20
	var disk syscall.Statfs_t
	if syscall.Statfs("/", &disk) == nil {
		m.DiskTotal = disk.Blocks * uint64(disk.Bsize)
		m.DiskUsed = m.DiskTotal - disk.Bfree*uint64(disk.Bsize)
	}
	return m
}

// cpuUsed returns the percentage of all processors that was used since the last
// call, 0 where the kernel does not count.
func (m *metrics) cpuUsed(total, idle uint64) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	passed, rested := total-m.total, idle-m.idle
	ok := total > m.total && idle >= m.idle && rested <= passed
	m.total, m.idle = total, idle
	if !ok {
		return 0
	}
	return 100 * float64(passed-rested) / float64(passed)
}

// readCPU sums the first line of /proc/stat: proc(5).
func readCPU() (total, idle uint64) {
	file, err := os.Open("/proc/stat")
	if err != nil {
		return 0, 0
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	if !lines.Scan() {
		return 0, 0
	}
	for i, field := range strings.Fields(lines.Text()) {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			continue // the line's name
		}
		total += n
		if i == 4 || i == 5 { // idle, and waiting for input and output
			idle += n
		}
	}
	return total, idle
}

// readMemory returns /proc/meminfo in bytes.
func readMemory() map[string]uint64 {
	values := map[string]uint64{}
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return values
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) == 0 {
			continue
		}
		if kb, err := strconv.ParseUint(fields[0], 10, 64); err == nil {
			values[name] = kb << 10
		}
	}
	return values
}
