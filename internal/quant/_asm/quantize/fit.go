package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func fits() {
	turn()
	for _, x := range []isa{{"AVX512", true}, {"AVX2", false}} {
		x.weighPlain()
		x.weighSquare()
		x.weigh()
		x.fitOffset()
		x.fitSymmetric()
		x.recode()
	}
}

// turn fills lanes.
func turn() {
	TEXT("turnAVX2", NOSPLIT, "func(rows *float32, row int, x *float32, n int)")
	Pragma("noescape")
	Doc("turnAVX2 puts 8 sub-blocks x of n elements each, a multiple of 8, into 8 lanes of n",
		"rows, which are so many bytes apart.")
	rows, step, x, n := param("rows"), param("row"), param("x"), param("n")
	// Four addresses and four more, of sub-blocks and of rows.
	fours := func(base, by reg.Register) (at [8]Mem, next reg.Register) {
		by3 := GP64()
		LEAQ(Mem{Base: by, Index: by, Scale: 2}, by3)
		next = GP64()
		LEAQ(Mem{Base: base, Index: by, Scale: 4}, next)
		for i, b := range []reg.Register{base, next} {
			at[4*i] = Mem{Base: b}
			at[4*i+1] = Mem{Base: b, Index: by, Scale: 1}
			at[4*i+2] = Mem{Base: b, Index: by, Scale: 2}
			at[4*i+3] = Mem{Base: b, Index: by3, Scale: 1}
		}
		return at, next
	}
	bytes := GP64()
	MOVQ(n, bytes)
	SHLQ(U8(2), bytes)
	from, from4 := fours(x, bytes)
	to, to4 := fours(rows, step)
	Label("tile")
	for half := range 2 {
		var a [4]reg.VecVirtual
		for k := range a {
			a[k] = YMM()
			VMOVUPS(from[k].Offset(16*half), a[k].AsX())
			VINSERTF128(U8(1), from[k+4].Offset(16*half), a[k], a[k])
		}
		t := [4]reg.VecVirtual{YMM(), YMM(), YMM(), YMM()}
		VUNPCKLPS(a[1], a[0], t[0])
		VUNPCKHPS(a[1], a[0], t[1])
		VUNPCKLPS(a[3], a[2], t[2])
		VUNPCKHPS(a[3], a[2], t[3])
		VUNPCKLPD(t[2], t[0], a[0])
		VUNPCKHPD(t[2], t[0], a[1])
		VUNPCKLPD(t[3], t[1], a[2])
		VUNPCKHPD(t[3], t[1], a[3])
		for k := range a {
			VMOVUPS(a[k], to[4*half+k])
		}
	}
	ADDQ(U8(32), x)
	ADDQ(U8(32), from4)
	LEAQ(Mem{Base: rows, Index: step, Scale: 8}, rows)
	LEAQ(Mem{Base: to4, Index: step, Scale: 8}, to4)
	SUBQ(U8(8), n)
	JNZ(LabelRef("tile"))
	VZEROUPPER()
	RET()
}

// weighPlain makes the weights that Q4_K and Q5_K have where none are given.
func (i isa) weighPlain() {
	i.begin("weighPlain", "x, w *float32",
		"is fitter.weigh for a sub-block of 32 elements in each lane.")
	x, w := param("x"), param("w")
	typical := i.vec()
	zero(typical)
	i.rows("squares", 32, func(off reg.Register) {
		p := i.vec()
		VMOVUPS(row(x, off), p)
		VMULPS(p, p, p)
		VADDPS(p, typical, typical)
	})
	VDIVPS(i.number(32), typical, typical)
	VSQRTPS(typical, typical)
	i.rows("weights", 32, func(off reg.Register) {
		a := i.vec()
		VMOVUPS(row(x, off), a)
		VANDPS(i.all(0x7FFFFFFF), a, a)
		VADDPS(a, typical, a)
		VMOVUPS(a, row(w, off))
	})
	VZEROUPPER()
	RET()
}

