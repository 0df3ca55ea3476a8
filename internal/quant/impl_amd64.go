//go:build !purego

package quant

import "golang.org/x/sys/cpu"

//go:generate go run -C _asm . -part dot32 -out ../dot32_amd64.s -stubs ../dot32_amd64.go -pkg quant
//go:generate go run -C _asm . -part dotk -out ../dotk_amd64.s -stubs ../dotk_amd64.go -pkg quant
//go:generate go run -C _asm . -part activations -out ../activations_amd64.s -stubs ../activations_amd64.go -pkg quant
//go:generate go run -C _asm . -part dequantize -out ../dequantize_amd64.s -stubs ../dequantize_amd64.go -pkg quant

// best is the best implementation that this machine can run.
func best() implementation {
	x := &cpu.X86
	switch {
	case !x.HasAVX2 || !x.HasF16C:
		return portable
	case !x.HasAVX512F || !x.HasAVX512BW || !x.HasAVX512DQ || !x.HasAVX512VL || !x.HasAVX512VNNI:
		return avx2
	}
	return avx512
}

// The loops for AVX2 and AVX-512, by format.

var dequantizers = [2][numFormats]func(dst *float32, src *byte, blocks int){
	{nil, dequantizeQ4_0AVX2, dequantizeQ4_1AVX2, dequantizeQ5_0AVX2, dequantizeQ5_1AVX2, dequantizeQ8_0AVX2,
		dequantizeQ4_KAVX2, dequantizeQ5_KAVX2, dequantizeQ6_KAVX2},
	{nil, dequantizeQ4_0AVX512, dequantizeQ4_1AVX512, dequantizeQ5_0AVX512, dequantizeQ5_1AVX512, dequantizeQ8_0AVX512,
		dequantizeQ4_KAVX512, dequantizeQ5_KAVX512, dequantizeQ6_KAVX512},
}

var dots = [2][numFormats]func(out *float32, w *byte, rows, blocks int, x *byte){
	{nil, dotQ4_0AVX2, dotQ4_1AVX2, dotQ5_0AVX2, dotQ5_1AVX2, dotQ8_0AVX2, dotQ4_KAVX2, dotQ5_KAVX2, dotQ6_KAVX2},
	{nil, dotQ4_0AVX512, dotQ4_1AVX512, dotQ5_0AVX512, dotQ5_1AVX512, dotQ8_0AVX512, dotQ4_KAVX512, dotQ5_KAVX512, dotQ6_KAVX512},
}

var dotsBy2 = [numFormats]func(out *float32, stride int, w *byte, rows, blocks int, x0, x1 *byte){
	nil, dotsQ4_0AVX2, dotsQ4_1AVX2, dotsQ5_0AVX2, dotsQ5_1AVX2, dotsQ8_0AVX2, dotsQ4_KAVX2, dotsQ5_KAVX2, dotsQ6_KAVX2,
}

var dotsBy4 = [numFormats]func(out *float32, stride int, w *byte, rows, blocks int, x0, x1, x2, x3 *byte){
	nil, dotsQ4_0AVX512, dotsQ4_1AVX512, dotsQ5_0AVX512, dotsQ5_1AVX512, dotsQ8_0AVX512, dotsQ4_KAVX512, dotsQ5_KAVX512, dotsQ6_KAVX512,
}

// dotsBy8 has no formats with blocks of 256.
var dotsBy8 = [numFormats]func(out *float32, stride int, w *byte, rows, blocks int, x0, x1, x2, x3, x4, x5, x6, x7 *byte){
	nil, dotsQ4_0AVX512By8, dotsQ4_1AVX512By8, dotsQ5_0AVX512By8, dotsQ5_1AVX512By8, dotsQ8_0AVX512By8,
}

func fastDequantize(dst []float32, src []byte, f Format, blocks int) bool {
	if inUse == portable {
		return false
	}
	dequantizers[inUse-avx2][f](&dst[0], &src[0], blocks)
	return true
}

func fastMultiply(out []float32, stride int, w []byte, f Format, rows, n int, xs []*Activations) bool {
	if inUse == portable {
		return false
	}
	blocks := n / f.size()
	for len(xs) > 0 {
		done := 1
		switch {
		case inUse == avx512 && len(xs) >= 8 && dotsBy8[f] != nil:
			done = 8
			dotsBy8[f](&out[0], stride, &w[0], rows, blocks, &xs[0].b[0], &xs[1].b[0], &xs[2].b[0], &xs[3].b[0],
				&xs[4].b[0], &xs[5].b[0], &xs[6].b[0], &xs[7].b[0])
		case inUse == avx512 && len(xs) >= 4:
			done = 4
			dotsBy4[f](&out[0], stride, &w[0], rows, blocks, &xs[0].b[0], &xs[1].b[0], &xs[2].b[0], &xs[3].b[0])
		case inUse == avx2 && len(xs) >= 2:
			done = 2
			dotsBy2[f](&out[0], stride, &w[0], rows, blocks, &xs[0].b[0], &xs[1].b[0])
		default:
			dots[inUse-avx2][f](&out[0], &w[0], rows, blocks, &xs[0].b[0])
		}
		if xs = xs[done:]; len(xs) > 0 {
			out = out[done*stride:]
		}
	}
	return true
}

func fastSet32(b []byte, x []float32) bool {
	if inUse == portable {
		return false
	}
	set32AVX2(&b[0], &x[0], len(x)/32)
	return true
}

func fastSetK(b []byte, x []float32) bool {
	if inUse == portable {
		return false
	}
	setKAVX2(&b[0], &x[0], len(x)/256)
	return true
}
