package model

import "expo/internal/kernel"

// roundAll rounds to bfloat16, to nearest even, in place.
func roundAll(x []float32) { roundTo(x, kernel.BF16) }

// roundTo rounds to f, F16 or BF16, to nearest even, in place.
func roundTo(x []float32, f kernel.Format) {
	var b [1024]byte
	for len(x) > 0 {
		n := min(len(x), len(b)/2)
		kernel.Narrow(b[:2*n], x[:n], f)
		kernel.Widen(x[:n], b[:2*n], f)
		x = x[n:]
	}
}
