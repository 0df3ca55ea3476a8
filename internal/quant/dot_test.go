package quant

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// kinds of test weights.
const (
	fitted = iota // quantized from values like those of models
	wild          // random bytes, with finite scales
	random        // random bytes
	kinds
)

// weights makes n elements of f.
func weights(rng *rand.Rand, kind, n int, f Format) []byte {
	b := make([]byte, RowBytes(f, n))
	if kind == fitted {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.NormFloat64() * 0.02)
		}
		Quantize(b, x, f)
		return b
	}
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	if kind == random {
		return b
	}
	for i := 0; i < len(b); i += f.BlockBytes() {
		switch f {
		case Q6_K:
			b[i+209] &= 0xBF
		case Q4_1, Q5_1, Q4_K, Q5_K:
			b[i+3] &= 0xBF
			fallthrough
		default:
			b[i+1] &= 0xBF
		}
	}
	return b
}

// activations makes n values of which some blocks are special.
func activations(rng *rand.Rand, kind, n int) []float32 {
	x := make([]float32, n)
	scale := 1.0
	for i := range x {
		if i%32 == 0 {
			scale = math.Exp(rng.NormFloat64())
			if kind != fitted && rng.IntN(8) == 0 {
				scale = []float64{0, 1e-31, 1e-30, 1e-45, 1e30}[rng.IntN(5)]
			}
		}
		x[i] = float32(rng.NormFloat64() * scale)
	}
	if kind == random && rng.IntN(4) == 0 {
		x[rng.IntN(n)] = []float32{float32(math.NaN()), float32(math.Inf(1)), math.MaxFloat32}[rng.IntN(3)]
	}
	return x
}

// widths are numbers of elements around those at which the loops change course.
func widths(f Format) []int {
	if f.BlockSize() == 256 {
		return []int{256, 512, 768, 2048}
	}
	return []int{32, 64, 96, 128, 160, 192, 224, 256, 288, 576, 1024}
}

func equal(a, b []float32) bool {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return false
		}
	}
	return len(a) == len(b)
}

// TestDotImplementations compares every implementation with the portable one, and
// MatMul with Dot.
func TestDotImplementations(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, f := range Formats() {
		for _, n := range widths(f) {
			for kind := range kinds {
				rows, vectors := 1+rng.IntN(5), 1+rng.IntN(20)
				w := weights(rng, kind, rows*n, f)
				// The bytes end where the slice does, at any alignment.
				shift := rng.IntN(64)
				w = append(make([]byte, shift, shift+len(w)), w...)[shift:]
				var xs [][]float32
				for range vectors {
					xs = append(xs, activations(rng, kind, n))
				}
				label := fmt.Sprintf("%v, %d rows of %d, %d vectors, kind %d", f, rows, n, vectors, kind)
				compareDots(t, label, w, f, rows, n, xs)
			}
		}
	}
}

func compareDots(t *testing.T, label string, w []byte, f Format, rows, n int, xs [][]float32) {
	t.Helper()
	var want []float32
	for k := len(Implementations()) - 1; k >= 0; k-- {
		name := Implementations()[k]
		restore, err := Use(name)
		if err != nil {
			t.Fatal(err)
		}
		as := make([]Activations, len(xs))
		stride := rows + 2
		dots, products := make([]float32, len(xs)*stride), make([]float32, len(xs)*stride)
		for i := range xs {
			as[i].Set(xs[i], f)
			Dot(dots[i*stride:], w, f, rows, n, &as[i])
		}
		MatMul(products, stride, w, f, rows, n, as)
		restore()
		if want == nil {
			want = dots
		}
		if !equal(dots, want) {
			t.Errorf("%s, Dot under %s:\n got %v\nwant %v", label, name, dots, want)
		}
		if !equal(products, want) {
			t.Errorf("%s, MatMul under %s:\n got %v\nwant %v", label, name, products, want)
		}
	}
}

// TestTiles multiplies more rows than are kept in the caches at a time.
func TestTiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	const n, vectors = 2048, 13
	for _, f := range []Format{Q8_0, Q4_K} {
		rows := 2*tileBytes/RowBytes(f, n) + 3
		var xs [][]float32
		for range vectors {
			xs = append(xs, activations(rng, fitted, n))
		}
		compareDots(t, fmt.Sprint(f), weights(rng, fitted, rows*n, f), f, rows, n, xs)
	}
}

