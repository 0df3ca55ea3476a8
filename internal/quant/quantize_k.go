package quant

import "math"

// nearest rounds x to an integer, ties to even. The result is right up to a
// magnitude of 4194303; beyond, and for NaN, it is some integer between −2²² and
// 2²², the one that the reference gets.
func nearest(x float32) int {
	// At 1.5·2²³ the unit of float32 is 1, and the lower bits are the integer. The
	// conversion keeps the sum from being fused with a product that x may be.
	return int(math.Float32bits(float32(x)+12582912)&0x7FFFFF) - 0x400000
}

// quantizeK makes a block of Q4_K or Q5_K: 8 sub-blocks of 32 elements, whose
// scales and offsets are themselves stored in 6 bits.
func quantizeK(b []byte, x *[256]float32, f Format) {
	fit := fitter{top: 15, first: -1, step: 0.1, steps: 20}
	if f == Q5_K {
		fit = fitter{top: 31, first: -0.5, step: 0.1, steps: 15}
	}
	var q [256]uint8
	var scales, offsets [8]float32
	for j := range 8 {
		fit.x = (*[32]float32)(x[32*j:])
		fit.weigh()
		scales[j], offsets[j] = fit.best((*[32]uint8)(q[32*j:]))
	}
	putScalesK(b, &scales, &offsets)
	recodeK(&q, x, &scales, &offsets, fit.top)
	putCodesK(b, &q, f)
}

// recodeK sets the codes to those that fit scales and offsets as stored.
func recodeK(q *[256]uint8, x *[256]float32, scales, offsets *[8]float32, top int) {
	for j, ds := range scales {
		if ds == 0 {
			continue // the codes stay those of the fit
		}
		for i := 32 * j; i < 32*j+32; i++ {
			q[i] = uint8(max(0, min(top, nearest((x[i]+offsets[j])/ds))))
		}
	}
}

// putCodesK stores the codes of a block of Q4_K or Q5_K.
func putCodesK(b []byte, q *[256]uint8, f Format) {
	if f == Q5_K {
		high := b[16:48]
		clear(high)
		for i, c := range q {
			high[i%32] |= c >> 4 << (i / 32)
		}
	}
	qs := b[f.bytes()-128:]
	for c := range 4 {
		for i := range 32 {
			qs[32*c+i] = q[64*c+i]&15 | q[64*c+32+i]<<4
		}
	}
}

// putScalesK stores the scales and offsets of the sub-blocks of Q4_K or Q5_K, and
// sets them to their values as stored.
func putScalesK(b []byte, scales, offsets *[8]float32) {
	var maxScale, maxOffset float32
	for j := range 8 {
		maxScale, maxOffset = larger(maxScale, scales[j]), larger(maxOffset, offsets[j])
	}
	d, dmin := putHalf(b, maxScale/63), putHalf(b[2:], maxOffset/63)
	invScale, invOffset := sixtyThird(maxScale), sixtyThird(maxOffset)
	var s, o [8]uint8
	for j := range 8 {
		s[j] = uint8(min(63, nearest(invScale*scales[j])))
		o[j] = uint8(min(63, nearest(invOffset*offsets[j])))
	}
	packScalesK(b, &s, &o, d, dmin, scales, offsets)
}

// packScalesK stores the codes s of the scales and o of the offsets, and sets both
// to their values as stored, where d and dmin are their units.
func packScalesK(b []byte, s, o *[8]uint8, d, dmin float32, scales, offsets *[8]float32) {
	packed := b[4:16]
	for j := range 4 {
		packed[j], packed[j+4] = s[j], o[j]
	}
	for j := 4; j < 8; j++ {
		packed[j+4] = s[j]&15 | o[j]&15<<4
		packed[j-4] |= s[j] >> 4 << 6
		packed[j] |= o[j] >> 4 << 6
	}
	for j := range 8 {
		s, o := scaleK(packed, j)
		scales[j], offsets[j] = d*float32(s), float32(dmin*float32(o))
	}
}

// larger is v if it is larger than m.
func larger(m, v float32) float32 {
	if v > m {
		return v
	}
	return m
}

// sixtyThird is 63/most, or 0 if most is not positive.
func sixtyThird(most float32) float32 {
	if most > 0 {
		return 63 / most
	}
	return 0
}

// A fitter finds the scale and offset of 32 values that make the weighted sum of
// squared errors small, by trying a range of scales.
type fitter struct {
	top   int     // largest code
	first float32 // where the range of scales begins, in codes beyond top
	step  float32 // from one scale to the next, in codes
	steps int     // after the first

	x *[32]float32
	w [32]float32 // weights of the squared errors
}

// weigh sets the weights where none are given: large values count more.
func (t *fitter) weigh() {
	var sumX2 float32
	for _, v := range t.x {
		sumX2 += float32(v * v)
	}
	typical := float32(math.Sqrt(float64(sumX2 / 32)))
	for i, v := range t.x {
		t.w[i] = typical + abs(v)
	}
}

