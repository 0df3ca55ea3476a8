package quant

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// hardColumns are weights of n columns each that have special cases.
func hardColumns(rng *rand.Rand, n int) [][]float32 {
	fill := func(f func(i int) float64) []float32 {
		w := make([]float32, n)
		for i := range w {
			w[i] = float32(f(i))
		}
		return w
	}
	lognormal := func() float64 { return math.Exp(1.5 * rng.NormFloat64()) }
	return [][]float32{
		fill(func(int) float64 { return lognormal() }),
		fill(func(int) float64 { return math.Pow(10, 9*rng.Float64()-6) }),
		fill(func(int) float64 { return 1 }),
		fill(func(int) float64 { return 0 }),
		fill(func(int) float64 { return math.Copysign(0, -1) }),
		fill(func(i int) float64 { return float64(i / 32 % 2) }),
		fill(func(i int) float64 { return float64(i / 16 % 2) }),
		fill(func(i int) float64 { return float64(rng.IntN(10) / 9) }),
		fill(func(i int) float64 { return 1e-45 * float64(i%3) }),
		fill(func(i int) float64 { return 3e38 * float64(i%3) }),
		fill(func(i int) float64 { return 1e-30 * lognormal() }),
		fill(func(i int) float64 { return float64(i%5) - 2 }),
		fill(func(i int) float64 { return []float64{math.Inf(1), 1, math.NaN(), 2, math.Inf(-1)}[i%5] }),
	}
}

// TestQuantizerWeighted holds the assembly against the definition.
func TestQuantizerWeighted(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	var all []float32
	for _, b := range hardBlocks(rng) {
		all = append(all, b...)
	}
	for range 8 * 256 {
		all = append(all, float32(0.02*rng.NormFloat64()))
	}
	var z Quantizer
	check := func(impl string, f Format, x, columns []float32, want []byte) {
		restore, err := Use(impl)
		if err != nil {
			t.Fatal(err)
		}
		defer restore()
		got := bytes.Repeat([]byte{0xA5}, len(want)+2)
		z.QuantizeWeighted(got[1:], x, columns, f)
		if got[0] != 0xA5 || got[len(want)+1] != 0xA5 {
			t.Errorf("%s, %v, rows of %d: neighbours of the blocks are changed", impl, f, len(columns))
		}
		wrong := 0
		for i := 0; i < len(want); i += f.BlockBytes() {
			g, w := got[1+i:][:f.BlockBytes()], want[i:][:f.BlockBytes()]
			if bytes.Equal(g, w) {
				continue
			}
			if wrong++; wrong <= 2 {
				at := i / f.BlockBytes() * f.BlockSize()
				t.Errorf("%s, %v, elements from %d on: %v\nweights %v\n got % x\nwant % x",
					impl, f, at, x[at:][:f.BlockSize()], columns[at%len(columns):][:f.BlockSize()], g, w)
			}
		}
		if wrong > 2 {
			t.Errorf("%s, %v, rows of %d: %d blocks differ", impl, f, len(columns), wrong)
		}
	}
	for _, f := range Formats() {
		for _, n := range []int{32, 96, 256, 768} {
			if n%f.BlockSize() != 0 {
				continue
			}
			for _, columns := range hardColumns(rng, n) {
				sets := [][]float32{all[:n], all[len(all)-3*n:], nil}
				if n == 96 || n == 256 && f.BlockSize() == 256 {
					sets = append(sets, all[:len(all)/n*n])
				}
				for _, x := range sets {
					want := make([]byte, RowBytes(f, len(x)))
					QuantizeWeighted(want, x, columns, f)
					for _, impl := range Implementations() {
						if impl == "portable" && len(x) > 3*n {
							continue // which is the definition
						}
						check(impl, f, x, columns, want)
					}
				}
			}
		}
	}
}

