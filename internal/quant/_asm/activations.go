package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// activations writes the rounding of vectors, for AVX2 alone: it takes little time
// beside the products.
func activations() {
	set32()
	setK()
}

// scaleOf leaves the scale and what to multiply with, in every element, of a block
// whose largest magnitude is among the 8 of most. It jumps to special, with the
// scale, if the block counts as zeros.
func scaleOf(most, d, inv reg.VecVirtual, special string) {
	x, t := XMM(), XMM()
	VEXTRACTI128(U8(1), most, x)
	VPMAXUD(most.AsX(), x, x)
	VPSHUFD(U8(0x4E), x, t)
	VPMAXUD(t, x, x)
	VPSHUFD(U8(0xB1), x, t)
	VPMAXUD(t, x, x)
	bits := GP32()
	VMOVD(x, bits)
	smallest := math.Float32bits(0x1p-100)
	hundred27 := all(math.Float32bits(127))
	// NaN if not finite, 0 if small.
	VXORPS(d, d, d)
	CMPL(bits, U32(smallest))
	JCS(LabelRef(special))
	VMOVSS(all(0x7FC00000), d)
	CMPL(bits, U32(0x7F800000))
	JCC(LabelRef(special))
	VDIVSS(hundred27, x, d)
	VMOVSS(hundred27, t)
	VDIVSS(x, t, t)
	VBROADCASTSS(t, inv)
}

// quantized multiplies 32 elements at x with inv and rounds to integers.
func quantized(x Mem, inv reg.VecVirtual) [4]reg.VecVirtual {
	var v [4]reg.VecVirtual
	for i := range v {
		v[i] = YMM()
		VMULPS(x.Offset(32*i), inv, v[i])
		VCVTPS2DQ(v[i], v[i])
	}
	return v
}

// largest sets most to the larger of itself and the magnitudes of 32 elements.
func largest(x Mem, most reg.VecVirtual) {
	abs, t := all(0x7FFFFFFF), YMM()
	for i := range 4 {
		VMOVDQU(x.Offset(32*i), t)
		VPAND(abs, t, t)
		VPMAXUD(t, most, most)
	}
}

// packed turns 32 integers into bytes.
func packed(v [4]reg.VecVirtual) reg.VecVirtual {
	p, q := YMM(), YMM()
	VPACKSSDW(v[1], v[0], p)
	VPACKSSDW(v[3], v[2], q)
	VPACKSSWB(q, p, p)
	order := YMM()
	VMOVDQU(table("inOrder", 8, func(i int) uint32 { return uint32(i/2 + i%2*4) }), order)
	VPERMD(p, order, p)
	return p
}

func set32() {
	TEXT("set32AVX2", NOSPLIT, "func(b *byte, x *float32, blocks int)")
	Pragma("noescape")
	Doc("set32AVX2 is the loop of set32.")
	b, x, n := param("b"), param("x"), param("blocks")
	// b moves on by the 16 bytes that a block has in each part of a record, and c
	// by its 8 bytes of scales.
	c, i := GP64(), GP64()
	MOVQ(b, c)
	XORQ(i, i)

	Label("loop")
	most, d, inv := YMM(), XMM(), YMM()
	VPXOR(most, most, most)
	largest(Mem{Base: x}, most)
	scaleOf(most, d, inv, "special")
	v := quantized(Mem{Base: x}, inv)
	Label("store")
	bytes := packed(v)
	VMOVDQU(bytes.AsX(), Mem{Base: b})
	VEXTRACTI128(U8(1), bytes, Mem{Base: b, Disp: 64})

	// Elements of lane 0 are in the lower halves of v0 and v2, of lane 1 in the
	// upper ones, of lanes 2 and 3 in v1 and v3.
	s, t, h, total := YMM(), YMM(), XMM(), XMM()
	VPADDD(v[2], v[0], s)
	VPADDD(v[3], v[1], t)
	VPHADDD(t, s, s)
	VPHADDD(s, s, s)
	VEXTRACTI128(U8(1), s, h)
	VPUNPCKLDQ(h, s.AsX(), h)
	VPHADDD(h, h, total)
	VPHADDD(total, total, total)
	VPXOR(t, t, t)
	VPSUBD(h, t.AsX(), h)
	VMOVDQU(h, Mem{Base: b, Disp: sums})
	VCVTDQ2PS(total, total)
	VMULSS(total, d, total)
	VMOVSS(d, Mem{Base: c, Disp: scales})
	VMOVSS(total, Mem{Base: c, Disp: scales + 4})

	ADDQ(U8(16), b)
	ADDQ(U8(8), c)
	ADDQ(U32(128), x)
	INCQ(i)
	TESTQ(U32(3), i)
	JNZ(LabelRef("same"))
	ADDQ(U32(record-4*16), b)
	ADDQ(U32(record-4*8), c)
	Label("same")
	CMPQ(i, n)
	JNE(LabelRef("loop"))
	VZEROUPPER()
	RET()

	Label("special")
	for _, v := range v {
		VPXOR(v, v, v)
	}
	JMP(LabelRef("store"))
}

func setK() {
	TEXT("setKAVX2", NOSPLIT, "func(b *byte, x *float32, blocks int)")
	Pragma("noescape")
	Doc("setKAVX2 is the loop of setK.")
	b, x, n := param("b"), param("x"), param("blocks")

	Label("loop")
	most, d, inv := YMM(), XMM(), YMM()
	VPXOR(most, most, most)
	for i := range 8 {
		largest(Mem{Base: x, Disp: 128 * i}, most)
	}
	scaleOf(most, d, inv, "special")
	for i := range 8 {
		v := quantized(Mem{Base: x, Disp: 128 * i}, inv)
		VMOVDQU(packed(v), Mem{Base: b, Disp: 32 * i})
		h := XMM()
		VPADDD(v[1], v[0], v[0])
		VPADDD(v[3], v[2], v[2])
		VPHADDD(v[2], v[0], v[0])
		VPHADDD(v[0], v[0], v[0])
		VEXTRACTI128(U8(1), v[0], h)
		VPADDD(v[0].AsX(), h, h) // the sums of both halves
		VPACKSSDW(h, h, h)
		VMOVD(h, Mem{Base: b, Disp: sums16 + 4*i})
		VPHADDW(h, h, h)
		VPEXTRW(U8(0), h, Mem{Base: b, Disp: sums32 + 2*i})
	}
	Label("next")
	VMOVSS(d, Mem{Base: b, Disp: scaleAt})
	ADDQ(U32(recordK), b)
	ADDQ(U32(1024), x)
	DECQ(n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()

	Label("special")
	zero := YMM()
	VPXOR(zero, zero, zero)
	for i := 0; i < scaleAt; i += 32 {
		m := Mem{Base: b, Disp: i}
		if scaleAt-i < 32 {
			VMOVDQU(zero.AsX(), m)
		} else {
			VMOVDQU(zero, m)
		}
	}
	JMP(LabelRef("next"))
}
