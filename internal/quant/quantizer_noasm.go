//go:build !amd64 || purego

package quant

func (z *Quantizer) fastQuantize(dst []byte, src []float32, f Format, blocks int) (left int) {
	return blocks
}

func (z *Quantizer) fastQuantizeWeighted(dst []byte, src, weights []float32, f Format) bool {
	return false
}

func fastCompare(error2, norm2 *[4]float64, out, x []float32) int        { return 0 }
func fastProject(along, delta2 *[4]float64, out, a, s []float32) (n int) { return 0 }
func fastLargest(x []float32) (n int, bits uint32)                       { return 0, 0 }
