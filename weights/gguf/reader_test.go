package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"expo/weights/tensor"
)

// TestGolden reads the file that testdata/make_golden.py wrote.
func TestGolden(t *testing.T) {
	b, err := os.ReadFile("testdata/golden.gguf")
	if err != nil {
		t.Fatal(err)
	}
	r, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	if r.Version() != 3 || r.Len() != 5 || r.alignment != 64 || r.DataOffset()%64 != 0 {
		t.Errorf("version %d, %d tensors, alignment %d, data at %d", r.Version(), r.Len(), r.alignment, r.DataOffset())
	}
	want := []struct {
		name  string
		typ   Type
		shape []int
		size  int64
	}{
		{"f32", F32, []int{2, 32}, 256},
		{"f16", F16, []int{2, 3}, 12},
		{"i32", I32, []int{2}, 8},
		{"q8_0", Q8_0, []int{2, 32}, 68},
		{"bf16", BF16, []int{2, 32}, 128},
	}
	i := 0
	for x := range r.Tensors() {
		w := want[i]
		if x.Name != w.name || x.Type != w.typ || !slices.Equal(x.Shape, w.shape) || x.Size != w.size {
			t.Errorf("tensor %d: got %s %v %v, %d bytes, want %+v", i, x.Name, x.Type, x.Shape, x.Size, w)
		}
		i++
		plain, ok := x.Plain()
		if ok != (x.Type != Q8_0) {
			t.Errorf("%s: Plain() says %t", x.Name, ok)
		}
		if !ok || !plain.DType.Float() {
			continue
		}
		if plain.Size() != x.Size {
			t.Errorf("%s: %d bytes as a plain tensor, want %d", x.Name, plain.Size(), x.Size)
		}
		v := make([]float32, plain.Elements())
		if err := plain.ReadFloat32(v, 0); err != nil {
			t.Fatal(err)
		}
		for j, got := range v {
			row, col := j/x.Shape[1], j%x.Shape[1]
			if want := float32(32*row + col); got != want {
				t.Errorf("%s: element %d is %v, want %v", x.Name, j, got, want)
			}
		}
	}
	x, ok := r.Tensor("i32")
	b = make([]byte, 8)
	if err := tensor.ReadFull(x.Data, b, 0); !ok || err != nil || int32(binary.LittleEndian.Uint32(b)) != -1 || b[4] != 7 {
		t.Errorf("i32: %t, %v, % x", ok, err, b)
	}
	if _, ok := r.Tensor("none"); ok {
		t.Error("a tensor that is not there")
	}
	q, _ := r.Tensor("q8_0")
	if n, err := q.Data.ReadAt(make([]byte, 100), 0); n != 68 || err != io.EOF {
		t.Errorf("q8_0: read %d bytes, %v, want 68 and EOF", n, err)
	}
}

// TestTypes compares sizes with those of ggml 0.25 for all numbers it has.
func TestTypes(t *testing.T) {
	// Elements and bytes of a block, for each number; 0 where there is no type.
	sizes := [][2]int{
		{1, 4}, {1, 2}, {32, 18}, {32, 20}, {}, {}, {32, 22}, {32, 24}, {32, 34}, {32, 36},
		{256, 84}, {256, 110}, {256, 144}, {256, 176}, {256, 210}, {256, 292}, {256, 66}, {256, 74}, {256, 98}, {256, 50},
		{32, 18}, {256, 110}, {256, 82}, {256, 136}, {1, 1}, {1, 2}, {1, 4}, {1, 8}, {1, 8}, {256, 56},
		{1, 2}, {}, {}, {}, {256, 54}, {256, 66}, {}, {}, {}, {32, 17},
		{64, 36}, {128, 18}, {64, 18}, {}, {},
	}
	for i, want := range sizes {
		typ := Type(i)
		if typ.BlockSize() != want[0] || typ.BlockBytes() != want[1] || typ.Known() != (want[0] > 0) {
			t.Errorf("type %d, %v: %d elements in %d bytes, want %v", i, typ, typ.BlockSize(), typ.BlockBytes(), want)
		}
		if d := typ.DType(); d != tensor.Invalid && (d.String() != typ.String() || d.Bits() != 8*want[1]) {
			t.Errorf("%v as a plain tensor is %v", typ, d)
		}
	}
	for _, x := range []struct {
		typ  Type
		want string
	}{{Q4_K, "Q4_K"}, {IQ2_XXS, "IQ2_XXS"}, {4, "Type(4)"}, {math.MaxUint32, "Type(4294967295)"}} {
		if got := x.typ.String(); got != x.want {
			t.Errorf("name of type %d: got %s, want %s", uint32(x.typ), got, x.want)
		}
	}
}

