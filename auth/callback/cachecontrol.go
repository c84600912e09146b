package callback

import (
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// reuse reads how long an answer may be kept from its Cache-Control headers:
// nil if they do not say, 0 if it must not be or they cannot be read. Every
// answer is kept for its own credential alone, so that private forbids nothing.
func reuse(lines []string) *time.Duration {
	var shortest *time.Duration
	for _, line := range lines {
		for line != "" {
			directive, value, rest, ok := nextDirective(line)
			if !ok {
				return new(time.Duration)
			}
			line = rest
			age := time.Duration(0)
			switch strings.ToLower(directive) {
			case "max-age", "s-maxage":
				if n, ok := digits(value); ok {
					age = time.Duration(min(n, 1<<31)) * time.Second
				}
			case "no-store", "no-cache":
			default:
				continue
			}
			if shortest == nil || age < *shortest {
				shortest = &age
			}
		}
	}
	return shortest
}

// nextDirective takes the first directive off a line of Cache-Control (RFC 9111,
// section 5.2): a word, or a word, "=" and another word or a quoted string. The
// name is "" for an empty element of the list, which says nothing. ok is false
// for what is no directive.
func nextDirective(line string) (name, value, rest string, ok bool) {
	line = strings.TrimLeft(line, " \t")
	name, line = word(line)
	if after, found := strings.CutPrefix(line, "="); found {
		if name == "" {
			return "", "", "", false
		}
		if quoted, found := strings.CutPrefix(after, `"`); found {
			value, line, ok = unquote(quoted)
		} else {
			value, line = word(after)
			ok = value != ""
		}
		if !ok {
			return name, "", "", false
		}
	}
	line = strings.TrimLeft(line, " \t")
	if line == "" {
		return name, value, "", true
	}
	rest, ok = strings.CutPrefix(line, ",")
	return name, value, rest, ok
}

// word cuts a token off.
func word(line string) (token, rest string) {
	end := strings.IndexFunc(line, func(r rune) bool { return !httpguts.IsTokenRune(r) })
	if end < 0 {
		end = len(line)
	}
	return line[:end], line[end:]
}

// unquote cuts a quoted string off whose first quote is gone.
func unquote(line string) (value, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '"':
			return b.String(), line[i+1:], true
		case '\\':
			if i++; i == len(line) {
				return "", "", false
			}
		}
		b.WriteByte(line[i])
	}
	return "", "", false
}
