package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestVitest(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, report string
		want         []result
		err          string
	}{
		{"each state", `{"testResults":[{"name":"/r/tests/a.test.ts","status":"failed","assertionResults":[
			{"fullName":" group one","status":"passed","failureMessages":[]},
			{"fullName":"two","status":"failed","failureMessages":["no","never"]},
			{"fullName":"three","status":"skipped"},{"fullName":"four","status":"pending"},{"fullName":"five","status":"todo"}]}]}`,
			[]result{
				{"tests/a.test.ts › group one", passed, ""}, {"tests/a.test.ts › two", failed, "no\nnever"},
				{"tests/a.test.ts › three", skipped, ""}, {"tests/a.test.ts › four", skipped, ""}, {"tests/a.test.ts › five", skipped, ""},
			}, ""},
		{"a state of a later version is no pass", `{"testResults":[{"name":"/r/a","assertionResults":[{"fullName":"x","status":"weird"}]}]}`,
			[]result{{"a › x", failed, ""}}, ""},
		{"a file that cannot be loaded", `{"testResults":[{"name":"/r/a.test.ts","status":"failed","message":"syntax","assertionResults":[]}]}`,
			[]result{{"a.test.ts", failed, "syntax"}}, ""},
		{"nothing", `{}`, nil, ""},
		{"cut off", `{"testResults":[`, nil, "vitest's report"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseVitest([]byte(test.report), "/r")
			check(t, got, test.want, err, test.err)
		})
	}
}

func TestJUnit(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, report string
		want         []result
		err          string
	}{
		{"each state", `<testsuites><testsuite>
			<testcase classname="tests.sync.test_a" name="test_one"/>
			<testcase classname="tests.sync.test_a" name="test_two"><failure message="no">trace</failure></testcase>
			<testcase classname="tests.sync.test_a" name="test_three[x]"><skipped message="debug"/></testcase>
			<testcase classname="tests.sync.test_a" name="test_four"><error message="fixture">trace</error></testcase>
			</testsuite></testsuites>`,
			[]result{
				{"tests/sync/test_a › test_one", passed, ""}, {"tests/sync/test_a › test_two", failed, "no\ntrace"},
				{"tests/sync/test_a › test_three[x]", skipped, "debug"}, {"tests/sync/test_a › test_four", failed, "fixture\ntrace"},
			}, ""},
		{"one whose clean-up failed is one test", `<testsuites><testsuite><testcase classname="a" name="b"/><testcase classname="a" name="b"><error message="teardown"/></testcase></testsuite></testsuites>`,
			[]result{{"a › b", failed, "teardown\n"}}, ""},
		{"a file that cannot be imported", `<testsuites><testsuite><testcase classname="" name="tests.a"><error message="import"/></testcase></testsuite></testsuites>`,
			[]result{{" › tests.a", failed, "import\n"}}, ""},
		{"cut off", `<testsuites><testsuite>`, nil, "pytest's report"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseJUnit([]byte(test.report))
			check(t, got, test.want, err, test.err)
		})
	}
}

func TestGoTest(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, events string
		want         []result
	}{
		{"each state", `{"Action":"run","Package":"m/a","Test":"TestOne"}
			{"Action":"pass","Package":"m/a","Test":"TestOne"}
			{"Action":"run","Package":"m/a","Test":"TestTwo"}
			{"Action":"output","Package":"m/a","Test":"TestTwo","Output":"no\n"}
			{"Action":"fail","Package":"m/a","Test":"TestTwo"}
			{"Action":"run","Package":"m/a","Test":"TestThree"}
			{"Action":"skip","Package":"m/a","Test":"TestThree"}
			{"Action":"fail","Package":"m/a"}`,
			[]result{{"a › TestOne", passed, ""}, {"a › TestTwo", failed, "no\n"}, {"a › TestThree", skipped, ""}}},
		{"subtests are their test's", `{"Action":"run","Package":"m/a","Test":"TestOne"}
			{"Action":"run","Package":"m/a","Test":"TestOne/x"}
			{"Action":"output","Package":"m/a","Test":"TestOne/x","Output":"deep\n"}
			{"Action":"fail","Package":"m/a","Test":"TestOne/x"}
			{"Action":"fail","Package":"m/a","Test":"TestOne"}`,
			[]result{{"a › TestOne", failed, "deep\n"}}},
		{"one that never ended failed", `{"Action":"run","Package":"m/a","Test":"TestOne"}
			{"Action":"fail","Package":"m/a"}`, []result{{"a › TestOne", failed, ""}}},
		{"a package that does not build", `{"Action":"output","Package":"m/a","Output":"undefined\n"}
			{"Action":"fail","Package":"m/a"}`, []result{{"a", failed, "undefined\n"}}},
		{"a package without tests", `{"Action":"skip","Package":"m/a"}`, nil},
		{"lines that are no events", "panic: x\n{\n", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseGoTest([]byte(test.events), "m/")
			check(t, got, test.want, err, "")
		})
	}
}

func check(t *testing.T, got, want []result, err error, wantErr string) {
	t.Helper()
	if wantErr == "" && err != nil || wantErr != "" && (err == nil || !strings.Contains(err.Error(), wantErr)) {
		t.Fatalf("error %v, want %q", err, wantErr)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzReports: what a broken run leaves behind is read or refused; every result
// has a name.
func FuzzReports(f *testing.F) {
	f.Add([]byte(`{"testResults":[{"name":"/r/a","assertionResults":[{"fullName":"x","status":"passed"}]}]}`))
	f.Add([]byte(`<testsuites><testsuite><testcase classname="a" name="b"/></testsuite></testsuites>`))
	f.Add([]byte(`{"Action":"run","Package":"m/a","Test":"TestOne"}`))
	f.Add([]byte("a\tb\tneeds the real internet\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = parseVitest(data, "/r")
		_, _ = parseJUnit(data)
		if results, err := parseGoTest(data, "m/"); err == nil {
			seen := map[string]bool{}
			for _, r := range results {
				if seen[r.Name] && !strings.Contains(string(data), "m/") {
					t.Errorf("%q stands there twice", r.Name)
				}
				seen[r.Name] = true
			}
		}
		if table, err := parseReasons(string(data)); err == nil {
			_ = table.of("js@1", "a")
		}
	})
}
