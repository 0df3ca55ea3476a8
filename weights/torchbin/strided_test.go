package torchbin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"
)

// A pattern is a file whose bytes follow from their offsets, so that a test
// can have strides of any size. It counts the reads, and the longest of them.
type pattern struct {
	mu             sync.Mutex
	reads, longest int
}

func (p *pattern) at(off int64) byte { return byte(uint64(off) * 0x9e3779b97f4a7c15 >> 40) }

func (p *pattern) ReadAt(b []byte, off int64) (int, error) {
	p.mu.Lock()
	p.reads++
	p.longest = max(p.longest, len(b))
	p.mu.Unlock()
	for i := range b {
		b[i] = p.at(off + int64(i))
	}
	return len(b), nil
}

// naive is the row-major bytes of a strided tensor, element by element.
func naive(p *pattern, off, width int64, size, stride []int64) []byte {
	n := int64(1)
	for _, d := range size {
		n *= d
	}
	out := make([]byte, 0, n*width)
	for i := range n {
		at := off
		for k, rest := len(size)-1, i; k >= 0; k-- {
			at += rest % size[k] * stride[k] * width
			rest /= size[k]
		}
		for j := range width {
			out = append(out, p.at(at+j))
		}
	}
	return out
}

func newStrided(r io.ReaderAt, off, width int64, size, stride []int64) *strided {
	n := width
	for _, d := range size {
		n *= d
	}
	return &strided{r: r, off: off, width: width, dims: merge(size, stride), size: n}
}

func TestStridedShapes(t *testing.T) {
	tests := []struct {
		name         string
		width        int64
		size, stride []int64
	}{
		{"transposed", 2, []int64{300, 500}, []int64{1, 300}},
		{"transposed, wider than the buffer", 4, []int64{3, 90000}, []int64{1, 3}},
		{"transposed, far apart", 2, []int64{600, 40}, []int64{1, 5000}},
		{"columns", 4, []int64{700, 300}, []int64{310, 1}},
		{"columns, far apart", 1, []int64{90, 700}, []int64{9000, 1}},
		{"steps", 8, []int64{50000}, []int64{3}},
		{"steps, far apart", 8, []int64{1000}, []int64{30000}},
		{"expanded rows", 2, []int64{200, 400}, []int64{0, 1}},
		{"expanded columns", 1, []int64{300, 200}, []int64{1, 0}},
		{"one element", 4, []int64{70, 90}, []int64{0, 0}},
		{"permuted", 2, []int64{20, 30, 40}, []int64{1, 800, 20}},
		{"permuted, with gaps", 1, []int64{20, 30, 40}, []int64{3, 9000, 100}},
		{"windows", 4, []int64{500, 64}, []int64{2, 1}},
		{"windows, long", 1, []int64{9, 300000}, []int64{100, 1}},
		{"diagonal", 4, []int64{400}, []int64{401}},
		{"blocks", 1, []int64{7, 5, 3, 11}, []int64{100000, 1, 50, 300}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := new(pattern)
			s := newStrided(p, 12345, tt.width, tt.size, tt.stride)
			want := naive(p, 12345, tt.width, tt.size, tt.stride)
			got := make([]byte, s.size)
			if n, err := s.ReadAt(got, 0); n != len(got) || err != nil {
				t.Fatalf("ReadAt = %d, %v", n, err)
			}
			if !bytes.Equal(got, want) {
				t.Fatal("wrong bytes in one read of all")
			}
			rnd := rand.New(rand.NewPCG(1, 2))
			for range 60 {
				off := rnd.Int64N(s.size)
				n := 1 + rnd.Int64N(min(s.size-off, 1+rnd.Int64N(50000)))
				got := make([]byte, n)
				if c, err := s.ReadAt(got, off); c != len(got) || err != nil {
					t.Fatalf("ReadAt(%d, %d) = %d, %v", n, off, c, err)
				}
				if !bytes.Equal(got, want[off:off+n]) {
					t.Fatalf("wrong bytes in [%d, %d)", off, off+n)
				}
			}
			if p.longest > gatherBuffer {
				t.Errorf("read %d bytes at once, want at most %d", p.longest, gatherBuffer)
			}
		})
	}
}

func TestStridedRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range 400 {
		var size, stride []int64
		n := int64(1)
		for range 1 + rnd.IntN(5) {
			d := 1 + rnd.Int64N(9)
			steps := []int64{0, 1, 1, 2, 1 + rnd.Int64N(20), 1 + rnd.Int64N(500), 1 + rnd.Int64N(9000), 100000}
			size, stride = append(size, d), append(stride, steps[rnd.IntN(len(steps))])
			n *= d
		}
		width := int64(1) << rnd.IntN(4)
		p := new(pattern)
		s := newStrided(p, 77, width, size, stride)
		want := naive(p, 77, width, size, stride)
		for range 8 {
			off := rnd.Int64N(n * width)
			c := 1 + rnd.Int64N(n*width-off)
			got := make([]byte, c)
			if _, err := s.ReadAt(got, off); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want[off:off+c]) {
				t.Fatalf("case %d: width %d, size %v, stride %v: wrong bytes in [%d, %d)", i, width, size, stride, off, off+c)
			}
		}
	}
}

func TestStridedEnds(t *testing.T) {
	p := new(pattern)
	size, stride := []int64{3, 4}, []int64{1, 3}
	s := newStrided(p, 0, 4, size, stride)
	want := naive(p, 0, 4, size, stride)
	tests := []struct {
		off int64
		len int
		n   int
		err error
	}{
		{0, 0, 0, nil},
		{48, 0, 0, nil},
		{47, 1, 1, nil},
		{47, 2, 1, io.EOF},
		{0, 48, 48, nil},
		{0, 100, 48, io.EOF},
		{48, 1, 0, io.EOF},
		{1 << 60, 1, 0, io.EOF},
	}
	for _, tt := range tests {
		b := make([]byte, tt.len)
		n, err := s.ReadAt(b, tt.off)
		if n != tt.n || err != tt.err {
			t.Errorf("ReadAt(%d bytes, %d) = %d, %v, want %d, %v", tt.len, tt.off, n, err, tt.n, tt.err)
		}
		if tt.off < 48 && !bytes.Equal(b[:n], want[tt.off:tt.off+int64(n)]) {
			t.Errorf("ReadAt(%d bytes, %d): wrong bytes", tt.len, tt.off)
		}
	}
	if _, err := s.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("no error for a negative offset")
	}
	if err := iotest.TestReader(io.NewSectionReader(s, 0, s.size), want); err != nil {
		t.Error(err)
	}
}

// failing fails from one offset on.
type failing struct {
	pattern
	from int64
}

var errDisk = errors.New("disk on fire")

func (f *failing) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > f.from {
		return 0, errDisk
	}
	return f.pattern.ReadAt(b, off)
}

