package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// pace runs f and reports the rate of its best run beside the mean: what the
// machine can do when nothing else runs on it.
func pace(b *testing.B, work float64, unit string, f func()) {
	best := time.Duration(1 << 62)
	for b.Loop() {
		start := time.Now()
		f()
		best = min(best, time.Since(start))
	}
	b.ReportMetric(work/float64(best.Nanoseconds()), "best-"+unit)
}

// everyBench runs f under every implementation in assembly.
func everyBench(b *testing.B, f func(b *testing.B)) {
	for _, impl := range Implementations() {
		if impl != portable.String() {
			b.Run(impl, func(b *testing.B) {
				under(b, impl)
				f(b)
			})
		}
	}
}

var formatNames = map[Format]string{BF16: "bf16", F16: "f16", F32: "f32"}

// BenchmarkMatVec multiplies a few vectors with more weights than caches hold.
// Its rate is to be compared with that of BenchmarkPeak/read.
func BenchmarkMatVec(b *testing.B) {
	const size = 128 << 20
	w := make([]byte, size)
	everyBench(b, func(b *testing.B) {
		for _, f := range productFormats {
			plausible(w, w, f, f)
			for _, n := range []int{576, 2048, 8192} {
				for _, m := range []int{1, 4, 16} {
					rows := size / f.Bytes() / n
					a := NewActivations(m, n, f)
					a.Set(normal(rand.New(rand.NewPCG(1, 1)), m*n), m)
					out := make([]float32, m*rows)
					b.Run(fmt.Sprintf("%s/m%d/n%d", formatNames[f], m, n), func(b *testing.B) {
						b.SetBytes(int64(rows * n * f.Bytes()))
						pace(b, float64(rows*n*f.Bytes()), "GB/s", func() { MatMul(out, rows, a, w, rows) })
					})
				}
			}
		}
	})
}

// BenchmarkMatMul multiplies the vectors of a prompt with the matrices of a
// model, which are not aligned. Its rate is to be compared with BenchmarkPeak's.
func BenchmarkMatMul(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	everyBench(b, func(b *testing.B) {
		for _, f := range productFormats {
			for _, s := range []struct{ m, rows, n int }{{512, 2048, 2048}, {512, 1536, 576}, {512, 576, 1536}, {512, 1024, 8192}, {16, 2048, 2048}} {
				x, w := factors(rng, s.m, s.rows, s.n, f)
				a := NewActivations(s.m, s.n, f)
				a.Set(x, s.m)
				out := make([]float32, s.m*s.rows)
				b.Run(fmt.Sprintf("%s/%dx%dx%d", formatNames[f], s.m, s.rows, s.n), func(b *testing.B) {
					flop := 2 * float64(s.m) * float64(s.rows) * float64(s.n)
					pace(b, flop, "GFLOP/s", func() { MatMul(out, s.rows, a, w, s.rows) })
				})
			}
		}
	})
}

// BenchmarkAttention is one head: scores of and sums over a cache that the level
// 2 cache holds (1024 keys of 64 float32 are 256 KiB) or does not.
func BenchmarkAttention(b *testing.B) {
	everyBench(b, func(b *testing.B) {
		rng := rand.New(rand.NewPCG(1, 1))
		for _, f := range []Format{BF16, F32} {
			for _, d := range []int{64, 128} {
				for _, keys := range []int{1024, 32768} {
					v := make([]byte, keys*d*f.Bytes())
					plausible(v, v, f, f)
					for _, queries := range []int{1, 4, 6} {
						q, p := normal(rng, queries*d), make([]float32, queries*keys)
						flop := 2 * float64(queries*keys*d)
						name := fmt.Sprintf("%s/d%d/keys%d/q%d", formatNames[f], d, keys, queries)
						b.Run("scores/"+name, func(b *testing.B) {
							b.SetBytes(int64(len(v)))
							pace(b, flop, "GFLOP/s", func() { ScoresBatch(p, keys, q, queries, v, f, keys, d, 0.125) })
						})
						b.Run("sum/"+name, func(b *testing.B) {
							b.SetBytes(int64(len(v)))
							pace(b, flop, "GFLOP/s", func() { WeightedSumBatch(q, queries, p, keys, v, f, keys, d) })
						})
					}
				}
			}
		}
	})
}

// BenchmarkVector is what else a token needs.
func BenchmarkVector(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, impl := range Implementations() {
		b.Run(impl, func(b *testing.B) {
			under(b, impl)
			x, y, z := normal(rng, 8192), normal(rng, 8192), normal(rng, 8192)
			run := func(name string, n int, f func()) {
				b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
					best := time.Duration(1 << 62)
					for b.Loop() {
						start := time.Now()
						for range 16 {
							f()
						}
						best = min(best, time.Since(start))
					}
					b.ReportMetric(float64(best.Nanoseconds())/16/float64(n), "best-ns/elem")
				})
			}
			run("softmax", 4096, func() { Softmax(x[:4096]) })
			run("silu", 8192, func() { SiLUMul(x, y) })
			run("rmsnorm", 2048, func() { RMSNorm(z[:2048], x[:2048], y, 1e-5) })
			run("rope", 64, func() { Rope(z[:64], x[:32], y[:32]) })
			run("dot", 2048, func() { Dot(x[:2048], y) })
			run("axpy", 2048, func() { Axpy(z[:2048], 1e-9, y) })
			logits := normal(rng, 128256)
			run("argmax", len(logits), func() { Argmax(logits) })
		})
	}
}
