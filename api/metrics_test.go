package api

import (
	"net/url"
	"strconv"
	"testing"

	"cube"
)

func TestSpansOfTime(t *testing.T) {
	last := lastTime.Unix()
	for query, valid := range map[string]bool{
		"": true, "start=1&end=2": true, "start=2&end=1": false, "start=-1": false, "end=soon": false,
		"end=" + strconv.FormatInt(last, 10): true, "end=" + strconv.FormatInt(last+1, 10): false, "end=99999999999999999999": false,
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := span(values); (err == nil) != valid || err != nil && cube.KindOf(err) != cube.Invalid {
			t.Errorf("%q: %v, want valid: %v", query, err, valid)
		}
	}
}
