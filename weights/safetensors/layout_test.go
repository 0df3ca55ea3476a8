package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"expo/weights/tensor"
)

// mem is a tensor over memory.
func mem(name string, d tensor.DType, shape []int, data ...byte) tensor.Tensor {
	return tensor.Tensor{Name: name, DType: d, Shape: shape, Data: tensor.Bytes(data)}
}

// goldenTensors are those of testdata/golden.py, in its order.
func goldenTensors(t *testing.T) []tensor.Tensor {
	ts := []tensor.Tensor{
		mem("model.layers.10.w", tensor.BF16, []int{2, 3}),
		mem("model.layers.2.w", tensor.BF16, []int{3}),
		mem("bool", tensor.BOOL, []int{5}),
		mem("f4", tensor.F4, []int{1, 6}),
		mem("u8", tensor.U8, []int{3}),
		mem("i8", tensor.I8, []int{1}),
		mem("e5m2", tensor.F8E5M2, []int{2}),
		mem("e4m3", tensor.F8E4M3, []int{2}),
		mem("e8m0", tensor.F8E8M0, []int{2}),
		mem("e4m3fnuz", tensor.F8E4M3FNUZ, []int{2}),
		mem("e5m2fnuz", tensor.F8E5M2FNUZ, []int{2}),
		mem("i16", tensor.I16, []int{2}),
		mem("u16", tensor.U16, []int{2}),
		mem("f16", tensor.F16, []int{2}),
		mem("i32", tensor.I32, []int{2}),
		mem("u32", tensor.U32, []int{2}),
		mem("f32", tensor.F32, []int{2, 2}),
		mem("c64", tensor.C64, []int{1}),
		mem("f64", tensor.F64, []int{1}),
		mem("i64", tensor.I64, []int{1}),
		mem("u64", tensor.U64, []int{1}),
		mem("scalar", tensor.F32, nil),
		mem("empty", tensor.F32, []int{4, 0, 2}),
		mem("", tensor.U8, []int{1}),
		mem("a\x00\x01\x1f\x7f", tensor.U8, []int{1}),
		mem("q\"\\/\b\f\n\r\t", tensor.U8, []int{1}),
		mem("<&>'", tensor.U8, []int{1}),
		mem("\u00e9\u2028\ue000", tensor.U8, []int{1}),
		mem("\U0001f600", tensor.U8, []int{1}),
	}
	for i := range ts {
		data := make(tensor.Bytes, ts[i].Size())
		for j := range data {
			data[j] = byte(31*i + 7*j + 1)
			if ts[i].DType == tensor.BOOL {
				data[j] &= 1
			}
		}
		ts[i].Data = data
	}
	return ts
}

func TestGolden(t *testing.T) {
	want, err := os.ReadFile("testdata/golden.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	metadata := map[string]string{"format": "pé\n\x1b\u2029<t>"}
	ts := goldenTensors(t)

	for range 10 {
		rand.Shuffle(len(ts), func(i, j int) { ts[i], ts[j] = ts[j], ts[i] })
		Sort(ts)
		var got bytes.Buffer
		if err := Write(&got, ts, metadata); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Fatalf("written:\n%q\nwant:\n%q", got.Bytes(), want)
		}
	}

	r, err := open(want)
	if err != nil {
		t.Fatal(err)
	}
	sameTensors(t, slices.Collect(r.Tensors()), ts)
	if got := r.Metadata(); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", metadata) {
		t.Errorf("metadata %q, want %q", got, metadata)
	}
}

// sameTensors fails unless got and want are the same tensors in the same
// order, down to their bytes.
func sameTensors(t *testing.T, got, want []tensor.Tensor) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d tensors, want %d", len(got), len(want))
	}
	for i := range got {
		g, w := got[i], want[i]
		if g.Name != w.Name || g.DType != w.DType || !slices.Equal(g.Shape, w.Shape) {
			t.Fatalf("tensor %d is %q %v %v, want %q %v %v", i, g.Name, g.DType, g.Shape, w.Name, w.DType, w.Shape)
		}
		a, b := make([]byte, g.Size()), make([]byte, w.Size())
		if err := errors.Join(tensor.ReadFull(g.Data, a, 0), tensor.ReadFull(w.Data, b, 0)); err != nil {
			t.Fatalf("%q: %v", g.Name, err)
		}
		if !bytes.Equal(a, b) {
			t.Fatalf("%q holds %x, want %x", g.Name, a, b)
		}
	}
}

