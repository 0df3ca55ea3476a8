package tensor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
)

func TestTensor(t *testing.T) {
	x := Tensor{Name: "x", DType: BF16, Shape: []int{2, 3}}
	if x.Elements() != 6 || x.Size() != 12 {
		t.Errorf("%d elements, %d bytes", x.Elements(), x.Size())
	}
	for name, f := range map[string]func(Tensor) int64{"Elements": Tensor.Elements, "Size": Tensor.Size} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s of an impossible shape does not panic", name)
				}
			}()
			f(Tensor{DType: F32, Shape: []int{math.MaxInt, 2}})
		}()
	}
}

var (
	errBroken = errors.New("broken disk")
	letters   = Bytes("abcdefghij")
)

// shrunk has n bytes, although whoever made a section of it thought there were
// more.
func shrunk(n int) io.ReaderAt { return bytes.NewReader(letters[:n]) }

type broken struct{}

func (broken) ReadAt(p []byte, off int64) (int, error) {
	if len(p) > 0 {
		p[0] = 'a'
		return 1, errBroken
	}
	return 0, errBroken
}

func TestReadAt(t *testing.T) {
	mid := Section(letters, 2, 5) // cdefg
	tests := []struct {
		name string
		r    io.ReaderAt
		n    int
		off  int64
		want string
		err  error
	}{
		{"bytes", letters, 3, 0, "abc", nil},
		{"bytes, to the end", letters, 3, 7, "hij", nil},
		{"bytes, past the end", letters, 4, 7, "hij", io.EOF},
		{"bytes, at the end", letters, 1, 10, "", io.EOF},
		{"bytes, far out", letters, 1, math.MaxInt64, "", io.EOF},
		{"bytes, nothing", letters, 0, 3, "", nil},
		{"bytes, nothing at the end", letters, 0, 10, "", nil},
		{"bytes, nothing far out", letters, 0, 99, "", nil},
		{"no bytes", Bytes(nil), 1, 0, "", io.EOF},
		{"section", mid, 3, 0, "cde", nil},
		{"section, to the end", mid, 3, 2, "efg", nil},
		{"section, past the end", mid, 9, 2, "efg", io.EOF},
		{"section, at the end", mid, 1, 5, "", io.EOF},
		{"section, far out", mid, 1, math.MaxInt64, "", io.EOF},
		{"section, nothing", mid, 0, 5, "", nil},
		{"section of a section", Section(mid, 1, 3), 3, 0, "def", nil},
		{"section of a section, past the end", Section(mid, 1, 3), 4, 0, "def", io.EOF},
		{"section longer than its section", Section(mid, 3, 5), 4, 0, "fg", io.ErrUnexpectedEOF},
		{"empty section", Section(letters, 4, 0), 1, 0, "", io.EOF},
		{"section of a file that shrank", Section(shrunk(4), 2, 5), 3, 0, "cd", io.ErrUnexpectedEOF},
		{"section of a file that shrank, over both ends", Section(shrunk(4), 2, 5), 9, 0, "cd", io.ErrUnexpectedEOF},
		{"section of a file that shrank, behind it", Section(shrunk(1), 2, 5), 1, 0, "", io.ErrUnexpectedEOF},
		{"section of a broken disk", Section(broken{}, 2, 5), 3, 0, "a", errBroken},
		{"section of a broken disk, read in full", Section(broken{}, 2, 5), 1, 0, "a", nil},
	}
	for _, tt := range tests {
		p := make([]byte, tt.n)
		n, err := tt.r.ReadAt(p, tt.off)
		if string(p[:n]) != tt.want || err != tt.err {
			t.Errorf("%s: %q, %v, want %q, %v", tt.name, p[:n], err, tt.want, tt.err)
		}
	}
	for _, r := range []io.ReaderAt{letters, mid} {
		if n, err := r.ReadAt(make([]byte, 1), -1); n != 0 || err == nil || err == io.EOF {
			t.Errorf("at −1: %d, %v", n, err)
		}
	}
	if err := iotest.TestReader(io.NewSectionReader(mid, 0, 5), []byte("cdefg")); err != nil {
		t.Error(err)
	}
}

// TestSectionFlat checks that sections of sections do not pile up, and that
// what lies outside is not flattened into the bytes around it.
func TestSectionFlat(t *testing.T) {
	outer := Section(letters, 2, 5)
	if s := Section(outer, 1, 3).(*section); s.off != 3 || s.n != 3 {
		t.Errorf("%+v", s)
	} else if _, nested := s.r.(*section); nested {
		t.Error("a section inside a section is kept as such")
	}
	for _, tt := range []struct{ off, n int64 }{{1, 5}, {6, 0}, {-1, 3}, {1, math.MaxInt64}, {math.MaxInt64, math.MaxInt64}} {
		if s := Section(outer, tt.off, tt.n).(*section); s.r != outer {
			t.Errorf("Section(%d, %d) reaches around the one it is of", tt.off, tt.n)
		}
	}
}

