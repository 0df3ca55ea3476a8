package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func measure() {
	compare()
	project()
}

// wide is 4 elements of an array as float64.
func wide(base, i reg.Register) reg.VecVirtual {
	v := YMM()
	VCVTPS2PD(Mem{Base: base, Index: i, Scale: 4}, v)
	return v
}

// fours repeats a body for so many elements, of which there are some, four at a
// time.
func fours(body func(i reg.Register)) {
	n, i := param("n"), GP64()
	XORQ(i, i)
	Label("loop")
	body(i)
	ADDQ(U8(4), i)
	CMPQ(i, n)
	JNE(LabelRef("loop"))
}

// accumulate adds a product to an accumulator.
func accumulate(a, b, sum reg.VecVirtual) {
	p := YMM()
	VMULPD(a, b, p)
	VADDPD(p, sum, sum)
}

func sumsOf() (a, b reg.VecVirtual) {
	a, b = YMM(), YMM()
	zero(a)
	zero(b)
	return a, b
}

func finish(a, b reg.VecVirtual, to, too string) {
	VMOVUPD(a, at(param(to), 0))
	VMOVUPD(b, at(param(too), 0))
	VZEROUPPER()
	RET()
}

func compare() {
	TEXT("compareAVX2", NOSPLIT, "func(error2, norm2 *float64, out, x *float32, n int)")
	Pragma("noescape")
	Doc("compareAVX2 is the loop of Compare over n elements, a multiple of 4 and not 0.")
	out, x := param("out"), param("x")
	e, n := sumsOf()
	fours(func(i reg.Register) {
		o, v := wide(out, i), wide(x, i)
		VSUBPD(v, o, o)
		accumulate(o, o, e)
		accumulate(v, v, n)
	})
	finish(e, n, "error2", "norm2")
}

func project() {
	TEXT("projectAVX2", NOSPLIT, "func(along, delta2 *float64, out, a, s *float32, n int)")
	Pragma("noescape")
	Doc("projectAVX2 is the loop of Project over n elements, a multiple of 4 and not 0.")
	out, a, s := param("out"), param("a"), param("s")
	p, n := sumsOf()
	fours(func(i reg.Register) {
		o, v, d := wide(out, i), wide(a, i), wide(s, i)
		VSUBPD(d, v, d)
		VSUBPD(v, o, o)
		accumulate(o, d, p)
		accumulate(d, d, n)
	})
	finish(p, n, "along", "delta2")
}
