//go:build !purego

package alpacaeval

import "testing"

// TestLoops: what a machine's loops find is the same but for rounding.
func TestLoops(t *testing.T) {
	best := wide
	defer func() { wide = best }()
	for wide = best; wide >= 0; wide -= 4 {
		TestSlope(t)
	}
}

func BenchmarkLoops(b *testing.B) {
	best := wide
	defer func() { wide = best }()
	for wide = best; wide >= 0; wide -= 4 {
		b.Run([]string{"portable", "AVX2", "AVX-512"}[wide/4], BenchmarkSlope)
	}
}
