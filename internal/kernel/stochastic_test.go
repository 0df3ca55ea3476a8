package kernel

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestStochasticBits fixes the documented hash: key, index and format decide.
func TestStochasticBits(t *testing.T) {
	// SplitMix64 with seed 1234567, as published with its reference code.
	z := uint64(1234567)
	for _, want := range []uint64{6457827717110365317, 3203168211198807973, 9817491932198370423} {
		z += gamma
		if got := mix64(z); got != want {
			t.Errorf("mix64: got %d, want %d", got, want)
		}
	}
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(7, 7))
		src, _ := values32(rng, ordinary, 300)
		for _, f := range []Format{BF16, F16} {
			for _, first := range []int64{0, 1, 1 << 40, math.MaxInt64 - 100, -5} {
				got := make([]byte, 2*len(src))
				NarrowStochastic(got, src, f, 99, first)
				for i, x := range src {
					h := mix64(mix64(99) + (uint64(first)+uint64(i)+1)*gamma)
					want := stochasticRef(float64(x), f, h)
					if g := getRef(got[2*i:], f); g != want {
						t.Fatalf("format %d, first %d, element %d: %v became %v, want %v", f, first, i, x, g, want)
					}
				}
			}
		}
	})
}

// stochasticRef rounds a finite x that has neighbours in f by the bits h.
func stochasticRef(x float64, f Format, h uint64) float64 {
	g := gridRef(x, f)
	lower := math.Trunc(x/g) * g
	rest := math.Abs(x-lower) / g // exact: x has 24 bits
	// The top bits of h, as a fraction, carry if they fill up the rest. 53 of
	// them are enough to tell for a rest of at least 2⁻⁵³.
	if float64(h>>11)*0x1p-53+rest >= 1 {
		lower += math.Copysign(g, x)
	}
	return lower
}

// TestStochasticKept lists what must not depend on chance.
func TestStochasticKept(t *testing.T) {
	tests := []struct {
		f    Format
		src  uint32
		want uint16
	}{
		{BF16, 0, 0}, {BF16, 0x80000000, 0x8000},
		{BF16, 0x3F800000, 0x3F80}, {BF16, 0x00010000, 1},
		{BF16, 0x7F7F0000, 0x7F7F}, {BF16, 0xFF7F0000, 0xFF7F},
		{BF16, 0x7F7F7FFF, 0x7F7F}, {BF16, 0x7F7F8000, 0x7F80}, {BF16, 0xFF7FFFFF, 0xFF80}, // as Narrow
		{BF16, 0x7F800000, 0x7F80}, {BF16, 0xFF800000, 0xFF80},
		{BF16, 0x7F800001, 0x7FC0}, {BF16, 0xFFFFFFFF, 0x7FC0},
		{F16, 0, 0}, {F16, 0x80000000, 0x8000},
		{F16, 0x3F800000, 0x3C00}, {F16, 0x33800000, 1}, {F16, 0xB3C00000 &^ 0x400000, 0x8001},
		{F16, 0x477FE000, 0x7BFF}, {F16, 0xC77FE000, 0xFBFF},
		{F16, 0x477FEFFF, 0x7BFF}, {F16, 0x477FF000, 0x7C00}, {F16, 0xC7800000, 0xFC00}, // as Narrow
		{F16, 0x7F800000, 0x7C00}, {F16, 0xFF800000, 0xFC00},
		{F16, 0x7F800001, 0x7E00}, {F16, 0xFFFFFFFF, 0x7E00},
		{F16, 1, 0}, {F16, 0x80000001, 0x8000}, {F16, 0x9F000000, 0x8000}, // below 2⁻⁶⁴
	}
	everywhere(t, func(t *testing.T) {
		for _, tt := range tests {
			src, dst := make([]float32, 1000), make([]byte, 2000)
			for i := range src {
				src[i] = math.Float32frombits(tt.src)
			}
			NarrowStochastic(dst, src, tt.f, 5, 0)
			for i := range src {
				if got := binary.LittleEndian.Uint16(dst[2*i:]); got != tt.want {
					t.Errorf("format %d: %#x became %#x, want %#x", tt.f, tt.src, got, tt.want)
					break
				}
			}
		}
		src, got, want := []float32{1.1, -3e-41, 7}, make([]byte, 24), make([]byte, 24)
		for _, f := range []Format{F32, F64} {
			NarrowStochastic(got, src, f, 5, 0)
			Narrow(want, src, f)
			if string(got) != string(want) {
				t.Errorf("format %d: got % x, want % x", f, got, want)
			}
		}
	})
}

// TestStochasticNeverInf tries values just below the largest finite one, whose
// upper neighbour it is.
func TestStochasticNeverInf(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		for f, bits := range map[Format]uint32{BF16: 0x7F7EFFFF, F16: 0x477FDFFF} {
			src, dst := make([]float32, 1<<15), make([]byte, 2<<15)
			for i := range src {
				src[i] = math.Float32frombits(bits)
			}
			NarrowStochastic(dst, src, f, 1, 0)
			for i := range src {
				if x := getRef(dst[2*i:], f); math.IsInf(x, 0) {
					t.Fatalf("format %d: %#x became infinite", f, bits)
				}
			}
		}
	})
}

