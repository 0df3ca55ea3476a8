package gguf

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"unicode"

	"expo/weights/tensor"
)

// FuzzReader checks that no file makes NewReader panic, that every error is a
// printable line, that what is accepted keeps the promises of the package, and
// that it can be written again with the same contents.
func FuzzReader(f *testing.F) {
	golden, err := os.ReadFile("testdata/golden.gguf")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add(newFile(0, 0).b)
	f.Add(newFile(2, 1).pair("general.alignment", 8).tensor("a", F32, 0, 2).tensor("b", Q4_0, 8, 32).data(32))
	f.Add(newFile(1, 0).tensor("a", IQ2_XXS, 0, 512, 3).data(6 * 66))
	f.Add(newFile(1, 0).tensor("a", F32, 1<<62, 1<<31, 1<<31, 1, 1).data(8))
	f.Add(newFile(0, 1).str("a").u32(typeArray).u32(typeArray).u64(2).u32(typeU8).u64(1).u8(7).u32(typeString).u64(1).str("b").b)
	f.Add(newFile(0, 1).str("a").u32(typeArray).u32(typeArray).u64(1).u32(typeArray).u64(1).u32(typeBool).u64(2).u8(1).u8(0).b)
	f.Add([]byte("GGUF\x00\x00\x00\x03"))
	f.Add([]byte("version https://git-lfs.github.com/spec/v1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := open(b)
		if err != nil {
			if r != nil {
				t.Error("an error and a Reader")
			}
			checkMessage(t, err)
			return
		}
		used := make([]bool, len(b))
		names := map[string]bool{}
		for x := range r.Tensors() {
			if names[x.Name] || x.Name == "" {
				t.Errorf("the name %q", x.Name)
			}
			names[x.Name] = true
			if err := tensor.ReadFull(x.Data, make([]byte, x.Size), 0); err != nil {
				t.Errorf("%s: %v", x.Name, err)
			}
			elements, err := tensor.Elements(x.Shape)
			if err != nil || elements/int64(x.Type.BlockSize())*int64(x.Type.BlockBytes()) != x.Size {
				t.Errorf("%s: %v of %v in %d bytes", x.Name, x.Type, x.Shape, x.Size)
			}
			if p, ok := x.Plain(); ok && p.Size() != x.Size {
				t.Errorf("%s: %d bytes as a plain tensor, not %d", x.Name, p.Size(), x.Size)
			}
		}
		for i := range r.entries {
			e := &r.entries[i]
			for j := r.data + e.begin; j < r.data+e.begin+e.size; j++ {
				if used[j] {
					t.Fatalf("%s overlaps another", e.name)
				}
				used[j] = true
			}
		}
		if r.alignment > 1<<16 {
			return // too much to pad
		}
		again, err := written(r)
		if err != nil {
			t.Fatal(err)
		}
		r2, err := open(again)
		if err != nil {
			t.Fatalf("%v\nwritten: %q", err, again)
		}
		twice, err := written(r2)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, twice) || len(names) != r2.Len() {
			t.Errorf("written twice:\n%q\n%q", again, twice)
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
	if !strings.HasPrefix(msg, "gguf: ") {
		t.Errorf("%q has no prefix", msg)
	}
	if i := strings.IndexFunc(msg, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("%q is not printable at %d", msg, i)
	}
	if len(msg) > 20*maxPrinted {
		t.Errorf("a message of %d bytes", len(msg))
	}
}
