package lifecycle

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestOfARecordNoMoreLinesAreTakenThanBounds(t *testing.T) {
	of := func(lines string) (r Record, err error) {
		return r, json.Unmarshal([]byte(`{"logs":{"epoch":"e","lines":`+lines+`,"more":true}}`), &r)
	}
	r, err := of(`[{"seq":1,"message":"a","fields":{"pid":"7"}},{"seq":2}]`)
	if err != nil || len(r.Logs.Lines) != 2 || r.Logs.Lines[0].Message != "a" || r.Logs.Lines[0].Fields["pid"] != "7" || r.Logs.Lines[1].Seq != 2 || !r.Logs.More {
		t.Errorf("%+v, %v", r, err)
	}
	for _, lines := range []string{"[{}" + strings.Repeat(",{}", maxRecordLines) + "]", "{}", "1", `["x"]`} {
		if r, err := of(lines); err == nil || len(r.Logs.Lines) > maxRecordLines {
			t.Errorf("%.20s: %d lines, %v", lines, len(r.Logs.Lines), err)
		}
	}
	if _, err := of("[{}" + strings.Repeat(",{}", maxRecordLines-1) + "]"); err != nil {
		t.Error(err)
	}
}
