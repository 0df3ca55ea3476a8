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
	Doc(fmt.Sprintf("widen%s%s converts n elements.", f.name, x.name))
	dst, src, n := pointer("dst"), pointer("src"), pointer("n")
	step := x.floats() * x.unroll()
	loop(n, step, []reg.Register{dst, src}, []int{4, f.width}, func() {
		for j := range x.unroll() {
			VMOVUPS(x.load(f, x.at(src, j, f.width)), x.at(dst, j, 4))
		}
	})
}

func narrow(x isa, f format) {
	TEXT("narrow"+f.name+x.name, NOSPLIT, "func(dst *byte, src *float32, n int)")
	Doc(fmt.Sprintf("narrow%s%s rounds n elements to nearest even, with canonical NaN.", f.name, x.name))
	dst, src, n := pointer("dst"), pointer("src"), pointer("n")
	r := x.rounder(f, false)
	step := x.floats() * x.unroll()
	loop(n, step, []reg.Register{dst, src}, []int{f.width, 4}, func() {
		var vs []reg.VecVirtual
		for j := range x.unroll() {
			vs = append(vs, r.round(x.load(f32, x.at(src, j, 4))))
		}
		r.store(dst, vs...)
	})
}

// canonical replaces the NaNs of half a vector.
func (x isa) canonical(v reg.VecVirtual, nan Op) {
	if x.wide {
		k := K()
		VCMPPS(unordered, v, v, k)
		VMOVAPS(nan, k, v)
	} else {
		m := XMM()
		VCMPPS(unordered, v, v, m)
		VBLENDVPS(m, nan, v, v)
	}
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
	Doc(fmt.Sprintf("widenF64%s rounds n elements to nearest even, with canonical NaN.", x.name))
	dst, src, n := pointer("dst"), pointer("src"), pointer("n")
	nan := x.halfNaN()
	lanes := x.floats() / 2
	loop(n, lanes, []reg.Register{dst, src}, []int{4, 8}, func() {
		h := x.half()
		if x.wide {
			VCVTPD2PS(Mem{Base: src}, h)
		} else {
			VCVTPD2PSY(Mem{Base: src}, h)
		}
		x.canonical(h, nan)
		VMOVUPS(h, Mem{Base: dst})
	})
}

func narrowF64(x isa) {
	TEXT("narrowF64"+x.name, NOSPLIT, "func(dst *byte, src *float32, n int)")
	Doc(fmt.Sprintf("narrowF64%s converts n elements, with canonical NaN.", x.name))
	dst, src, n := pointer("dst"), pointer("src"), pointer("n")
	nan := x.halfNaN()
	lanes := x.floats() / 2
	loop(n, lanes, []reg.Register{dst, src}, []int{8, 4}, func() {
		h, v := x.half(), x.vec()
		VMOVUPS(Mem{Base: src}, h)
		x.canonical(h, nan)
		VCVTPS2PD(h, v)
		VMOVUPD(v, Mem{Base: dst})
	})
}

// stochasticBF16 is for AVX-512 alone: AVX2 has no 64-bit product, and made of
// 32-bit ones it is no faster than the scalar loop.
func stochasticBF16(x isa) {
	TEXT("stochasticBF16"+x.name, NOSPLIT, "func(dst *byte, src *float32, base uint64, n int)")
	Doc("stochasticBF16AVX512 rounds n elements with the random bits that follow from base.")
	dst, src, n := pointer("dst"), pointer("src"), pointer("n")
	base := Load(Param("base"), GP64())

	quad := func(v uint64) reg.VecVirtual {
		g, z := GP64(), ZMM()
		MOVQ(U64(v), g)
		VPBROADCASTQ(g, z)
		return z
	}
	const gamma = uint64(0x9E3779B97F4A7C15)
	times1, times2 := quad(0xBF58476D1CE4E5B9), quad(0x94D049BB133111EB)
	eight := quad(0x9E3779B97F4A7C15 << 3 & (1<<64 - 1))

	// Hash inputs of the next 8 elements.
	z := ZMM()
	VPBROADCASTQ(base, z)
	VPADDQ(table("multiples", 16, func(i int) uint32 { return uint32(uint64(i/2) * gamma >> (i % 2 * 32)) }), z, z)

	hash := func() reg.VecVirtual {
		h, t := ZMM(), ZMM()
		VPSRLQ(U8(30), z, t)
		VPXORQ(z, t, h)
		VPADDQ(eight, z, z)
		VPMULLQ(times1, h, h)
		VPSRLQ(U8(27), h, t)
		VPXORQ(t, h, h)
		VPMULLQ(times2, h, h)
		VPSRLQ(U8(31), h, t)
		VPXORQ(t, h, h)
		VPSRLQ(U8(48), h, h)
		return h
	}

	r := x.rounder(bf16, false)
	abs := x.constant(0x7FFFFFFF)
	largest := x.constant(0x7F7F0000).(reg.Register)
	loop(n, 32, []reg.Register{dst, src}, []int{2, 4}, func() {
		var vs []reg.VecVirtual
		for j := range 2 {
			lo, hi, bits := YMM(), YMM(), ZMM()
			VPMOVQD(hash(), lo)
			VPMOVQD(hash(), hi)
			VINSERTI64X4(U8(1), hi, lo.AsZ(), bits)

			v := x.load(f32, x.at(src, j, 4))
			t, beyond := ZMM(), K()
			VPANDD(abs, v, t)
			VPCMPUD(U8(6), largest, t, beyond)
			w := ZMM()
			VPADDD(bits, v, w)
			nearest := r.round(v)
			VMOVDQA32(nearest, beyond, w)
			vs = append(vs, w)
		}
		r.store(dst, vs...)
	})
}
