package sudo

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"cube/envd/users"
)

// request is what the arguments ask for.
type request struct {
	user     string
	group    string // "" means the user's own
	workdir  string // -D
	command  []string
	set      []string // NAME=value before the command
	keep     []string // --preserve-env=NAME
	keepAll  bool     // -E
	login    bool     // -i
	shell    bool     // -s
	homeless bool     // -E without -H: HOME stays the caller's
	nothing  bool     // -v, -k, -K: all that they do here is to succeed
}

// parse reads options as sudo(8) has them. Those about passwords mean nothing
// here, for none is asked for.
func parse(args []string) (request, error) {
	r := request{user: "root"}
	var home bool
options:
	for len(args) > 0 {
		arg := args[0]
		name, value, hasValue := strings.Cut(arg, "=")
		if strings.HasPrefix(arg, "-") && !strings.HasPrefix(arg, "--") && len(arg) > 2 {
			// -u user may be written -uuser, and -n -E as -nE.
			if strings.ContainsRune("ugDpC", rune(arg[1])) {
				args = slices.Concat([]string{arg[:2], arg[2:]}, args[1:])
			} else {
				args = slices.Concat([]string{arg[:2], "-" + arg[2:]}, args[1:])
			}
			continue
		}
		takesValue := slices.Contains([]string{"-u", "--user", "-g", "--group", "-D", "--chdir", "-p", "--prompt"}, name)
		if takesValue && (!hasValue || !strings.HasPrefix(name, "--")) {
			if len(args) < 2 {
				return r, fmt.Errorf("option %s needs a value", name)
			}
			value, args = args[1], args[1:]
		}
		switch name {
		case "-u", "--user":
			r.user = value
		case "-g", "--group":
			r.group = value
		case "-D", "--chdir":
			r.workdir = value
		case "-E":
			r.keepAll = true
		case "--preserve-env":
			r.keepAll = r.keepAll || !hasValue
			r.keep = append(r.keep, strings.Split(value, ",")...)
		case "-H", "--set-home":
			home = true
		case "-i", "--login":
			r.login = true
		case "-s", "--shell":
			r.shell = true
		case "-v", "--validate", "-k", "--reset-timestamp", "-K", "--remove-timestamp":
			r.nothing = true
		case "-n", "--non-interactive", "-S", "--stdin", "-A", "--askpass", "-B", "--bell", "-p", "--prompt":
		case "--":
			args = args[1:]
			break options
		default:
			if strings.HasPrefix(arg, "-") {
				return r, fmt.Errorf("option %s is not known here: this is Cube's stand-in, and knows -u -g -D -E -H -i -s -n -v -k", arg)
			}
			if !hasValue || strings.Contains(name, "/") {
				break options
			}
			r.set = append(r.set, arg)
		}
		args = args[1:]
	}
	r.command = args
	r.homeless = r.keepAll && !home
	r.nothing = r.nothing && len(args) == 0
	if len(args) == 0 && !r.login && !r.shell && !r.nothing {
		return r, fmt.Errorf("usage: sudo [-u user] [-g group] [-D directory] [-EHnis] [NAME=value] command")
	}
	return r, nil
}

// kept are the variables that sudo's env_reset lets through.
var kept = []string{"COLORTERM", "COLORS", "DISPLAY", "LANG", "LANGUAGE", "LS_COLORS", "PS1", "PS2", "TERM", "TZ", "XAUTHORITY"}

// environment is that of the command.
func (r request) environment(callers []string, caller, target users.User) map[string]string {
	environment := map[string]string{}
	for _, pair := range callers {
		name, value, _ := strings.Cut(pair, "=")
		if r.keepAll || slices.Contains(r.keep, name) || slices.Contains(kept, name) || strings.HasPrefix(name, "LC_") {
			environment[name] = value
		}
	}
	if !r.homeless || environment["HOME"] == "" {
		environment["HOME"] = target.Home
	}
	environment["PATH"] = securePath
	environment["USER"], environment["LOGNAME"] = target.Name, target.Name
	environment["SHELL"] = shellOf(target)
	environment["SUDO_USER"] = caller.Name
	environment["SUDO_UID"], environment["SUDO_GID"] = fmt.Sprint(caller.UID), fmt.Sprint(caller.GID)
	environment["SUDO_COMMAND"] = strings.Join(r.command, " ")
	for _, pair := range r.set {
		name, value, _ := strings.Cut(pair, "=")
		environment[name] = value
	}
	return environment
}

// shellOf is the target's shell in /etc/passwd, which package users leaves out.
func shellOf(target users.User) string {
	data, err := os.ReadFile("/etc/passwd")
	if err == nil {
		for line := range strings.Lines(string(data)) {
			fields := strings.Split(strings.TrimSpace(line), ":")
			if len(fields) == 7 && fields[0] == target.Name && fields[6] != "" {
				return fields[6]
			}
		}
	}
	return "/bin/sh"
}

// argv is what is run: the command, or a shell, that takes it as a line.
func (r request) argv(shell string) []string {
	if !r.login && !r.shell {
		return r.command
	}
	if len(r.command) == 0 {
		return []string{shell}
	}
	words := make([]string, 0, len(r.command))
	for _, word := range r.command {
		words = append(words, quote(word))
	}
	return []string{shell, "-c", strings.Join(words, " ")}
}

// quote keeps a shell from seeing more in a word than its letters and its
// variables, as sudo does.
func quote(word string) string {
	var quoted strings.Builder
	for _, letter := range word {
		plain := letter == '_' || letter == '-' || letter == '$' || unicode.IsLetter(letter) || unicode.IsDigit(letter)
		if !plain {
			quoted.WriteByte('\\')
		}
		quoted.WriteRune(letter)
	}
	return quoted.String()
}

// dir is where the command runs, "" for where the caller is.
func (r request) dir(target users.User) string {
	switch {
	case r.workdir != "":
		return filepath.Clean(r.workdir)
	case r.login:
		return target.Home
	}
	return ""
}
