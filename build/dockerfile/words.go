package dockerfile

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode"
)

// split splits at spaces, with quotes and backslashes as a shell has them. What
// has a $ stays as it is: the server knows the variables.
func split(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quote := false, byte(0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(s):
			i++
			if quote == '"' && s[i] != '"' && s[i] != '\\' || s[i] == '$' {
				word.WriteByte('\\')
			}
			word.WriteByte(s[i])
			inWord = true
		case quote != 0:
			word.WriteByte(c)
		case c == '\'' || c == '"':
			quote, inWord = c, true
		case c == ' ' || c == '\t':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote has no end")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// unquote is for what is one word, spaces included.
func unquote(s string) (string, error) {
	if !strings.ContainsAny(s, `"'\`) {
		return s, nil
	}
	words, err := split(s)
	return strings.Join(words, " "), err
}

// maxExpanded bounds what a value may come to, in bytes: each may name others twice.
const maxExpanded = 64 << 10

// expand puts values in place of $NAME and ${NAME}, and of ${NAME:-word} and
// ${NAME:+word} with and without the colon.
func expand(s string, values map[string]string) (string, error) {
	var err error
	size := 0
	within := func(value string) string {
		if size += len(value); size > maxExpanded {
			err = fmt.Errorf("with its variables it is longer than %d KiB", maxExpanded>>10)
			return ""
		}
		return value
	}
	expanded := os.Expand(s, func(inner string) string {
		n := strings.IndexFunc(inner, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		if n < 0 {
			return within(values[inner])
		}
		value, isSet := values[inner[:n]]
		operator, colon := strings.CutPrefix(inner[n:], ":")
		isSet = isSet && (!colon || value != "")
		switch {
		case n > 0 && strings.HasPrefix(operator, "-") && isSet, n > 0 && strings.HasPrefix(operator, "+") && !isSet:
			return within(value)
		case n > 0 && (strings.HasPrefix(operator, "-") || strings.HasPrefix(operator, "+")):
			return within(operator[1:])
		}
		err = fmt.Errorf("${%s} is not supported: write ${NAME} or ${NAME:-value}", inner)
		return ""
	})
	return expanded, err
}

// command is a CMD or an ENTRYPOINT.
type command struct {
	argv  []string // in JSON's form
	shell string   // in the other
}

func readCommand(in instruction) (command, error) {
	if argv, isJSON := jsonForm(in.rest); isJSON {
		return command{argv: argv}, nil
	}
	if strings.HasPrefix(in.rest, "[") {
		return command{}, lineError(in.line, "%s looks like a list and is no JSON: write [\"program\", \"argument\"] with double quotes", in.keyword)
	}
	return command{shell: in.rest}, nil
}

// with is what an entry point runs with the arguments of a CMD, as docker has
// it: a shell's entry point takes none.
func (c command) with(cmd command) string {
	switch {
	case c.shell != "":
		return c.shell
	case cmd.shell != "" && len(c.argv) > 0:
		return shellQuote(append(c.argv[:len(c.argv):len(c.argv)], "/bin/sh", "-c", cmd.shell))
	case cmd.shell != "":
		return cmd.shell
	}
	return shellQuote(append(c.argv[:len(c.argv):len(c.argv)], cmd.argv...))
}

// shellQuote writes arguments so that a shell reads them as they are.
func shellQuote(argv []string) string {
	quoted := make([]string, len(argv))
	for i, a := range argv {
		if a == "" || strings.Trim(a, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@,+%") != "" {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		quoted[i] = a
	}
	return strings.Join(quoted, " ")
}
