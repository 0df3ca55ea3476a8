package quant

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"unsafe"
)

// TestOverread puts weights before a page that cannot be read.
func TestOverread(t *testing.T) {
	page := syscall.Getpagesize()
	const size = 1 << 16
	mem, err := syscall.Mmap(-1, 0, size+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Skip(err)
	}
	defer syscall.Munmap(mem)
	if err := syscall.Mprotect(mem[size:], syscall.PROT_NONE); err != nil {
		t.Skip(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	everywhere(t, func(t *testing.T) {
		for _, f := range Formats() {
			for _, n := range widths(f) {
				for _, rows := range []int{1, 3} {
					w := weights(rng, fitted, rows*n, f)
					at := mem[size-len(w) : size : size]
					copy(at, w)
					Dequantize(make([]float32, rows*n), at, f)
					as := make([]Activations, 5)
					for i := range as {
						as[i].Set(activations(rng, fitted, n), f)
					}
					out := make([]float32, 5*rows)
					Dot(out, at, f, rows, n, &as[0])
					MatMul(out, rows, at, f, rows, n, as)

					dst := make([]byte, len(w))
					var z Quantizer
					x := unsafe.Slice((*float32)(unsafe.Pointer(&mem[size-4*rows*n])), rows*n)
					copy(x, activations(rng, fitted, rows*n))
					z.Quantize(dst, x, f)
					z.QuantizeWeighted(dst, x, make([]float32, n), f)
					z.QuantizeWeighted(dst, make([]float32, rows*n), x[len(x)-n:], f)
				}
			}
		}
	})
}
