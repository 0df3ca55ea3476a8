//go:build !purego

package quant

//go:generate go run -C _asm ./quantize -part blocks32 -out ../quantize32_amd64.s -stubs ../quantize32_amd64.go -pkg quant
//go:generate go run -C _asm ./quantize -part fit -out ../fit_amd64.s -stubs ../fit_amd64.go -pkg quant
//go:generate go run -C _asm ./quantize -part measure -out ../measure_amd64.s -stubs ../measure_amd64.go -pkg quant

// quantizers32 are the loops for the formats of 32 elements.
var quantizers32 = [numFormats]func(dst *byte, src *float32, blocks int) (left int){
	Q8_0: quantizeQ8_0AVX2, Q4_0: quantizeQ4_0AVX2, Q5_0: quantizeQ5_0AVX2, Q4_1: quantizeQ4_1AVX2, Q5_1: quantizeQ5_1AVX2,
}

// fastQuantize makes blocks until one needs the reference, and returns how many
// are left.
func (z *Quantizer) fastQuantize(dst []byte, src []float32, f Format, blocks int) (left int) {
	if inUse == portable {
		return blocks
	}
	switch f {
	case Q4_K:
		z.blocksK(dst, src, nil, f, tries4K, 15)
	case Q5_K:
		z.blocksK(dst, src, nil, f, tries5K, 31)
	case Q6_K:
		z.blocks6K(dst, src, nil)
	default:
		return quantizers32[f](&dst[0], &src[0], blocks)
	}
	return 0
}

// fastQuantizeWeighted makes all rows, of which there are some, or none.
func (z *Quantizer) fastQuantizeWeighted(dst []byte, src, weights []float32, f Format) bool {
	if inUse == portable {
		return false
	}
	switch f {
	case Q4_0:
		z.weighted32(dst, src, weights, f, tries40)
	case Q5_0:
		z.weighted32(dst, src, weights, f, tries50)
	case Q4_1:
		z.weighted32(dst, src, weights, f, finely4)
	case Q5_1:
		z.weighted32(dst, src, weights, f, finely5)
	case Q4_K:
		z.blocksK(dst, src, weights, f, finely4, 15)
	case Q5_K:
		z.blocksK(dst, src, weights, f, finely5, 31)
	case Q6_K:
		z.blocks6K(dst, src, weights)
	}
	return true
}

// fastCompare, fastProject and fastLargest return how many elements they have taken.

func fastCompare(error2, norm2 *[4]float64, out, x []float32) int {
	n := len(x) &^ 3
	if inUse == portable || n == 0 {
		return 0
	}
	compareAVX2(&error2[0], &norm2[0], &out[0], &x[0], n)
	return n
}

func fastProject(along, delta2 *[4]float64, out, a, s []float32) int {
	n := len(a) &^ 3
	if inUse == portable || n == 0 {
		return 0
	}
	projectAVX2(&along[0], &delta2[0], &out[0], &a[0], &s[0], n)
	return n
}

func fastLargest(x []float32) (n int, bits uint32) {
	if n = len(x) &^ 31; inUse == portable || n == 0 {
		return 0, 0
	}
	return n, largestAVX2(&x[0], n)
}
