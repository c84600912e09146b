package lifecycle

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"cube"
)

func TestAllSandboxesAreReadWithoutWhatIsLargeInThem(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s := w.server()
		const n = 2*allAtOnce + 1
		for i := range n {
			row := cube.Sandbox{
				ID: cube.NewSandboxID(), Template: "base", State: cube.Running, EndAt: now(),
				StartedAt: now().Add(time.Duration(i/2) * time.Second), // two of each time
				Metadata:  map[string]string{"m": fmt.Sprint(i)}, EnvVars: map[string]string{"e": fmt.Sprint(i)},
			}
			if err := w.store.CreateSandbox(t.Context(), row, nil); err != nil {
				t.Fatal(err)
			}
		}
		all, err := s.All(t.Context())
		if err != nil || len(all) != n {
			t.Fatalf("%d of %d, %v", len(all), n, err)
		}
		seen := map[cube.SandboxID]bool{}
		for i, row := range all {
			if seen[row.ID] || row.EnvVars != nil || row.Metadata != nil || i > 0 && row.StartedAt.Before(all[i-1].StartedAt) {
				t.Errorf("the %dth is %+v", i, row)
			}
			seen[row.ID] = true
		}
	})
}

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
