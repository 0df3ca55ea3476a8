package gguf

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"expo/weights/tensor"
)

// everyPair has a value of every type.
var everyPair = []Pair{
	{"u8", uint8(200)}, {"i8", int8(-3)}, {"u16", uint16(60000)}, {"i16", int16(-300)},
	{"u32", uint32(1 << 31)}, {"i32", int32(-7)}, {"u64", uint64(1 << 63)}, {"i64", int64(-1 << 40)},
	{"f32", float32(1.5)}, {"f64", math.Pi}, {"yes", true}, {"no", false}, {"text", "größer\x00"},
	{"u8s", []uint8{1, 2}}, {"i8s", []int8{-1}}, {"u16s", []uint16{}}, {"i16s", []int16{-2, 2}},
	{"u32s", []uint32{9}}, {"i32s", []int32{1, 6, 3}}, {"u64s", []uint64{7}}, {"i64s", []int64{-7}},
	{"f32s", []float32{0, -1}}, {"f64s", []float64{2}}, {"bools", []bool{true, false}}, {"strings", []string{"", "ab"}},
	{"deep", []any{[]uint8{1}, []string{"x"}, []any{[]bool{true}}}},
}

// TestWriteRead writes files and reads them back.
func TestWriteRead(t *testing.T) {
	data := make([]byte, 3<<20)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	ts := []Tensor{
		{Name: "a.weight", Type: Q4_K, Shape: []int{3, 512}},
		{Name: "scalar", Type: F32},
		{Name: "empty", Type: F16, Shape: []int{0, 4}},
		{Name: "large", Type: BF16, Shape: []int{2, 3, 5, 50000}},
		{Name: strings.Repeat("n", 63), Type: Q8_0, Shape: []int{32}},
	}
	for i := range ts {
		size, err := Size(ts[i].Type, ts[i].Shape)
		if err != nil {
			t.Fatal(err)
		}
		ts[i].Data, ts[i].Size = tensor.Section(tensor.Bytes(data), int64(i), size), size
	}
	for _, alignment := range []int64{32, 64, 4096} {
		md := everyPair
		if alignment != 32 {
			md = append([]Pair{{"general.alignment", uint32(alignment)}}, md...)
		}
		var b bytes.Buffer
		if err := Write(&b, md, ts); err != nil {
			t.Fatal(err)
		}
		l, err := NewLayout(md, ts)
		if err != nil {
			t.Fatal(err)
		}
		if l.Size() != int64(b.Len()) || !bytes.HasPrefix(b.Bytes(), l.Header()) || l.Size()%alignment != 0 {
			t.Fatalf("wrote %d bytes, the layout has %d", b.Len(), l.Size())
		}
		r, err := open(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Metadata().Keys(); len(got) != len(md) || r.Version() != 3 {
			t.Fatalf("version %d, %d keys, want 3, %d", r.Version(), len(got), len(md))
		}
		for i, p := range md {
			if got := r.Metadata().Value(p.Key); !reflect.DeepEqual(got, p.Value) || r.Metadata().Keys()[i] != p.Key {
				t.Errorf("%s: got %#v, want %#v", p.Key, got, p.Value)
			}
		}
		i := 0
		for got := range r.Tensors() {
			want := ts[i]
			if got.Name != want.Name || got.Type != want.Type || fmt.Sprint(got.Shape) != fmt.Sprint(want.Shape) || got.Size != want.Size {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if off := l.Offset(i); off%alignment != 0 || !bytes.Equal(b.Bytes()[off:off+got.Size], data[i:i+int(got.Size)]) {
				t.Errorf("%s: the data at %d is another", got.Name, off)
			}
			i++
		}
		if i != len(ts) {
			t.Errorf("%d tensors, want %d", i, len(ts))
		}
	}
}

// TestWriteRefuses gives what no file can hold.
func TestWriteRefuses(t *testing.T) {
	deep := any([]uint8{1})
	for range maxNesting {
		deep = []any{deep}
	}
	one := Tensor{Name: "t", Type: F32, Shape: []int{1}}
	for _, c := range []struct {
		md   []Pair
		ts   []Tensor
		want string
	}{
		{[]Pair{{"", uint8(1)}}, nil, "a key is empty"},
		{[]Pair{{"a", uint8(1)}, {"a", uint8(1)}}, nil, "a key stands twice: a"},
		{[]Pair{{"a\xff", uint8(1)}}, nil, "not valid UTF-8"},
		{[]Pair{{strings.Repeat("k", 65536), uint8(1)}}, nil, "more than the 65535"},
		{[]Pair{{"a", 1}}, nil, "a: a value of type int cannot be written"},
		{[]Pair{{"a", nil}}, nil, "cannot be written"},
		{[]Pair{{"a", []any{uint8(1)}}}, nil, "cannot be written"},
		{[]Pair{{"a", deep}}, nil, "cannot be written"},
		{[]Pair{{"general.alignment", uint32(24)}}, nil, "power of two"},
		{[]Pair{{"general.alignment", uint64(32)}}, nil, "power of two"},
		{nil, []Tensor{{Type: F32}}, "the name of a tensor is empty"},
		{nil, []Tensor{one, one}, "stands twice: t"},
		{nil, []Tensor{{Name: strings.Repeat("n", 64), Type: F32}}, "more than the 63"},
		{nil, []Tensor{{Name: "t", Type: 99}}, "t: type 99 is not known"},
		{nil, []Tensor{{Name: "t", Type: F32, Shape: []int{1, 1, 1, 1, 1}}}, "5 dimensions"},
		{nil, []Tensor{{Name: "t", Type: F32, Shape: []int{-1}}}, "no number of elements"},
		{nil, []Tensor{{Name: "t", Type: Q4_K, Shape: []int{2, 128}}}, "rows of 128 elements do not fill blocks of Q4_K"},
		{nil, []Tensor{{Name: "t", Type: F64, Shape: []int{1 << 61}}}, "more bytes than an int64 counts"},
		{nil, []Tensor{{Name: "s", Type: I8, Shape: []int{1 << 61}}, {Name: "t", Type: I8, Shape: []int{1 << 62}}}, "larger than any can be"},
	} {
		if _, err := NewLayout(c.md, c.ts); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	short := Tensor{Name: "t", Type: F32, Shape: []int{4}, Data: tensor.Bytes(make([]byte, 15))}
	if err := Write(&bytes.Buffer{}, nil, []Tensor{short}); err == nil || !strings.Contains(err.Error(), "reading t") {
		t.Errorf("data that ends early: %v", err)
	}
	for n := range 200 {
		one.Data = tensor.Bytes(make([]byte, 4))
		if err := Write(&fullAfter{n}, everyPair[:2], []Tensor{one}); n < 128 && err == nil {
			t.Errorf("no error of a writer that fails after %d bytes", n)
		}
	}
}

// fullAfter takes so many bytes.
type fullAfter struct{ left int }

func (f *fullAfter) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, fmt.Errorf("full")
	}
	return len(p), nil
}
