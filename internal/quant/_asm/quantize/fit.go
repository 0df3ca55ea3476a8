package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Arrays of the searches have a row of 8 lanes, one for each sub-block, for each
// element of a sub-block.

func fits() {
	fitK()
	fit6()
	recode()
}

// rows repeats a body for n rows; off counts bytes.
func rows(label string, n int, body func(off reg.Register)) {
	off := GP64()
	XORQ(off, off)
	Label(label)
	body(off)
	ADDQ(U8(32), off)
	CMPQ(off, U32(32*n))
	JNE(LabelRef(label))
}

func row(base, off reg.Register) Mem { return Mem{Base: base, Index: off, Scale: 1} }

// nearest rounds v to an integer as the reference does, by what adding 1.5·2²³
// leaves in the lower bits, and keeps it within limits.
func nearest(v reg.VecVirtual, least, most Op) {
	VADDPS(all(math.Float32bits(12582912)), v, v)
	VPAND(all(0x7FFFFF), v, v)
	VPSUBD(all(0x400000), v, v)
	VPMAXSD(least, v, v)
	VPMINSD(most, v, v)
}

// fitK is the search of Q4_K and Q5_K.
func fitK() {
	TEXT("fitKAVX2", NOSPLIT, "func(x, w *float32, q, try *int32, tries *float32, steps int, fit *float32)")
	Pragma("noescape")
	Doc("fitKAVX2 is fitter.best for 8 sub-blocks at once. x has 32 rows, and so have w",
		"and try, which are overwritten, and the codes q. tries begins with the largest",
		"code, as an integer and as a float; the dividends of the steps follow. fit gets",
		"8 scales and 8 offsets.")
	x, w, q, try, tries, steps, fit := param("x"), param("w"), param("q"), param("try"), param("tries"), param("steps"), param("fit")
	lo, hi, sumX2 := YMM(), YMM(), YMM()
	VMOVUPS(at(x, 0), lo)
	VMOVAPS(lo, hi)
	zero(sumX2)
	rows("extent", 32, func(off reg.Register) {
		v, p := YMM(), YMM()
		VMOVUPS(row(x, off), v)
		VMINPS(lo, v, lo)
		VMAXPS(hi, v, hi)
		VMULPS(v, v, p)
		VADDPS(p, sumX2, sumX2)
	})
	typical := sumX2
	VDIVPS(all(math.Float32bits(32)), sumX2, typical)
	VSQRTPS(typical, typical)
	sumW, sumX := YMM(), YMM()
	zero(sumW)
	zero(sumX)
	rows("weights", 32, func(off reg.Register) {
		v, a := YMM(), YMM()
		VMOVUPS(row(x, off), v)
		VANDPS(all(0x7FFFFFFF), v, a)
		VADDPS(a, typical, a)
		VMOVUPS(a, row(w, off))
		VADDPS(a, sumW, sumW)
		VMULPS(v, a, a)
		VADDPS(a, sumX, sumX)
	})
	none, top := YMM(), YMM()
	zero(none)
	VMINPS(lo, none, lo)
	VPBROADCASTD(at(tries, 0), top)

	inv, scale := YMM(), YMM()
	VBROADCASTSS(at(tries, 4), inv)
	VSUBPS(lo, hi, scale)
	VDIVPS(scale, inv, inv)
	VMOVUPS(all(math.Float32bits(1)), scale)
	VDIVPS(inv, scale, scale)
	best := YMM()
	zero(best)
	rows("first", 32, func(off reg.Register) {
		v, l := YMM(), YMM()
		VMOVUPS(row(x, off), v)
		VSUBPS(lo, v, l)
		VMULPS(inv, l, l)
		nearest(l, none, top)
		VMOVDQU(l, row(q, off))
		VCVTDQ2PS(l, l)
		addError(best, l, scale, lo, v, row(w, off))
	})

	ADDQ(U8(8), tries)
	Label("step")
	sumL, sumL2, sumXL := YMM(), YMM(), YMM()
	zero(sumL)
	zero(sumL2)
	zero(sumXL)
	VSUBPS(lo, hi, inv)
	dividend := YMM()
	VBROADCASTSS(at(tries, 0), dividend)
	VDIVPS(inv, dividend, inv)
	rows("codes", 32, func(off reg.Register) {
		v, l, wl := YMM(), YMM(), YMM()
		VMOVUPS(row(x, off), v)
		VSUBPS(lo, v, l)
		VMULPS(inv, l, l)
		nearest(l, none, top)
		VMOVDQU(l, row(try, off))
		VCVTDQ2PS(l, l)
		VMULPS(row(w, off), l, wl)
		VADDPS(wl, sumL, sumL)
		VMULPS(wl, l, l)
		VADDPS(l, sumL2, sumL2)
		VMULPS(wl, v, v)
		VADDPS(v, sumXL, sumXL)
	})
	det, s, m, t := YMM(), YMM(), YMM(), YMM()
	VMULPS(sumW, sumL2, det)
	VMULPS(sumL, sumL, t)
	VSUBPS(t, det, det)
	VMULPS(sumW, sumXL, s)
	VMULPS(sumX, sumL, t)
	VSUBPS(t, s, s)
	VDIVPS(det, s, s)
	VMULPS(sumL2, sumX, m)
	VMULPS(sumL, sumXL, t)
	VSUBPS(t, m, m)
	VDIVPS(det, m, m)
	positive := YMM()
	VCMPPS(greater, none, m, positive)
	VDIVPS(sumL2, sumXL, t)
	VBLENDVPS(positive, t, s, s)
	VANDNPS(m, positive, m)
	e := YMM()
	zero(e)
	rows("error", 32, func(off reg.Register) {
		l, v := YMM(), YMM()
		VCVTDQ2PS(row(try, off), l)
		VMOVUPS(row(x, off), v)
		addError(e, l, s, m, v, row(w, off))
	})
	better := YMM()
	VCMPPS(less, best, e, better)
	VCMPPS(greater, none, det, det)
	VANDPS(det, better, better)
	any := GP32()
	VMOVMSKPS(better, any)
	TESTL(any, any)
	JEQ(LabelRef("next"))
	VBLENDVPS(better, e, best, best)
	VBLENDVPS(better, s, scale, scale)
	VBLENDVPS(better, m, lo, lo)
	rows("keep", 32, func(off reg.Register) {
		l := YMM()
		VMOVDQU(row(try, off), l)
		VPMASKMOVD(l, better, row(q, off))
	})
	Label("next")
	ADDQ(U8(4), tries)
	DECQ(steps)
	JNZ(LabelRef("step"))

	// Where all elements are equal there is no scale.
	VCMPPS(equal, lo, hi, t)
	VANDNPS(scale, t, scale)
	VMOVUPS(scale, at(fit, 0))
	VXORPS(all(0x80000000), lo, lo)
	VMOVUPS(lo, at(fit, 32))
	VZEROUPPER()
	RET()
}