func TestHeaderText(t *testing.T) {
	one := []tensor.Tensor{mem("t", tensor.U8, []int{1}, 0)}
	for _, tt := range []struct {
		ts       []tensor.Tensor
		metadata map[string]string
		want     string
	}{
		{nil, nil, "{}      "},
		{nil, map[string]string{}, `{"__metadata__":{}}     `},
		{nil, map[string]string{"a": "b"}, `{"__metadata__":{"a":"b"}}      `},
		{one, map[string]string{}, `{"__metadata__":{},"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}} `},
		{one, map[string]string{"z": "1", "format": "pt", "B": "\x1f</\""},
			`{"__metadata__":{"B":"\u001f</\"","format":"pt","z":"1"},"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}   `},
		{one, nil, `{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}   `},
		{[]tensor.Tensor{mem("b", tensor.I8, []int{2, 1}, 0, 1), mem("a", tensor.F64, []int{0}), mem("c", tensor.U16, nil, 2, 3)}, nil,
			`{"b":{"dtype":"I8","shape":[2,1],"data_offsets":[0,2]},"a":{"dtype":"F64","shape":[0],"data_offsets":[2,2]},"c":{"dtype":"U16","shape":[],"data_offsets":[2,4]}}`},
	} {
		l, err := NewLayout(tt.ts, tt.metadata)
		if err != nil {
			t.Errorf("%s: %v", tt.want, err)
			continue
		}
		h := l.Header()
		if got := string(h[8:]); got != tt.want {
			t.Errorf("header:\n got %s\nwant %s", got, tt.want)
		}
		if n := binary.LittleEndian.Uint64(h); n != uint64(len(tt.want)) || n%8 != 0 {
			t.Errorf("%s: length %d, want %d", tt.want, n, len(tt.want))
		}
	}
}

func TestLayoutErrors(t *testing.T) {
	for _, tt := range []struct {
		name     string
		ts       []tensor.Tensor
		metadata map[string]string
		want     string
	}{
		{"two of a name", []tensor.Tensor{mem("a b", tensor.U8, nil, 0), mem("a b", tensor.I8, nil, 0)}, nil, `"a b": two tensors of this name`},
		{"reserved name", []tensor.Tensor{mem("__metadata__", tensor.U8, nil, 0)}, nil, "a tensor cannot be named __metadata__"},
		{"name not UTF-8", []tensor.Tensor{mem("a\xff", tensor.U8, nil, 0)}, nil, `"a\xff": the name is not valid UTF-8`},
		{"metadata key not UTF-8", nil, map[string]string{"\xff": ""}, `metadata "\xff": not valid UTF-8`},
		{"metadata value not UTF-8", nil, map[string]string{"k": "\xed\xa0\x80"}, "metadata k: not valid UTF-8"},
		{"no dtype", []tensor.Tensor{mem("a", tensor.Invalid, nil)}, nil, "a: dtype INVALID cannot be written"},
		{"unknown dtype", []tensor.Tensor{mem("a", 200, nil)}, nil, "a: dtype DType(200) cannot be written"},
		{"negative dimension", []tensor.Tensor{mem("a", tensor.U8, []int{-1})}, nil, "a: negative dimension in shape [-1]"},
		{"overflow of a tensor", []tensor.Tensor{mem("a", tensor.U8, []int{1 << 30, 1 << 30, 1 << 30})}, nil, "a: shape [1073741824 1073741824 1073741824] has more elements than an int64 counts"},
		{"sub-byte end", []tensor.Tensor{mem("a", tensor.F6E3M2, []int{2})}, nil, "a: F6_E3M2 of shape [2] does not end on a byte"},
		{"long metadata", nil, map[string]string{"a": strings.Repeat("x", 100_000_000)}, "the metadata alone exceeds the length of a header"},
		{"long name", []tensor.Tensor{mem(strings.Repeat("x", 100_000_000), tensor.U8, nil), mem("b", tensor.U8, nil)}, nil, "the header of 2 tensors would be longer than the 100000000 bytes that are allowed"},
	} {
		_, err := NewLayout(tt.ts, tt.metadata)
		if err == nil {
			t.Errorf("%s: accepted", tt.name)
		} else if want := "safetensors: " + tt.want; err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", tt.name, err, want)
		}
	}

	// Of tensors of nearly 2⁶⁰ bytes each, eight fit.
	var big []tensor.Tensor
	for i := range 9 {
		big = append(big, mem(string(rune('a'+i)), tensor.U8, []int{math.MaxInt32, math.MaxInt32 / 4}))
	}
	if _, err := NewLayout(big[:8], nil); err != nil {
		t.Error(err)
	}
	const want = "safetensors: i: the file would have more bytes than an int64 counts"
	if _, err := NewLayout(big, nil); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// The longest header that may be written is one that may be read.
