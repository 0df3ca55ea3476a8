package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// convert writes the conversions between formats.
func convert() {
	for _, x := range isas {
		for _, f := range []format{bf16, f16, f32} {
			widen(x, f)
			narrow(x, f)
		}
		widenF64(x)
		narrowF64(x)
	}
	stochasticBF16(isas[0])
}

func widen(x isa, f format) {
	TEXT("widen"+f.name+x.name, NOSPLIT, "func(dst *float32, src *byte, n int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("widen%s%s converts n elements.", f.name, x.name))
	dst, src, n := x.stream("dst", f32), x.stream("src", f), param("n")
	l := x.loader(f)
	loop(x.step(), n, func() {
		for j := range x.unroll() {
			v := x.vec()
			l.load(src, j, v)
			VMOVUPS(v, dst.at(j))
		}
	}, dst, src)
}

func narrow(x isa, f format) {
	TEXT("narrow"+f.name+x.name, NOSPLIT, "func(dst *byte, src *float32, n int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("narrow%s%s rounds n elements to nearest even, with canonical NaN.", f.name, x.name))
	dst, src, n := x.stream("dst", f), x.stream("src", f32), param("n")
	r := x.rounder(f, true)
	loop(x.step(), n, func() {
		var vs []reg.VecVirtual
		for j := range x.unroll() {
			v := x.vec()
			VMOVUPS(src.at(j), v)
			vs = append(vs, r.round(v))
		}
		r.store(dst, false, vs...)
	}, dst, src)
}

// canonical replaces the NaNs of half a vector of float32.
func (x isa) canonical(v reg.VecVirtual, nan Op) {
	m := XMM().(reg.Register)
	if x.wide {
		m = K()
	}
	VCMPPS(unordered, v, v, m)
	x.where(m, nan, v)
}

// halfNaN is the canonical NaN in half a vector, as an operand for canonical.
func (x isa) halfNaN() Op {
	c := x.constant(0x7FC00000)
	if z, ok := c.(reg.VecVirtual); ok {
		return z.AsY()
	}
	return c
}

func widenF64(x isa) {
	TEXT("widenF64"+x.name, NOSPLIT, "func(dst *float32, src *byte, n int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("widenF64%s rounds n elements to nearest even, with canonical NaN.", x.name))
	dst, src, n := x.stream("dst", f32), x.stream("src", f64), param("n")
	nan := x.halfNaN()
	loop(x.floats()/2, n, func() {
		h := x.half()
		if x.wide {
			VCVTPD2PS(src.at(0), h)
		} else {
			VCVTPD2PSY(src.at(0), h)
		}
		x.canonical(h, nan)
		VMOVUPS(h, dst.at(0))
	}, dst, src)
}

func narrowF64(x isa) {
	TEXT("narrowF64"+x.name, NOSPLIT, "func(dst *byte, src *float32, n int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("narrowF64%s converts n elements, with canonical NaN.", x.name))
	dst, src, n := x.stream("dst", f64), x.stream("src", f32), param("n")
	nan := x.halfNaN()
	loop(x.floats()/2, n, func() {
		h, v := x.half(), x.vec()
		VMOVUPS(src.at(0), h)
		x.canonical(h, nan)
		VCVTPS2PD(h, v)
		VMOVUPD(v, dst.at(0))
	}, dst, src)
}

// stochasticBF16 is for AVX-512 alone: AVX2 has no 64-bit product, and made of
// 32-bit ones it is no faster than the scalar loop.
func stochasticBF16(x isa) {
	TEXT("stochasticBF16"+x.name, NOSPLIT, "func(dst *byte, src *float32, base uint64, n int)")
	Pragma("noescape")
	Doc("stochasticBF16AVX512 rounds n elements with the random bits that follow from base.")
	dst, src, n := x.stream("dst", bf16), x.stream("src", f32), param("n")
	base := param("base")

	quad := func(v uint64) reg.VecVirtual {
		g, z := GP64(), ZMM()
		MOVQ(U64(v), g)
		VPBROADCASTQ(g, z)
		return z
	}
	const gamma = 0x9E3779B97F4A7C15
	multiple := func(i uint64) uint64 { return i * gamma }
	times1, times2 := quad(0xBF58476D1CE4E5B9), quad(0x94D049BB133111EB)
	eight := quad(multiple(8))

	// Hash inputs of the next 8 elements.
	next := ZMM()
	VPBROADCASTQ(base, next)
	VPADDQ(table("multiples", 16, func(i int) uint32 {
		return uint32(multiple(uint64(i/2)) >> (i % 2 * 32))
	}), next, next)
	hash := func() reg.VecVirtual {
		h, t := ZMM(), ZMM()
		VPSRLQ(U8(30), next, t)
		VPXORQ(next, t, h)
		VPADDQ(eight, next, next)
		VPMULLQ(times1, h, h)
		VPSRLQ(U8(27), h, t)
		VPXORQ(t, h, h)
		VPMULLQ(times2, h, h)
		VPSRLQ(U8(31), h, t)
		VPXORQ(t, h, h)
		VPSRLQ(U8(48), h, h)
		return h
	}

	r := x.rounder(bf16, true)
	abs := x.constant(0x7FFFFFFF)
	largest := x.constant(0x7F7F0000).(reg.Register)
	loop(x.step(), n, func() {
		var vs []reg.VecVirtual
		for j := range x.unroll() {
			lo, hi, v, w := YMM(), YMM(), ZMM(), ZMM()
			VPMOVQD(hash(), lo)
			VPMOVQD(hash(), hi)
			VINSERTI64X4(U8(1), hi, lo.AsZ(), w)
			VMOVUPS(src.at(j), v)
			VPADDD(v, w, w)

			t, beyond := ZMM(), K()
			r.and(abs, v, t)
			VPCMPUD(U8(6), largest, t, beyond) // t > largest
			x.where(beyond, r.round(v), w)
			vs = append(vs, w)
		}
		r.store(dst, false, vs...)
	}, dst, src)
}
