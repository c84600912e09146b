package dockerfile

import (
	"regexp"
	"strings"
)

// instruction is one, with its continued lines joined.
type instruction struct {
	line      int
	keyword   string // in capitals
	rest      string
	documents []document // that follow it
}

// document is a here-document: its text, and as it was written, for a shell.
type document struct{ text, raw string }

// maxFile is longer than any Dockerfile that somebody wrote.
const maxFile = 1 << 20

var (
	directive = regexp.MustCompile(`(?i)^#\s*([a-z]+)\s*=\s*(\S+)\s*$`)
	heredoc   = regexp.MustCompile(`^[0-9]*<<(-?)(?:([A-Za-z_][A-Za-z0-9_]*)|"([A-Za-z_][A-Za-z0-9_]*)"|'([A-Za-z_][A-Za-z0-9_]*)')$`)
	name      = regexp.MustCompile(`^[A-Z_-]+$`)
)

// instructions splits a Dockerfile.
func instructions(text string) ([]instruction, error) {
	if len(text) > maxFile {
		return nil, lineError(1, "the file is longer than %d KiB", maxFile>>10)
	}
	if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
		return nil, lineError(1, "the file is UTF-16: save it as UTF-8")
	}
	lines := strings.Split(strings.TrimPrefix(strings.ReplaceAll(text, "\r\n", "\n"), "\ufeff"), "\n")
	escape := `\`
	for _, l := range lines { // directives come first
		m := directive.FindStringSubmatch(l)
		if m == nil {
			break
		}
		if strings.EqualFold(m[1], "escape") {
			if escape = m[2]; escape != `\` && escape != "`" {
				return nil, lineError(1, "escape=%s is not supported", escape)
			}
		}
	}
	var all []instruction
	for i := 0; i < len(lines); i++ {
		first := i
		l := strings.TrimSpace(lines[i])
		if l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		var whole strings.Builder
		for {
			cut, continues := strings.CutSuffix(strings.TrimRight(l, " \t"), escape)
			whole.WriteString(cut)
			if !continues {
				break
			}
			// Comments and empty lines between are no end.
			for i++; i < len(lines); i++ {
				if t := strings.TrimSpace(lines[i]); t != "" && !strings.HasPrefix(t, "#") {
					break
				}
			}
			if i >= len(lines) {
				break
			}
			l = lines[i]
		}
		in := newInstruction(first+1, whole.String())
		var err error
		if i, err = in.readDocuments(lines, i); err != nil {
			return nil, err
		}
		all = append(all, in)
	}
	return all, nil
}

func newInstruction(line int, s string) instruction {
	keyword, rest := cutBlank(strings.TrimSpace(s))
	return instruction{line: line, keyword: strings.ToUpper(keyword), rest: rest}
}

// cutBlank splits at the first spaces.
func cutBlank(s string) (word, rest string) {
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[:i], strings.TrimSpace(s[i:])
	}
	return s, ""
}

// readDocuments takes the here-documents that an instruction begins, and returns
// the last line that was read.
func (in *instruction) readDocuments(lines []string, at int) (int, error) {
	if in.keyword != "RUN" && in.keyword != "COPY" && in.keyword != "ADD" {
		return at, nil
	}
	for _, word := range rawWords(in.rest) {
		m := heredoc.FindStringSubmatch(word)
		if m == nil {
			continue
		}
		end := m[2] + m[3] + m[4]
		var text, raw strings.Builder
		for at++; ; at++ {
			if at >= len(lines) {
				return 0, lineError(in.line, "the text that begins with <<%s has no end: write %s on a line of its own", end, end)
			}
			l := lines[at]
			raw.WriteString(l + "\n")
			if m[1] == "-" {
				l = strings.TrimLeft(l, "\t")
			}
			if l == end {
				break
			}
			text.WriteString(l + "\n")
		}
		in.documents = append(in.documents, document{text: text.String(), raw: raw.String()})
	}
	return at, nil
}

// rawWords splits at spaces outside of quotes, and leaves the quotes. So no text
// is found in "a << b", in a shell's a<<<b or in its $((1<<X)).
func rawWords(s string) []string {
	var words []string
	begin, quote := -1, byte(0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		blank := quote == 0 && (c == ' ' || c == '\t')
		switch {
		case blank && begin >= 0:
			words, begin = append(words, s[begin:i]), -1
		case !blank && begin < 0:
			begin = i
		}
		switch {
		case c == '\\' && quote != '\'':
			i++
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case c == quote:
			quote = 0
		}
	}
	if begin >= 0 {
		words = append(words, s[begin:])
	}
	return words
}

// flags takes --name=value from the beginning.
func (in instruction) flags() (map[string]string, string) {
	flags := map[string]string{}
	rest := in.rest
	for strings.HasPrefix(rest, "--") {
		word, after := cutBlank(rest)
		name, value, _ := strings.Cut(word[2:], "=")
		flags[name] = value
		rest = after
	}
	return flags, rest
}