// weighSquare makes the weights that Q6_K has where none are given.
func (i isa) weighSquare() {
	i.begin("weighSquare", "x, w *float32",
		"sets the weights of 16 rows to the squares of the elements.")
	x, w := param("x"), param("w")
	i.rows("weights", 16, func(off reg.Register) {
		a := i.vec()
		VMOVUPS(row(x, off), a)
		VMULPS(a, a, a)
		VMOVUPS(a, row(w, off))
	})
	VZEROUPPER()
	RET()
}

// weigh makes weights of those of columns.
func (i isa) weigh() {
	i.begin("weigh", "x, w, base *float32",
		"is the function weigh for a sub-block of 32 elements in each lane, the",
		"weights in place. base has a value for each lane.")
	x, w := param("x"), param("w")
	base := i.vec()
	VMOVUPS(at(param("base"), 0), base)
	i.rows("weights", 32, func(off reg.Register) {
		a := i.vec()
		VMOVUPS(row(x, off), a)
		VMULPS(a, a, a)
		VADDPS(a, base, a)
		VSQRTPS(a, a)
		VMULPS(row(w, off), a, a)
		VMOVUPS(a, row(w, off))
	})
	VZEROUPPER()
	RET()
}

// fitOffset is the search of Q4_K and Q5_K, and of Q4_1 and Q5_1 with weights.
func (i isa) fitOffset() {
	i.begin("fitOffset", "x, w *float32, q, try *int32, tries *float32, steps int, fit *float32",
		"is fitter.best for a sub-block in each lane. x has 32 rows, and so have w,",
		"the codes q, and try, which is overwritten. tries begins with the largest code, as an",
		"integer and as a float; the dividends of the steps follow. fit gets a row of scales,",
		"one of offsets and one of sums of weights.")
	x, w, q, try, tries, steps, fit := param("x"), param("w"), param("q"), param("try"), param("tries"), param("steps"), param("fit")
	lo, hi, sumW, sumX := i.vec(), i.vec(), i.vec(), i.vec()
	VMOVUPS(at(x, 0), lo)
	VMOVAPS(lo, hi)
	VMOVUPS(at(w, 0), sumW)
	VMULPS(lo, sumW, sumX)
	i.rowsAfter("extent", 1, 32, func(off reg.Register) {
		v, p := i.vec(), i.vec()
		VMOVUPS(row(x, off), v)
		VMINPS(lo, v, lo)
		VMAXPS(hi, v, hi)
		VMOVUPS(row(w, off), p)
		VADDPS(p, sumW, sumW)
		VMULPS(v, p, p)
		VADDPS(p, sumX, sumX)
	})
	VMOVUPS(sumW, at(fit, 2*i.row()))
	none, top := i.vec(), i.vec()
	zero(none)
	VMINPS(lo, none, lo)
	VPBROADCASTD(at(tries, 0), top)
	flat := i.compare(equal, hi, lo)

	inv, scale := i.vec(), i.vec()
	VBROADCASTSS(at(tries, 4), inv)
	VSUBPS(lo, hi, scale)
	VDIVPS(scale, inv, inv)
	VMOVUPS(i.number(1), scale)
	VDIVPS(inv, scale, scale)
	best := i.vec()
	zero(best)
	i.rows("first", 32, func(off reg.Register) {
		v, l := i.vec(), i.vec()
		VMOVUPS(row(x, off), v)
		VSUBPS(lo, v, l)
		VMULPS(inv, l, l)
		i.nearest(l, none, top)
		i.store(l, row(q, off))
		VCVTDQ2PS(l, l)
		i.addError(best, l, scale, lo, v, row(w, off))
	})

	ADDQ(U8(8), tries)
	Label("step")
	sumL, sumL2, sumXL := i.vec(), i.vec(), i.vec()
	zero(sumL)
	zero(sumL2)
	zero(sumXL)
	VSUBPS(lo, hi, inv)
	dividend := i.vec()
	VBROADCASTSS(at(tries, 0), dividend)
	VDIVPS(inv, dividend, inv)
	i.rows("codes", 32, func(off reg.Register) {
		v, l, wl := i.vec(), i.vec(), i.vec()
		VMOVUPS(row(x, off), v)
		VSUBPS(lo, v, l)
		VMULPS(inv, l, l)
		i.nearest(l, none, top)
		i.store(l, row(try, off))
		VCVTDQ2PS(l, l)
		VMULPS(row(w, off), l, wl)
		VADDPS(wl, sumL, sumL)
		VMULPS(wl, l, l)
		VADDPS(l, sumL2, sumL2)
		VMULPS(wl, v, v)
		VADDPS(v, sumXL, sumXL)
	})
	det, s, m, t := i.vec(), i.vec(), i.vec(), i.vec()
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
	positive := i.compare(greater, m, none)
	VDIVPS(sumL2, sumXL, t)
	i.blend(positive, t, s)
	i.clear(positive, m)
	e := i.vec()
	zero(e)
	i.rows("error", 32, func(off reg.Register) {
		l, v := i.vec(), i.vec()
		VCVTDQ2PS(row(try, off), l)
		VMOVUPS(row(x, off), v)
		i.addError(e, l, s, m, v, row(w, off))
	})
	better := i.both(i.compare(less, e, best), i.compare(greater, det, none))
	i.jumpNone(better, "next")
	i.blend(better, e, best)
	i.blend(better, s, scale)
	i.blend(better, m, lo)
	i.rows("keep", 32, func(off reg.Register) {
		l := i.vec()
		i.load(row(try, off), l)
		i.keep(better, l, row(q, off))
	})
	Label("next")
	ADDQ(U8(4), tries)
	DECQ(steps)
	JNZ(LabelRef("step"))

	// Where all elements were equal there is no scale.
	i.clear(flat, scale)
	VMOVUPS(scale, at(fit, 0))
	VXORPS(i.all(0x80000000), lo, lo)
	VMOVUPS(lo, at(fit, i.row()))
	VZEROUPPER()
	RET()
}

