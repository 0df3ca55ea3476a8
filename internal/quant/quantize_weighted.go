package quant

import (
	"encoding/binary"
	"fmt"
	"math"
)

// QuantizeWeighted is [Quantize] for the rows of a matrix of whose columns some
// matter more than others: the quantizer that ggml uses with an importance matrix,
// bit for bit. src holds whole rows of len(weights) elements each; weights[i] is
// the importance of element i of every row, as a rule the mean square of the
// inputs that it is multiplied with.
//
// A block is made so that the sum of its squared errors, weighted by the
// importance, is small. Large elements count somewhat more than small ones, except
// in Q6_K; large is what stands out from the row in Q4_0, Q4_1, Q5_0 and Q5_1, from
// the block in Q4_K and Q5_K. Only the first of these therefore depend on more than
// the block and its weights. Q8_0 has no use for weights.
//
// Weights should be finite and not negative. One that is infinite or NaN counts as
// 0; a negative one is taken as it is, and its block may be a bad one. Nothing is
// known of a block whose weights are all 0, and it is stored as zeros, whatever its
// values, and so are the sub-blocks of 16 elements of Q6_K; only Q4_1 and Q5_1 then
// store the values as well as they can. To keep columns of which nothing is known
// give them the weight 1 all over. Values have to be finite, as for Quantize.
//
// It panics if len(weights) is not a multiple of f.BlockSize(), len(src) not one of
// len(weights), or dst is too short.
func QuantizeWeighted(dst []byte, src, weights []float32, f Format) {
	rows := weightedRows("QuantizeWeighted", dst, src, weights, f)
	switch {
	case rows == 0:
	case f == Q8_0:
		Quantize(dst, src, f)
	default:
		quantizeRows(dst, src, usable(weights), f)
	}
}

// weightedRows is how many rows of len(weights) elements src has. It panics unless
// all lengths fit.
func weightedRows(who string, dst []byte, src, weights []float32, f Format) int {
	bytes := f.blocks(who, len(weights)) * f.bytes()
	if len(src) == 0 {
		return 0
	}
	if len(weights) == 0 || len(src)%len(weights) != 0 {
		panic(fmt.Sprintf("quant: %s: %d elements do not fill rows of %d", who, len(src), len(weights)))
	}
	rows := len(src) / len(weights)
	if len(dst) < rows*bytes {
		panic(fmt.Sprintf("quant: %s: dst has %d bytes, %d rows of %d elements of %v need %d", who, len(dst), rows, len(weights), f, rows*bytes))
	}
	return rows
}

// usable is weights with zeros for those that are not finite.
func usable(weights []float32) []float32 {
	if NotFinite(weights) < 0 {
		return weights
	}
	out := make([]float32, len(weights))
	for i, w := range weights {
		if abs(w) <= math.MaxFloat32 {
			out[i] = w
		}
	}
	return out
}

// quantizeRows makes the blocks of rows.
func quantizeRows(dst []byte, src, weights []float32, f Format) {
	n, size, bytes := len(weights), f.size(), f.bytes()
	for ; len(src) > 0; src = src[n:] {
		var mean float32 // of the squares of the row
		if size == 32 {
			mean = sumOfSquares(src[:n]) / float32(n)
		}
		for i := 0; i < n; i += size {
			b, x, w := dst[:bytes], src[i:][:size], weights[i:][:size]
			switch f {
			case Q4_0, Q5_0:
				weightedSymmetric(b, (*[32]float32)(x), (*[32]float32)(w), mean, f)
			case Q4_1, Q5_1:
				weightedOffset(b, (*[32]float32)(x), (*[32]float32)(w), mean, f)
			case Q4_K, Q5_K:
				weightedK(b, (*[256]float32)(x), (*[256]float32)(w), f)
			case Q6_K:
				quantize6K(b, (*[256]float32)(x), (*[256]float32)(w))
			}
			dst = dst[bytes:]
		}
	}
}

func sumOfSquares(x []float32) float32 {
	var sum float32
	for _, v := range x {
		sum += float32(v * v)
	}
	return sum
}

// weigh sets out to weights of squared errors. Beside the importance of its column
// w an element counts by its magnitude, and one of 0 still as much as the square
// root of base.
func weigh(out, x, w *[32]float32, base float32) {
	for i, v := range x {
		out[i] = w[i] * float32(math.Sqrt(float64(base+float32(v*v))))
	}
}

// weightedSymmetric makes a block of Q4_0 or Q5_0 of a row whose squares have the
// mean given.
func weightedSymmetric(b []byte, x, w *[32]float32, mean float32, f Format) {
	half := 8
	if f == Q5_0 {
		half = 16
	}
	var weights [32]float32
	weigh(&weights, x, w, mean)
	var q [32]int8
	putScale(b, fitSymmetric(q[:], x[:], weights[:], half))
	var codes [32]uint8
	for i, c := range q {
		codes[i] = uint8(int(c) + half)
	}
	putCodes(b[2:], &codes, f)
}