func TestBase(t *testing.T) {
	whole := Bytes("0123456789")
	inner := Section(Section(whole, 2, 7), 3, 2)
	if base, off := Base(inner); off != 5 || string(base.(Bytes)) != string(whole) {
		t.Errorf("got %v at %d, want the whole at 5", base, off)
	}
	if base, off := Base(whole); off != 0 || string(base.(Bytes)) != string(whole) {
		t.Errorf("got %v at %d, want the same at 0", base, off)
	}
}

func TestReadFull(t *testing.T) {
	tests := []struct {
		name string
		r    io.ReaderAt
		n    int
		off  int64
		err  error
	}{
		{"all", letters, 10, 0, nil},
		{"the end, with io.EOF", eofReader{}, 3, 0, nil},
		{"too much", letters, 11, 0, io.ErrUnexpectedEOF},
		{"behind the end", letters, 1, 10, io.ErrUnexpectedEOF},
		{"a reader that gives up without a word", lazy{}, 3, 0, io.ErrUnexpectedEOF},
		{"a broken disk", broken{}, 3, 0, errBroken},
		{"a broken disk, just enough", broken{}, 1, 0, nil},
		{"nothing", letters, 0, 10, nil},
	}
	for _, tt := range tests {
		if err := ReadFull(tt.r, make([]byte, tt.n), tt.off); err != tt.err {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.err)
		}
	}
}

// eofReader reports io.EOF together with the last bytes, as it may.
type eofReader struct{}

func (eofReader) ReadAt(p []byte, _ int64) (int, error) { return len(p), io.EOF }

// lazy breaks io.ReaderAt's rules.
type lazy struct{}

func (lazy) ReadAt([]byte, int64) (int, error) { return 1, nil }

func TestReadFloat32(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	negZero := float32(math.Copysign(0, -1))
	f32 := func(vals ...float32) (b []byte) {
		for _, v := range vals {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
		return b
	}
	f64 := func(vals ...float64) (b []byte) {
		for _, v := range vals {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
		return b
	}
	u16 := func(vals ...uint16) (b []byte) {
		for _, v := range vals {
			b = binary.LittleEndian.AppendUint16(b, v)
		}
		return b
	}
	tests := []struct {
		d    DType
		data []byte
		want []float32
	}{
		{F32, f32(1.5, negZero, inf, nan, 1e-45), []float32{1.5, negZero, inf, nan, 1e-45}},
		// Ties go to the even neighbour; what is too large becomes infinite.
		{F64, f64(1.5, 1+1.0/(1<<24), 1+3.0/(1<<24), 1e300, -1e-300), []float32{1.5, 1, 1 + 4.0/(1<<24), inf, negZero}},
		{BF16, u16(0x3f80, 0xc000, 0x7f80, 0x7fc0, 0x0001), []float32{1, -2, inf, nan, float32(math.Ldexp(1, -133))}},
		{F16, u16(0x3c00, 0x7bff, 0xfc00, 0x7e00, 0x0001), []float32{1, 65504, -inf, nan, float32(math.Ldexp(1, -24))}},
		{F8E4M3, []byte{0x38, 0x7e, 0x7f, 0x80, 0x01}, []float32{1, 448, nan, negZero, float32(math.Ldexp(1, -9))}},
		{F8E5M2, []byte{0x3c, 0x7b, 0x7c, 0x7d, 0x01}, []float32{1, 57344, inf, nan, float32(math.Ldexp(1, -16))}},
	}
	for _, tt := range tests {
		x := Tensor{Name: "a.b", DType: tt.d, Shape: []int{len(tt.want)}, Data: Bytes(tt.data)}
		for first := range tt.want {
			for n := range len(tt.want) - first + 1 {
				got := make([]float32, n)
				if err := x.ReadFloat32(got, int64(first)); err != nil {
					t.Fatal(err)
				}
				for i, v := range got {
					want := tt.want[first+i]
					if math.Float32bits(v) != math.Float32bits(want) && (v == v || want == want) {
						t.Errorf("%v: element %d: %v, want %v", tt.d, first+i, v, want)
					}
				}
			}
		}
		err := x.ReadFloat32(make([]float32, 2), int64(len(tt.want)-1))
		if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix(err.Error(), "tensor: a.b: ") {
			t.Errorf("%v: past the end: %v", tt.d, err)
		}
		if err := x.ReadFloat32(make([]float32, 1), -1); err == nil {
			t.Errorf("%v: read an element before the first", tt.d)
		}
	}
	for _, d := range []DType{I32, BOOL, F8E8M0, F4, C64, U8, Invalid} {
		x := Tensor{Name: "a.b", DType: d, Shape: []int{2}, Data: Bytes(make([]byte, 16))}
		if err := x.ReadFloat32(make([]float32, 1), 0); err == nil || !strings.HasPrefix(err.Error(), "tensor: a.b: ") {
			t.Errorf("%v: %v", d, err)
		}
	}
}
