package quant

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// large is more than the caches hold.
const large = 192 << 20

// matrix makes about size bytes of rows of n elements, the first of them again
// and again.
func matrix(size, n int, f Format) (w []byte, rows int) {
	row := RowBytes(f, n)
	rows = size / row
	some := weights(rand.New(rand.NewPCG(3, 4)), fitted, 16*n, f)
	w = make([]byte, rows*row)
	for i := 0; i < len(w); i += len(some) {
		copy(w[i:], some)
	}
	return w, rows
}

// part is what is read in one go, so that the fastest of many such stretches can be
// told: on a machine with other things to do the mean says little.
const part = 4 << 20

// stretches runs f again and again on all stretches of about part bytes, given as
// rows of so many bytes each, and reports the speed of the fastest beside the mean.
func stretches(b *testing.B, rows, row int, f func(first, rows int)) {
	n := min(rows, max(1, part/row))
	best := time.Duration(math.MaxInt64)
	b.SetBytes(int64(n * row))
	first := 0
	for b.Loop() {
		start := time.Now()
		f(first, n)
		best = min(best, time.Since(start))
		if first += n; first+n > rows {
			first = 0
		}
	}
	b.ReportMetric(float64(n*row)/float64(best.Nanoseconds()), "best-GB/s")
}

// BenchmarkRead is what the machine does when there is nothing to compute.
func BenchmarkRead(b *testing.B) {
	w := bytes.Repeat([]byte{1}, large)
	stretches(b, large>>10, 1<<10, func(first, rows int) {
		if bytes.IndexByte(w[first<<10:(first+rows)<<10], 0) >= 0 {
			b.Fatal()
		}
	})
}

// BenchmarkDot reports bytes of weights, from memory and from the cache.
func BenchmarkDot(b *testing.B) {
	for _, f := range Formats() {
		for _, impl := range Implementations() {
			for _, c := range []struct{ size, n int }{{large, 4096}, {large, 576 / f.BlockSize() * f.BlockSize()}, {256 << 10, 4096}} {
				b.Run(fmt.Sprintf("%v/%s/%dKiB/n%d", f, impl, c.size>>10, c.n), func(b *testing.B) {
					under(b, impl)
					w, rows := matrix(c.size, c.n, f)
					row := RowBytes(f, c.n)
					var x Activations
					x.Set(activations(rand.New(rand.NewPCG(5, 6)), fitted, c.n), f)
					out := make([]float32, rows)
					stretches(b, rows, row, func(first, rows int) {
						Dot(out, w[first*row:], f, rows, c.n, &x)
					})
				})
			}
		}
	}
}

// BenchmarkMatMul reports operations, two for each weight and vector, of the
// fastest of many products.
func BenchmarkMatMul(b *testing.B) {
	const n, rows = 4096, 128
	for _, f := range Formats() {
		for _, impl := range Implementations() {
			if impl == "portable" {
				continue
			}
			for _, vectors := range []int{1, 4, 32} {
				b.Run(fmt.Sprintf("%v/%s/%d", f, impl, vectors), func(b *testing.B) {
					under(b, impl)
					w, _ := matrix(rows*RowBytes(f, n), n, f)
					xs := make([]Activations, vectors)
					for i := range xs {
						xs[i].Set(activations(rand.New(rand.NewPCG(5, uint64(i))), fitted, n), f)
					}
					out := make([]float32, rows*vectors)
					best := time.Duration(math.MaxInt64)
					for b.Loop() {
						start := time.Now()
						MatMul(out, rows, w, f, rows, n, xs)
						best = min(best, time.Since(start))
					}
					b.ReportMetric(2*n*rows*float64(vectors)/float64(best.Nanoseconds()), "best-GFLOP/s")
				})
			}
		}
	}
}

// BenchmarkDequantize reports bytes of float32.
func BenchmarkDequantize(b *testing.B) {
	const n = 1 << 16
	for _, f := range Formats() {
		src := weights(rand.New(rand.NewPCG(1, 2)), fitted, n, f)
		dst := make([]float32, n)
		for _, impl := range Implementations() {
			b.Run(fmt.Sprintf("%v/%s", f, impl), func(b *testing.B) {
				under(b, impl)
				b.SetBytes(4 * n)
				for b.Loop() {
					Dequantize(dst, src, f)
				}
			})
		}
	}
}

// BenchmarkQuantize reports bytes of float32.
func BenchmarkQuantize(b *testing.B) {
	const n = 1 << 14
	x := activations(rand.New(rand.NewPCG(1, 2)), fitted, n)
	for _, f := range Formats() {
		b.Run(f.String(), func(b *testing.B) {
			dst := make([]byte, RowBytes(f, n))
			b.SetBytes(4 * n)
			for b.Loop() {
				Quantize(dst, x, f)
			}
		})
	}
}

// BenchmarkSet reports bytes of float32.
func BenchmarkSet(b *testing.B) {
	const n = 4096
	x := activations(rand.New(rand.NewPCG(1, 2)), fitted, n)
	for _, f := range []Format{Q8_0, Q4_K} {
		for _, impl := range Implementations() {
			b.Run(fmt.Sprintf("%d/%s", f.BlockSize(), impl), func(b *testing.B) {
				under(b, impl)
				var a Activations
				b.SetBytes(4 * n)
				for b.Loop() {
					a.Set(x, f)
				}
			})
		}
	}
}
