package kernel

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

// TestWidenAll looks at every pattern of the narrow formats.
func TestWidenAll(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		for _, f := range []Format{BF16, F16, F8E4M3, F8E5M2} {
			n := 1 << (8 * f.Bytes())
			src, dst := make([]byte, n*f.Bytes()), make([]float32, n)
			for p := range n {
				if f.Bytes() == 1 {
					src[p] = byte(p)
				} else {
					binary.LittleEndian.PutUint16(src[2*p:], uint16(p))
				}
			}
			Widen(dst, src, f)
			for p, got := range dst {
				want := float32(valueRef(uint64(p), f))
				if want != want {
					if got == got {
						t.Fatalf("format %d: %#x is %v, want NaN", f, p, got)
					}
					continue
				}
				if !same32(got, want) {
					t.Fatalf("format %d: %#x is %v, want %v", f, p, got, want)
				}
			}
		}
	})
}

// TestWidenNaN holds the bits of NaNs to the doc comment.
func TestWidenNaN(t *testing.T) {
	tests := []struct {
		f    Format
		src  uint64
		want uint32
	}{
		{BF16, 0x7F81, 0x7F810000},
		{BF16, 0xFFC0, 0xFFC00000},
		{F16, 0x7C01, 0x7FC02000},
		{F16, 0xFE55, 0xFFCAA000},
		{F32, 0x7F800001, 0x7F800001},
		{F32, 0xFFFFFFFF, 0xFFFFFFFF},
		{F64, 0x7FF0000000000001, 0x7FC00000},
		{F64, 0xFFFFFFFFFFFFFFFF, 0x7FC00000},
		{F8E4M3, 0x7F, 0x7FC00000},
		{F8E4M3, 0xFF, 0xFFC00000},
		{F8E5M2, 0x7D, 0x7FE00000},
		{F8E5M2, 0xFE, 0xFFC00000},
	}
	everywhere(t, func(t *testing.T) {
		for _, tt := range tests {
			src := make([]byte, 40*tt.f.Bytes())
			for i := 0; i < len(src); i += tt.f.Bytes() {
				for j := range tt.f.Bytes() {
					src[i+j] = byte(tt.src >> (8 * j))
				}
			}
			dst := make([]float32, 40)
			Widen(dst, src, tt.f)
			for i, x := range dst {
				if got := math.Float32bits(x); got != tt.want {
					t.Errorf("format %d: %#x at %d: got %#x, want %#x", tt.f, tt.src, i, got, tt.want)
					break
				}
			}
		}
	})
}

// float64s are values around what float32 can hold, and any.
func float64s(rng *rand.Rand, n int) []byte {
	b := make([]byte, 8*n)
	for i := range n {
		bits := rng.Uint64()
		if i%2 == 0 {
			x := math.Float32frombits(rng.Uint32())
			// Ties and their neighbours.
			bits = math.Float64bits(float64(x)) ^ uint64(rng.IntN(4))<<27 ^ uint64(rng.IntN(3)) ^ uint64(rng.IntN(2))<<28
		}
		binary.LittleEndian.PutUint64(b[8*i:], bits)
	}
	return b
}

func TestWidenF64(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 64))
	src := float64s(rng, 100_000)
	everywhere(t, func(t *testing.T) {
		dst := make([]float32, len(src)/8)
		Widen(dst, src, F64)
		for i, got := range dst {
			x := getRef(src[8*i:], F64)
			want := float32(roundRef(x, F32))
			if x != x {
				want = math.Float32frombits(nanF32)
			}
			if !same32(got, want) {
				t.Fatalf("%v (%#x): got %v, want %v", x, math.Float64bits(x), got, want)
			}
		}
	})
}

