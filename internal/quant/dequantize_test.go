package quant

import (
	"math"
	"math/rand/v2"
	"testing"
)

// compareValues holds Dequantize under every implementation against the portable
// one: by the bits, except for NaN.
func compareValues(t *testing.T, src []byte, f Format) {
	t.Helper()
	n := len(src) / f.BlockBytes() * f.BlockSize()
	want := make([]float32, n)
	dequantize(want, src, f)
	for _, name := range Implementations() {
		restore, err := Use(name)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, n+1)
		Dequantize(got[:n], src, f)
		restore()
		for i, w := range want {
			if g := got[i]; math.Float32bits(g) != math.Float32bits(w) && (g == g || w == w) {
				t.Fatalf("%v under %s: element %d is %v, want %v", f, name, i, g, w)
			}
		}
		if got[n] != 0 {
			t.Errorf("%v under %s: wrote beyond the end", f, name)
		}
	}
}

func TestDequantizeImplementations(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, f := range Formats() {
		for kind := range kinds {
			for _, n := range []int{1, 2, 3, 17} {
				compareValues(t, weights(rng, kind, n*f.BlockSize(), f), f)
			}
		}
	}
}

func FuzzDequantize(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for i, g := range Formats() {
		f.Add(weights(rng, random, 512, g), uint8(i))
	}
	f.Fuzz(func(t *testing.T, src []byte, format uint8) {
		g := Formats()[int(format)%len(Formats())]
		compareValues(t, src[:len(src)/g.BlockBytes()*g.BlockBytes()], g)
	})
}

// FuzzQuantize checks that any values make blocks, and that finite ones come back
// within a step.
func FuzzQuantize(f *testing.F) {
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range Formats() {
		b := make([]byte, 1024)
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		f.Add(b, uint8(i))
		for j := range b {
			b[j] = []byte{0, 0, byte(rng.Uint32()), 0x3F}[j%4]
		}
		f.Add(b, uint8(i))
	}
	f.Fuzz(func(t *testing.T, b []byte, format uint8) {
		g := Formats()[int(format)%len(Formats())]
		size := g.BlockSize()
		x := floats(b[:len(b)/4*4])
		x = x[:len(x)/size*size]
		blocks, again := make([]byte, RowBytes(g, len(x))), make([]byte, RowBytes(g, len(x)))
		for i := range again {
			again[i] = 0xA5 // what was there before does not matter
		}
		Quantize(blocks, x, g)
		Quantize(again, x, g)
		if string(blocks) != string(again) {
			t.Errorf("%v: the same values make other blocks", g)
		}
		back := make([]float32, len(x))
		Dequantize(back, blocks, g)
		for i := 0; i < len(x); i += size {
			// The steps are those of the largest magnitude, of the highest format
			// with 4 bits; the smallest scales are lost to F16.
			var most float64
			finite := true
			for _, v := range x[i : i+size] {
				most = max(most, math.Abs(float64(v)))
				finite = finite && math.Abs(float64(v)) < 60000
			}
			if !finite || most < 0.1 {
				continue
			}
			for j := i; j < i+size; j++ {
				if e := math.Abs(float64(x[j]) - float64(back[j])); !(e <= most/6) {
					t.Errorf("%v: element %d is %v, comes back as %v; the largest magnitude is %v", g, j, x[j], back[j], most)
				}
			}
		}
	})
}
