package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// encodeJSON is a job as kernels read it: a line of JSON.
func encodeJSON(j job) ([]byte, error) {
	data, err := json.Marshal(j)
	return append(data, '\n'), err
}

// encodeShell is a job as the bash kernel reads it: commands.
func encodeShell(j job) ([]byte, error) {
	if strings.ContainsRune(j.Code, 0) {
		return nil, errors.New("the code holds a zero byte, which no shell can read")
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(j.Globals)) {
		// Once: what the code makes of it later stays.
		fmt.Fprintf(&b, "[ \"${__cube_global_%[1]s-}\" = %[2]s ] || { export %[1]s=%[2]s; __cube_global_%[1]s=%[2]s; }\n", name, quoteShell(j.Globals[name]))
	}
	env := slices.Sorted(maps.Keys(j.Env))
	for _, name := range env {
		fmt.Fprintf(&b, "__cube_had_%[1]s=${%[1]s+x}; __cube_old_%[1]s=${%[1]s-}; export %[1]s=%[2]s\n", name, quoteShell(j.Env[name]))
	}
	b.WriteString(`printf '{"type":"number_of_executions","execution_count":%d}\n' $((++__cube_count)) >&4` + "\n")
	b.WriteString("eval " + quoteShell(j.Code) + " 4>&-\n__cube_status=$?\n")
	for _, name := range env {
		fmt.Fprintf(&b, "if [ -n \"$__cube_had_%[1]s\" ]; then export %[1]s=\"$__cube_old_%[1]s\"; else unset %[1]s; fi\n", name)
	}
	b.WriteString(`[ "$__cube_status" -eq 0 ] || printf '{"type":"error","name":"ExitStatus","value":"%d","traceback":""}\n' "$__cube_status" >&4` + "\n")
	b.WriteString(`printf '{"type":"done"}\n' >&4` + "\n")
	return []byte(b.String()), nil
}

func quoteShell(s string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(s, "\x00", ""), "'", `'\''`) + "'"
}
