//go:build !purego

package kernel

import "math"

// floatLanes is how many float32 a vector of the implementation in use has, or 0.
func floatLanes() int {
	switch {
	case inUse == portable:
		return 0
	case inUse >= avx512:
		return 16
	}
	return 8
}

// wholeVectors is the part of n elements that are whole vectors.
func wholeVectors(n int) int {
	if l := floatLanes(); l > 0 {
		return n &^ (l - 1)
	}
	return 0
}

func fastDot(a, b []float32) (sum float32, ok bool) {
	if inUse == portable || len(a) == 0 {
		return 0, false
	}
	var ta, tb [16]float32
	n := wholeVectors(len(a))
	copy(ta[:], a[n:])
	copy(tb[:], b[n:])
	if inUse >= avx512 {
		return dotAVX512(&a[0], &b[0], n, &ta[0], &tb[0]), true
	}
	return dotAVX2(&a[0], &b[0], n, &ta[0], &tb[0]), true
}

func fastAxpy(y []float32, alpha float32, x []float32) int {
	n := wholeVectors(len(y))
	switch {
	case n == 0:
	case inUse >= avx512:
		axpyAVX512(&y[0], &x[0], alpha, n)
	default:
		axpyAVX2(&y[0], &x[0], alpha, n)
	}
	return n
}

func fastScale(x []float32, s float32) int {
	n := wholeVectors(len(x))
	switch {
	case n == 0:
	case inUse >= avx512:
		scaleAVX512(&x[0], s, n)
	default:
		scaleAVX2(&x[0], s, n)
	}
	return n
}

func fastScaleMul(out, x, w []float32, s float32) int {
	n := wholeVectors(len(out))
	switch {
	case n == 0:
	case inUse >= avx512:
		scaleMulAVX512(&out[0], &x[0], &w[0], s, n)
	default:
		scaleMulAVX2(&out[0], &x[0], &w[0], s, n)
	}
	return n
}

func fastRope(a, b, cos, sin []float32) int {
	n := wholeVectors(len(a))
	switch {
	case n == 0:
	case inUse >= avx512:
		ropeAVX512(&a[0], &b[0], &cos[0], &sin[0], n)
	default:
		ropeAVX2(&a[0], &b[0], &cos[0], &sin[0], n)
	}
	return n
}

// fastMaximum is the largest of the first done elements.
func fastMaximum(x []float32) (largest float32, nan bool, done int) {
	n := wholeVectors(len(x))
	var flag int
	switch {
	case n == 0:
		return float32(math.Inf(-1)), false, 0
	case inUse >= avx512:
		largest, flag = maximumAVX512(&x[0], n)
	default:
		largest, flag = maximumAVX2(&x[0], n)
	}
	return largest, flag != 0, n
}

// What is left after whole vectors is done in one more, so that a result does
// not depend on its place.

func fastSiLUMul(gate, up []float32) bool {
	if inUse == portable {
		return false
	}
	n := wholeVectors(len(gate))
	if n > 0 {
		siluVectors(gate, up, n)
	}
	if n < len(gate) {
		var g, u [16]float32
		copy(g[:], gate[n:])
		copy(u[:], up[n:])
		siluVectors(g[:], u[:], floatLanes())
		copy(gate[n:], g[:])
	}
	return true
}

func siluVectors(gate, up []float32, n int) {
	if inUse >= avx512 {
		siluAVX512(&gate[0], &up[0], n)
	} else {
		siluAVX2(&gate[0], &up[0], n)
	}
}

func fastSoftmax(x []float32) bool {
	if inUse == portable || len(x) == 0 {
		return false
	}
	m, _ := maximum(x)
	var sums, tail [16]float32
	n := wholeVectors(len(x))
	if n > 0 {
		expVectors(x, m, &sums, n)
	}
	if n < len(x) {
		for i := copy(tail[:], x[n:]); i < len(tail); i++ {
			tail[i] = float32(math.Inf(-1))
		}
		expVectors(tail[:], m, &sums, floatLanes())
		copy(x[n:], tail[:])
	}
	for w := floatLanes() / 2; w > 0; w /= 2 {
		for i := range w {
			sums[i] += sums[i+w]
		}
	}
	scaleBy(x, 1/sums[0])
	return true
}

func expVectors(x []float32, largest float32, sums *[16]float32, n int) {
	if inUse >= avx512 {
		expSumAVX512(&x[0], largest, sums, n)
	} else {
		expSumAVX2(&x[0], largest, sums, n)
	}
}

// fastWeigh does the first done elements of each sum.
func fastWeigh(out []float32, d, queries int, p []float32, pstride int, v []byte, f Format, keys, stride int) (done int) {
	done = wholeVectors(d)
	if done == 0 {
		return 0
	}
	wide, most, width := inUse >= avx512, 3, f.Bytes()
	if wide {
		most = 6
	}
	for i := 0; i < queries; i += most {
		n := min(most, queries-i)
		for from := 0; from < done; from += 4 * floatLanes() {
			vectors := min(4, (done-from)/floatLanes())
			o, w, b := &out[i*d+from], &p[i*pstride], &v[from*width]
			switch {
			case f == BF16 && wide:
				weighBF16AVX512(n, vectors, o, 4*d, w, 4*pstride, b, stride*width, keys)
			case f == BF16:
				weighBF16AVX2(n, vectors, o, 4*d, w, 4*pstride, b, stride*width, keys)
			case f == F16 && wide:
				weighF16AVX512(n, vectors, o, 4*d, w, 4*pstride, b, stride*width, keys)
			case f == F16:
				weighF16AVX2(n, vectors, o, 4*d, w, 4*pstride, b, stride*width, keys)
			case wide:
				weighF32AVX512(n, vectors, o, 4*d, w, 4*pstride, b, stride*width, keys)
			default:
				weighF32AVX2(n, vectors, o, 4*d, w, 4*pstride, b, stride*width, keys)
			}
		}
	}
	return done
}
