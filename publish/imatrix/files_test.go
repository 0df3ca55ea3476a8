package imatrix

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"expo/weights/gguf"
	"expo/weights/tensor"
)

// golden reads a file that llama-imatrix wrote; publish/export's
// importance_test.go says how.
func golden(t testing.TB, name string) ([]byte, *Matrix) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	m, err := read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b, m
}

func read(b []byte) (*Matrix, error) { return Read(bytes.NewReader(b), int64(len(b))) }

// TestGoldens reads llama-imatrix's files and writes them again, byte for byte.
func TestGoldens(t *testing.T) {
	b, m := golden(t, "model.imatrix.gguf")
	if len(m.Entries) != 14 || m.Chunks != 3 || m.ChunkSize != 32 || !slices.Equal(m.Datasets, []string{"text.txt"}) {
		t.Errorf("%d entries of %d chunks of %d, %q", len(m.Entries), m.Chunks, m.ChunkSize, m.Datasets)
	}
	var out bytes.Buffer
	if err := m.WriteGGUF(&out); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), b) {
		t.Errorf("written again: other bytes\n%q\n%q", out.Bytes(), b)
	}
	e := m.Entries["blk.1.ffn_down.weight"]
	if e.Columns() != 96 || !slices.Equal(e.Counts, []int64{96}) {
		t.Fatalf("%d columns, counts %v", e.Columns(), e.Counts)
	}
	for i, v := range e.Means() {
		if v != e.Sums[i]/96 {
			t.Fatalf("mean %d is %v of %v", i, v, e.Sums[i])
		}
	}

	// The older format has the means, less a bit, times the chunks.
	old, m2 := golden(t, "model.imatrix.dat")
	if m2.Chunks != 3 || !slices.Equal(m2.Datasets, m.Datasets) || !slices.Equal(m2.Names(), m.Names()) {
		t.Errorf("the older format: %d chunks, %q, %q", m2.Chunks, m2.Datasets, m2.Names())
	}
	for _, name := range m.Names() {
		a, b := m.Entries[name].Means(), m2.Entries[name].Means()
		for i := range a {
			if d := math.Abs(float64(a[i] - b[i])); !(d <= 2e-7*float64(a[i])) {
				t.Fatalf("%s: mean %d is %v, in the older format %v", name, i, a[i], b[i])
			}
		}
	}
	out.Reset()
	if err := m.WriteLegacy(&out); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), old) {
		t.Error("written in the older format: other bytes")
	}
}

// TestExperts reads and writes entries of several matrices, and what has no text.
func TestExperts(t *testing.T) {
	m := &Matrix{
		Entries: map[string]Entry{
			"blk.0.ffn_down_exps.weight": {Sums: []float32{1, 2, 3, 4, 0, 0}, Counts: []int64{2, 4, 0}},
			"b":                          {Sums: []float32{5}, Counts: []int64{1 << 24}},
		},
		Datasets: []string{"one", "two"}, Chunks: 7, ChunkSize: 2,
	}
	var out bytes.Buffer
	if err := m.WriteGGUF(&out); err != nil {
		t.Fatal(err)
	}
	got, err := read(out.Bytes())
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("%+v, %v, want %+v", got, err, m)
	}
	if means := m.Entries["blk.0.ffn_down_exps.weight"].Means(); !slices.Equal(means, []float32{0.5, 1, 0.75, 1, 1, 1}) {
		t.Errorf("means %v", means)
	}
	out.Reset()
	if err := m.WriteLegacy(&out); err != nil {
		t.Fatal(err)
	}
	got, err = read(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	// ⌈4/2⌉ chunks; the means times as many, all under one count.
	want := Entry{Sums: []float32{1, 2, 1.5, 2, 2, 2}, Counts: []int64{2}}
	if !reflect.DeepEqual(got.Entries["blk.0.ffn_down_exps.weight"], want) || got.Chunks != 7 || !slices.Equal(got.Datasets, []string{"two"}) {
		t.Errorf("the older format: %+v", got)
	}
	m.Entries["b"] = Entry{Sums: []float32{5}, Counts: []int64{1 << 40}}
	if err := m.WriteLegacy(&out); err == nil || !strings.Contains(err.Error(), "more than the format can hold") {
		t.Errorf("too many chunks: %v", err)
	}
	bare := &Matrix{Entries: map[string]Entry{"a": {Sums: []float32{1}, Counts: []int64{1}}}}
	out.Reset()
	if err := bare.WriteGGUF(&out); err != nil {
		t.Fatal(err)
	}
	if got, err := read(out.Bytes()); err != nil || got.Datasets != nil && len(got.Datasets) > 0 || got.Chunks != 0 {
		t.Errorf("without a text: %+v, %v", got, err)
	}
}

