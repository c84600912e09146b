package main

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// parseJUnit reads the report of pytest --junitxml.
func parseJUnit(data []byte) ([]result, error) {
	type problem struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	var report struct {
		Suites []struct {
			Cases []struct {
				Class   string   `xml:"classname,attr"`
				Name    string   `xml:"name,attr"`
				Failure *problem `xml:"failure"`
				Error   *problem `xml:"error"`
				Skipped *problem `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(data, &report); err != nil {
		return nil, fmt.Errorf("pytest's report: %w", err)
	}
	var results []result
	at := map[string]int{}
	for _, s := range report.Suites {
		for _, c := range s.Cases {
			name := strings.ReplaceAll(c.Class, ".", "/")
			if c.Name != "" {
				name += " › " + c.Name
			}
			r := result{Name: name, Outcome: passed}
			switch {
			case c.Failure != nil:
				r.Outcome, r.Message = failed, c.Failure.Message+"\n"+c.Failure.Text
			case c.Error != nil:
				r.Outcome, r.Message = failed, c.Error.Message+"\n"+c.Error.Text
			case c.Skipped != nil:
				r.Outcome, r.Message = skipped, c.Skipped.Message
			}
			// A test whose clean-up failed stands there twice: it failed.
			if i, twice := at[name]; twice {
				if r.Outcome == failed {
					results[i] = r
				}
				continue
			}
			at[name] = len(results)
			results = append(results, r)
		}
	}
	return results, nil
}
