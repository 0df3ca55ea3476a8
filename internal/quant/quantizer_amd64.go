//go:build !purego

package quant

import "math"

//go:generate go run -C _asm ./quantize -part blocks32 -out ../quantize32_amd64.s -stubs ../quantize32_amd64.go -pkg quant
//go:generate go run -C _asm ./quantize -part fit -out ../fit_amd64.s -stubs ../fit_amd64.go -pkg quant
//go:generate go run -C _asm ./quantize -part measure -out ../measure_amd64.s -stubs ../measure_amd64.go -pkg quant

// quantizers32 are the loops for the formats of 32 elements.
var quantizers32 = [numFormats]func(dst *byte, src *float32, blocks int) (left int){
	Q8_0: quantizeQ8_0AVX2, Q4_0: quantizeQ4_0AVX2, Q5_0: quantizeQ5_0AVX2, Q4_1: quantizeQ4_1AVX2, Q5_1: quantizeQ5_1AVX2,
}

// The dividends of the steps by which scales are tried, in the order of the
// reference. Before those of Q4_K and Q5_K stands the largest code, as an integer
// and as a float.
var (
	tries4K = triesK(15, -1, 20)
	tries5K = triesK(31, -0.5, 15)
	tries6K = func() []float32 {
		t := []float32{-32}
		for k := -9; k <= 9; k++ {
			if k != 0 {
				t = append(t, -(32 + float32(float32(0.1)*float32(k))))
			}
		}
		return t
	}()
)

func triesK(top int, first float32, steps int) []float32 {
	t := []float32{math.Float32frombits(uint32(top)), float32(top)}
	for k := range steps + 1 {
		t = append(t, first+float32(float32(0.1)*float32(k))+float32(top))
	}
	return t
}

// fastQuantize makes blocks until one needs the reference, and returns how many
// are left.
func (z *Quantizer) fastQuantize(dst []byte, src []float32, f Format, blocks int) (left int) {
	if inUse == portable {
		return blocks
	}
	switch f {
	case Q4_K:
		z.quantizeK(dst, src, f, blocks, tries4K, 15)
	case Q5_K:
		z.quantizeK(dst, src, f, blocks, tries5K, 31)
	case Q6_K:
		z.quantize6K(dst, src, blocks)
	default:
		return quantizers32[f](&dst[0], &src[0], blocks)
	}
	return 0
}

func (z *Quantizer) quantizeK(dst []byte, src []float32, f Format, blocks int, tries []float32, top int) {
	for range blocks {
		z.turn(src, 32)
		var fit [2][8]float32
		fitKAVX2(&z.x[0], &z.w[0], &z.q[0], &z.try[0], &tries[0], len(tries)-2, &fit[0][0])
		putScalesK(dst, &fit[0], &fit[1])
		recodeAVX2(&z.x[0], 32, &fit[0][0], &fit[1][0], &z.q[0], 0, top)
		z.putCodesK(dst, f)
		src, dst = src[256:], dst[f.bytes():]
	}
}

func (z *Quantizer) quantize6K(dst []byte, src []float32, blocks int) {
	var none [8]float32
	for range blocks {
		var scales [16]float32
		for c := range 2 {
			z.turn(src[128*c:], 16)
			fit6AVX2(&z.x[0], &z.w[0], &z.q[128*c], &z.try[0], &tries6K[0], len(tries6K)-1, &scales[8*c])
		}
		if putScales6(dst, &scales) {
			for c := range 2 {
				z.turn(src[128*c:], 16)
				recodeAVX2(&z.x[0], 16, &scales[8*c], &none[0], &z.q[128*c], -32, 31)
			}
			z.putCodes6(dst)
		}
		src, dst = src[256:], dst[210:]
	}
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
