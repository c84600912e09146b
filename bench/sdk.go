package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// measureSDK runs sdk.mjs, which measures with the official JavaScript SDK.
func measureSDK(ctx context.Context, s *server, _ options, add func(...result)) error {
	cmd := exec.CommandContext(ctx, "node", "bench/sdk.mjs")
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
		add(milliseconds(row.Name, times, row.Failed))
	}
	return nil
}
