package dockerfile

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// told is a file in a few words.
func told(f File) string {
	var b strings.Builder
	b.WriteString("FROM " + f.From)
	for _, s := range f.Steps {
		fmt.Fprintf(&b, "\n%s %q", s.Type, s.Args)
	}
	if f.Start != "" {
		b.WriteString("\nstart " + f.Start)
	}
	return b.String()
}

func TestDockerfiles(t *testing.T) {
	const begin, end = "USER [\"root\"]\nWORKDIR [\"/\"]\n", "\nUSER [\"user\"]\nWORKDIR [\"/home/user\"]"
	for _, c := range []struct{ name, text, want string }{
		{"a run", "FROM ubuntu:22.04\nRUN apt-get update", begin + `RUN ["apt-get update"]` + end},
		{"small letters, spaces, comments, a mark", "\ufeff# x\n\n  from ubuntu:22.04 as base\r\n\trun  echo  a  b \r\n", begin + `RUN ["echo  a  b"]` + end},
		{"continued lines", "FROM ubuntu:22.04\nRUN a \\\n  # why\n\n  && b \\  \n  && c", begin + `RUN ["a   && b   && c"]` + end},
		{"another escape", "# escape=`\nFROM ubuntu:22.04\nRUN a `\n b\\", begin + `RUN ["a  b\\"]` + end},
		{"exec form", "FROM ubuntu:22.04\nRUN [\"echo\", \"it's\", \"\"]", begin + `RUN ["echo 'it'\\''s' ''"]` + end},
		{"a document", "FROM ubuntu:22.04\nRUN <<EOF\na\n  b\nEOF\nRUN c", begin + "RUN [\"a\\n  b\\n\"]\nRUN [\"c\"]" + end},
		{"a document for a program", "FROM ubuntu:22.04\nRUN python3 - <<'E'\nprint(1)\nE", begin + `RUN ["python3 - <<'E'\nprint(1)\nE\n"]` + end},
		{"a document without its tabs", "FROM ubuntu:22.04\nRUN <<-EOF\n\ta\n\tEOF", begin + `RUN ["a\n"]` + end},
		{"two documents", "FROM ubuntu:22.04\nRUN paste 3<<A 4<<B\n1\nA\n2\nB", begin + `RUN ["paste 3<<A 4<<B\n1\nA\n2\nB\n"]` + end},
		{"what is no document", "FROM ubuntu:22.04\nRUN cat <<<EOF && echo $((1<<X)) \"a <<EOF\" 'b <<EOF'", begin + `RUN ["cat <<<EOF && echo $((1<<X)) \"a <<EOF\" 'b <<EOF'"]` + end},
		{"tabs", "FROM\tubuntu:22.04\nCOPY\t--chown=app\ta\tb\nENV\tA\tx y", begin + `COPY ["a" "b" "app" ""]` + "\n" + `ENV ["A" "x y"]` + end},
		{"old line ends and the last line continued", "FROM ubuntu:22.04\r\nRUN a \\\r\n b \\\r\n", begin + `RUN ["a  b"]` + end},
		{"this machine's platform", "FROM --platform=linux/" + runtime.GOARCH + " ubuntu:22.04\nRUN a", begin + `RUN ["a"]` + end},
		{"defaults and alternatives", "ARG A=22.04\nARG B\nFROM ubuntu:${A:+22}${B+no}${C-.04}${A+}\nRUN a", begin + `RUN ["a"]` + end},
		{"nothing to do", "FROM ubuntu:22.04\nEXPOSE 80 443/tcp 1000-2000/udp $PORT\nLABEL a=b \"c d\"=e\nLABEL old form\nHEALTHCHECK --interval=5s CMD x\nHEALTHCHECK none\nSTOPSIGNAL 9\nMAINTAINER me\nRUN a", begin + `RUN ["a"]` + end},
		{"an entry point for a shell's command", "FROM ubuntu:22.04\nENTRYPOINT [\"/run\"]\nCMD a b", "USER [\"root\"]\nWORKDIR [\"/\"]" + end + "\nstart /run /bin/sh -c 'a b'"},
		{"a shell's entry point takes no command", "FROM ubuntu:22.04\nENTRYPOINT /run x\nCMD [\"a\"]", "USER [\"root\"]\nWORKDIR [\"/\"]" + end + "\nstart /run x"},
		{"nothing is run any more", "FROM ubuntu:22.04\nCMD a\nCMD []", "USER [\"root\"]\nWORKDIR [\"/\"]" + end},
		{"a cache is none", "FROM ubuntu:22.04\nRUN --mount=type=cache,target=/x pip install y", begin + `RUN ["pip install y"]` + end},
		{"copies", "FROM ubuntu:22.04\nCOPY a b /srv/\nADD --chown=app:app --chmod=755 x y\nCOPY [\"a b\", \"/c d\"]",
			begin + `COPY ["a" "/srv/"]` + "\n" + `COPY ["b" "/srv/"]` + "\n" + `COPY ["x" "y" "app:app" "755"]` + "\n" + `COPY ["a b" "/c d"]` + end},
		{"environment", "FROM ubuntu:22.04\nENV A=1 B=\"two words\" C=a\\ b\nENV D some value\nENV E=$A/x", begin + `ENV ["A" "1" "B" "two words" "C" "a b"]` + "\n" + `ENV ["D" "some value"]` + "\n" + `ENV ["E" "$A/x"]` + end},
		{"arguments", "ARG V=1\nFROM ubuntu:${X:-22.04}\nARG V\nARG W=w G\nRUN echo $V", begin + `ENV ["V" "1"]` + "\n" + `ENV ["W" "w" "G" "given"]` + "\n" + `RUN ["echo $V"]` + end},
		{"user and place", "FROM ubuntu:22.04\nUSER app\nWORKDIR \"/my app\"", begin + `USER ["app"]` + "\n" + `WORKDIR ["/my app"]`},
		{"a command", "FROM ubuntu:22.04\nCMD node server.js && x\nEXPOSE 80\nLABEL a=b\nVOLUME /x", "USER [\"root\"]\nWORKDIR [\"/\"]" + end + "\nstart node server.js && x"},
		{"an entry point with arguments", "FROM ubuntu:22.04\nENTRYPOINT [\"/run\", \"a b\"]\nCMD [\"-v\"]", "USER [\"root\"]\nWORKDIR [\"/\"]" + end + "\nstart /run 'a b' -v"},
		{"an entry point resets the command", "FROM ubuntu:22.04\nCMD [\"x\"]\nENTRYPOINT [\"/run\"]", "USER [\"root\"]\nWORKDIR [\"/\"]" + end + "\nstart /run"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := map[string]string{}
			if strings.Contains(c.text, " G\n") {
				args["G"] = "given"
			}
			f, err := Parse(c.text, args)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := told(f), "FROM ubuntu:22.04\n"+c.want; got != want {
				t.Errorf("it is\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestMistakes is every one that people make.
func TestMistakes(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "there is no FROM"},
		{"# nothing", "there is no FROM"},
		{"RUN x\nFROM y", "line 1: RUN stands before FROM"},
		{"FROM", "line 1: write FROM and an image"},
		{"FROM a b", "line 1: write FROM and an image"},
		{"FROM scratch", "holds nothing to build in"},
		{"ARG X\nFROM $X", "line 2: FROM $X holds nothing"},
		{"ARG X=aaaaaaaa\n" + strings.Repeat("ARG X=$X$X\n", 100) + "FROM $X", "longer than 64 KiB"},
		{"FROM --platform=linux/arm64 a", "FROM --platform is not supported"},
		{"FROM a AS b\nFROM c", "line 2: there is a second FROM"},
		{"FROM a\nRUN", "RUN says nothing"},
		{"FROM a\nRUN --mount=type=secret,id=x y", "--mount=type=secret,id=x is not supported"},
		{"FROM a\nRUN --foo y", "RUN --foo is no flag"},
		{"FROM a\nRUN <<EOF\nx", "line 2: the text that begins with <<EOF has no end"},
		{"FROM a\n\nCOPY x", "line 3: COPY needs what to copy"},
		{"FROM a\nCOPY \"x y", "a quote has no end"},
		{"FROM a\nCOPY x y z", "needs a directory, which ends with '/': z/"},
		{"FROM a\nCOPY --from=b x y", "--from=b is not supported"},
		{"FROM a\nCOPY --parents x y", "--parents is not supported"},
		{"FROM a\nCOPY <<EOF /x\ny\nEOF", "text of its own"},
		{"FROM a\nADD https://x.example/y /z", "get it with RUN curl"},
		{"FROM a\nENV A", "ENV A"},
		{"FROM a\nENV A=1 B", "ENV B has no value"},
		{"FROM a\nENV =1", "write ENV name=value"},
		{"FROM a\nUSER", "USER says nothing"},
		{"FROM a\nCMD ['x']", "looks like a list and is no JSON"},
		{"FROM a\nSHELL [\"x\"]", "SHELL is not supported"},
		{"FROM a\nONBUILD RUN x", "ONBUILD is not supported"},
		{"FROM a\nRUNN x", "line 2: RUNN is no instruction"},
		{"FROM a\napt-get update", "APT-GET is no instruction"},
		{"FROM a\n\x7fELF\x02 x", `line 2: "\x7fELF\x02" is no instruction`},
		{"\xff\xfeF\x00R\x00", "the file is UTF-16: save it as UTF-8"},
		{"FROM a:$X", "line 1: FROM a:$X is a:, and that is no image: give its variables values by ARG before FROM"},
		{"FROM a:${X:?none}", "line 1: FROM a:${X:?none}: ${X:?none} is not supported"},
		{"ARG A=${B#c}\nFROM a", "line 1: ARG A: ${B#c} is not supported"},
		{"FROM a # the base", "line 1: write FROM and an image"},
		{"FROM a AS", "line 1: write FROM and an image"},
		{"FROM a\nRUN x \\\n  && y\nFOO", "line 4: FOO is no instruction"},
		{"FROM a\nRUN <<A <<B\nA\nB", "line 2: RUN of several texts needs the command that reads them"},
		{"FROM a\nRUN <<EOF\n#!/usr/bin/python3\nEOF", "write the program, such as RUN python3 <<EOF"},
		{"FROM a\nRUN --mount=type=bind,target=/x y", "COPY what the command needs"},
		{"FROM a\nRUN --network=none x", "RUN --network is not supported"},
		{"FROM a\nCOPY --exclude=b x y", "COPY --exclude is not supported"},
		{"FROM a\nADD --checksum=sha256:1 x y", "ADD --checksum is not supported"},
		{"FROM a\nADD app.tar.gz /srv/", "line 2: ADD does not unpack archives here: COPY app.tar.gz"},
		{"FROM a\nADD git@x.example:y.git /z", "ADD of a URL is not supported"},
		{"FROM a\nCOPY", "line 2: COPY needs what to copy"},
		{"FROM a\nWORKDIR", "WORKDIR says nothing"},
		{"FROM a\nUSER app # not root", "USER app # not root is no account"},
		{"FROM a\nUSER 1000", "line 2: USER 1000 is not supported: write an account's name"},
		{"FROM a\nUSER app:app", "USER app:app is not supported"},
		{"FROM a\nENV A=\"b", "write ENV name=value"},
		{"FROM a\nENV A=1 # one", "ENV # has no value"},
		{"FROM a\nARG", "write ARG name=value"},
		{"FROM a\nEXPOSE", "EXPOSE says nothing"},
		{"FROM a\nEXPOSE http", "line 2: EXPOSE http is no port"},
		{"FROM a\nLABEL x", "LABEL x has no value"},
		{"FROM a\nLABEL x=1 y", "LABEL y has no value"},
		{"FROM a\nHEALTHCHECK curl x", "HEALTHCHECK CURL is none"},
		{"FROM a\nENTRYPOINT [x]", "line 2: ENTRYPOINT looks like a list and is no JSON"},
		{"# escape=x\nFROM a", "escape=x is not supported"},
		{strings.Repeat("#", 2<<20), "longer than"},
	} {
		if _, err := Parse(c.text, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: the error is %v; want %q", c.text, err, c.want)
		}
	}
	if _, err := Parse("FROM a", map[string]string{"X": "1"}); err == nil || err.Error() != "there is no ARG X to give a value to" {
		t.Errorf("the error is %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"FROM a\nRUN <<EOF\nx\nEOF", "ARG A=b\nFROM $A\nENV A=b \\\n C=d", "FROM a\nCMD [\"x\"]\nCOPY --chown=1 a b", "FROM ${A:-b}\nRUN cat 3<<\"A\" 4<<-'B'\nA\n\tB\nLABEL a=b\nEXPOSE 1-2/tcp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := Parse(s, nil)
		if err == nil && got.From == "" {
			t.Errorf("%q has no FROM", s)
		}
	})
}

// TestOwnTemplates: what templates/ holds can be read.
func TestOwnTemplates(t *testing.T) {
	files, err := filepath.Glob("../../templates/*/*Dockerfile")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are none: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(string(text), nil); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
