package history

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestNothingThatASandboxSaysIsBelievedBeyondBounds gives lines as an agent would
// that somebody inside has replaced.
func TestNothingThatASandboxSaysIsBelievedBeyondBounds(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	many := map[string]string{}
	for i := range 100 {
		many[fmt.Sprint(i)] = strings.Repeat("v", 10_000)
	}
	l := believable(now.Add(time.Hour), now, "LOUD", strings.Repeat("\xff", 1<<20), many)
	if !l.At.Equal(now) || l.Level != "info" || len(l.Message) > 3*maxMessage || len(l.Fields) != maxFields {
		t.Errorf("at %v, level %s, %d bytes, %d fields", l.At, l.Level, len(l.Message), len(l.Fields))
	}
	for name, value := range l.Fields {
		if len(name) > maxField || len(value) > maxField {
			t.Errorf("a field of %d and %d bytes", len(name), len(value))
		}
	}
	if old := believable(time.Time{}, now, "error", "x", nil); !old.At.Equal(now) || old.Level != "error" {
		t.Errorf("%+v", old)
	}
	if clamp(-5, 10) != 0 || clamp(50, 10) != 10 || clamp(5, 10) != 5 {
		t.Error("sizes are believed")
	}
}