func TestAccepts(t *testing.T) {
	for _, x := range []struct {
		name string
		b    []byte
		n    int
	}{
		{"nothing", newFile(0, 0).b, 0},
		{"version 2", func() []byte { f := newFile(0, 0); f.b[4] = 2; return f.b }(), 0},
		{"only metadata", newFile(0, 1).pair("a", 1).b, 0},
		{"a scalar", newFile(1, 0).tensor("a", F32, 0).data(4), 1},
		{"an empty tensor", newFile(1, 0).tensor("a", Q4_K, 0, 256, 0).data(0), 1},
		{"empty ones where another is", newFile(3, 0).tensor("a", F32, 32, 0).tensor("b", F32, 0, 16).tensor("c", F32, 32, 0, 5).data(64), 3},
		{"another order, a hole and a rest", newFile(2, 0).tensor("a", F32, 64, 8).tensor("b", F32, 0, 1).data(200), 2},
		{"a type that nothing here computes with", newFile(1, 0).tensor("a", IQ2_XXS, 0, 512, 3).data(6 * 66), 1},
		{"an alignment of 1", newFile(2, 1).pair("general.alignment", 1).tensor("a", I8, 0, 3).tensor("b", I8, 3, 2).b, 2},
	} {
		b := x.b
		if x.name == "an alignment of 1" {
			b = append(b, 1, 2, 3, 4, 5)
		}
		r, err := open(b)
		if err != nil {
			t.Errorf("%s: %v", x.name, err)
			continue
		}
		if r.Len() != x.n {
			t.Errorf("%s: %d tensors, want %d", x.name, r.Len(), x.n)
		}
		for y := range r.Tensors() {
			if err := tensor.ReadFull(y.Data, make([]byte, y.Size), 0); err != nil {
				t.Errorf("%s: %s: %v", x.name, y.Name, err)
			}
		}
	}
}