func TestRenamed(t *testing.T) {
	m := &Matrix{Entries: map[string]Entry{"qkv": {Sums: []float32{1}, Counts: []int64{1}}, "head": {}}, Chunks: 4}
	got := m.Renamed(func(name string) []string { return map[string][]string{"qkv": {"q", "k", "v"}}[name] })
	if !slices.Equal(got.Names(), []string{"k", "q", "v"}) || got.Chunks != 4 || !slices.Equal(m.Names(), []string{"head", "qkv"}) {
		t.Errorf("%q from %q", got.Names(), m.Names())
	}
}

func TestSniff(t *testing.T) {
	a, _ := golden(t, "model.imatrix.gguf")
	b, _ := golden(t, "model.imatrix.dat")
	for _, c := range []struct {
		start []byte
		want  bool
	}{{a, true}, {b, true}, {nil, false}, {[]byte("a"), false}, {[]byte("GGU"), false}, {[]byte("Once upon a time\x00"), false}, {[]byte("Gänse"), false}} {
		if got := Sniff(c.start); got != c.want {
			t.Errorf("Sniff(%.20q) = %v", c.start, got)
		}
	}
}

// file is a GGUF file of the given pairs and tensors of float32.
func file(t testing.TB, pairs []gguf.Pair, names []string, values ...[]float32) []byte {
	t.Helper()
	var ts []gguf.Tensor
	for i, name := range names {
		ts = append(ts, gguf.Tensor{Name: name, Type: gguf.F32, Shape: []int{len(values[i])}, Data: tensor.Bytes(littleEndian(values[i]))})
	}
	var b bytes.Buffer
	if err := gguf.Write(&b, pairs, ts); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var imatrixType = []gguf.Pair{{Key: typeKey, Value: fileType}}

// older is a file in the older format: strings and numbers as they are written.
func older(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = binary.LittleEndian.AppendUint32(b, uint32(p))
		case float64:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(p)))
		case string:
			b = append(b, p...)
		default:
			panic(fmt.Sprintf("%T", p))
		}
	}
	return b
}

func TestOlder(t *testing.T) {
	for _, c := range []struct {
		b    []byte
		want *Matrix
	}{
		{older(1, 1, "a", 2, 2, 3., 4.), &Matrix{Entries: map[string]Entry{"a": {[]float32{3, 4}, []int64{2}}}}},
		{older(1, 1, "a", 0, 1, 3., 9), &Matrix{Entries: map[string]Entry{"a": {[]float32{3}, []int64{1}}}, Chunks: 9}},
		{older(1, 1, "a", -1, 1, 3., -9, 0), &Matrix{Entries: map[string]Entry{"a": {[]float32{3}, []int64{1}}}}},
		{older(2, 1, "a", 1, 1, 3., 1, "b", 1, 1, 0., 5, 3, "t\xFFt"),
			&Matrix{Entries: map[string]Entry{"a": {[]float32{3}, []int64{1}}, "b": {[]float32{0}, []int64{1}}}, Chunks: 5, Datasets: []string{"t\uFFFDt"}}},
	} {
		if got, err := read(c.b); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v, %v, want %+v", c.b, got, err, c.want)
		}
	}
}

