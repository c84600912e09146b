package main

import "testing"

func TestBenchmarkRow(t *testing.T) {
	for line, want := range map[string]result{
		"BenchmarkDownload/gate-2   1234   600000 ns/op   1700 MB/s   12.5 Gbit/s   7.1 Gbit/cpu": {Name: "download, one connection, through the gate", N: 1234, P50: 12.5, Unit: "Gbit/s"},
		"BenchmarkPolicyOfANewOne-16   100   20500 ns/op":                                         {Name: "rules of a new sandbox", N: 100, P50: 20.5, Unit: "µs", Comment: "mean"},
		"ok  	cube/network/gate	7.229s":                                                           {},
		"BenchmarkElse-2 1 1 ns/op":                                                               {},
	} {
		if got, ok := benchmarkRow(line); got != want || ok != (want != result{}) {
			t.Errorf("%q is read as %+v", line, got)
		}
	}
}
