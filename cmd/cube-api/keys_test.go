package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cube/auth/decision"
	"cube/auth/keys"
	"cube/store/sqlite"
)

// command runs cube-api on a data directory and returns what it wrote.
func command(t *testing.T, dir string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	err = run(t.Context(), append([]string{"--data-dir", dir}, args...), &out, &errs)
	return out.String(), errs.String(), err
}

// created makes a key and returns it.
func created(t *testing.T, dir string, args ...string) string {
	t.Helper()
	stdout, _, err := command(t, dir, append([]string{"keys", "create"}, args...)...)
	if err != nil {
		t.Fatalf("creating %q: %v", args, err)
	}
	return strings.TrimSuffix(stdout, "\n")
}

// server has the database open for as long as the test runs, as a server does.
func server(t *testing.T, dir string) *keys.Keys {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "cube.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	rows, err := store.APIKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return keys.New(keys.Config{Store: rows})
}

func opens(t *testing.T, k *keys.Keys, secret string) bool {
	t.Helper()
	answer, err := k.Decide(t.Context(), decision.Question{Credential: decision.Credential{Secret: secret}, Method: "GET"})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Allowed
}

func TestAKeyIsPrintedOnceAndAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	stdout, stderr, err := command(t, dir, "keys", "create", "laptop")
	if err != nil || !regexp.MustCompile(`\Ae2b_[0-9a-f]{40}\n\z`).MatchString(stdout) {
		t.Fatalf("printed %d bytes, %v; want a key and nothing else", len(stdout), err)
	}
	secret := strings.TrimSpace(stdout)
	if !strings.Contains(stderr, `"laptop"`) || !strings.Contains(stderr, "the first") || strings.Contains(stderr, secret) {
		t.Errorf("the words are %q", stderr)
	}
	list, _, err := command(t, dir, "keys", "list")
	if err != nil || !strings.Contains(list, "laptop") || !strings.Contains(list, secret[:6]+"…"+secret[40:]) || strings.Contains(list, secret[:12]) {
		t.Errorf("the list is %q, %v", list, err)
	}
	if _, stderr, err := command(t, dir, "keys", "create", "second"); err != nil || strings.Contains(stderr, "the first") {
		t.Errorf("of the second: %q, %v", stderr, err)
	}
}

func TestARunningServerSeesKeysAtOnce(t *testing.T) {
	dir := t.TempDir()
	s := server(t, dir)
	if in, err := s.InUse(t.Context()); in || err != nil {
		t.Fatalf("before: in use %v, %v", in, err)
	}
	laptop, ci := created(t, dir, "laptop"), created(t, dir, "ci")
	if in, err := s.InUse(t.Context()); !in || err != nil {
		t.Errorf("after: in use %v, %v", in, err)
	}
	if !opens(t, s, laptop) || !opens(t, s, ci) {
		t.Error("a new key opens nothing")
	}
	if _, _, err := command(t, dir, "keys", "revoke", "laptop"); err != nil {
		t.Fatal(err)
	}
	if opens(t, s, laptop) || !opens(t, s, ci) {
		t.Error("the wrong key was revoked, or none")
	}
}

func TestFlagsOfAKey(t *testing.T) {
	dir := t.TempDir()
	created(t, dir, "plain")
	created(t, dir, "all", "--role=read-only", "--templates=base,small", "--expires=720h", "--team=red", "--subject=ada", "--operator")
	list, _, err := command(t, dir, "keys", "list")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(list), "\n")
	if len(lines) != 3 {
		t.Fatalf("the list is\n%s", list)
	}
	for i, pattern := range []string{
		`^NAME +KEY +ID +ROLE +TEAM +SUBJECT +TEMPLATES +CREATED +BY +ENDS$`,
		`^plain +e2b_\S+ +[0-9a-f-]{36} +full +- +- +all +\d\S+ \S+Z +- +never$`,
		`^all +e2b_\S+ +[0-9a-f-]{36} +read-only, operator +red +ada +base,small +\d\S+ \S+Z +- +\d\S+ \S+Z$`,
	} {
		if !regexp.MustCompile(pattern).MatchString(lines[i]) {
			t.Errorf("line %d is %q, want %s", i, lines[i], pattern)
		}
	}
}