// TestDotAccuracy compares products with those of the float64 values of weights
// and rounded activations: what is left is the rounding of sums.
func TestDotAccuracy(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	const n = 1536
	for _, f := range Formats() {
		w := weights(rng, fitted, n, f)
		values := make([]float32, n)
		Dequantize(values, w, f)
		x := activations(rng, fitted, n)
		var a Activations
		a.Set(x, f)
		size := f.BlockSize()
		var want, scale, exact float64
		for i := 0; i < n; i += size {
			d, inv := scaleOf(x[i : i+size])
			for j := i; j < i+size; j++ {
				v := float64(d) * float64(rounded(x[j], inv))
				if e := math.Abs(v - float64(x[j])); e > 0.5001*float64(d) {
					t.Errorf("%v: activation %v is rounded to %v, with steps of %v", f, x[j], v, d)
				}
				want += v * float64(values[j])
				exact += float64(x[j]) * float64(values[j])
				scale += math.Abs(v * float64(values[j]))
			}
		}
		out := make([]float32, 1)
		Dot(out, w, f, 1, n, &a)
		if e := math.Abs(float64(out[0])-want) / scale; e > 1e-6 {
			t.Errorf("%v: got %v, want %v: off by %.1e of the sum of magnitudes", f, out[0], want, e)
		}
		if e := math.Abs(float64(out[0])-exact) / scale; e > 5e-3 {
			t.Errorf("%v: got %v, want about %v", f, out[0], exact)
		}
	}
}

// TestSetImplementations compares the records of activations byte by byte.
func TestSetImplementations(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for _, f := range []Format{Q8_0, Q4_K} {
		for _, n := range widths(f) {
			for kind := range kinds {
				x := activations(rng, kind, n)
				if kind == wild {
					// Ties, and values that end up at the ends.
					for i := range x[:32] {
						x[i] = float32(i-16) * 127 / 32
					}
				}
				var want []byte
				for k := len(Implementations()) - 1; k >= 0; k-- {
					restore, err := Use(Implementations()[k])
					if err != nil {
						t.Fatal(err)
					}
					// What was there before does not matter.
					var a Activations
					a.Set(activations(rng, fitted, 4096), f)
					a.Set(x, f)
					restore()
					got := append([]byte(nil), a.b...)
					if f == Q4_K {
						for i := scaleAt + 4; i < len(got); i += recordK {
							clear(got[i : i+recordK-scaleAt-4])
						}
					}
					if want == nil {
						want = got
					}
					for i := range want {
						if got[i] != want[i] {
							t.Fatalf("%d values of kind %d for %v under %s: byte %d is %d, want %d", n, kind, f, Implementations()[k], i, got[i], want[i])
						}
					}
				}
			}
		}
	}
}

func TestDotAllocates(t *testing.T) {
	var a Activations
	x := make([]float32, 512)
	w := make([]byte, RowBytes(Q4_K, 512))
	out := make([]float32, 4)
	a.Set(x, Q4_K)
	as := []Activations{a, a, a}
	if n := testing.AllocsPerRun(10, func() {
		a.Set(x, Q4_K)
		Dot(out, w, Q4_K, 1, 512, &a)
		MatMul(out, 1, w, Q4_K, 1, 512, as)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzDot compares implementations on any bytes.
func FuzzDot(f *testing.F) {
	rng := rand.New(rand.NewPCG(13, 14))
	for i, g := range Formats() {
		f.Add(weights(rng, fitted, 512, g), uint8(i), uint8(5), uint64(i))
		f.Add(weights(rng, random, 256, g), uint8(i), uint8(2), uint64(i))
	}
	f.Fuzz(func(t *testing.T, w []byte, format, blocks uint8, seed uint64) {
		g := Formats()[int(format)%len(Formats())]
		n := (1 + int(blocks)%9) * g.BlockSize()
		rows := len(w) / RowBytes(g, n)
		if rows == 0 {
			return
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		xs := make([][]float32, 1+seed%18)
		for i := range xs {
			xs[i] = activations(rng, int(seed)%kinds, n)
		}
		compareDots(t, fmt.Sprint(g), w[:rows*RowBytes(g, n)], g, rows, n, xs)
	})
}
