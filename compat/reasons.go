package main

import (
	_ "embed"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

//go:embed reasons.tsv
var reasonsFile string

// reasons say of tests that do not pass why they do not count. The first row
// that fits is taken. A test that passes needs none.
type reasons []struct {
	suite, test *regexp.Regexp
	why         string
}

// The reasons that there are. What is "not built yet" leaves the table with the
// change that builds it.
const (
	needsInternet = "needs the real internet"
	needsDatabase = "needs E2B's private database"
	notBuilt      = "not built yet: "
	ofTheSuite    = "skipped by the suite itself"
)

func readReasons() (reasons, error) { return parseReasons(reasonsFile) }

// parseReasons reads lines of three fields between tabs: which suites, which
// tests (regular expressions, whole names for the first), and why.
func parseReasons(text string) (reasons, error) {
	var table reasons
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(line, "\t")
		if len(fields) != 3 {
			return nil, fmt.Errorf("reasons.tsv:%d: write the suite, the test and the reason with tabs between them", number)
		}
		why := fields[2]
		if !slices.Contains([]string{needsInternet, needsDatabase}, why) && (!strings.HasPrefix(why, notBuilt) || len(why) == len(notBuilt)) {
			return nil, fmt.Errorf("reasons.tsv:%d: %q is no reason", number, why)
		}
		suite, err := regexp.Compile("^(?:" + fields[0] + ")$")
		if err != nil {
			return nil, fmt.Errorf("reasons.tsv:%d: %w", number, err)
		}
		test, err := regexp.Compile(fields[1])
		if err != nil {
			return nil, fmt.Errorf("reasons.tsv:%d: %w", number, err)
		}
		table = append(table, struct {
			suite, test *regexp.Regexp
			why         string
		}{suite, test, why})
	}
	return table, nil
}

// of returns the reason why a test of a suite does not count, "" for none.
func (t reasons) of(suite, test string) string {
	for _, r := range t {
		if r.suite.MatchString(suite) && r.test.MatchString(test) {
			return r.why
		}
	}
	return ""
}

// ofTheSDK are tests in files of live ones that ask no server in the version that
// they were written for: they answer themselves, or look at the arguments. With
// another version of the SDK they say nothing of a server either.
var ofTheSDK = regexp.MustCompile(`template/tags\.test\.ts › Template tags unit tests |/test_connect › test_connect_normalizes_unset_tokens$` +
	`|/fork\.test\.ts › fork with count lower than 1 fails$|/test_fork › test_fork_invalid_count$`)

// count sorts a suite's results.
func count(s suite, m measured, table reasons) row {
	r := row{Suite: s.label, Version: s.version, Date: m.Date, Commit: m.Commit, Machine: m.Machine, NotCounted: map[string]string{}}
	seen := map[string]int{}
	for _, one := range m.Results {
		if ofTheSDK.MatchString(one.Name) {
			continue
		}
		// Tests of a loop have one name.
		if seen[one.Name]++; seen[one.Name] > 1 {
			one.Name = fmt.Sprintf("%s (%d)", one.Name, seen[one.Name])
		}
		why := table.of(s.name(), one.Name)
		switch {
		case one.Outcome == passed:
			r.Passed++
		case why != "":
			r.NotCounted[one.Name] = why
		case one.Outcome == skipped:
			r.NotCounted[one.Name] = ofTheSuite
		default:
			r.Failed = append(r.Failed, one.Name)
		}
	}
	slices.Sort(r.Failed)
	return r
}