// addError adds w·(scale·l + lo − v)² to sum.
func (i isa) addError(sum, l, scale, lo, v reg.VecVirtual, w Mem) {
	VMULPS(scale, l, l)
	VADDPS(lo, l, l)
	VSUBPS(v, l, l)
	VMULPS(l, l, l)
	VMULPS(w, l, l)
	VADDPS(l, sum, sum)
}

// fitSymmetric is the search of Q6_K, and of Q4_0 and Q5_0 with weights.
func (i isa) fitSymmetric() {
	i.begin("fitSymmetric", "x, w, wx *float32, bytes int, q, try *int32, tries *float32, steps int, scales *float32",
		"is fitSymmetric for a sub-block in each lane. The rows of each array",
		"together have so many bytes. wx and try are overwritten. tries begins with the",
		"smallest code and the largest, as integers; the dividends of the steps follow.",
		"scales gets a row of them.")
	x, w, wx, bytes := param("x"), param("w"), param("wx"), param("bytes")
	q, try, tries, steps, scales := param("q"), param("try"), param("tries"), param("steps"), param("scales")
	most, mostAbs := i.vec(), i.vec()
	zero(most)
	zero(mostAbs)
	i.rowsUpTo("extent", 0, bytes, func(off reg.Register) {
		v, a := i.vec(), i.vec()
		VMOVUPS(row(x, off), v)
		VANDPS(i.all(0x7FFFFFFF), v, a)
		m := i.compare(greater, a, mostAbs)
		i.blend(m, v, most)
		i.blend(m, a, mostAbs)
		VMULPS(row(w, off), v, v)
		VMOVUPS(v, row(wx, off))
	})
	least, top, none := i.vec(), i.vec(), i.vec()
	VPBROADCASTD(at(tries, 0), least)
	VPBROADCASTD(at(tries, 4), top)
	ADDQ(U8(8), tries)
	zero(none)
	scale, best := i.vec(), i.vec()
	zero(scale)
	zero(best)
	sums := func(label string, to reg.Register) (sumXL, sumL2 reg.VecVirtual) {
		sumXL, sumL2 = i.vec(), i.vec()
		zero(sumXL)
		zero(sumL2)
		inv := i.vec()
		VBROADCASTSS(at(tries, 0), inv)
		VDIVPS(most, inv, inv)
		i.rowsUpTo(label, 0, bytes, func(off reg.Register) {
			l, p := i.vec(), i.vec()
			VMULPS(row(x, off), inv, l)
			i.nearest(l, least, top)
			i.store(l, row(to, off))
			VCVTDQ2PS(l, l)
			VMULPS(row(wx, off), l, p)
			VADDPS(p, sumXL, sumXL)
			VMULPS(row(w, off), l, p)
			VMULPS(l, p, p)
			VADDPS(p, sumL2, sumL2)
		})
		return sumXL, sumL2
	}
	sumXL, sumL2 := sums("first", q)
	m := i.compare(equal, sumL2, none)
	VDIVPS(sumL2, sumXL, scale)
	i.clear(m, scale)
	VMULPS(sumXL, scale, best)
	ADDQ(U8(4), tries)

	Label("step")
	sumXL, sumL2 = sums("codes", try)
	t, u := i.vec(), i.vec()
	VMULPS(sumXL, sumXL, t)
	VMULPS(sumL2, best, u)
	better := i.both(i.compare(greater, sumL2, none), i.compare(greater, t, u))
	i.jumpNone(better, "next")
	VDIVPS(sumL2, sumXL, t)
	i.blend(better, t, scale)
	VMULPS(sumXL, t, t)
	i.blend(better, t, best)
	i.rowsUpTo("keep", 0, bytes, func(off reg.Register) {
		l := i.vec()
		i.load(row(try, off), l)
		i.keep(better, l, row(q, off))
	})
	Label("next")
	ADDQ(U8(4), tries)
	DECQ(steps)
	JNZ(LabelRef("step"))

	// What is next to nothing has no scale and the lowest codes.
	small := i.compareTo(less, mostAbs, i.number(1e-15))
	i.clear(small, scale)
	VMOVUPS(scale, at(scales, 0))
	i.rowsUpTo("small", 0, bytes, func(off reg.Register) {
		i.keep(small, least, row(q, off))
	})
	VZEROUPPER()
	RET()
}

