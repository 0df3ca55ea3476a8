//go:build !amd64 || purego

package kernel

import "math"

func multipliesPairs() bool                                { return false }
func partElements(pairs bool, n int) (part, step int)      { return n, 1 }
func lineOffsetOf[T byte | float32](x []T) int             { return 0 }
func (p *product) fast() bool                              { return false }
func fastDot(a, b []float32) (sum float32, ok bool)        { return 0, false }
func fastAxpy(y []float32, alpha float32, x []float32) int { return 0 }
func fastScale(x []float32, s float32) int                 { return 0 }
func fastScaleMul(out, x, w []float32, s float32) int      { return 0 }
func fastRope(a, b, cos, sin []float32) int                { return 0 }
func fastSiLUMul(gate, up []float32) bool                  { return false }
func fastSoftmax(x []float32) bool                         { return false }
func fastWeigh(out []float32, d, queries int, p []float32, pstride int, v []byte, f Format, keys, stride int) int {
	return 0
}

func fastMaximum(x []float32) (largest float32, nan bool, done int) {
	return float32(math.Inf(-1)), false, 0
}
