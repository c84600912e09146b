package build

import (
	"context"
	"encoding/base64"

	"connectrpc.com/connect"

	fs "cube/envd/gen/filesystem"
	"cube/envd/gen/filesystem/filesystemconnect"
)

// localAuthorities is where certificates of authorities are put that are to be
// trusted too, by Debian, Ubuntu and Alpine.
const localAuthorities = "/usr/local/share/ca-certificates"

// trustScript makes the list of who is trusted anew if one of them is not in it:
// the last line of a certificate tells, which is of its signature. Times do not,
// for layers change them; and making the list takes its time.
const trustScript = `command -v update-ca-certificates >/dev/null || exit 0
for file in ` + localAuthorities + `/*.crt ` + localAuthorities + `/*/*.crt; do
	line=$(grep -v -e ----- "$file" 2>/dev/null | tail -n 1)
	[ -z "$line" ] || grep -qxF -e "$line" /etc/ssl/certs/ca-certificates.crt || exec update-ca-certificates
done`

// trust has a template trust the authorities that its author has put into it, as
// E2B does, also where nobody thought of update-ca-certificates. What it cannot do
// is in the log: whoever needs it will find it there.
func (w *worker) trust(ctx context.Context, step, prefix string) {
	request := connect.NewRequest(&fs.ListDirRequest{Path: localAuthorities, Depth: 1})
	request.Header().Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("root:")))
	client := filesystemconnect.NewFilesystemClient(w.http, agentURL, connect.WithReadMaxBytes(maxMessage))
	// Nearly always there are none, and this is far quicker than a shell.
	if found, err := client.ListDir(ctx, request); err != nil || len(found.Msg.GetEntries()) == 0 {
		return
	}
	err := w.runCommand(ctx, command{
		argv: []string{"/bin/sh", "-c", trustScript}, as: state{user: "root", workdir: "/"},
		out: newOutput(w.build.log, "info", step, prefix), maxOutput: w.build.MaxOutput,
	})
	if err != nil && ctx.Err() == nil {
		w.build.log.add("warn", step, "["+prefix+"] update-ca-certificates failed, so the authorities in "+localAuthorities+" may not be trusted")
	}
}