// addError adds w·(scale·l + lo − v)² to sum.
func addError(sum, l, scale, lo, v reg.VecVirtual, w Mem) {
	VMULPS(scale, l, l)
	VADDPS(lo, l, l)
	VSUBPS(v, l, l)
	VMULPS(l, l, l)
	VMULPS(w, l, l)
	VADDPS(l, sum, sum)
}

// fit6 is the search of Q6_K.
func fit6() {
	TEXT("fit6AVX2", NOSPLIT, "func(x, w *float32, q, try *int32, tries *float32, steps int, scales *float32)")
	Pragma("noescape")
	Doc("fit6AVX2 is fit6 for 8 sub-blocks at once. x has 16 rows, and so have q and try,",
		"which is overwritten, and w twice as many, which are too. tries has the dividends",
		"of the steps. scales gets 8 scales.")
	x, w, q, try, tries, steps, scales := param("x"), param("w"), param("q"), param("try"), param("tries"), param("steps"), param("scales")
	most, mostAbs := YMM(), YMM()
	zero(most)
	zero(mostAbs)
	rows("extent", 16, func(off reg.Register) {
		v, a, m := YMM(), YMM(), YMM()
		VMOVUPS(row(x, off), v)
		VANDPS(all(0x7FFFFFFF), v, a)
		VCMPPS(greater, mostAbs, a, m)
		VBLENDVPS(m, v, most, most)
		VBLENDVPS(m, a, mostAbs, mostAbs)
		VMULPS(v, v, a)
		VMOVUPS(a, row(w, off))
		VMULPS(v, a, a)
		VMOVUPS(a, row(w, off).Offset(16*32))
	})
	least, top, none := YMM(), YMM(), YMM()
	VMOVDQU(all(0xFFFFFFE0), least)
	VMOVDQU(all(31), top)
	zero(none)
	scale, best := YMM(), YMM()
	zero(scale)
	zero(best)
	sums := func(label string, to reg.Register) (sumXL, sumL2 reg.VecVirtual) {
		sumXL, sumL2 = YMM(), YMM()
		zero(sumXL)
		zero(sumL2)
		inv := YMM()
		VBROADCASTSS(at(tries, 0), inv)
		VDIVPS(most, inv, inv)
		rows(label, 16, func(off reg.Register) {
			l, p := YMM(), YMM()
			VMULPS(row(x, off), inv, l)
			nearest(l, least, top)
			VMOVDQU(l, row(to, off))
			VCVTDQ2PS(l, l)
			VMULPS(row(w, off).Offset(16*32), l, p)
			VADDPS(p, sumXL, sumXL)
			VMULPS(row(w, off), l, p)
			VMULPS(l, p, p)
			VADDPS(p, sumL2, sumL2)
		})
		return sumXL, sumL2
	}
	sumXL, sumL2 := sums("first", q)
	m := YMM()
	VCMPPS(equal, none, sumL2, m)
	VDIVPS(sumL2, sumXL, scale)
	VANDNPS(scale, m, scale)
	VMULPS(sumXL, scale, best)
	ADDQ(U8(4), tries)

	Label("step")
	sumXL, sumL2 = sums("codes", try)
	better, t, u := YMM(), YMM(), YMM()
	VCMPPS(greater, none, sumL2, better)
	VMULPS(sumXL, sumXL, t)
	VMULPS(sumL2, best, u)
	VCMPPS(greater, u, t, t)
	VANDPS(t, better, better)
	any := GP32()
	VMOVMSKPS(better, any)
	TESTL(any, any)
	JEQ(LabelRef("next"))
	VDIVPS(sumL2, sumXL, t)
	VBLENDVPS(better, t, scale, scale)
	VMULPS(sumXL, t, t)
	VBLENDVPS(better, t, best, best)
	rows("keep", 16, func(off reg.Register) {
		l := YMM()
		VMOVDQU(row(try, off), l)
		VPMASKMOVD(l, better, row(q, off))
	})
	Label("next")
	ADDQ(U8(4), tries)
	DECQ(steps)
	JNZ(LabelRef("step"))

	// What is next to nothing has no scale and the lowest codes.
	small := YMM()
	VCMPPS(less, all(math.Float32bits(1e-15)), mostAbs, small)
	VANDNPS(scale, small, scale)
	VMOVUPS(scale, at(scales, 0))
	rows("small", 16, func(off reg.Register) {
		VPMASKMOVD(least, small, row(q, off))
	})
	VZEROUPPER()
	RET()
}