func TestRevokingByNameOrID(t *testing.T) {
	dir := t.TempDir()
	s := server(t, dir)
	reds, blues := created(t, dir, "ci", "--team=red"), created(t, dir, "ci", "--team=blue")
	if _, _, err := command(t, dir, "keys", "revoke", "ci"); err == nil || !strings.Contains(err.Error(), "2 keys") {
		t.Errorf("revoking what could be either: %v", err)
	}
	if !opens(t, s, reds) || !opens(t, s, blues) {
		t.Error("one was revoked")
	}
	list, _, _ := command(t, dir, "keys", "list")
	id := regexp.MustCompile(`([0-9a-f-]{36}) .* red `).FindStringSubmatch(list)
	if id == nil {
		t.Fatalf("no id in\n%s", list)
	}
	if _, _, err := command(t, dir, "keys", "revoke", id[1]); err != nil {
		t.Fatal(err)
	}
	if opens(t, s, reds) || !opens(t, s, blues) {
		t.Error("the wrong key was revoked, or none")
	}
	if list, _, err := command(t, dir, "keys", "list"); err != nil || strings.Contains(list, id[1]) {
		t.Errorf("the list still has it: %v\n%s", err, list)
	}
	if list, _, err := command(t, dir, "keys", "list", "--all"); err != nil || !regexp.MustCompile(id[1]+`.* revoked \d`).MatchString(list) {
		t.Errorf("the list of all has it not: %v\n%s", err, list)
	}
	if _, _, err := command(t, dir, "keys", "revoke", id[1]); err == nil {
		t.Error("it was revoked twice")
	}
}

func TestKeyCommandsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	secret := created(t, dir, "taken")
	for _, args := range [][]string{
		{"create"},
		{"create", ""},
		{"create", "taken"},
		{"create", "two\nlines"},
		{"create", "n", "--role=admin"},
		{"create", "n", "--expires=soon"},
		{"create", "n", "--expires=-1h"},
		{"create", "n", "--team=a b"},
		{"create", "n", "--templates=base,,"},
		{"revoke"},
		{"revoke", ""},
		{"revoke", "nothing"},
		{"revoke", "3f0e1d2c-0000-4000-8000-000000000000"},
		{"revoke", secret},
	} {
		stdout, _, err := command(t, dir, append([]string{"keys"}, args...)...)
		if err == nil || stdout != "" {
			t.Errorf("%q: printed %q, %v; want an error alone", args, stdout, err)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%q: the error shows the key", args)
		}
	}
	list, _, err := command(t, dir, "keys", "list")
	if err != nil || strings.Count(list, "\n") != 2 {
		t.Errorf("afterwards the list is %q, %v; want the one key", list, err)
	}
}

func TestAMisspeltDirectoryIsNotMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "misspelt")
	for _, args := range [][]string{{"keys", "list"}, {"keys", "revoke", "n"}} {
		if _, _, err := command(t, dir, args...); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}

// full is a place that takes nothing.
type full struct{}

var errFull = errors.New("no space")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestAKeyThatCouldNotBePrintedIsRevoked(t *testing.T) {
	dir := t.TempDir()
	err := run(t.Context(), []string{"--data-dir", dir, "keys", "create", "unseen"}, full{}, &bytes.Buffer{})
	if !errors.Is(err, errFull) {
		t.Errorf("error = %v, want %v", err, errFull)
	}
	if list, _, err := command(t, dir, "keys", "list"); err != nil || strings.Contains(list, "unseen") {
		t.Errorf("the list is %q, %v", list, err)
	}
}
