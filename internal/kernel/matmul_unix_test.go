//go:build unix

package kernel

import (
	"math/rand/v2"
	"syscall"
	"testing"
)

// TestGuard multiplies weights that fill their memory to its ends: nothing
// outside is read.
func TestGuard(t *testing.T) {
	page := syscall.Getpagesize()
	const pages = 12
	area, err := syscall.Mmap(-1, 0, (pages+2)*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Skip(err)
	}
	defer syscall.Munmap(area)
	inside := area[page : (pages+1)*page]
	for _, outside := range [][]byte{area[:page], area[(pages+1)*page:]} {
		if err := syscall.Mprotect(outside, syscall.PROT_NONE); err != nil {
			t.Skip(err)
		}
	}
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(23, 23))
		for _, f := range productFormats {
			for _, n := range []int{7, 64, 77, 1056} {
				for _, m := range []int{1, 6, 9, 16, 40} {
					rows := min(40, len(inside)/n/f.Bytes())
					x, w := factors(rng, m, rows, n, f)
					want := multiplied(x, m, w, rows, n, f)
					for _, place := range [][]byte{inside[:len(w)], inside[len(inside)-len(w):]} {
						copy(place, w)
						for i, got := range multiplied(x, m, place, rows, n, f) {
							if !same32(got, want[i]) {
								t.Fatalf("format %d, n %d, m %d: out[%d] = %v, want %v", f, n, m, i, got, want[i])
							}
						}
					}
				}
			}
		}
	})
}
