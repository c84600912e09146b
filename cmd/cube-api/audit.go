package main

import (
	"context"
	"fmt"
	"time"

	"cube/app"
	"cube/audit"
)

// auditCommand reads the log's files, whether or not a server writes them.
type auditCommand struct {
	Export auditExportCommand `cmd:"" help:"Print records of the audit log, the oldest first."`
}

type auditExportCommand struct {
	Since   time.Duration `placeholder:"TIME" help:"Only what is not longer ago, such as 24h."`
	Sandbox string        `placeholder:"ID" help:"Only what was done to this sandbox, or inside."`
	Key     string        `placeholder:"ID" help:"Only what this key of the server's own asked for."`
	Subject string        `placeholder:"NAME" help:"Only what this subject asked for, or what was done to its sandboxes."`
	Team    string        `placeholder:"NAME" help:"Only what this team asked for, or what was done to its sandboxes."`
	Action  string        `placeholder:"NAME" help:"Only this action, such as process.started, or this sort, such as file."`
	Format  string        `enum:"jsonl,csv" default:"jsonl" help:"'jsonl' for a JSON object in each line, or 'csv' for a spreadsheet."`
}

// Run is called by kong.
func (c auditExportCommand) Run(ctx context.Context, s app.Settings, out output) error {
	filter := audit.Filter{Sandbox: c.Sandbox, Key: c.Key, Subject: c.Subject, Team: c.Team, Action: c.Action}
	switch {
	case c.Since < 0:
		return fmt.Errorf("--since %s: write a time above zero, such as 24h", c.Since)
	case c.Since > 0:
		filter.Since = time.Now().Add(-c.Since)
	}
	unreadable, err := audit.Export(ctx, out.stdout, audit.Dir(s.DataDir), filter, audit.Format(c.Format))
	if unreadable > 0 {
		fmt.Fprintf(out.stderr, "Lines that could not be read and are left out: %d. A server that is killed leaves half a line.\n", unreadable)
	}
	return err
}
