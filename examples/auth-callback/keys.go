package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

// key is one key of the file, and what it is for.
type key struct {
	Key     string   `json:"key"`    // as the client sends it
	SHA256  string   `json:"sha256"` // or its hash, in hexadecimal
	Subject string   `json:"subject"`
	Team    string   `json:"team"`
	Scopes  []string `json:"scopes"`
	Role    string   `json:"role"`  // a name of roles
	Allow   []string `json:"allow"` // or rules

	sum   [sha256.Size]byte
	rules []rule
}

// roles are names for rules that many keys share.
var roles = map[string][]string{
	"full":      {"* /**"},
	"read-only": {"GET,HEAD /**"},
}

func (k *key) is(sum [sha256.Size]byte) bool {
	return subtle.ConstantTimeCompare(k.sum[:], sum[:]) == 1
}

// mayDo tells whether a rule allows the method on the path. Always check both:
// GET and DELETE of /templates/x are not the same thing.
func (k *key) mayDo(method, path string) bool {
	return slices.ContainsFunc(k.rules, func(r rule) bool { return r.allows(method, path) })
}

// rule allows methods on paths.
type rule struct {
	methods  []string // "*" for every one
	segments []string // "*" for one, "**" at the end for one or more
}

var rulePattern = regexp.MustCompile(`^(\*|[A-Z]+(?:,[A-Z]+)*) /((?:(?:\*|[^*\s/]+)/)*(?:\*\*?|[^*\s/]*))$`)

// parseRule reads "GET,HEAD /templates/*".
func parseRule(text string) (rule, error) {
	parts := rulePattern.FindStringSubmatch(text)
	if parts == nil {
		return rule{}, fmt.Errorf(`write the rule %q as "METHOD,METHOD /path", such as "GET,HEAD /templates/*" or "* /sandboxes/**"`, text)
	}
	return rule{methods: strings.Split(parts[1], ","), segments: strings.Split(parts[2], "/")}, nil
}

// allows compares segment by segment. The path is as the client sent it, still
// escaped, so that a slash in a name is %2F and no end of a segment.
func (r rule) allows(method, path string) bool {
	if !slices.Contains(r.methods, "*") && !slices.Contains(r.methods, method) {
		return false
	}
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, want := range r.segments {
		switch {
		case i >= len(segments):
			return false
		case want == "**":
			return true
		case want != "*" && want != segments[i]:
			return false
		}
	}
	return len(segments) == len(r.segments)
}

// readKeys reads the file. What could be meant in two ways is an error.
func readKeys(name string) ([]key, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	decoder := json.NewDecoder(file)
	decoder.DisallowUnknownFields()
	var content struct {
		Keys []key `json:"keys"`
	}
	if err := decoder.Decode(&content); err != nil {
		return nil, fmt.Errorf("reading JSON: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("there is more behind the JSON object")
	}
	if len(content.Keys) == 0 {
		return nil, errors.New("there is no key in it")
	}
	seen := map[[sha256.Size]byte]bool{}
	for i := range content.Keys {
		k := &content.Keys[i]
		if err := k.prepare(); err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		if seen[k.sum] {
			return nil, fmt.Errorf("key %d stands there twice", i+1)
		}
		seen[k.sum] = true
	}
	return content.Keys, nil
}

// prepare checks a key as it was read, and makes of it what is compared.
func (k *key) prepare() error {
	if (k.Key == "") == (k.SHA256 == "") {
		return errors.New(`write "key" or "sha256", one of the two`)
	}
	k.sum = sha256.Sum256([]byte(k.Key))
	if k.SHA256 != "" {
		sum, err := hex.DecodeString(k.SHA256)
		if err != nil || len(sum) != sha256.Size {
			return errors.New(`"sha256" is not 64 hexadecimal digits`)
		}
		k.sum = [sha256.Size]byte(sum)
	}
	if (k.Role == "") == (k.Allow == nil) {
		return errors.New(`write "role" or "allow", one of the two`)
	}
	texts := k.Allow
	if k.Role != "" {
		known := false
		if texts, known = roles[k.Role]; !known {
			return fmt.Errorf("there is no role %q", k.Role)
		}
	}
	for _, text := range texts {
		r, err := parseRule(text)
		if err != nil {
			return err
		}
		k.rules = append(k.rules, r)
	}
	for _, name := range append([]string{k.Subject, k.Team}, k.Scopes...) {
		if strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }) {
			return fmt.Errorf("%q holds what Cube takes in no name: write ASCII without blanks", name)
		}
	}
	return nil
}