// recode rounds once more, by the scales as they are stored.
func (i isa) recode() {
	i.begin("recode", "x *float32, rows int, scales, offsets *float32, q *int32, least, most int",
		"sets the codes q of rows to (x + offset)/scale of their lanes, rounded and",
		"kept between least and most, except in lanes whose scale is 0.")
	x, n, scales, offsets, q := param("x"), param("rows"), param("scales"), param("offsets"), param("q")
	scale, offset, none, least, most := i.vec(), i.vec(), i.vec(), i.vec(), i.vec()
	VMOVUPS(at(scales, 0), scale)
	VMOVUPS(at(offsets, 0), offset)
	zero(none)
	has := i.compare(U8(0x04), scale, none) // not equal, or NaN
	for _, p := range []struct {
		name string
		to   reg.VecVirtual
	}{{"least", least}, {"most", most}} {
		lane := XMM()
		VMOVQ(param(p.name), lane)
		VPBROADCASTD(lane, p.to)
	}
	Label("row")
	v := i.vec()
	VADDPS(at(x, 0), offset, v)
	VDIVPS(scale, v, v)
	i.nearest(v, least, most)
	i.keep(has, v, at(q, 0))
	ADDQ(U8(i.row()), x)
	ADDQ(U8(i.row()), q)
	DECQ(n)
	JNZ(LabelRef("row"))
	VZEROUPPER()
	RET()
}