func FuzzQuantizerWeighted(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	raw := func(x []float32) (b []byte) {
		for _, v := range x {
			u := math.Float32bits(v)
			b = append(b, byte(u), byte(u>>8), byte(u>>16), byte(u>>24))
		}
		return b
	}
	columns := hardColumns(rng, 256)
	for i, b := range hardBlocks(rng) {
		f.Add(raw(b), raw(columns[i%len(columns)]))
	}
	f.Fuzz(func(t *testing.T, values, importance []byte) {
		x, columns := make([]float32, 512), make([]float32, 256)
		for i, v := range floats(values[:min(len(values)/4*4, 2048)]) {
			if math.Float32bits(v)&0x7F800000 != 0x7F800000 {
				x[i] = v
			}
		}
		copy(columns, floats(importance[:min(len(importance)/4*4, 1024)]))
		var z Quantizer
		for _, format := range Formats() {
			want, got := make([]byte, RowBytes(format, 512)), make([]byte, RowBytes(format, 512))
			QuantizeWeighted(want, x, columns, format)
			z.QuantizeWeighted(got, x, columns, format)
			if !bytes.Equal(got, want) {
				t.Errorf("%v: %v\nweights %v\n got % x\nwant % x", format, x, columns, got, want)
			}
		}
	})
}

// weightedError quantizes x with and without weights of columns, and returns the
// weighted errors relative to the weighted norm.
func weightedError(x, columns []float32, f Format) (with, without float64) {
	b, out := make([]byte, RowBytes(f, len(x))), make([]float32, len(x))
	relative := func() float64 {
		Dequantize(out, b, f)
		e, n := CompareWeighted(out, x, columns)
		return math.Sqrt(e / n)
	}
	QuantizeWeighted(b, x, columns, f)
	with = relative()
	Quantize(b, x, f)
	return with, relative()
}

func TestWeightedError(t *testing.T) {
	const n, rows = 512, 64
	rng := rand.New(rand.NewPCG(21, 22))
	x := make([]float32, n*rows)
	columns := make([]float32, n)
	for i := range columns {
		columns[i] = float32(math.Exp(1.5 * rng.NormFloat64()))
	}
	for _, c := range []struct {
		name  string
		value func() float64
		most  [numFormats]float64 // ratio to the error without weights
	}{
		{"normal", rng.NormFloat64, [numFormats]float64{
			Q4_0: 0.87, Q4_1: 0.75, Q5_0: 0.87, Q5_1: 0.75, Q8_0: 1, Q4_K: 0.82, Q5_K: 0.85, Q6_K: 0.87}},
		{"heavy tails", func() float64 { return rng.NormFloat64() * math.Exp(rng.NormFloat64()) }, [numFormats]float64{
			Q4_0: 0.96, Q4_1: 0.79, Q5_0: 0.97, Q5_1: 0.8, Q8_0: 1, Q4_K: 0.87, Q5_K: 0.93, Q6_K: 0.96}},
	} {
		for i := range x {
			x[i] = float32(0.02 * c.value())
		}
		for _, f := range Formats() {
			with, without := weightedError(x, columns, f)
			ratio := with / without
			t.Logf("%v, %s: weighted error %.5f with weights, %.5f without: ratio %.3f", f, c.name, with, without, ratio)
			if !(ratio <= c.most[f]) || f == Q8_0 && ratio != 1 {
				t.Errorf("%v, %s: weighted error %.5f with weights, %.5f without: ratio %.3f, want at most %v", f, c.name, with, without, ratio, c.most[f])
			}
		}
	}
}

