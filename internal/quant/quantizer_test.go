package quant

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// hardBlocks are 256 elements each that quantizers have special cases for.
func hardBlocks(rng *rand.Rand) [][]float32 {
	fill := func(f func(i int) float32) []float32 {
		x := make([]float32, 256)
		for i := range x {
			x[i] = f(i)
		}
		return x
	}
	normal := func(sigma float64) []float32 {
		return fill(func(int) float32 { return float32(sigma * rng.NormFloat64()) })
	}
	negativeZero := float32(math.Copysign(0, -1))
	out := [][]float32{
		fill(func(int) float32 { return 0 }),
		fill(func(int) float32 { return negativeZero }),
		fill(func(i int) float32 { return []float32{0, negativeZero}[i%2] }),
		fill(func(i int) float32 { return []float32{negativeZero, 0, 3}[i%3] }),
		fill(func(int) float32 { return 0.7 }),
		fill(func(int) float32 { return -0.7 }),
		fill(func(i int) float32 { return float32(i - 128) }),
		fill(func(i int) float32 { return []float32{-1, 1}[i%2] }),
		fill(func(i int) float32 { return []float32{1, -1, 0.5, -0.5}[i%4] }),
		fill(func(i int) float32 { return float32(i%32) * 1e-40 }),
		fill(func(i int) float32 { return float32(math.Ldexp(1, -149+i%270)) }),
		fill(func(i int) float32 { return float32(math.Ldexp(float64(1-2*(i%2)), -140+i)) }),
		fill(func(i int) float32 { return float32(i%127) / 127 * 2.5 }),         // ties of Q8_0
		fill(func(i int) float32 { return (float32(i%255) - 127) * 0.5 }),       // halves
		fill(func(i int) float32 { return float32(i/32) * float32(i%32-16) }),   // sub-blocks of zeros
		fill(func(i int) float32 { return float32(i/16%2) * float32(i%16-8) }),  //
		fill(func(i int) float32 { return float32(i/32%2) * (5 + float32(i)) }), // all positive
		fill(func(i int) float32 { return -3 - float32(i%7) }),
		fill(func(i int) float32 { return 1e38 * float32(i%5-2) }),
		fill(func(i int) float32 { return 3e38 * float32(i%3-1) }),
		fill(func(i int) float32 { return 1e-15 * float32(i%9-4) / 4 }),
	}
	for _, sigma := range []float64{0.02, 1, 1e-6, 1e-12, 1e-20, 1e-30, 1e-37, 1e-42, 1e6, 1e30, 1e36} {
		out = append(out, normal(sigma), normal(sigma))
	}
	for range 20 { // one outlier, and few different values
		x := normal(0.02)
		x[rng.IntN(256)] *= 50
		out = append(out, x, fill(func(int) float32 { return float32(rng.IntN(5)-2) * 0.1 }))
	}
	for range 20 { // bfloat16, as models have
		x := normal(0.02)
		for i := range x {
			x[i] = math.Float32frombits(math.Float32bits(x[i]) &^ 0xFFFF)
		}
		out = append(out, x)
	}
	return out
}

// TestQuantizer holds the assembly against the reference.
func TestQuantizer(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	blocks := hardBlocks(rng)
	all := make([]float32, 0, 256*(len(blocks)+1000))
	for _, b := range blocks {
		all = append(all, b...)
	}
	for range 1000 * 256 {
		all = append(all, float32(0.02*rng.NormFloat64()))
	}
	everywhere(t, func(t *testing.T) {
		for _, f := range Formats() {
			want := make([]byte, RowBytes(f, len(all)))
			got := bytes.Repeat([]byte{0xA5}, len(want)+1)
			Quantize(want, all, f)
			var z Quantizer
			z.Quantize(got[1:], all, f)
			wrong := 0
			for i := 0; i < len(want); i += f.BlockBytes() {
				g, w := got[1+i:][:f.BlockBytes()], want[i:][:f.BlockBytes()]
				if !bytes.Equal(g, w) {
					if wrong++; wrong <= 3 {
						at := i / f.BlockBytes() * f.BlockSize()
						t.Errorf("%v, elements from %d on: %v\n got % x\nwant % x", f, at, all[at:][:f.BlockSize()], g, w)
					}
				}
			}
			if wrong > 3 {
				t.Errorf("%v: %d blocks differ", f, wrong)
			}
			// A call for one block must not touch its neighbours.
			clear(got)
			z.Quantize(got[1:], all[len(all)-f.BlockSize():], f)
			if got[0] != 0 || !bytes.Equal(got[1:][:f.BlockBytes()], want[len(want)-f.BlockBytes():]) || got[1+f.BlockBytes()] != 0 {
				t.Errorf("%v: one block alone is another", f)
			}
			z.Quantize(nil, nil, f)
		}
	})
}

