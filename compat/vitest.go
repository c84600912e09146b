package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
)

// parseVitest reads the report of vitest's JSON reporter. Names of files are
// made relative to root.
func parseVitest(data []byte, root string) ([]result, error) {
	var report struct {
		TestResults []struct {
			Name             string
			Status           string
			Message          string
			AssertionResults []struct {
				FullName        string
				Status          string
				FailureMessages []string
			}
		}
	}
	if err := json.Unmarshal(data, &report); err != nil {
		return nil, fmt.Errorf("vitest's report: %w", err)
	}
	var results []result
	for _, file := range report.TestResults {
		name := file.Name
		if relative, err := filepath.Rel(root, name); err == nil {
			name = filepath.ToSlash(relative)
		}
		// A file that could not even be loaded has no tests, and is one failure.
		if len(file.AssertionResults) == 0 && file.Status == "failed" {
			results = append(results, result{Name: name, Message: file.Message})
		}
		for _, test := range file.AssertionResults {
			r := result{Name: name + " › " + strings.TrimSpace(test.FullName), Message: strings.Join(test.FailureMessages, "\n")}
			switch test.Status {
			case "passed":
				r.Outcome = passed
			case "skipped", "pending", "todo", "disabled":
				r.Outcome = skipped
			}
			results = append(results, r)
		}
	}
	return results, nil
}