func TestRefuses(t *testing.T) {
	long := strings.Repeat("x", 70000)
	le := binary.LittleEndian
	for _, x := range []struct {
		name, want string
		b          []byte
	}{
		{"empty", "the file is empty", nil},
		{"short", "the file ends at 6, inside the version", []byte("GGUF\x03\x00")},
		{"no GGUF", "it begins with 01 02 03", []byte{1, 2, 3}},
		{"LFS", "Git LFS pointer", []byte("version https://git-lfs.github.com/spec/v1\n")},
		{"web page", "web page", []byte("\n<!DOCTYPE html>")},
		{"predecessor", "predecessor", []byte("tjgg\x03\x00\x00\x00")},
		{"zip", "zip archive", []byte("PK\x03\x04")},
		{"safetensors", "safetensors", []byte("\x10\x00\x00\x00\x00\x00\x00\x00{\"a\":")},
		{"version 1", "version 1 of the format", le.AppendUint32([]byte("GGUF"), 1)},
		{"version 4", "version 4 of the format", le.AppendUint32([]byte("GGUF"), 4)},
		{"version 0", "version 0 of the format", le.AppendUint32([]byte("GGUF"), 0)},
		{"big endian", "big-endian", []byte("GGUF\x00\x00\x00\x03")},
		{"no counts", "inside the number of tensors", newFile(0, 0).b[:10]},
		{"tensors", "has 9223372036854775808 tensors, more than fit in the 8 bytes", newFile(1<<63, 0).b},
		{"keys", "has 2 keys, more than fit in the 25 bytes", append(newFile(0, 2).b, make([]byte, 25)...)},
		{"empty key", "a key is empty", newFile(0, 1).pair("", 1).b},
		{"key not text", `a key is not valid UTF-8: "\xff"`, newFile(0, 1).pair("\xff", 1).b},
		{"long key", "a key has 70000 bytes, more than the 65535", newFile(0, 1).pair(long, 1).b},
		{"key beyond", "a key has 1000000 bytes, the file ends after 8", newFile(0, 1).u64(1000000).u64(0).b},
		{"key twice", "gguf: a: the key stands twice", newFile(0, 2).pair("a", 1).pair("a", 1).b},
		{"unknown value", "a: has a value of type 13", newFile(0, 1).str("a").u32(13).u64(0).b},
		{"unknown element", "a: has a value of type 99", newFile(0, 1).str("a").u32(typeArray).u32(99).u64(0).b},
		{"no value", "a: the file ends at 37, inside a value", newFile(0, 1).str("a").u32(typeU64).b},
		{"half a value", "a: the file ends at 41, inside a value", newFile(0, 1).str("a").u32(typeU64).u32(0).b},
		{"truth", "a: a truth value of 2", newFile(0, 1).str("a").u32(typeBool).u8(2).b},
		{"truths", "a: a truth value of 3", newFile(0, 1).str("a").u32(typeArray).u32(typeBool).u64(2).u8(1).u8(3).b},
		{"string", "a: a string has 18446744073709551615 bytes, the file ends after 0", newFile(0, 1).str("a").u32(typeString).u64(math.MaxUint64).b},
		{"array", "a: has 4294967296 elements in an array, more than fit", newFile(0, 1).str("a").u32(typeArray).u32(typeF64).u64(1 << 32).u64(0).b},
		{"array of strings", "a: has 2 elements in an array", newFile(0, 1).str("a").u32(typeArray).u32(typeString).u64(2).u64(0).b},
		{"strings", "a: the file ends at 65, inside the length of a string", newFile(0, 1).str("a").u32(typeArray).u32(typeString).u64(2).str("12345678").b},
		{"nesting", "a: has arrays more than 8 deep", func() []byte {
			f := newFile(0, 1).str("a").u32(typeArray)
			for range 20 {
				f.u32(typeArray).u64(1)
			}
			return f.b
		}()},
		{"alignment 0", "general.alignment: 0 is not a power of two", newFile(0, 1).pair("general.alignment", 0).b},
		{"alignment 48", "general.alignment: 48 is not a power of two", newFile(0, 1).pair("general.alignment", 48).b},
		{"alignment type", "general.alignment: the value is a string", newFile(0, 1).str("general.alignment").u32(typeString).str("32").b},
		{"empty name", "the name of a tensor is empty", newFile(1, 0).tensor("", F32, 0, 1).data(4)},
		{"long name", "has 65 bytes, more than the 64", newFile(1, 0).tensor(long[:65], F32, 0, 1).data(4)},
		{"name twice", "gguf: a: two tensors of this name", newFile(2, 0).tensor("a", F32, 0, 1).tensor("a", F32, 32, 1).data(64)},
		{"dimensions", "a: has 5 dimensions, more than 4", newFile(1, 0).tensor("a", F32, 0, 1, 1, 1, 1, 1).data(4)},
		{"dimension", "a: dimension 9223372036854775808 is too large", newFile(1, 0).tensor("a", F32, 0, 1<<63).data(4)},
		{"elements", "a: shape [4294967296 4294967296] has more elements", newFile(1, 0).tensor("a", F32, 0, 1<<32, 1<<32).data(4)},
		{"bytes", "a: F32 of shape [4294967296 1073741824] has more bytes", newFile(1, 0).tensor("a", F32, 0, 1<<30, 1<<32).data(4)},
		{"type", "a: type 4 is not known", newFile(1, 0).tensor("a", 4, 0, 32).data(64)},
		{"row", "a: rows of 48 elements do not fill blocks of Q4_0", newFile(1, 0).tensor("a", Q4_0, 0, 48, 2).data(64)},
		{"scalar of blocks", "a: rows of 1 elements do not fill blocks of Q4_0", newFile(1, 0).tensor("a", Q4_0, 0).data(64)},
		{"misaligned", "a: begins at 16, which is not a multiple", newFile(1, 0).tensor("a", F32, 16, 1).data(64)},
		{"far", "a: begins at 9223372036854775808", newFile(1, 0).tensor("a", F32, 1<<63, 1).data(64)},
		{"beyond", "a: has 4 bytes from 64 on, the data has 64", newFile(1, 0).tensor("a", F32, 64, 1).data(64)},
		{"too long", "a: has 68 bytes from 0 on, the data has 64: download", newFile(1, 0).tensor("a", F32, 0, 17).data(64)},
		{"overlap", "b: begins at 32, where a still has data, up to 64", newFile(2, 0).tensor("a", F32, 0, 16).tensor("b", F32, 32, 1).data(64)},
		{"inside", "b: begins at 32, where a still has data, up to 96", newFile(3, 0).tensor("a", F32, 0, 24).tensor("c", F32, 96, 1).tensor("b", F32, 32, 1).data(128)},
		{"same place", "b: begins at 0, where a still has data, up to 4", newFile(2, 0).tensor("a", F32, 0, 1).tensor("b", F32, 0, 1).data(64)},
		{"no data", "the data begins at 64, the file has 61 bytes", newFile(1, 0).tensor("a", F32, 0, 1).b[:61]},
		{"cut description", "a: the file ends at 47, inside the type", newFile(1, 0).tensor("a", F32, 0, 1).b[:47]},
		{"odd name", `gguf: "a\nb": begins at 16`, newFile(1, 0).tensor("a\nb", F32, 16, 1).data(64)},
	} {
		r, err := open(x.b)
		if err == nil || r != nil {
			t.Errorf("%s: no error", x.name)
			continue
		}
		if !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s:\n got %v\nwant %s", x.name, err, x.want)
		}
		if e, ok := errors.AsType[*FormatError](err); !ok || e.Offset < 0 || e.Offset > int64(len(x.b)) {
			t.Errorf("%s: %#v", x.name, err)
		}
	}
}

