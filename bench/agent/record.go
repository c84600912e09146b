package main

import (
	"fmt"
	"io"
	"slices"
)

// record is what was measured, in the order in which it came first.
type record struct {
	names  []string
	unit   map[string]string
	values map[string]map[string][]float64 // by name, then by agent
}

func newRecord() *record {
	return &record{unit: map[string]string{}, values: map[string]map[string][]float64{}}
}

func (r *record) add(name, unit string, a *agent, value float64) {
	if r.values[name] == nil {
		r.names = append(r.names, name)
		r.unit[name], r.values[name] = unit, map[string][]float64{}
	}
	r.values[name][a.name] = append(r.values[name][a.name], value)
}

// print writes a table for a README: medians, and theirs over ours. Above one,
// ours takes less.
func (r *record) print(w io.Writer) {
	fmt.Fprintln(w, "| | n | ours | theirs | theirs/ours |")
	fmt.Fprintln(w, "|---|---|---|---|---|")
	for _, name := range r.names {
		ours, theirs := median(r.values[name]["ours"]), median(r.values[name]["theirs"])
		ratio := "–"
		if ours > 0 {
			ratio = fmt.Sprintf("%.2f", theirs/ours)
		}
		fmt.Fprintf(w, "| %s | %d | %.1f %s | %.1f %s | %s |\n", name, len(r.values[name]["ours"]), ours, r.unit[name], theirs, r.unit[name], ratio)
	}
}

// median is the middle value, or the mean of the two in the middle.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[middle-1] + sorted[middle]) / 2
	}
	return sorted[middle]
}
