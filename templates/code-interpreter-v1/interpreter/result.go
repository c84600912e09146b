package main

import "strings"

// fields are the protocol's names for kinds of content. What has none of these
// goes to "extra".
var fields = map[string]string{
	"text/plain": "text", "text/html": "html", "text/markdown": "markdown", "text/latex": "latex",
	"image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpeg", "application/pdf": "pdf",
	"application/json": "json", "application/javascript": "javascript",
	"e2b/data": "data", "e2b/chart": "chart",
}

// result is the protocol's form of what a kernel shows, which is content by its
// kind.
func result(shown event) event {
	e := event{"type": "result", "is_main_result": shown["main"] == true}
	data, _ := shown["data"].(map[string]any)
	extra := map[string]any{}
	for kind, content := range data {
		name, known := fields[kind]
		switch {
		case content == nil:
		case known:
			e[name] = content
		default:
			extra[kind] = content
		}
	}
	if text, is := e["text"].(string); is {
		e["text"] = unquote(text)
	}
	if len(extra) > 0 {
		e["extra"] = extra
	}
	return e
}

// unquote takes the quotes off a text that is a string's own form, as E2B does.
func unquote(text string) string {
	for _, quote := range []string{"'", `"`} {
		if len(text) > 1 && strings.HasPrefix(text, quote) && strings.HasSuffix(text, quote) {
			return text[1 : len(text)-1]
		}
	}
	return text
}
