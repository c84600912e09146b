package build

import (
	"regexp"
	"slices"
	"strings"

	"cube"
)

// reference is what a user calls a template, or one of its builds.
type reference struct {
	namespace string // "" where none was said
	alias     string // or an id
	tag       string // or the id of a build; "" where none was said
}

var (
	aliasPattern = regexp.MustCompile(`^[a-z0-9_-]{1,128}$`)
	tagPattern   = regexp.MustCompile(`^[a-z0-9_.-]{1,128}$`)
)

// parseReference reads "namespace/alias:tag", in any case; all but the alias may
// be left out.
func parseReference(text string) (r reference, err error) {
	name, tag, tagged := strings.Cut(strings.ToLower(strings.TrimSpace(text)), ":")
	namespace, alias, spaced := strings.Cut(name, "/")
	if !spaced {
		namespace, alias = "", name
	}
	switch {
	case spaced && !aliasPattern.MatchString(namespace):
		return r, cube.Errorf(cube.Invalid, "invalid namespace: %.64q has other characters than a-z, 0-9, - and _", namespace)
	case !aliasPattern.MatchString(alias):
		return r, cube.Errorf(cube.Invalid, "invalid template ID: %.64q: a name has up to 128 characters of a-z, 0-9, - and _", alias)
	case tagged && !tagPattern.MatchString(tag):
		return r, cube.Errorf(cube.Invalid, "invalid tag: %.64q: a tag has up to 128 characters of a-z, 0-9, -, _ and .", tag)
	}
	return reference{namespace, alias, tag}, nil
}

// maxTags is how many tags one request may name.
const maxTags = 64

// parseTags reads tags, each once, in the order in which they came.
func parseTags(list []string) ([]string, error) {
	if len(list) > maxTags {
		return nil, cube.Errorf(cube.Invalid, "Too many tags: at most %d at once", maxTags)
	}
	var tags []string
	for _, text := range list {
		tag := strings.ToLower(strings.TrimSpace(text))
		if !tagPattern.MatchString(tag) {
			return nil, cube.Errorf(cube.Invalid, "Invalid tag: %.64q: a tag has up to 128 characters of a-z, 0-9, -, _ and .", text)
		}
		if cube.IsBuildID(tag) {
			return nil, cube.Errorf(cube.Invalid, "Invalid tag: %q has the form of a build's id, which a tag cannot have", tag)
		}
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}
