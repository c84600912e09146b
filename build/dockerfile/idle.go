package dockerfile

import (
	"regexp"
	"strings"
)

var port = regexp.MustCompile(`^[0-9]{1,5}(-[0-9]{1,5})?(/(?i:tcp|udp|sctp))?$`)

// checkIdle looks for mistakes in what needs nothing to be done: docker would
// refuse the file.
func checkIdle(in instruction) error {
	_, rest := in.flags()
	if rest == "" {
		return lineError(in.line, "%s says nothing", in.keyword)
	}
	switch in.keyword {
	case "EXPOSE":
		for _, word := range strings.Fields(rest) {
			if !port.MatchString(word) && !strings.Contains(word, "$") {
				return lineError(in.line, "EXPOSE %s is no port: write a number, such as EXPOSE 8080", word)
			}
		}
	case "LABEL":
		// The old form has one name and no sign.
		words, err := split(rest)
		if err != nil {
			return lineError(in.line, "LABEL: %w", err)
		}
		if !strings.Contains(words[0], "=") {
			if len(words) == 1 {
				return lineError(in.line, "LABEL %s has no value: write %s=value", words[0], words[0])
			}
			break
		}
		for _, word := range words {
			if !strings.Contains(word, "=") {
				return lineError(in.line, "LABEL %s has no value: write %s=value", word, word)
			}
		}
	case "HEALTHCHECK":
		if kind := strings.ToUpper(strings.Fields(rest)[0]); kind != "NONE" && kind != "CMD" {
			return lineError(in.line, "HEALTHCHECK %s is none: write HEALTHCHECK CMD and a command, or HEALTHCHECK NONE", kind)
		}
	}
	return nil
}
