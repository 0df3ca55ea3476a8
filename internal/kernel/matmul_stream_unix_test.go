//go:build amd64 && !purego && unix

package kernel

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkStream walks through a gigabyte of BF16 weights, cut into matrices of
// a model's shapes, in two threads, once for each step of m vectors. It reports
// the weights read per second, products per second, and what a plain read of the
// weights gives at the same time, since the memory of a shared machine is not
// always as fast. EXPO_STREAM_FILE names a file of that size to map instead of
// fresh memory.
func BenchmarkStream(b *testing.B) {
	if best() < avx512 {
		b.Skip("needs AVX-512")
	}
	const size, threads, header = 1 << 30, 2, 32
	var w []byte
	if name := os.Getenv("EXPO_STREAM_FILE"); name == "" {
		w = make([]byte, size)
	} else {
		f, err := os.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		area, err := syscall.Mmap(int(f.Fd()), 0, size+header, syscall.PROT_READ, syscall.MAP_SHARED)
		if err != nil {
			b.Fatal(err)
		}
		defer syscall.Munmap(area)
		w = area[header:]
	}
	// Threads take pieces of a matrix until there are no more.
	walk := func(rows, n int, f func(w []byte, first, rows int)) {
		piece := rows / (4 * threads)
		for at := 0; at < size; at += 2 * rows * n {
			var next atomic.Int64
			work := func() {
				for hi := int(next.Add(int64(piece))); hi <= rows; hi = int(next.Add(int64(piece))) {
					f(w[at+2*(hi-piece)*n:at+2*hi*n], hi-piece, piece)
				}
			}
			var wg sync.WaitGroup
			for range threads - 1 {
				wg.Go(work)
			}
			work()
			wg.Wait()
		}
	}
	for _, s := range []struct{ rows, n int }{{8192, 2048}, {2048, 8192}} {
		for _, m := range []int{1, 2, 4, 6, 8, 12, 16, 24, 32, 64, 512} {
			b.Run(fmt.Sprintf("n%d/m%d", s.n, m), func(b *testing.B) {
				a := NewActivations(m, s.n, BF16)
				a.Set(normal(rand.New(rand.NewPCG(1, 1)), m*s.n), m)
				out := make([]float32, m*s.rows)
				read, product := time.Duration(1<<62), time.Duration(1<<62)
				for b.Loop() {
					start := time.Now()
					walk(s.rows, s.n, func(w []byte, _, _ int) { readProbe(&w[0], len(w)) })
					between := time.Now()
					walk(s.rows, s.n, func(w []byte, first, rows int) { MatMul(out[first:], s.rows, a, w, rows) })
					read, product = min(read, between.Sub(start)), min(product, time.Since(between))
				}
				b.ReportMetric(float64(size)/float64(read), "read-GB/s")
				b.ReportMetric(float64(size)/float64(product), "GB/s")
				b.ReportMetric(float64(m)*size/2/float64(product), "GMAC/s")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
