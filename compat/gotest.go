package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// parseGoTest reads the events of 'go test -json'. Tests are counted, not their
// subtests: one that has a failed subtest failed. prefix is cut off the packages'
// names.
func parseGoTest(data []byte, prefix string) ([]result, error) {
	type key struct{ pkg, test string }
	at := map[key]int{}
	var results []result
	output := map[key]*strings.Builder{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var event struct{ Action, Package, Test, Output string }
		// What a program prints past the test's own output is no event.
		if json.Unmarshal(lines.Bytes(), &event) != nil {
			continue
		}
		test, _, _ := strings.Cut(event.Test, "/")
		k := key{event.Package, test}
		if event.Action == "output" {
			if output[k] == nil {
				output[k] = &strings.Builder{}
			}
			output[k].WriteString(event.Output)
			continue
		}
		name := strings.TrimPrefix(event.Package, prefix)
		if test != "" {
			name += " › " + test
		}
		switch {
		case event.Action == "run" && test != "":
			// Until it ends, it is one that never did.
			if _, known := at[k]; !known {
				at[k] = len(results)
				results = append(results, result{Name: name})
			}
		case event.Test != test:
			// A subtest; its test tells.
		case event.Action == "pass" || event.Action == "skip" || event.Action == "fail":
			i, known := at[k]
			if !known {
				// A package's own line counts only if it could not be run.
				if test == "" && (event.Action != "fail" || ran(results, name)) {
					continue
				}
				i = len(results)
				at[k] = i
				results = append(results, result{Name: name})
			}
			results[i].Outcome = map[string]outcome{"pass": passed, "skip": skipped, "fail": failed}[event.Action]
			if b := output[k]; b != nil && event.Action != "pass" {
				results[i].Message = b.String()
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("go test's events: %w", err)
	}
	return results, nil
}

// ran tells whether any test of a package is known.
func ran(results []result, pkg string) bool {
	for _, r := range results {
		if strings.HasPrefix(r.Name, pkg+" › ") {
			return true
		}
	}
	return false
}
