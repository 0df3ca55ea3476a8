//go:build !purego

package kernel

import "testing"

// BenchmarkPeak is what the machine does at most: reading memory, and arithmetic
// without memory.
func BenchmarkPeak(b *testing.B) {
	if best() < avx512 {
		b.Skip("needs AVX-512")
	}
	b.Run("read", func(b *testing.B) {
		p := make([]byte, 256<<20)
		for i := range p {
			p[i] = byte(i)
		}
		b.SetBytes(int64(len(p)))
		pace(b, float64(len(p)), "GB/s", func() { readProbe(&p[0], len(p)) })
	})
	const rounds = 10000
	gflops := func(name string, each int, f func(n int)) {
		b.Run(name, func(b *testing.B) {
			pace(b, rounds*float64(each), "GFLOP/s", func() { f(rounds) })
		})
	}
	if best() >= avx512bf16 {
		gflops("pairs/avx512bf16", 24*64, peakPairsAVX512)
	}
	gflops("fma/avx512", 24*32, peakAVX512)
	gflops("fma/avx2", 12*16, peakAVX2)
}