func FuzzQuantizer(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, b := range hardBlocks(rng) {
		raw := make([]byte, 0, 1024)
		for _, v := range b {
			u := math.Float32bits(v)
			raw = append(raw, byte(u), byte(u>>8), byte(u>>16), byte(u>>24))
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 2048 {
			raw = raw[:2048]
		}
		x := make([]float32, 512)
		for i, v := range floats(raw[:len(raw)/4*4]) {
			if math.Float32bits(v)&0x7F800000 != 0x7F800000 {
				x[i] = v
			}
		}
		var z Quantizer
		for _, format := range Formats() {
			want, got := make([]byte, RowBytes(format, 512)), make([]byte, RowBytes(format, 512))
			Quantize(want, x, format)
			z.Quantize(got, x, format)
			if !bytes.Equal(got, want) {
				t.Errorf("%v: %v\n got % x\nwant % x", format, x, got, want)
			}
		}
	})
}

// TestMeasure holds the measures against their definition.
func TestMeasure(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for n := range 70 {
		a, s, out := activations(rng, fitted, n), activations(rng, fitted, n+1), activations(rng, fitted, n+2)
		var along, delta2, error2, norm2 [4]float64
		for i, v := range a {
			d := float64(v) - float64(s[i])
			e := float64(out[i]) - float64(v)
			along[i%4] += float64(e * d)
			delta2[i%4] += float64(d * d)
			error2[i%4] += float64(e * e)
			norm2[i%4] += float64(float64(v) * float64(v))
		}
		sum := func(x [4]float64) float64 { return (x[0] + x[1]) + (x[2] + x[3]) }
		everywhere(t, func(t *testing.T) {
			if e, x := Compare(out, a); e != sum(error2) || x != sum(norm2) {
				t.Errorf("Compare of %d: %v, %v, want %v, %v", n, e, x, sum(error2), sum(norm2))
			}
			if p, d := Project(out, a, s); p != sum(along) || d != sum(delta2) {
				t.Errorf("Project of %d: %v, %v, want %v, %v", n, p, d, sum(along), sum(delta2))
			}
		})
	}
}

func TestNotFinite(t *testing.T) {
	inf, nan := float32(math.Inf(-1)), float32(math.NaN())
	everywhere(t, func(t *testing.T) {
		for n := range 200 {
			x := make([]float32, n)
			for i := range x {
				x[i] = -math.MaxFloat32
			}
			if got := NotFinite(x); got != -1 {
				t.Errorf("%d finite elements: %d", n, got)
			}
			for i := range x {
				x[i] = []float32{inf, nan, -nan}[i%3]
				if i+1 < n && i%2 == 0 {
					x[n-1] = inf
				}
				if got := NotFinite(x); got != i {
					t.Errorf("of %d: %d, want %d", n, got, i)
				}
				x[i], x[n-1] = math.MaxFloat32, 0
			}
		}
	})
}

// BenchmarkQuantizer reports bytes of float32.
func BenchmarkQuantizer(b *testing.B) {
	const n = 1 << 14
	x := activations(rand.New(rand.NewPCG(1, 2)), fitted, n)
	for _, f := range Formats() {
		for _, impl := range Implementations() {
			b.Run(fmt.Sprintf("%v/%s", f, impl), func(b *testing.B) {
				under(b, impl)
				var z Quantizer
				dst := make([]byte, RowBytes(f, n))
				b.SetBytes(4 * n)
				for b.Loop() {
					z.Quantize(dst, x, f)
				}
			})
		}
	}
}
