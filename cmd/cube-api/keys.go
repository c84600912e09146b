package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"cube"
	"cube/app"
	"cube/auth/keys"
	"cube/store/sqlite"
)

// keysCommand works on the database itself, whether or not a server runs: who
// can read that file is the operator.
type keysCommand struct {
	Create keysCreateCommand `cmd:"" help:"Make a key and print it, this once."`
	List   keysListCommand   `cmd:"" help:"List the keys."`
	Revoke keysRevokeCommand `cmd:"" help:"End a key, at once and for good."`
}

type keysCreateCommand struct {
	Name      string        `arg:"" help:"What to call it: 1 to 64 printable characters."`
	Role      string        `enum:"full,read-only" default:"full" help:"What it may do: 'full' for everything, or 'read-only' for GET."`
	Templates []string      `placeholder:"NAME" help:"The only templates that it may use."`
	Expires   time.Duration `placeholder:"TIME" help:"When it ends by itself, such as 720h from now. Without one, never."`
	Team      string        `placeholder:"NAME" help:"The team that what it creates belongs to."`
	Subject   string        `placeholder:"NAME" help:"The person or program that what it creates belongs to."`
	Operator  bool          `help:"It sees what belongs to all."`
}

// Run is called by kong. The key alone goes to the standard output, so that a
// shell can take it; words go to the other.
func (c keysCreateCommand) Run(ctx context.Context, s app.Settings, out output) error {
	// As the server makes it: the first key may come before the first start.
	if err := os.MkdirAll(s.DataDir, 0o711); err != nil {
		return fmt.Errorf("making the data directory (are you root? choose another with --data-dir): %w", err)
	}
	return withKeys(ctx, s, func(store cube.APIKeyStore) error {
		had, err := store.HasAPIKeys(ctx)
		if err != nil {
			return err
		}
		key, secret, err := keys.Issue(ctx, store, keys.Request{
			Name: c.Name, Role: cube.APIKeyRole(c.Role), Owner: cube.Owner{Subject: c.Subject, Team: c.Team},
			Operator: c.Operator, Templates: c.Templates, Lifetime: c.Expires,
		})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out.stdout, secret); err != nil {
			// A key that nobody has seen must not stay.
			return errors.Join(fmt.Errorf("printing the key: %w", err), keys.Revoke(context.WithoutCancel(ctx), store, key.ID))
		}
		fmt.Fprintf(out.stderr, "The key %q is shown this once. Its id is %s.\n", key.Name, key.ID)
		if !had {
			fmt.Fprintln(out.stderr, "It is the first: from now on the server refuses requests without a key, for good, unless a callback decides.")
		}
		return nil
	})
}

type keysListCommand struct {
	All bool `help:"List those too that were revoked."`
}

// Run is called by kong.
func (c keysListCommand) Run(ctx context.Context, s app.Settings, out output) error {
	return withKeys(ctx, s, func(store cube.APIKeyStore) error {
		list, err := store.ListAPIKeys(ctx, cube.APIKeyQuery{Revoked: c.All})
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "NAME\tKEY\tID\tROLE\tTEAM\tSUBJECT\tTEMPLATES\tCREATED\tBY\tENDS")
		for _, k := range list {
			fmt.Fprintf(table, "%s\t%s%s…%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
				k.Name, cube.APIKeyPrefix, k.MaskStart, k.MaskEnd, k.ID, role(k), orDash(k.Owner.Team), orDash(k.Owner.Subject),
				templates(k.Templates), day(k.CreatedAt), orDash(string(k.CreatedBy)), ends(k))
		}
		return table.Flush()
	})
}

func role(k cube.APIKey) string {
	if k.Operator {
		return string(k.Role) + ", operator"
	}
	return string(k.Role)
}

func templates(names []string) string {
	if names == nil {
		return "all"
	}
	return orDash(strings.Join(names, ","))
}

func ends(k cube.APIKey) string {
	switch {
	case !k.RevokedAt.IsZero():
		return "revoked " + day(k.RevokedAt)
	case k.ExpiresAt.IsZero():
		return "never"
	case !time.Now().Before(k.ExpiresAt):
		return "expired " + day(k.ExpiresAt)
	}
	return day(k.ExpiresAt)
}

func day(t time.Time) string { return t.Format("2006-01-02 15:04Z") }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

type keysRevokeCommand struct {
	Key string `arg:"" name:"name-or-id" help:"Its name or its id; the key itself is never needed."`
}

// Run is called by kong.
func (c keysRevokeCommand) Run(ctx context.Context, s app.Settings, out output) error {
	return withKeys(ctx, s, func(store cube.APIKeyStore) error {
		id, err := c.find(ctx, store)
		if err != nil {
			return err
		}
		if err := keys.Revoke(ctx, store, id); err != nil {
			return err
		}
		_, err = fmt.Fprintf(out.stderr, "The key %s opens nothing any more.\n", id)
		return err
	})
}

// find returns the id of the one key that is meant. No name looks like an id.
func (c keysRevokeCommand) find(ctx context.Context, store cube.APIKeyStore) (cube.APIKeyID, error) {
	if id, err := cube.ParseAPIKeyID(c.Key); err == nil {
		return id, nil
	}
	if c.Key == "" { // which a query takes for every name
		return "", cube.Errorf(cube.Invalid, "Write the name or the id of a key: 'cube-api keys list' shows them")
	}
	list, err := store.ListAPIKeys(ctx, cube.APIKeyQuery{Name: c.Key})
	switch {
	case err != nil:
		return "", err
	case len(list) == 0:
		// The text is not repeated: it may be the key itself.
		return "", cube.Errorf(cube.NotFound, "No key has this name or id: 'cube-api keys list' shows them")
	case len(list) > 1:
		return "", cube.Errorf(cube.Conflict, "%d keys of different owners have this name: write the id of one, as 'cube-api keys list' shows it", len(list))
	}
	return list[0].ID, nil
}

// withKeys opens the rows of keys for a command. It makes no directory: a
// misspelt one has no keys to list, and no database from now on.
func withKeys(ctx context.Context, s app.Settings, do func(cube.APIKeyStore) error) (err error) {
	store, err := sqlite.Open(ctx, filepath.Join(s.DataDir, "cube.db"))
	if err != nil {
		return fmt.Errorf("opening the server's database (are you root, and is --data-dir the server's?): %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	rows, err := store.APIKeys(ctx)
	if err != nil {
		return err
	}
	return do(rows)
}
