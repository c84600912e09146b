package e2e

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // registers the driver
)

// wantNoSecrets fails if anything that a server printed, or wrote for an
// operator to read, holds a credential or a token that it met in its life.
func wantNoSecrets(t *testing.T, s *server) {
	t.Helper()
	secrets := append(tokens(t, filepath.Join(s.dir, "cube.db")), fullKey, readonlyKey, wrongKey, redKey, blueKey, nobodysKey)
	outputs := map[string][]byte{"the log": []byte(s.log.String())}
	for _, pattern := range []string{"audit/*"} {
		files, err := filepath.Glob(filepath.Join(s.dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			outputs[filepath.Base(name)] = data
		}
	}
	for name, output := range outputs {
		for _, secret := range secrets {
			if at := bytes.Index(output, []byte(secret)); at >= 0 {
				line := output[bytes.LastIndexByte(output[:at], '\n')+1:]
				line, _, _ = bytes.Cut(line, []byte("\n"))
				t.Errorf("%s holds a secret: %s", name, line)
			}
		}
	}
}

// tokens are those of every sandbox that a server made.
func tokens(t *testing.T, database string) []string {
	t.Helper()
	db, err := sql.Open("sqlite", database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(`SELECT access_token, host_key, traffic_token FROM sandboxes`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var three [3]string
		if err := rows.Scan(&three[0], &three[1], &three[2]); err != nil {
			t.Fatal(err)
		}
		for _, token := range three {
			if strings.TrimSpace(token) != "" {
				found = append(found, token)
			}
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}