// TestStochasticUnbiased averages many roundings of one value.
func TestStochasticUnbiased(t *testing.T) {
	const n = 1 << 17
	values := map[Format][]uint32{
		BF16: {0x3F808000, 0x3F800001, 0x3F80FFFF, 0x3F7F4321, 0xBCA3D70A, 0x00000001, 0x00004000, 0x8000ABCD, 0x007FFFFF, 0x7F7E8000},
		F16: {
			0x3F801000, 0x3F800001, 0x3F801FFF, 0xBCA3D70A, 0x477FD000, 0x38800001, // normal
			0x387FFFFF, 0x38000001, 0x33800001, 0x33400000, 0xB3000000, 0x33000001, 0x32000000, 0x30000000, 0x2F123456, // subnormal
		},
	}
	everywhere(t, func(t *testing.T) {
		src, dst := make([]float32, n), make([]byte, 2*n)
		for f, list := range values {
			for k, bits := range list {
				x := float64(math.Float32frombits(bits))
				for i := range src {
					src[i] = float32(x)
				}
				NarrowStochastic(dst, src, f, uint64(k), 0)
				g := gridRef(x, f)
				up := 0
				for i := range src {
					y := getRef(dst[2*i:], f)
					if math.Abs(y-x) >= g {
						t.Fatalf("format %d: %v became %v, which is not a neighbour", f, x, y)
					}
					if math.Abs(y) > math.Abs(x) {
						up++
					}
				}
				p := math.Abs(x)/g - math.Trunc(math.Abs(x)/g)
				sigma := math.Sqrt(n * p * (1 - p))
				if d := float64(up) - n*p; math.Abs(d) > 5*sigma+1e-9 {
					t.Errorf("format %d: %v (%#x): %d of %d up, want %.1f±%.1f", f, x, bits, up, n, n*p, sigma)
				}
			}
		}
	})
}

// TestStochasticUniform is a chi-square test of the random bits, over the
// indices under one key, over keys at one index, and over keys that differ by
// multiples of the increment of the hash. The bits are read off the result: with
// a remainder of k/256, x is rounded up exactly if the top 8 bits are ≥ 256-k.
func TestStochasticUniform(t *testing.T) {
	const n, bins = 1 << 14, 256
	draw := func(f Format, key func(i int) uint64, index func(i int) int64) (chi2 float64) {
		var counts [bins]int
		one := make([]byte, 2)
		for i := range n {
			// Bisect for the top 8 bits.
			lo, hi := 0, bins
			for hi-lo > 1 {
				mid := (lo + hi) / 2
				var x float32
				if f == BF16 {
					x = math.Float32frombits(0x3F800000 + uint32(bins-mid)<<8)
				} else {
					x = math.Float32frombits(0x3F800000 + uint32(bins-mid)<<5)
				}
				NarrowStochastic(one, []float32{x}, f, key(i), index(i))
				if getRef(one, f) > 1 {
					lo = mid
				} else {
					hi = mid
				}
			}
			counts[lo]++
		}
		const want = float64(n) / bins
		for _, c := range counts {
			chi2 += (float64(c) - want) * (float64(c) - want) / want
		}
		return chi2
	}
	// 255 degrees of freedom: mean 255, deviation 22.6.
	const most, least = 255 + 5*22.6, 255 - 5*22.6
	for _, f := range []Format{BF16, F16} {
		for name, c := range map[string]float64{
			"indices":        draw(f, func(int) uint64 { return 7 }, func(i int) int64 { return int64(i) }),
			"distant":        draw(f, func(int) uint64 { return 7 }, func(i int) int64 { return int64(i) << 32 }),
			"keys":           draw(f, func(i int) uint64 { return uint64(i) }, func(int) int64 { return 3 }),
			"keys high bits": draw(f, func(i int) uint64 { return uint64(i) << 44 }, func(int) int64 { return 3 }),
			"keys by gamma":  draw(f, func(i int) uint64 { return uint64(i) * gamma }, func(int) int64 { return 3 }),
		} {
			if c > most || c < least {
				t.Errorf("format %d, %s: chi-square %.1f, want %.0f to %.0f", f, name, c, least, most)
			}
		}
	}
}

// TestStochasticIndependent correlates the streams of neighbouring and of
// related keys, and of neighbouring indices.
func TestStochasticIndependent(t *testing.T) {
	const n = 1 << 16
	bits := func(key uint64, first int64) []float64 {
		src, dst := make([]float32, n), make([]byte, 2*n)
		for i := range src {
			src[i] = 0x1.01p0 // half way between two BF16
		}
		NarrowStochastic(dst, src, BF16, key, first)
		v := make([]float64, n)
		for i := range v {
			v[i] = -1
			if getRef(dst[2*i:], BF16) > 0x1.01p0 {
				v[i] = 1
			}
		}
		return v
	}
	base := bits(1, 0)
	g := uint64(gamma)
	for name, other := range map[string][]float64{
		"next index":      bits(1, 1),
		"next key":        bits(2, 0),
		"key by gamma":    bits(1+g, 0),
		"key by -2*gamma": bits(1-2*g, 0),
		"inverted key":    bits(^uint64(1), 0),
	} {
		sum := 0.0
		for i := range n {
			sum += base[i] * other[i]
		}
		if r := sum / math.Sqrt(n); math.Abs(r) > 5 {
			t.Errorf("%s: correlated by %.1f sigma", name, r)
		}
	}
}

// TestStochasticSame compares implementations over all lengths and kinds.
func TestStochasticSame(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for kind := range kinds {
		src, _ := values32(rng, kind, 2*block+64)
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			everywhere(t, func(t *testing.T) {
				for _, n := range lengths() {
					key, first := rng.Uint64(), rng.Int64()
					for _, f := range []Format{BF16, F16} {
						got, want := misaligned(make([]byte, 2*n), 1), make([]byte, 2*n)
						NarrowStochastic(got, src[n%5:][:n], f, key, first)
						base := mix64(key) + (uint64(first)+1)*gamma
						if f == BF16 {
							stochasticBF16(want, src[n%5:][:n], base)
						} else {
							stochasticF16(want, src[n%5:][:n], base)
						}
						if string(got) != string(want) {
							t.Fatalf("format %d, %d elements: differs from the portable loop", f, n)
						}
					}
				}
			})
		})
	}
}
