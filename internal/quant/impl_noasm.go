//go:build !amd64 || purego

package quant

// There is nothing here but the portable loops.

func best() implementation { return portable }

func fastDequantize(dst []float32, src []byte, f Format, blocks int) bool { return false }
func fastSet32(b []byte, x []float32) bool                                { return false }
func fastSetK(b []byte, x []float32) bool                                 { return false }
func fastMultiply(out []float32, stride int, w []byte, f Format, rows, n int, xs []*Activations) bool {
	return false
}
