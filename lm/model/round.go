package model

import "expo/internal/kernel"

// roundAll rounds to bfloat16, to nearest even, in place.
func roundAll(x []float32) {
	var b [1024]byte
	for len(x) > 0 {
		n := min(len(x), len(b)/2)
		kernel.Narrow(b[:2*n], x[:n], kernel.BF16)
		kernel.Widen(x[:n], b[:2*n], kernel.BF16)
		x = x[n:]
	}
}
