//go:build !purego

package kernel

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
)

// TestPackTiles compares the arrangement of vectors with its definition. It needs
// no AMX.
func TestPackTiles(t *testing.T) {
	if best() < avx512 {
		t.Skip("needs AVX-512")
	}
	rng := rand.New(rand.NewPCG(22, 22))
	for _, n := range []int{0, 1, 2, 3, 31, 32, 33, 100, 1024} {
		a := Activations{N: n, Format: BF16, ld: (n + 31) &^ 31}
		a.makeTiles(37)
		for _, m := range []int{37, 1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 1} {
			x := normal(rng, m*n)
			a.packTiles(x, m)
			blocks := amxBlocks(n)
			for i := range m {
				row := make([]byte, 64*blocks)
				Narrow(row[:2*n], x[i*n:(i+1)*n], BF16)
				for k := range 16 * blocks {
					at := i/16*amxGroup(n, a.width) + 4*(k*a.width+i%16)
					if got, want := a.bf16[at:at+4], row[4*k:4*k+4]; !bytes.Equal(got, want) {
						t.Fatalf("n %d, m %d: pair %d of vector %d is %x, want %x", n, m, k, i, got, want)
					}
				}
			}
		}
	}
}

// TestAMXPermission holds wherever there is no AMX, too.
func TestAMXPermission(t *testing.T) {
	if got := best() >= amx; got != amxTiles {
		t.Errorf("AMX is used: %v, is there: %v", got, amxTiles)
	}
	if amxTiles && !amxPermitted() {
		t.Error("permission is not given a second time")
	}
}

// TestAMXInterrupted multiplies while threads outnumber processors and signals
// arrive, which the tiles have to survive.
func TestAMXInterrupted(t *testing.T) {
	if best() < amx {
		t.Skip("no AMX-BF16")
	}
	under(t, amx.String())
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	const m, rows, n = 40, 70, 600
	rng := rand.New(rand.NewPCG(23, 23))
	var work sync.WaitGroup
	stop := make(chan struct{})
	for g := range 4 {
		x, w := factors(rng, m, rows, n, BF16)
		want := multiplied(x, m, w, rows, n, BF16)
		work.Go(func() {
			for round := range 40 {
				got := multiplied(x, m, w, rows, n, BF16)
				for j := range got {
					if !same32(got[j], want[j]) {
						t.Errorf("goroutine %d, round %d: out[%d][%d] = %v, want %v", g, round, j/rows, j%rows, got[j], want[j])
						return
					}
				}
			}
		})
	}
	var other sync.WaitGroup
	other.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				// Stops the world, and so sends a signal to whoever runs long.
				runtime.GC()
			}
		}
	})
	work.Wait()
	close(stop)
	other.Wait()
}