func TestUnknownColumns(t *testing.T) {
	const n = 512
	rng := rand.New(rand.NewPCG(25, 26))
	x := make([]float32, 2*n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	columns := make([]float32, n)
	for i := range n / 2 {
		columns[i] = 1
	}
	for name, w := range map[string]float32{"0": 0, "-0": float32(math.Copysign(0, -1)), "NaN": float32(math.NaN()), "+Inf": float32(math.Inf(1)), "-Inf": float32(math.Inf(-1))} {
		for i := n / 2; i < n; i++ {
			columns[i] = w
		}
		for _, f := range Formats() {
			b, out := make([]byte, RowBytes(f, len(x))), make([]float32, len(x))
			QuantizeWeighted(b, x, columns, f)
			Dequantize(out, b, f)
			for row := range 2 {
				known, unknown := row*n, row*n+n/2
				if e, norm := Compare(out[known:unknown], x[known:unknown]); !(e < 0.02*norm) {
					t.Errorf("%v, others %s: relative error of known columns %v", f, name, math.Sqrt(e/norm))
				}
				e, norm := Compare(out[unknown:][:n/2], x[unknown:][:n/2])
				if f == Q4_1 || f == Q5_1 || f == Q8_0 {
					if !(e < 0.02*norm) {
						t.Errorf("%v, others %s: their relative error %v", f, name, math.Sqrt(e/norm))
					}
				} else if e != norm {
					t.Errorf("%v, others %s: values %v, want zeros", f, name, out[unknown:][:n/2])
				}
			}
		}
	}
}

// TestWeightedScale: a power of two that all weights are multiplied with changes
// nothing.
func TestWeightedScale(t *testing.T) {
	const n = 256
	rng := rand.New(rand.NewPCG(27, 28))
	x, columns, other := make([]float32, 4*n), make([]float32, n), make([]float32, n)
	for i := range x {
		x[i] = float32(0.02 * rng.NormFloat64())
	}
	for i := range columns {
		columns[i] = float32(math.Exp(rng.NormFloat64()))
		other[i] = columns[i] * 0x1p-20
	}
	for _, f := range Formats() {
		a, b := make([]byte, RowBytes(f, len(x))), make([]byte, RowBytes(f, len(x)))
		QuantizeWeighted(a, x, columns, f)
		QuantizeWeighted(b, x, other, f)
		if !bytes.Equal(a, b) {
			t.Errorf("%v: weights times 2⁻²⁰ make other blocks", f)
		}
	}
}

func TestQuantizeWeightedPanics(t *testing.T) {
	floats := func(n int) []float32 { return make([]float32, n) }
	for name, call := range map[string]func(){
		"weights do not fill blocks": func() { QuantizeWeighted(make([]byte, 999), floats(48), floats(48), Q4_0) },
		"no whole super-blocks":      func() { QuantizeWeighted(make([]byte, 999), floats(128), floats(128), Q4_K) },
		"no whole rows":              func() { QuantizeWeighted(make([]byte, 999), floats(96), floats(64), Q4_0) },
		"no weights":                 func() { QuantizeWeighted(make([]byte, 999), floats(96), nil, Q4_0) },
		"dst too short":              func() { QuantizeWeighted(make([]byte, 35), floats(64), floats(32), Q4_0) },
		"no format":                  func() { QuantizeWeighted(make([]byte, 999), floats(32), floats(32), None) },
		"quantizer: no whole rows":   func() { new(Quantizer).QuantizeWeighted(make([]byte, 999), floats(96), floats(64), Q4_0) },
		"quantizer: dst too short":   func() { new(Quantizer).QuantizeWeighted(make([]byte, 35), floats(64), floats(32), Q4_0) },
		"compare: no whole rows":     func() { CompareWeighted(floats(96), floats(96), floats(64)) },
		"compare: no weights":        func() { CompareWeighted(floats(96), floats(96), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			call()
		})
	}
	QuantizeWeighted(nil, nil, nil, Q4_0)
	QuantizeWeighted(nil, nil, floats(32), Q4_0)
	if e, n := CompareWeighted(nil, nil, nil); e != 0 || n != 0 {
		t.Errorf("CompareWeighted of nothing: %v, %v", e, n)
	}
}

func TestCompareWeighted(t *testing.T) {
	x, out, columns := []float32{1, 2, 3, 4, 5, 6}, []float32{1, 1, 5, 4, 5, 5}, []float32{10, 1, 0.5}
	if e, n := CompareWeighted(out, x, columns); e != 1+0.5*4+0.5 || n != 10*(1+16)+(4+25)+0.5*(9+36) {
		t.Errorf("CompareWeighted: %v, %v", e, n)
	}
	ones := []float32{1, 1}
	e, n := CompareWeighted(out, x, ones)
	if e2, n2 := Compare(out, x); e != e2 || n != n2 {
		t.Errorf("CompareWeighted with ones: %v, %v, Compare %v, %v", e, n, e2, n2)
	}
}

// BenchmarkQuantizerWeighted reports bytes of float32.
func BenchmarkQuantizerWeighted(b *testing.B) {
	const n, rows = 2048, 8
	rng := rand.New(rand.NewPCG(1, 2))
	x, columns := make([]float32, n*rows), make([]float32, n)
	for i := range x {
		x[i] = float32(0.02 * rng.NormFloat64())
	}
	for i := range columns {
		columns[i] = float32(math.Exp(1.5 * rng.NormFloat64()))
	}
	for _, f := range Formats() {
		for _, impl := range Implementations() {
			b.Run(fmt.Sprintf("%v/%s", f, impl), func(b *testing.B) {
				under(b, impl)
				var z Quantizer
				dst := make([]byte, RowBytes(f, n*rows))
				b.SetBytes(4 * n * rows)
				for b.Loop() {
					z.QuantizeWeighted(dst, x, columns, f)
				}
			})
		}
	}
}