func TestLongestHeader(t *testing.T) {
	if testing.Short() {
		t.Skip("allocates 400 MB")
	}
	const fixed = len(`{"":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}`)
	ts := []tensor.Tensor{mem(strings.Repeat("x", maxHeader-fixed), tensor.U8, nil, 7)}
	var b bytes.Buffer
	b.Grow(maxHeader + 9)
	if err := Write(&b, ts, nil); err != nil {
		t.Fatal(err)
	}
	r, err := open(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	sameTensors(t, slices.Collect(r.Tensors()), ts)

	ts[0].Name += "x"
	if _, err := NewLayout(ts, nil); err == nil {
		t.Error("a header of 100,000,001 bytes is accepted")
	}
}

// randomTensors are up to 20 tensors of random types, shapes and contents.
func randomTensors(rng *rand.Rand) []tensor.Tensor {
	ts := make([]tensor.Tensor, rng.IntN(21))
	for i := range ts {
		name := fmt.Sprintf("t%d", i)
		for range rng.IntN(6) {
			name += string(rune(rng.IntN(0xd800)))
		}
		d := tensor.U64 + tensor.DType(rng.IntN(int(tensor.BOOL)))
		shape := []int{4} // so that sub-byte types end on a byte
		for range rng.IntN(3) {
			shape = append(shape, rng.IntN(4))
		}
		size, err := tensor.Size(d, shape)
		if err != nil {
			panic(err)
		}
		data := make([]byte, size)
		for j := range data {
			data[j] = byte(rng.Uint32())
		}
		ts[i] = mem(name, d, shape, data...)
	}
	return ts
}

func TestRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		ts := randomTensors(rng)
		var metadata map[string]string
		if round%2 == 0 {
			metadata = map[string]string{"format": "pt", string(rune(rng.IntN(0xd800))): "\x00"}
		}
		var b bytes.Buffer
		if err := Write(&b, ts, metadata); err != nil {
			t.Fatal(err)
		}
		r, err := open(b.Bytes())
		if err != nil {
			t.Fatalf("%v\n%q", err, b.Bytes())
		}
		got := slices.Collect(r.Tensors())
		sameTensors(t, got, ts)
		if fmt.Sprint(r.Metadata()) != fmt.Sprint(metadata) {
			t.Fatalf("metadata %q, want %q", r.Metadata(), metadata)
		}

		// The Layout promises the same places as Write fills.
		l, err := NewLayout(ts, metadata)
		if err != nil {
			t.Fatal(err)
		}
		if l.Size() != int64(b.Len()) || int64(len(l.Header())) != r.HeaderSize() {
			t.Fatalf("size %d with a header of %d, want %d with %d", l.Size(), len(l.Header()), b.Len(), r.HeaderSize())
		}
		for i, x := range ts {
			want := make([]byte, x.Size())
			tensor.ReadFull(x.Data, want, 0)
			if at := b.Bytes()[l.Offset(i):]; !bytes.HasPrefix(at, want) {
				t.Fatalf("%q is not at %d", x.Name, l.Offset(i))
			}
		}
	}
}

// A tensor longer than the buffer of Write.
func TestWriteLong(t *testing.T) {
	data := make([]byte, 3<<20+5)
	for i := range data {
		data[i] = byte(i * i >> 8)
	}
	ts := []tensor.Tensor{mem("small", tensor.U8, []int{3}, 1, 2, 3), mem("long", tensor.U8, []int{len(data)}, data...)}
	var b bytes.Buffer
	if err := Write(&b, ts, nil); err != nil {
		t.Fatal(err)
	}
	r, err := open(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	sameTensors(t, slices.Collect(r.Tensors()), ts)
}

// limited is a writer that fails after n bytes.
type limited struct{ n int }

var errFull = errors.New("disk full")

func (l *limited) Write(p []byte) (int, error) {
	if l.n -= len(p); l.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriteErrors(t *testing.T) {
	good := mem("a", tensor.U8, []int{8}, 0, 1, 2, 3, 4, 5, 6, 7)
	short := mem("a", tensor.U8, []int{9}, 0, 1)
	missing := tensor.Tensor{Name: "a", DType: tensor.U8, Shape: []int{1}}
	for _, tt := range []struct {
		w     io.Writer
		t     tensor.Tensor
		cause error
		want  string
	}{
		{&limited{0}, good, errFull, "safetensors: writing the header: disk full"},
		{&limited{70}, good, errFull, "safetensors: a: writing: disk full"},
		{io.Discard, short, io.ErrUnexpectedEOF, "safetensors: a: reading: unexpected EOF"},
		{io.Discard, missing, nil, "safetensors: a: has no data"},
		{io.Discard, mem("__metadata__", tensor.U8, nil), nil, "safetensors: a tensor cannot be named __metadata__"},
	} {
		err := Write(tt.w, []tensor.Tensor{tt.t}, nil)
		if err == nil || err.Error() != tt.want || tt.cause != nil && !errors.Is(err, tt.cause) {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
	empty := tensor.Tensor{Name: "a", DType: tensor.U8, Shape: []int{0}}
	if err := Write(io.Discard, []tensor.Tensor{empty}, nil); err != nil {
		t.Errorf("an empty tensor without data: %v", err)
	}
}

func TestSort(t *testing.T) {
	var ts []tensor.Tensor
	for d := tensor.BOOL; d >= tensor.U64; d-- {
		for _, name := range []string{"\U0001f600", "\uffff", "é", "z", "model.layers.2", "model.layers.10", ""} {
			ts = append(ts, mem(name, d, nil))
		}
	}
	Sort(ts)
	for i := 1; i < len(ts); i++ {
		a, b := ts[i-1], ts[i]
		if a.DType > b.DType || a.DType == b.DType && a.Name >= b.Name {
			t.Errorf("%v %q before %v %q", a.DType, a.Name, b.DType, b.Name)
		}
	}
}