// best returns the scale and the offset, not negative, so that x is about
// scale·q − offset.
func (t *fitter) best(q *[32]uint8) (scale, offset float32) {
	x := t.x
	lo, hi := x[0], x[0]
	sumW, sumX := t.w[0], float32(t.w[0]*x[0])
	for i, v := range x[1:] {
		if v < lo {
			lo = v
		}
		if v > hi {
			hi = v
		}
		w := t.w[i+1]
		sumW += w
		sumX += float32(w * v)
	}
	if lo > 0 {
		lo = 0
	}
	if hi == lo {
		*q = [32]uint8{}
		return 0, -lo
	}
	inv := float32(t.top) / (hi - lo)
	scale = 1 / inv
	for i, v := range x {
		q[i] = uint8(max(0, min(t.top, nearest(inv*(v-lo)))))
	}
	best := t.error(q, scale, lo)

	for k := range t.steps + 1 {
		// lo may have changed: what a better fit found is where the next begins.
		inv := (t.first + float32(t.step*float32(k)) + float32(t.top)) / (hi - lo)
		var try [32]uint8
		var sumL, sumL2, sumXL float32
		for i, v := range x {
			c := max(0, min(t.top, nearest(inv*(v-lo))))
			try[i] = uint8(c)
			l := float32(c)
			wl := float32(t.w[i] * l)
			sumL += wl
			sumL2 += float32(wl * l)
			sumXL += float32(wl * v)
		}
		det := float32(sumW*sumL2) - float32(sumL*sumL)
		if !(det > 0) {
			continue
		}
		s := (float32(sumW*sumXL) - float32(sumX*sumL)) / det
		m := (float32(sumL2*sumX) - float32(sumL*sumXL)) / det
		if m > 0 {
			m = 0
			s = sumXL / sumL2
		}
		if e := t.error(&try, s, m); e < best {
			*q, best, scale, lo = try, e, s, m
		}
	}
	return scale, -lo
}

// error is the weighted sum of the squared errors.
func (t *fitter) error(q *[32]uint8, scale, lo float32) float32 {
	var sum float32
	for i, c := range q {
		e := float32(scale*float32(c)) + lo - t.x[i]
		sum += float32(t.w[i] * float32(e*e))
	}
	return sum
}

// quantize6K makes a block of Q6_K: 16 sub-blocks of 16 elements, whose scales
// are stored in 8 bits. Squared errors count by w, or by the square of the value
// where that is nil.
func quantize6K(b []byte, x, w *[256]float32) {
	if w == nil {
		w = new([256]float32)
		for i, v := range x {
			w[i] = v * v
		}
	}
	var q [256]int8
	var scales [16]float32
	for j := range scales {
		scales[j] = fitSymmetric(q[16*j:][:16], x[16*j:][:16], w[16*j:][:16], 32)
	}
	if !putScales6(b, &scales) {
		return
	}
	for j, ds := range scales {
		if ds == 0 {
			continue // the codes stay those of the fit
		}
		for i := 16 * j; i < 16*j+16; i++ {
			q[i] = int8(max(-32, min(31, nearest(x[i]/ds))))
		}
	}
	code := func(i int) uint8 { return uint8(q[i] + 32) }
	for c := range 2 {
		low, high := b[64*c:64*c+64], b[128+32*c:160+32*c]
		for i := range 32 {
			q1, q2, q3, q4 := code(128*c+i), code(128*c+i+32), code(128*c+i+64), code(128*c+i+96)
			low[i] = q1&15 | q3<<4
			low[i+32] = q2&15 | q4<<4
			high[i] = q1>>4 | q2>>4<<2 | q3>>4<<4 | q4>>4<<6
		}
	}
}

// putScales6 stores the scales of the sub-blocks of Q6_K and sets them to their
// values as stored. It is false if there is nothing but zeros.
func putScales6(b []byte, scales *[16]float32) bool {
	var most, mostScale float32
	for _, s := range scales {
		if a := abs(s); a > most {
			most, mostScale = a, s
		}
	}
	if most < negligible {
		clear(b[:210])
		return false
	}
	inv := -128 / mostScale
	d := putHalf(b[208:], 1/inv)
	for j := range scales {
		s := int8(min(127, nearest(inv*scales[j])))
		b[192+j] = uint8(s)
		scales[j] = d * float32(s)
	}
	return true
}

// negligible is the magnitude below which values are taken for zeros.
const negligible = 1e-15

// fitSymmetric sets q to signed codes of x, from −half up to half−1, and returns
// their scale. It makes the sum of the squared errors, weighted by w, small by
// trying a range of scales.
func fitSymmetric(q []int8, x, w []float32, half int) float32 {
	most := largest(x)
	if abs(most) < negligible {
		for i := range q {
			q[i] = int8(-half)
		}
		return 0
	}
	// try fits with a scale a little off the obvious one.
	try := func(l []int8, k int) (sumXL, sumL2 float32) {
		inv := -(float32(half) + float32(float32(0.1)*float32(k))) / most
		for i, v := range x {
			l[i] = int8(max(-half, min(half-1, nearest(inv*v))))
			c := float32(l[i])
			sumXL += float32(float32(w[i]*v) * c)
			sumL2 += float32(float32(w[i]*c) * c)
		}
		return sumXL, sumL2
	}
	var scale float32
	sumXL, sumL2 := try(q, 0)
	if sumL2 != 0 {
		scale = sumXL / sumL2
	}
	best := scale * sumXL
	var l [32]int8
	for k := -9; k <= 9; k++ {
		if k == 0 {
			continue
		}
		sumXL, sumL2 := try(l[:len(q)], k)
		if sumL2 > 0 && float32(sumXL*sumXL) > float32(best*sumL2) {
			copy(q, l[:])
			scale = sumXL / sumL2
			best = scale * sumXL
		}
	}
	return scale
}
