package dockerfile

import "strings"

// copy reads COPY and ADD: a step for each of their sources.
func (p *parser) copy(in instruction) error {
	flags, rest := in.flags()
	for name, value := range flags {
		switch name {
		case "chown", "chmod", "link", "parents":
			if name == "parents" {
				return lineError(in.line, "%s --parents is not supported: write where each goes", in.keyword)
			}
		case "from":
			return lineError(in.line, "%s --from=%s is not supported: there is one stage", in.keyword, value)
		default:
			return lineError(in.line, "%s --%s is not supported", in.keyword, name)
		}
	}
	if len(in.documents) > 0 {
		return lineError(in.line, "%s with text of its own (<<) is not supported: put it into a file, or write it with RUN", in.keyword)
	}
	words, isJSON := jsonForm(rest)
	if !isJSON {
		var err error
		if words, err = split(rest); err != nil {
			return lineError(in.line, "%s: %w", in.keyword, err)
		}
	}
	if len(words) < 2 {
		return lineError(in.line, "%s needs what to copy and where to, such as %s app.py /srv/", in.keyword, in.keyword)
	}
	to := words[len(words)-1]
	for _, source := range words[:len(words)-1] {
		if strings.Contains(source, "://") || strings.HasPrefix(source, "git@") {
			return lineError(in.line, "%s of a URL is not supported: get it with RUN curl -fsSL -o FILE %s", in.keyword, source)
		}
		if in.keyword == "ADD" && isArchive(source) {
			return lineError(in.line, "ADD does not unpack archives here: COPY %s, and unpack it with RUN tar -xf", source)
		}
		if len(words) > 2 && !strings.HasSuffix(to, "/") {
			return lineError(in.line, "%s of several needs a directory, which ends with '/': %s/", in.keyword, to)
		}
		args := []string{source, to}
		if flags["chown"] != "" || flags["chmod"] != "" {
			args = append(args, flags["chown"], flags["chmod"])
		}
		p.add(in.line, "COPY", args...)
	}
	return nil
}

// isArchive tells by its name what docker's ADD would unpack.
func isArchive(name string) bool {
	name = strings.ToLower(name)
	for _, ending := range []string{".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst"} {
		if strings.HasSuffix(name, ending) {
			return true
		}
	}
	return false
}