// TestErrors has files that are not what they should be.
func TestErrors(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	many := file(t, imatrixType, []string{"a.in_sum2", "b.counts", "c.in_sum2", "c.counts", "d.in_sum2", "d.counts"},
		[]float32{1}, []float32{1}, []float32{1, 2, 3}, []float32{1, 1}, []float32{1}, []float32{-1})
	for _, c := range []struct {
		name string
		b    []byte
		want []string
	}{
		{"empty", nil, []string{"is not an importance matrix"}},
		{"text", []byte("Once upon a time there was"), []string{"is not an importance matrix"}},
		{"a model", file(t, []gguf.Pair{{Key: "general.type", Value: "model"}, {Key: "general.architecture", Value: "llama"}}, nil), []string{"this is a model (llama)"}},
		{"an adapter", file(t, []gguf.Pair{{Key: "general.type", Value: "adapter"}}, nil), []string{"of type adapter"}},
		{"cut off", many[:100], []string{"gguf:"}},
		{"no entries", file(t, imatrixType, []string{"a"}, []float32{1}), []string{"no entries"}},
		{"everything", many, []string{"a has sums but no counts", "b has counts but no sums", "c has 3 sums and 2 counts", "d has the count -1"}},
		{"values", file(t, imatrixType, []string{"a.in_sum2", "a.counts", "b.in_sum2", "b.counts", "c.in_sum2", "c.counts"},
			[]float32{1, -1}, []float32{1}, []float32{inf}, []float32{1}, []float32{1, 2, 3, nan}, []float32{1, 1}),
			[]string{"a has the sum of squares -1 in column 1", "b has the sum of squares +Inf", "c has the sum of squares NaN in column 1"}},
		{"a count of NaN", file(t, imatrixType, []string{"a.in_sum2", "a.counts"}, []float32{1}, []float32{nan}), []string{"a has the count NaN"}},
		{"old, entries", older(1<<20, 1, "a"), []string{"is not an importance matrix"}},
		{"old, a name", older(1, 1<<30, "a", 1, 1, 1.), []string{"entry 1 of 1: 1073741824 bytes are announced"}},
		{"old, a negative name", older(1, -4, "a", 1, 1, 1.), []string{"-4 bytes"}},
		{"old, no name", older(1, 0, 1, 1, 1.), []string{`"" is no name`}},
		{"old, values", older(1, 1, "a", 1, 0, 1.), []string{"a has 0 values"}},
		{"old, too many values", older(1, 1, "a", 1, 1<<30, 1.), []string{"bytes are announced"}},
		{"old, cut off", older(1, 1, "a", 1, 3, 1., 2.), []string{"12 bytes are announced, 8 are left"}},
		{"old, the second cut off", older(2, 1, "a", 1, 1, 1., 1, "b", 1, 2, 1.), []string{"entry 2 of 2"}},
		{"old, twice", older(2, 1, "a", 1, 1, 1., 1, "a", 1, 1, 1.), []string{"a stands twice"}},
		{"old, negative", older(1, 1, "a", 1, 1, -1.), []string{"sum of squares -1"}},
		{"old, the text's name", older(1, 1, "a", 1, 1, 1., 1, 5, "abc"), []string{"after 1 entries"}},
		{"old, more", older(1, 1, "a", 1, 1, 1., 1, 1, "abc"), []string{"2 bytes follow"}},
	} {
		_, err := read(c.b)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %s", c.name, err, want)
			}
		}
		if err != nil {
			checkError(t, err)
		}
	}
}

func checkError(t *testing.T, err error) {
	t.Helper()
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, "imatrix: ") || strings.HasPrefix(line, "imatrix: imatrix: ") || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("the error %q", line)
		}
	}
}

// FuzzRead checks that no file makes Read panic, that errors are printable lines,
// and that what is accepted keeps the promises of the package and can be written
// and read again.
func FuzzRead(f *testing.F) {
	for _, name := range []string{"model.imatrix.gguf", "model.imatrix.dat"} {
		b, _ := golden(f, name)
		f.Add(b)
	}
	f.Add(file(f, imatrixType, []string{"a.in_sum2", "a.counts"}, []float32{1, 2, 3, 4}, []float32{2, 0}))
	f.Add(older(2, 1, "a", 1, 1, 3., 1, "b", 1, 2, 0., 1., 5, 3, "txt"))
	f.Add(older(1, 1, "a", -1, 1, 3., -9, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := read(b)
		if err != nil {
			checkError(t, err)
			return
		}
		for name, e := range m.Entries {
			if len(e.Counts) == 0 || len(e.Sums) == 0 || len(e.Sums)%len(e.Counts) != 0 {
				t.Fatalf("%q: %d sums, %d counts", name, len(e.Sums), len(e.Counts))
			}
			for i, v := range e.Means() {
				if !(v >= 0 && v <= math.MaxFloat32) {
					t.Fatalf("%q: mean %d is %v", name, i, v)
				}
			}
		}
		var out bytes.Buffer
		if err := m.WriteGGUF(&out); err != nil {
			return // names that only the older format can hold
		}
		again, err := read(out.Bytes())
		if err != nil {
			t.Fatalf("written again: %v", err)
		}
		for name, e := range m.Entries {
			// Counts are float32 in files.
			if got := again.Entries[name]; !slices.Equal(got.Sums, e.Sums) || len(got.Counts) != len(e.Counts) {
				t.Errorf("%q written again: %v, had %v", name, got, e)
			}
		}
		if len(again.Entries) != len(m.Entries) || again.Chunks != m.Chunks {
			t.Errorf("written again: %d entries of %d chunks, had %d of %d", len(again.Entries), again.Chunks, len(m.Entries), m.Chunks)
		}
		out.Reset()
		if err := m.WriteLegacy(&out); err != nil {
			checkError(t, err)
		}
	})
}
