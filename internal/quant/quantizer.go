package quant

import (
	"fmt"
)

// A Quantizer stores float32 as blocks, with the bits of [Quantize], many times as
// fast where there is assembly. The zero value is ready. It belongs to one
// goroutine.
type Quantizer struct {
	// Eight or sixteen sub-blocks at a time, a row for each of their elements and a
	// lane for each of them; w are weights of squared errors, wx their products with
	// x, try the codes being tried.
	x, w, wx [512]float32
	q, try   [512]int32

	base [16]float32 // what weights are made with, a row
	fit  [48]float32 // what is found, three rows
	sums []float32   // of the squares of rows or blocks
}

// Quantize is the function of that name.
func (z *Quantizer) Quantize(dst []byte, src []float32, f Format) {
	n := f.blocks("Quantize", len(src))
	size, bytes := f.size(), f.bytes()
	if len(dst) < n*bytes {
		panic(fmt.Sprintf("quant: Quantize: dst has %d bytes, %d elements of %v need %d", len(dst), len(src), f, n*bytes))
	}
	for n > 0 {
		left := z.fastQuantize(dst, src, f, n)
		dst, src = dst[(n-left)*bytes:], src[(n-left)*size:]
		if n = left; n == 0 {
			return
		}
		// This block is for the reference, as all are where there is no assembly.
		Quantize(dst, src[:size], f)
		dst, src = dst[bytes:], src[size:]
		n--
	}
}

// QuantizeWeighted is the function of that name.
func (z *Quantizer) QuantizeWeighted(dst []byte, src, weights []float32, f Format) {
	rows := weightedRows("QuantizeWeighted", dst, src, weights, f)
	switch {
	case rows == 0:
	case f == Q8_0:
		z.Quantize(dst, src, f)
	default:
		weights = usable(weights)
		if !z.fastQuantizeWeighted(dst, src, weights, f) {
			quantizeRows(dst, src, weights, f)
		}
	}
}
