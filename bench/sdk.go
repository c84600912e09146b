package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// measureSDK runs the phases of sdk.mjs, which measures with the official
// JavaScript SDK.
func measureSDK(ctx context.Context, s *server, _ options, add func(...result)) error {
	for _, phase := range []string{"one after the other", "staggered", "all at once", "commands"} {
		used, _ := s.cpu.used()
		cmd := exec.CommandContext(ctx, "node", "bench/sdk.mjs", phase)
		cmd.Env = append(os.Environ(), "E2B_API_URL="+s.url, "E2B_SANDBOX_URL="+s.url, "E2B_API_KEY=e2b_0000")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("bench/sdk.mjs (e2e/install installs what it needs): %w", err)
		}
		var rows []struct {
			Name   string
			Times  []float64 // milliseconds
			Failed int
		}
		if err := json.Unmarshal(out, &rows); err != nil {
			return err
		}
		for _, row := range rows {
			var times []time.Duration
			for _, ms := range row.Times {
				times = append(times, time.Duration(ms*float64(time.Millisecond)))
			}
			r := milliseconds(row.Name, times, row.Failed)
			if len(rows) == 1 { // the sandboxes of one row, and the one that warms
				client := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
				r.Comment = fmt.Sprintf("%s, and %.0f of the client", s.cpu.each(used, len(times)+1), float64(client.Microseconds())/1000/float64(len(times)+1))
			}
			add(r)
		}
	}
	return nil
}
