package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func measure() {
	compare()
	project()
	largest()
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

func largest() {
	TEXT("largestAVX2", NOSPLIT, "func(x *float32, n int) (bits uint32)")
	Pragma("noescape")
	Doc("largestAVX2 is the largest of the bit patterns of n elements without their signs. n is",
		"a multiple of 32 and not 0.")
	x, n := param("x"), param("n")
	var most [4]reg.VecVirtual
	for i := range most {
		most[i] = YMM()
		zero(most[i])
	}
	mask := YMM()
	VMOVDQU(all(0x7FFFFFFF), mask)
	Label("loop")
	for i := range most {
		v := YMM()
		VPAND(at(x, 32*i), mask, v)
		VPMAXUD(v, most[i], most[i])
	}
	SUBQ(I8(-128), x)
	SUBQ(U8(32), n)
	JNZ(LabelRef("loop"))
	VPMAXUD(most[1], most[0], most[0])
	VPMAXUD(most[3], most[2], most[2])
	VPMAXUD(most[2], most[0], most[0])
	bits := GP32()
	VMOVD(fold(most[0], VPMAXUD), bits)
	VZEROUPPER()
	Store(bits, ReturnIndex(0))
	RET()
}