// finely is the fitter of weighted blocks.
func finely(f Format) fitter {
	fit := fitter{top: 15, first: -0.9, step: 0.05, steps: 36}
	if f == Q5_1 || f == Q5_K {
		fit.top = 31
	}
	return fit
}

// weightedOffset makes a block of Q4_1 or Q5_1 of a row whose squares have the mean
// given.
func weightedOffset(b []byte, x, w *[32]float32, mean float32, f Format) {
	fit := finely(f)
	fit.x = x
	weigh(&fit.w, x, w, mean)
	var q [32]uint8
	scale, offset := fit.best(&q)
	putScale(b, scale)
	putScale(b[2:], -offset)
	putCodes(b[4:], &q, f)
}

// weightedK makes a block of Q4_K or Q5_K.
func weightedK(b []byte, x, w *[256]float32, f Format) {
	fit := finely(f)
	base := 2 * sumOfSquares(x[:]) / 256
	var q [256]uint8
	var scales, offsets, sums [8]float32
	for j := range 8 {
		fit.x = (*[32]float32)(x[32*j:])
		weigh(&fit.w, fit.x, (*[32]float32)(w[32*j:]), base)
		for _, w := range fit.w {
			sums[j] += w
		}
		scales[j], offsets[j] = fit.best((*[32]uint8)(q[32*j:]))
	}
	putWeightedScalesK(b, &scales, &offsets, &sums, f)
	recodeK(&q, x, &scales, &offsets, fit.top)
	putCodesK(b, &q, f)
}

// putWeightedScalesK is putScalesK where the sub-blocks have weights.
func putWeightedScalesK(b []byte, scales, offsets, weights *[8]float32, f Format) {
	s, d := fitScales(scales, weights)
	o, dmin := fitScales(offsets, weights)
	if f == Q5_K {
		// Those of Q4_K beyond 6 bits, if there were any, would spill into their
		// neighbours: so the reference has it.
		for j := range 8 {
			s[j], o[j] = min(s[j], 63), min(o[j], 63)
		}
	}
	packScalesK(b, &s, &o, putScale(b, d), putScale(b[2:], dmin), scales, offsets)
}

// fitScales finds codes of 6 bits and the scale so that x, which should not be
// negative, is about scale·codes. It makes the sum of the squared errors, weighted
// by w, small.
func fitScales(x, w *[8]float32) (codes [8]uint8, scale float32) {
	const top = 63
	var most float32
	for _, v := range x {
		most = larger(v, most)
	}
	if most < negligible {
		return codes, 0
	}

	// The best of nine scales.
	try := func(inv float32, code func(v float32) int) (sum float32) {
		scale := 1 / inv
		for i, v := range x {
			e := v - float32(scale*float32(code(inv*v)))
			sum += float32(float32(w[i]*e) * e)
		}
		return sum
	}
	inv := top / most
	best := try(inv, func(v float32) int { return int(uint8(nearest(v))) })
	for k := -4; k <= 4; k++ {
		if k == 0 {
			continue
		}
		other := (float32(float32(0.1)*float32(k)) + top) / most
		if e := try(other, func(v float32) int { return min(top, nearest(v)) }); e < best {
			best, inv = e, other
		}
	}

	// The best scale for codes is Σw·x·c / Σw·c². Change one code at a time, as long
	// as (Σw·x·c)² / Σw·c² grows.
	var sumXC, sumC2 float32
	for i, v := range x {
		c := min(top, nearest(inv*v))
		codes[i] = uint8(c)
		sumXC += float32(float32(w[i]*v) * float32(c))
		sumC2 += float32(float32(w[i]*float32(c)) * float32(c))
	}
	for range 5 {
		changed := false
		for i, v := range x {
			c := float32(codes[i])
			xc := sumXC - float32(float32(w[i]*v)*c)
			c2 := sumC2 - float32(float32(w[i]*c)*c)
			if !(xc > 0 && c2 > 0) {
				continue // of the others nothing would be left
			}
			to := min(top, nearest(v*c2/xc))
			if to == int(codes[i]) {
				continue
			}
			c = float32(to)
			xc += float32(float32(w[i]*v) * c)
			c2 += float32(float32(w[i]*c) * c)
			if float32(float32(xc*xc)*sumC2) > float32(float32(sumXC*sumXC)*c2) {
				codes[i], sumXC, sumC2 = uint8(to), xc, c2
				changed = true
			}
		}
		if !changed {
			break
		}
	}
	if !(sumC2 > 0) {
		return codes, 0
	}
	return codes, sumXC / sumC2
}

// putScale is putHalf with one NaN, the one that arithmetic on amd64 ends in.
func putScale(b []byte, x float32) float32 {
	if x != x {
		binary.LittleEndian.PutUint16(b, 0xFE00)
		return half(0xFE00)
	}
	return putHalf(b, x)
}
