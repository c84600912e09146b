package build

import "strings"

// expand replaces $NAME and ${NAME}, and ${NAME:-word} and ${NAME:+word} with and
// without the colon, by what the variables hold; nothing for those that are not
// set. All else stays as it is, backslashes and command substitutions too. What
// comes to more than any environment may hold is cut behind that: a few variables
// that name each other many times would fill the server's memory else.
func (s *state) expand(text string) string {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "$")
		out.WriteString(before)
		if !found || out.Len() > maxEnvironment {
			return out.String()
		}
		if value, after, ok := s.parameter(rest); ok {
			out.WriteString(value)
			text = after
			continue
		}
		out.WriteByte('$')
		text = rest
	}
}

// parameter reads what follows a dollar sign.
func (s *state) parameter(text string) (value, after string, ok bool) {
	inner, braced := strings.CutPrefix(text, "{")
	n := nameLength(inner)
	if n == 0 {
		return "", "", false
	}
	name, rest := inner[:n], inner[n:]
	value, isSet := s.lookup(name)
	if !braced {
		return value, rest, true
	}
	if after, ok := strings.CutPrefix(rest, "}"); ok {
		return value, after, true
	}
	rest, colon := strings.CutPrefix(rest, ":")
	isSet = isSet && (!colon || value != "")
	end := closing(rest)
	if end < 1 || rest[0] != '-' && rest[0] != '+' {
		return "", "", false
	}
	word := s.expand(rest[1:end])
	switch {
	case rest[0] == '+' && isSet, rest[0] == '-' && !isSet:
		value = word
	case rest[0] == '+':
		value = ""
	}
	return value, rest[end+1:], true
}

// nameLength returns how much of the text is a variable's name.
func nameLength(text string) int {
	for i, c := range []byte(text) {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(text)
}

// maxNested is how deep words may hold others. Nobody writes more than two.
const maxNested = 8

// closing returns where the brace is that closes one before the text, -1 for none.
func closing(text string) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch {
		case depth > maxNested:
			return -1
		case strings.HasPrefix(text[i:], "${"):
			depth++
		case text[i] == '}' && depth == 0:
			return i
		case text[i] == '}':
			depth--
		}
	}
	return -1
}
