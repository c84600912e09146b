package gvisor

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"cube/image/layer"
)

// listed is a file as a kernel lists it.
func listed(numbers ...int64) []byte {
	var b []byte
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	return b
}

func TestAFilesPartsAreReadAsTheKernelListsThem(t *testing.T) {
	for name, c := range map[string]struct {
		list  []byte
		size  int64 // in the header, 0 for the list's
		want  []layer.Part
		fails bool
	}{
		"nothing":                   {list: listed(0)},
		"a hole":                    {list: listed(1 << 40)},
		"a page that is not full":   {list: listed(5, 0, 4096, 8192), want: []layer.Part{{At: 0, Size: 5, From: 8192}}},
		"pages before and after":    {list: listed(9000, 0, 4096, 1<<30, 8192, 12288, 0), want: []layer.Part{{At: 0, Size: 4096, From: 1 << 30}, {At: 8192, Size: 808, From: 0}}},
		"a page after the end":      {list: listed(5, 4096, 8192, 0)},
		"no list":                   {list: []byte("x"), fails: true},
		"half a part":               {list: listed(5, 0, 4096), fails: true},
		"less than its header says": {list: listed(5), size: 32, fails: true},
		"more than can be":          {list: listed(5), size: 8 + 24<<23, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			h := &tar.Header{Size: int64(len(c.list))}
			if c.size > 0 {
				h.Size = c.size
			}
			file, err := contentsIn(strings.NewReader(""))(h, bytes.NewReader(c.list))
			if (err != nil) != c.fails || !slices.Equal(file.Parts, c.want) {
				t.Errorf("%+v, %v, want %+v", file, err, c.want)
			}
		})
	}
}
