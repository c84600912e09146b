package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// suite is one of E2B's test suites with one version of the SDK that it drives.
type suite struct {
	kind    kind
	label   string
	version string // of the package, "" where there is none
	// tag is where the tests stand: that of the version, or the newest in the
	// repository where the version has none.
	tag string
}

func (s suite) name() string {
	if s.version == "" {
		return s.label
	}
	return s.label + "@" + s.version
}

// kind is how suites of one language are installed and run.
type kind interface {
	install(ctx context.Context, o options, s suite, dir string) error
	run(ctx context.Context, o options, s suite, dir string, w *world) ([]result, error)
}

// result is what became of one test.
type result struct {
	Name    string // file › test
	Outcome outcome
	Message string
}

type outcome int

const (
	failed outcome = iota
	passed
	skipped
)

// suites are those of the record, in its order. JS 2.51.0 is the newest.
var suites = []suite{
	{jsSDK{}, "js", "2.51.0", "e2b@2.45.0"},
	{jsSDK{}, "js", "2.45.0", "e2b@2.45.0"},
	{jsSDK{}, "js", "2.20.1", "e2b@2.20.1"},
	{jsSDK{}, "js", "2.8.1", "e2b@2.8.1"},
	{pythonSDK{}, "python", "2.63.0", "@e2b/python-sdk@2.45.1"},
	{pythonSDK{}, "python", "2.51.0", "@e2b/python-sdk@2.45.1"},
	{pythonSDK{}, "python", "2.45.1", "@e2b/python-sdk@2.45.1"},
	{pythonSDK{}, "python", "2.8.1", "@e2b/python-sdk@2.8.1"},
	{cli{}, "cli", "2.19.0", "@e2b/cli@2.17.1"},
	{jsInterpreter{}, "code-interpreter-js", "2.8.0", "@e2b/code-interpreter@2.7.1"},
	{pythonInterpreter{}, "code-interpreter-python", "2.11.5", "@e2b/code-interpreter-python@2.9.1"},
	{infra{}, "infra", "", "HEAD"},
}

// choose returns the suites of these names, or all.
func choose(names []string) ([]suite, error) {
	if len(names) == 0 {
		return suites, nil
	}
	var chosen []suite
	for _, name := range names {
		i := slices.IndexFunc(suites, func(s suite) bool { return s.name() == name })
		if i < 0 {
			var known []string
			for _, s := range suites {
				known = append(known, s.name())
			}
			return nil, fmt.Errorf("there is no suite %q: write one of %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, suites[i])
	}
	return chosen, nil
}
