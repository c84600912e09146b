package main

import (
	"encoding/json"
	"testing"
)

func TestNumbersStayAsAKernelWritesThem(t *testing.T) {
	const line = `{"data":{"e2b/chart":{"ticks":[1.0,2,0.10]}},"type":"result"}`
	e, err := readEvent([]byte(line + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(e); string(again) != line {
		t.Errorf("it comes out as %s, %v", again, err)
	}
}
