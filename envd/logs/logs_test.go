package logs

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func messages(p Page) string {
	var all []string
	for _, line := range p.Lines {
		all = append(all, line.Message)
	}
	return strings.Join(all, "|")
}

func TestLinesAreMadeOfWhatIsWritten(t *testing.T) {
	for _, row := range []struct {
		writes []string
		want   string
	}{
		{[]string{"one\ntwo\n"}, "one|two"},
		{[]string{"o", "ne\nt", "wo"}, "one|two"},
		{[]string{"\n\n"}, "|"},
		{[]string{"windows\r\n"}, "windows"},
		{[]string{strings.Repeat("a", MaxLine+1) + "\n"}, strings.Repeat("a", MaxLine) + "|a"},
		{[]string{strings.Repeat("a", MaxLine) + "\n"}, strings.Repeat("a", MaxLine)},
		{[]string{"\xff\n"}, "\uFFFD"},
		{nil, ""},
	} {
		l := New()
		w := l.Writer("info", nil)
		for _, text := range row.writes {
			_, _ = w.Write([]byte(text))
		}
		w.Close()
		if got := messages(l.After("", 0, 10)); got != row.want {
			t.Errorf("%.40q became %.40q, want %.40q", row.writes, got, row.want)
		}
	}
}

func TestPagesFollowEachOther(t *testing.T) {
	l := New()
	for i := range 5 {
		l.Add("info", fmt.Sprint(i), nil)
	}
	first := l.After("", 0, 3)
	if messages(first) != "0|1|2" || !first.More {
		t.Fatalf("first %+v", first)
	}
	second := l.After(first.Epoch, first.Lines[2].Seq, 3)
	if messages(second) != "3|4" || second.More {
		t.Errorf("second %+v", second)
	}
	if other := l.After("another", 4, 10); messages(other) != "0|1|2|3|4" {
		t.Errorf("after a line of another log: %+v", other)
	}
	l.Reset()
	if after := l.After(first.Epoch, 5, 10); after.Epoch == first.Epoch || len(after.Lines) != 0 {
		t.Errorf("after a reset: %+v", after)
	}
}

// TestAPageIsBoundedAsJSON is why a sandbox that prints zeros has a log: the server
// reads 4 MiB of an answer.
func TestAPageIsBoundedAsJSON(t *testing.T) {
	l := New()
	for range MaxBytes / MaxLine {
		l.Add("info", strings.Repeat("\x00", MaxLine), nil)
	}
	epoch, seq, pages := "", uint64(0), 0
	for more := true; more; pages++ {
		p := l.After(epoch, seq, 512)
		data, err := json.Marshal(p)
		if err != nil || len(data) > 2<<20 || len(p.Lines) == 0 {
			t.Fatalf("a page of %d lines is %d bytes: %v", len(p.Lines), len(data), err)
		}
		epoch, more, seq = p.Epoch, p.More, p.Lines[len(p.Lines)-1].Seq
	}
	if pages != MaxBytes/MaxPage || seq != MaxBytes/MaxLine {
		t.Errorf("%d pages, the last line %d", pages, seq)
	}
}

func TestALogIsBounded(t *testing.T) {
	l := New()
	for i := range 3 * MaxLines {
		l.Add("info", fmt.Sprint(i), nil)
	}
	if p := l.After("", 0, 2*MaxLines); len(p.Lines) != MaxLines || p.Lines[0].Seq != 2*MaxLines+1 {
		t.Errorf("%d lines from %d on", len(p.Lines), p.Lines[0].Seq)
	}
	for range 2 * MaxBytes / MaxLine {
		l.Add("info", strings.Repeat("a", MaxLine), nil)
	}
	if len(l.lines) != MaxBytes/MaxLine {
		t.Errorf("%d lines of %d bytes", len(l.lines), MaxLine)
	}
}