// TestNarrowAll goes through all upper halves with lower halves at and around
// the ties of both narrow formats.
func TestNarrowAll(t *testing.T) {
	lows := []uint32{0, 1, 0x0FFF, 0x1000, 0x1001, 0x2FFF, 0x3000, 0x3001, 0x7FFF, 0x8000, 0x8001, 0xF000, 0xFFFF}
	everywhere(t, func(t *testing.T) {
		src := make([]float32, 1<<16)
		dst := make([]byte, 8*len(src))
		for _, low := range lows {
			for i := range src {
				src[i] = math.Float32frombits(uint32(i)<<16 | low)
			}
			for _, f := range []Format{BF16, F16, F32, F64} {
				Narrow(dst, src, f)
				for i, x := range src {
					want := patternRef(roundRef(float64(x), f), f)
					var got uint64
					for j := range f.Bytes() {
						got |= uint64(dst[i*f.Bytes()+j]) << (8 * j)
					}
					if got != want {
						t.Fatalf("format %d: %v (%#x): got %#x, want %#x", f, x, math.Float32bits(x), got, want)
					}
				}
			}
		}
	})
}

// TestConversionLengths checks that every length is converted whole, wherever it
// starts, and nothing beyond is touched.
func TestConversionLengths(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	src32, _ := values32(rng, anyBits, 2*block+64)
	const guard = 0xA5
	everywhere(t, func(t *testing.T) {
		for _, n := range lengths() {
			for _, f := range []Format{BF16, F16, F32, F64} {
				off := n % 7
				dst := make([]byte, off+n*f.Bytes()+16)
				for i := range dst {
					dst[i] = guard
				}
				Narrow(dst[off:], src32[n%5:][:n], f)
				for i, b := range dst {
					if (i < off || i >= off+n*f.Bytes()) && b != guard {
						t.Fatalf("format %d, %d elements: wrote at %d", f, n, i-off)
					}
				}
				want := make([]byte, n*f.Bytes())
				narrow(want, src32[n%5:][:n], f)
				if string(dst[off:off+n*f.Bytes()]) != string(want) {
					t.Fatalf("format %d, %d elements: Narrow differs from the portable loop", f, n)
				}

				back := make([]float32, n+8)
				for i := range back {
					back[i] = 42
				}
				Widen(back[:n], dst[off:], f)
				for i, x := range back {
					if i >= n && x != 42 {
						t.Fatalf("format %d, %d elements: Widen wrote at %d", f, n, i)
					}
					if i < n {
						w := float32(getRef(want[i*f.Bytes():], f))
						if !same32(x, w) && (x == x || w == w) {
							t.Fatalf("format %d, %d elements: %d is %v, want %v", f, n, i, x, w)
						}
					}
				}
			}
		}
	})
}

func TestFormatPanics(t *testing.T) {
	tests := []struct {
		name string
		f    func()
	}{
		{"Widen from None", func() { Widen(make([]float32, 1), make([]byte, 8), None) }},
		{"Widen from an unknown format", func() { Widen(make([]float32, 1), make([]byte, 8), 77) }},
		{"Widen from too little", func() { Widen(make([]float32, 2), make([]byte, 3), BF16) }},
		{"Narrow to FP8", func() { Narrow(make([]byte, 8), make([]float32, 1), F8E4M3) }},
		{"Narrow to None", func() { Narrow(make([]byte, 8), make([]float32, 1), None) }},
		{"Narrow into too little", func() { Narrow(make([]byte, 7), make([]float32, 1), F64) }},
		{"NarrowStochastic to FP8", func() { NarrowStochastic(make([]byte, 8), make([]float32, 1), F8E5M2, 0, 0) }},
		{"Mix32 of too little", func() { Mix32(make([]float32, 2), make([]float32, 2), make([]float32, 1)[:1:1], 1) }},
		{"Measure of too little", func() { Measure(new(Stats), make([]float32, 1)[:1:1], make([]float32, 2), make([]float32, 2)) }},
		{"Run to FP8", func() {
			(&Mixer{BF16, BF16, F8E4M3, 1, Once, 0}).Run(make([]byte, 2), make([]byte, 8), make([]byte, 8), 0, nil)
		}},
		{"Run from None", func() {
			(&Mixer{None, BF16, BF16, 1, Once, 0}).Run(make([]byte, 2), make([]byte, 8), make([]byte, 8), 0, nil)
		}},
		{"Run with a short side", func() {
			(&Mixer{BF16, F32, BF16, 1, Once, 0}).Run(make([]byte, 4), make([]byte, 4), make([]byte, 7), 0, nil)
		}},
	}
	for _, tt := range tests {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", tt.name)
				}
			}()
			tt.f()
		}()
	}
}
