// Package dockerfile reads Dockerfiles as the steps of a template's build, as
// E2B's SDKs do. It runs nothing and opens nothing, and what it does not know it
// must refuse: a step that is left out in silence is found too late.
package dockerfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	"cube/build"
)

// File is a Dockerfile that was read.
type File struct {
	From  string
	Steps []Step
	// Start is what its CMD or ENTRYPOINT runs, as a shell's command; "" for none.
	Start string
}

// Step is one step, and the line that it begins in.
type Step struct {
	build.Step
	Line int
}

// lineError is a mistake with its place.
func lineError(line int, format string, args ...any) error {
	return fmt.Errorf("line %d: "+format, append([]any{line}, args...)...)
}

// Parse reads a Dockerfile. args stand for the defaults of its ARGs.
func Parse(text string, args map[string]string) (File, error) {
	lines, err := instructions(text)
	if err != nil {
		return File{}, err
	}
	p := parser{args: args, known: map[string]string{}, used: map[string]bool{}}
	for _, in := range lines {
		if err := p.take(in); err != nil {
			return File{}, err
		}
	}
	return p.end()
}

// parser is a file on its way.
type parser struct {
	file            File
	args            map[string]string // given from outside
	used            map[string]bool   // of them
	known           map[string]string // ARGs before FROM
	entrypoint, cmd command
	user, workdir   bool // were said
}

func (p *parser) add(line int, kind string, args ...string) {
	p.file.Steps = append(p.file.Steps, Step{build.Step{Type: kind, Args: args}, line})
}

func (p *parser) take(in instruction) error {
	if p.file.From == "" && in.keyword != "FROM" && in.keyword != "ARG" {
		return lineError(in.line, "%s stands before FROM: begin with FROM and an image, such as FROM ubuntu:22.04", in.keyword)
	}
	switch in.keyword {
	case "FROM":
		return p.from(in)
	case "RUN":
		return p.run(in)
	case "COPY", "ADD":
		return p.copy(in)
	case "ENV", "ARG":
		return p.env(in)
	case "WORKDIR", "USER":
		if in.rest == "" {
			return lineError(in.line, "%s says nothing", in.keyword)
		}
		value, err := unquote(in.rest)
		if err != nil {
			return lineError(in.line, "%s: %w", in.keyword, err)
		}
		if in.keyword == "USER" && strings.ContainsAny(value, " \t") {
			return lineError(in.line, "USER %s is no account: write its name alone", value)
		}
		if in.keyword == "USER" && (strings.Contains(value, ":") || strings.Trim(value, "0123456789") == "") {
			return lineError(in.line, "USER %s is not supported: write an account's name, without a group; one with a number of its own is made by RUN useradd -u 1000 app", value)
		}
		p.user, p.workdir = p.user || in.keyword == "USER", p.workdir || in.keyword == "WORKDIR"
		p.add(in.line, in.keyword, value)
	case "CMD", "ENTRYPOINT":
		c, err := readCommand(in)
		if err != nil {
			return err
		}
		if in.keyword == "CMD" {
			p.cmd = c
		} else {
			p.entrypoint, p.cmd = c, command{}
		}
	case "EXPOSE", "VOLUME", "LABEL", "MAINTAINER", "STOPSIGNAL", "HEALTHCHECK":
		// Every port can be reached, and every file is kept: there is nothing to do.
		return checkIdle(in)
	case "SHELL":
		return lineError(in.line, "SHELL is not supported: commands run in bash; write RUN with the shell that it needs, such as RUN zsh -c '…'")
	case "ONBUILD":
		return lineError(in.line, "ONBUILD is not supported: write its steps into the files that begin with this one")
	default:
		if !name.MatchString(in.keyword) {
			return lineError(in.line, "%.60q is no instruction", in.keyword)
		}
		return lineError(in.line, "%s is no instruction", in.keyword)
	}
	return nil
}

func (p *parser) from(in instruction) error {
	if p.file.From != "" {
		return lineError(in.line, "there is a second FROM: builds of several stages are not supported; build the first one as a template or an image of its own")
	}
	flags, rest := in.flags()
	for name, value := range flags {
		if own := "linux/" + runtime.GOARCH; name != "platform" || value != own && !strings.HasPrefix(value, own+"/") {
			return lineError(in.line, "FROM --%s is not supported: templates are made for the server's own machine", name)
		}
	}
	words, err := split(rest)
	if err != nil || len(words) != 1 && (len(words) != 3 || !strings.EqualFold(words[1], "AS")) {
		return lineError(in.line, "write FROM and an image, such as FROM ubuntu:22.04")
	}
	image, err := expand(words[0], p.known)
	if err != nil {
		return lineError(in.line, "FROM %s: %w", words[0], err)
	}
	if image == "" || strings.EqualFold(image, "scratch") {
		return lineError(in.line, "FROM %s holds nothing to build in: begin with an image that has a shell, such as debian:bookworm-slim", words[0])
	}
	if strings.HasSuffix(image, ":") || strings.HasSuffix(image, "@") {
		return lineError(in.line, "FROM %s is %s, and that is no image: give its variables values by ARG before FROM", words[0], image)
	}
	p.file.From = image
	return nil
}

