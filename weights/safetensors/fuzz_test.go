package safetensors

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"expo/weights/tensor"
)

// FuzzReader checks that no file makes NewReader panic, that every error is a
// printable line, and that a file it accepts can be written again: with the
// same tensors, bytes and metadata.
func FuzzReader(f *testing.F) {
	for _, header := range []string{
		`{}`,
		`{` + a8 + `}`,
		`{"__metadata__":{"format":"pt"},` + b4 + `,` + a4 + `} `,
		`{` + a4 + `,` + e4 + `,` + b4 + `}`,
		`{"__metadata__":null,"\u00e9\ud83d\ude00":{"x":[{"y":-1.5e-3},null,true],"dtype":"F4","shape":[2,8],"data_offsets":[0,8]}}`,
		`{"a":{"dtype":"C64","shape":[],"data_offsets":[0,8]}}`,
		`{"a":{"dtype":"F64","shape":[18446744073709551616],"data_offsets":[0,8]}}`,
		`{"a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8],"x":[[[[[[]]]]]]}}`,
	} {
		f.Add(file(header, 8))
		f.Add(file(header, 0))
	}
	f.Add([]byte("version https://git-lfs.github.com/spec/v1"))
	f.Add([]byte("PK\x03\x04\x00\x00\x08\x08\x00\x00"))

	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := open(b)
		if err != nil {
			if r != nil {
				t.Error("an error and a Reader")
			}
			checkMessage(t, err)
			return
		}
		ts := slices.Collect(r.Tensors())
		total := r.HeaderSize()
		for _, x := range ts {
			total += x.Size()
		}
		if total != int64(len(b)) {
			t.Errorf("the tensors cover %d of %d bytes", total, len(b))
		}
		var again bytes.Buffer
		if err := Write(&again, ts, r.Metadata()); err != nil {
			t.Fatal(err)
		}
		r2, err := open(again.Bytes())
		if err != nil {
			t.Fatalf("%v\nwritten: %q", err, again.Bytes())
		}
		sameTensors(t, slices.Collect(r2.Tensors()), ts)
		if m, m2 := r.Metadata(), r2.Metadata(); fmt.Sprint(m) != fmt.Sprint(m2) || (m == nil) != (m2 == nil) {
			t.Errorf("metadata %q, want %q", m2, m)
		}
	})
}

// FuzzHeader is FuzzReader without the length before the header, which a
// fuzzer that inserts and deletes bytes rarely gets right, and without data.
func FuzzHeader(f *testing.F) {
	f.Add(`{` + a8 + `}`)
	f.Add(`{"__metadata__":{"\u00e9\ud83d\ude00":"\\"},` + b4 + `,` + a4 + `} `)
	f.Add(`{"a":{"x":[{"y":-1.5e-3},null,true],"dtype":"F4","shape":[2,8],"data_offsets":[0,8]}}`)
	f.Fuzz(func(t *testing.T, header string) {
		if _, err := open(file(header, 0)); err != nil {
			checkMessage(t, err)
		}
		entries, _, err := parseHeader(strings.ToValidUTF8(header, ""))
		if err != nil {
			checkMessage(t, err)
			return
		}
		for _, e := range entries {
			if size, err := tensor.Size(e.dtype, e.shape); err != nil || size != e.end-e.begin || e.begin < 0 {
				t.Errorf("%q: %d bytes at [%d %d], %v", e.name, size, e.begin, e.end, err)
			}
		}
	})
}

// checkMessage fails unless err is a *FormatError in one printable line.
func checkMessage(t *testing.T, err error) {
	t.Helper()
	if _, ok := errors.AsType[*FormatError](err); !ok {
		t.Errorf("the error is a %T", err)
	}
	msg := err.Error()
	if !strings.HasPrefix(msg, "safetensors: ") {
		t.Errorf("%q has no prefix", msg)
	}
	if i := strings.IndexFunc(msg, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("%q is not printable at %d", msg, i)
	}
	if len(msg) > 20*maxPrinted {
		t.Errorf("a message of %d bytes", len(msg))
	}
}