func TestStridedError(t *testing.T) {
	// Rows of 100000 bytes, of which the first 10 are taken; row 3 fails. Reads
	// of whole rows come first, so that those before it count as read.
	f := &failing{from: 250000}
	s := newStrided(f, 0, 1, []int64{5, 10}, []int64{100000, 1})
	b := make([]byte, 50)
	if n, err := s.ReadAt(b, 5); n != 5 || !errors.Is(err, errDisk) {
		t.Errorf("ReadAt = %d, %v, want 5, %v", n, err, errDisk)
	}
	short := bytes.NewReader(make([]byte, 150000))
	s = newStrided(short, 0, 1, []int64{5, 10}, []int64{100000, 1})
	if _, err := s.ReadAt(b, 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ReadAt of a short file: %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

func TestStridedConcurrent(t *testing.T) {
	p := new(pattern)
	size, stride := []int64{50, 70}, []int64{1, 50}
	s := newStrided(p, 0, 2, size, stride)
	want := naive(p, 0, 2, size, stride)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for off := i; off < len(want); off += 97 {
				b := want[off:min(off+1001, len(want))]
				got := make([]byte, len(b))
				if _, err := s.ReadAt(got, int64(off)); err != nil || !bytes.Equal(got, b) {
					t.Errorf("wrong bytes at %d (%v)", off, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestMerge(t *testing.T) {
	tests := []struct {
		size, stride []int64
		want         []dim
	}{
		{nil, nil, nil},
		{[]int64{1, 1}, []int64{9, 7}, nil},
		{[]int64{2, 3, 4}, []int64{12, 4, 1}, []dim{{24, 1}}},
		{[]int64{2, 1, 4}, []int64{4, 99, 1}, []dim{{8, 1}}},
		{[]int64{3, 2}, []int64{1, 3}, []dim{{3, 1}, {2, 3}}},
		{[]int64{2, 3, 4}, []int64{20, 4, 1}, []dim{{2, 20}, {12, 1}}},
		{[]int64{2, 3}, []int64{0, 0}, []dim{{6, 0}}},
		{[]int64{2, 3}, []int64{0, 1}, []dim{{2, 0}, {3, 1}}},
		{[]int64{4, 3}, []int64{6, 2}, []dim{{12, 2}}},
	}
	for _, tt := range tests {
		if got := merge(tt.size, tt.stride); fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("merge(%v, %v) = %v, want %v", tt.size, tt.stride, got, tt.want)
		}
	}
}

func TestInside(t *testing.T) {
	const huge = 1<<63 - 1
	tests := []struct {
		offset       int64
		size, stride []int64
		elements     int64
		want         bool
	}{
		{0, nil, nil, 1, true},
		{0, nil, nil, 0, false},
		{1, nil, nil, 1, false},
		{huge, nil, nil, 1, false},
		{0, []int64{2, 3}, []int64{3, 1}, 6, true},
		{0, []int64{2, 3}, []int64{3, 1}, 5, false},
		{1, []int64{2, 3}, []int64{3, 1}, 6, false},
		{0, []int64{huge}, []int64{0}, 1, true},
		{0, []int64{huge}, []int64{huge}, huge, false},
		{0, []int64{3}, []int64{1 << 62}, huge, false},
		{0, []int64{2, 2}, []int64{huge, huge}, huge, false},
		{0, []int64{1, 1}, []int64{huge, huge}, 1, true},
	}
	for _, tt := range tests {
		if got := inside(tt.offset, tt.size, tt.stride, tt.elements); got != tt.want {
			t.Errorf("inside(%d, %v, %v, %d) = %v, want %v", tt.offset, tt.size, tt.stride, tt.elements, got, tt.want)
		}
	}
}

// BenchmarkColumns reads every second column of a matrix.
func BenchmarkColumns(b *testing.B) {
	const n = 1024
	src := bytes.NewReader(make([]byte, 4*n*n))
	s := newStrided(src, 0, 4, []int64{n, n / 2}, []int64{n, 2})
	b.SetBytes(s.size)
	buf := make([]byte, s.size)
	for b.Loop() {
		if _, err := s.ReadAt(buf, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTransposed reads a 4096×4096 matrix of 2 bytes in blocks.
func BenchmarkTransposed(b *testing.B) {
	const n = 4096
	src := bytes.NewReader(make([]byte, 2*n*n))
	s := newStrided(src, 0, 2, []int64{n, n}, []int64{1, n})
	for _, block := range []int{64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", block>>10), func(b *testing.B) {
			b.SetBytes(2 * n * n)
			buf := make([]byte, block)
			for b.Loop() {
				for off := int64(0); off < s.size; off += int64(block) {
					if _, err := s.ReadAt(buf, off); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
