package filesystem

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"
)

func TestAListingIsBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if entries, err := list(t.Context(), dir, 1, 3); err != nil || len(entries) != 3 {
		t.Errorf("three of at most three are %v, %v", entries, err)
	}
	if _, err := list(t.Context(), dir, 1, 2); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("three of at most two are refused with %v", err)
	}
}