func (p *parser) run(in instruction) error {
	flags, rest := in.flags()
	for name := range flags {
		switch name {
		case "network", "security":
			return lineError(in.line, "RUN --%s is not supported", name)
		case "mount":
			if !strings.Contains(flags[name], "type=cache") && !strings.Contains(flags[name], "type=tmpfs") {
				return lineError(in.line, "RUN --mount=%s is not supported: COPY what the command needs", flags[name])
			}
		default:
			return lineError(in.line, "RUN --%s is no flag", name)
		}
	}
	text := rest
	switch argv, isJSON := jsonForm(rest); {
	case len(in.documents) > 0:
		// A text alone is what runs; with a command, it is for the shell to read.
		text = in.documents[0].text
		if words := rawWords(rest); len(words) > len(in.documents) || strings.ContainsAny(words[0][:1], "0123456789") {
			text = rest + "\n"
			for _, d := range in.documents {
				text += d.raw
			}
		} else if len(words) > 1 {
			return lineError(in.line, "RUN of several texts needs the command that reads them")
		} else if strings.HasPrefix(text, "#!") {
			return lineError(in.line, "RUN of a text that begins with #! is not supported: write the program, such as RUN python3 <<EOF")
		}
	case isJSON:
		text = shellQuote(argv)
	}
	if strings.TrimSpace(text) == "" {
		return lineError(in.line, "RUN says nothing")
	}
	p.add(in.line, "RUN", text)
	return nil
}

// env reads ENV and ARG: name=value, several of them, or the old ENV name value.
func (p *parser) env(in instruction) error {
	words, err := split(in.rest)
	if err != nil || len(words) == 0 {
		return lineError(in.line, "write %s name=value", in.keyword)
	}
	if name, value := cutBlank(in.rest); in.keyword == "ENV" && !strings.Contains(name, "=") {
		if value == "" {
			return lineError(in.line, "write ENV %s=value", name)
		}
		p.add(in.line, "ENV", name, value)
		return nil
	}
	var pairs []string
	for _, w := range words {
		name, value, hasValue := strings.Cut(w, "=")
		switch {
		case name == "":
			return lineError(in.line, "write %s name=value", in.keyword)
		case in.keyword == "ENV" && !hasValue:
			return lineError(in.line, "%s %s has no value: write %s=value", in.keyword, name, name)
		case in.keyword == "ARG":
			given, isGiven := p.args[name]
			if isGiven {
				value, hasValue = given, true
			} else if before, isKnown := p.known[name]; isKnown && !hasValue {
				value, hasValue = before, true
			}
			p.used[name] = true
			if !hasValue {
				continue // it is not set
			}
			if p.file.From == "" {
				if p.known[name], err = expand(value, p.known); err != nil {
					return lineError(in.line, "ARG %s: %w", name, err)
				}
				continue
			}
		}
		pairs = append(pairs, name, value)
	}
	if len(pairs) > 0 {
		p.add(in.line, "ENV", pairs...)
	}
	return nil
}

// end puts what docker takes for granted before the steps, and what E2B does
// after them.
func (p *parser) end() (File, error) {
	if p.file.From == "" {
		return File{}, errors.New("there is no FROM: begin with an image, such as FROM ubuntu:22.04")
	}
	for _, name := range slices.Sorted(maps.Keys(p.args)) {
		if !p.used[name] {
			return File{}, fmt.Errorf("there is no ARG %s to give a value to", name)
		}
	}
	steps := []Step{{build.Step{Type: "USER", Args: []string{"root"}}, 0}, {build.Step{Type: "WORKDIR", Args: []string{"/"}}, 0}}
	p.file.Steps = append(steps, p.file.Steps...)
	if !p.user {
		p.add(0, "USER", "user")
	}
	if !p.workdir {
		p.add(0, "WORKDIR", "/home/user")
	}
	p.file.Start = p.entrypoint.with(p.cmd)
	return p.file, nil
}

// jsonForm reads ["a", "b"].
func jsonForm(s string) ([]string, bool) {
	var words []string
	if !strings.HasPrefix(s, "[") || json.Unmarshal([]byte(s), &words) != nil {
		return nil, false
	}
	return words, true
}