// recode rounds once more, by the scales as they are stored.
func recode() {
	TEXT("recodeAVX2", NOSPLIT, "func(x *float32, rows int, scales, offsets *float32, q *int32, least, most int)")
	Pragma("noescape")
	Doc("recodeAVX2 sets the codes q of rows of 8 lanes to (x + offset)/scale, rounded and",
		"kept between least and most, except in lanes whose scale is 0.")
	x, n, scales, offsets, q := param("x"), param("rows"), param("scales"), param("offsets"), param("q")
	scale, offset, has, least, most := YMM(), YMM(), YMM(), YMM(), YMM()
	VMOVUPS(at(scales, 0), scale)
	VMOVUPS(at(offsets, 0), offset)
	zero(has)
	VCMPPS(U8(0x04), has, scale, has) // not equal, or NaN
	for _, p := range []struct {
		name string
		to   reg.VecVirtual
	}{{"least", least}, {"most", most}} {
		lane := XMM()
		VMOVQ(param(p.name), lane)
		VPBROADCASTD(lane, p.to)
	}
	Label("row")
	v := YMM()
	VADDPS(at(x, 0), offset, v)
	VDIVPS(scale, v, v)
	nearest(v, least, most)
	VPMASKMOVD(v, has, at(q, 0))
	ADDQ(U8(32), x)
	ADDQ(U8(32), q)
	DECQ(n)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}