// TestCuts checks that no beginning of a good file is good, unless nothing but
// padding is missing.
func TestCuts(t *testing.T) {
	b, err := os.ReadFile("testdata/golden.gguf")
	if err != nil {
		t.Fatal(err)
	}
	r, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	end := r.DataOffset()
	for _, e := range r.entries {
		end = max(end, r.DataOffset()+e.begin+e.size)
	}
	for n := range len(b) {
		if _, err := open(b[:n]); (err == nil) != (int64(n) >= end) {
			t.Errorf("the first %d of %d bytes, of which %d are needed: %v", n, len(b), end, err)
		}
	}
}

// failing is a file that cannot be read from an offset on.
type failing struct {
	b   []byte
	off int64
}

var errBroken = errors.New("broken")

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.off {
		return 0, errBroken
	}
	return tensor.Bytes(f.b).ReadAt(p, off)
}

func TestReadErrors(t *testing.T) {
	b := newFile(0, 1).str("a").u32(typeString).str(strings.Repeat("x", 3*window)).b
	for _, off := range []int64{0, 64, window, 2 * window} {
		_, err := NewReader(failing{b, off}, int64(len(b)))
		if !errors.Is(err, errBroken) || !strings.HasPrefix(err.Error(), "gguf: ") {
			t.Errorf("broken at %d: %v", off, err)
		}
	}
	if _, err := NewReader(tensor.Bytes(b[:1000]), int64(len(b))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that shrank: %v", err)
	}
	if _, err := NewReader(tensor.Bytes(nil), -1); err == nil {
		t.Error("a negative size: no error")
	}
}

// zeros is a file of endless zeros after a beginning.
type zeros struct{ b []byte }

func (z zeros) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(z.b)) {
		copy(p, z.b[off:])
	}
	return len(p), nil
}

// TestMemory checks that claims about a large file take no memory by themselves.
func TestMemory(t *testing.T) {
	const size = 1 << 50
	for _, x := range []struct {
		name, want string
		f          *builder
	}{
		{"tensors", "the name of a tensor is empty", newFile(1<<20, 0)},
		{"keys", "a key is empty", newFile(0, 1<<20)},
		{"more than a header holds", "has 1099511627776 keys, more than fit", newFile(0, 1<<40)},
		{"string", "a string goes on beyond 268435456 bytes", newFile(0, 1).str("a").u32(typeString).u64(1 << 40)},
		{"array", "has 137438953472 elements in an array", newFile(0, 1).str("a").u32(typeArray).u32(typeU8).u64(1 << 37)},
	} {
		var err error
		n := testing.AllocsPerRun(1, func() { _, err = NewReader(zeros{x.f.b}, size) })
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s:\n got %v\nwant %s", x.name, err, x.want)
		}
		if n > 1000 {
			t.Errorf("%s: %v allocations", x.name, n)
		}
	}
}

// TestRealFiles reads the models and vocabularies in the folder that EXPO_TESTDATA
// names, if there are any.
func TestRealFiles(t *testing.T) {
	dir := os.Getenv("EXPO_TESTDATA")
	if dir == "" {
		t.Skip("EXPO_TESTDATA names no folder")
	}
	var paths []string
	for _, pattern := range []string{"*.gguf", "*/*.gguf"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	if len(paths) == 0 {
		t.Skipf("no .gguf files in %s", dir)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			r, err := open(b)
			if err != nil {
				t.Fatal(err)
			}
			if v, ok := r.Metadata().String("general.architecture"); !ok || v == "" {
				t.Error("no general.architecture")
			}
			if v, ok := r.Metadata().Strings("tokenizer.ggml.tokens"); !ok || len(v) == 0 {
				t.Error("no tokenizer.ggml.tokens")
			}
			again, err := written(r)
			if err != nil {
				t.Fatal(err)
			}
			// Writers pad the end of the data.
			if !bytes.HasPrefix(b, again) || len(b)-len(again) >= 64 {
				t.Errorf("written again it has %d bytes, want these %d", len(again), len(b))
			}
		})
	}
}
