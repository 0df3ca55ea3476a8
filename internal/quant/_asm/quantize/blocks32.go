package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func blocks32() {
	quantize8()
	for _, five := range []bool{false, true} {
		symmetric(five)
		offset(five)
	}
}

// A writer is a function being written: dst and src move on by a block each time
// around, until none is left or one is special.
type writer struct {
	dst, src, left reg.Register
}

func begin(name, doc string) *writer {
	TEXT("quantize"+name+"AVX2", NOSPLIT, "func(dst *byte, src *float32, blocks int) (left int)")
	Pragma("noescape")
	Doc("quantize"+name+"AVX2 makes blocks of "+name+" "+doc+".",
		"It stops before the first that needs more care and returns how many are left.")
	w := &writer{param("dst"), param("src"), param("blocks")}
	Label("loop")
	return w
}

func (w *writer) end(bytes int) {
	ADDQ(U8(bytes), w.dst)
	SUBQ(I8(-128), w.src)
	DECQ(w.left)
	JNZ(LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	Store(w.left, ReturnIndex(0))
	RET()
}

// load is the block's elements.
func (w *writer) load() (x [4]reg.VecVirtual) {
	for i := range x {
		x[i] = YMM()
		VMOVUPS(at(w.src, 32*i), x[i])
	}
	return x
}

// fold combines 8 elements to one, in each element of the lower half.
func fold(v reg.VecVirtual, op func(...Op)) reg.VecVirtual {
	x, t := XMM(), XMM()
	VEXTRACTF128(U8(1), v, x)
	op(v.AsX(), x, x)
	VPERMILPS(U8(0x4E), x, t)
	op(t, x, x)
	VPERMILPS(U8(0xB1), x, t)
	op(t, x, x)
	return x
}

// magnitudes are the absolute values and the largest of them.
func magnitudes(x [4]reg.VecVirtual) (abs [4]reg.VecVirtual, most reg.VecVirtual) {
	mask := all(0x7FFFFFFF)
	for i := range x {
		abs[i] = YMM()
		VANDPS(mask, x[i], abs[i])
	}
	a, b := YMM(), YMM()
	VMAXPS(abs[0], abs[1], a)
	VMAXPS(abs[2], abs[3], b)
	VMAXPS(a, b, a)
	return abs, fold(a, VMAXPS)
}

// plain leaves the loop unless the value, which is not negative, is one that can
// be divided by as usual.
func plain(v reg.VecVirtual) {
	bits := GP32()
	VMOVD(v, bits)
	SUBL(U32(math.Float32bits(0x1p-100)), bits)
	CMPL(bits, U32(math.Float32bits(0x1p100)-math.Float32bits(0x1p-100)))
	JCC(LabelRef("done"))
}

// inverse is 1/d in each element.
func inverse(d reg.VecVirtual) reg.VecVirtual {
	one, inv := XMM(), YMM()
	VMOVSS(all(math.Float32bits(1)), one)
	VDIVSS(d, one, one)
	VBROADCASTSS(one, inv)
	return inv
}

// putHalf stores the lowest element of d as F16.
func putHalf(d reg.VecVirtual, m Mem) {
	h := XMM()
	VCVTPS2PH(U8(0), d, h)
	VPEXTRW(U8(0), h, m)
}

func quantize8() {
	w := begin("Q8_0", "")
	x := w.load()
	_, most := magnitudes(x)
	plain(most)
	d := XMM()
	VDIVSS(all(math.Float32bits(127)), most, d)
	putHalf(d, at(w.dst, 0))
	inv := inverse(d)
	sign, mask, half, one := YMM(), YMM(), YMM(), YMM()
	VMOVUPS(all(0x80000000), sign)
	VMOVUPS(all(0x7FFFFFFF), mask)
	VMOVUPS(all(math.Float32bits(0.5)), half)
	VMOVUPS(all(math.Float32bits(1)), one)
	for _, v := range x {
		// Half away from zero: one more in the direction of the value if what
		// truncation takes is at least a half.
		t, r := YMM(), YMM()
		VMULPS(inv, v, v)
		VROUNDPS(U8(3), v, r)
		VSUBPS(r, v, t)
		VANDPS(mask, t, t)
		VCMPPS(atLeast, half, t, t)
		VANDPS(sign, v, v)
		VORPS(one, v, v)
		VANDPS(t, v, v)
		VADDPS(r, v, v)
		VCVTTPS2DQ(v, v)
	}
	VPACKSSDW(x[1], x[0], x[0])
	VPACKSSDW(x[3], x[2], x[2])
	VPACKSSWB(x[2], x[0], x[0])
	order := YMM()
	VMOVDQU(table("inOrder", 8, func(i int) uint32 { return uint32(i/2 + i%2*4) }), order)
	VPERMD(x[0], order, x[0])
	VMOVDQU(x[0], at(w.dst, 2))
	w.end(34)
}

// symmetric writes Q4_0 or Q5_0.
func symmetric(five bool) {
	name, lowest, bytes := "Q4_0", float32(-8), 18
	if five {
		name, lowest, bytes = "Q5_0", -16, 22
	}
	w := begin(name, "")
	x := w.load()
	abs, most := magnitudes(x)
	plain(most)
	// The first that is as large, with its sign.
	wide := YMM()
	VBROADCASTSS(most, wide)
	which := GP32()
	for i := range abs {
		VCMPPS(equal, wide, abs[i], abs[i])
		bits := GP32()
		VMOVMSKPS(abs[i], bits)
		if i == 0 {
			MOVL(bits, which)
			continue
		}
		SHLL(U8(8*i), bits)
		ORL(bits, which)
	}
	BSFL(which, which)
	d := XMM()
	VMOVSS(Mem{Base: w.src, Index: which.As64(), Scale: 4}, d)
	VDIVSS(all(math.Float32bits(lowest)), d, d)
	putHalf(d, at(w.dst, 0))
	inv := inverse(d)
	for _, v := range x {
		VMULPS(inv, v, v)
		VADDPS(all(math.Float32bits(0.5-lowest)), v, v)
	}
	w.codes(x, five, 2)
	w.end(bytes)
}

// offset writes Q4_1 or Q5_1.
func offset(five bool) {
	name, top, bytes := "Q4_1", float32(15), 20
	if five {
		name, top, bytes = "Q5_1", 31, 24
	}
	w := begin(name, "")
	x := w.load()
	a, b := YMM(), YMM()
	VMINPS(x[0], x[1], a)
	VMINPS(x[2], x[3], b)
	VMINPS(a, b, a)
	lo := fold(a, VMINPS)
	VMAXPS(x[0], x[1], a)
	VMAXPS(x[2], x[3], b)
	VMAXPS(a, b, a)
	hi := fold(a, VMAXPS)
	// Zeros have two signs.
	z := XMM()
	VXORPS(z, z, z)
	VUCOMISS(z, lo)
	JEQ(LabelRef("done"))
	VSUBSS(lo, hi, hi)
	plain(hi)
	d := XMM()
	VDIVSS(all(math.Float32bits(top)), hi, d)
	putHalf(d, at(w.dst, 0))
	putHalf(lo, at(w.dst, 2))
	inv, low := inverse(d), YMM()
	VBROADCASTSS(lo, low)
	for _, v := range x {
		VSUBPS(low, v, v)
		VMULPS(inv, v, v)
		VADDPS(all(math.Float32bits(0.5)), v, v)
	}
	w.codes(x, five, 4)
	w.end(bytes)
}

// codes truncates x and stores the codes a number of bytes into the block.
func (w *writer) codes(x [4]reg.VecVirtual, five bool, disp int) {
	top := uint32(15)
	if five {
		top = 31
	}
	z := YMM()
	zero(z)
	for _, v := range x {
		VCVTTPS2DQ(v, v)
		VPMAXSD(z, v, v)
		VPMINSD(all(top), v, v)
	}
	if five {
		high := GP32()
		for i, v := range x {
			t, bits := YMM(), GP32()
			VPSLLD(U8(27), v, t)
			VMOVMSKPS(t, bits)
			if i == 0 {
				MOVL(bits, high)
				continue
			}
			SHLL(U8(8*i), bits)
			ORL(bits, high)
		}
		MOVL(high, at(w.dst, disp))
		disp += 4
		for _, v := range x {
			VPAND(all(15), v, v)
		}
	}
	for i := range 2 {
		VPSLLD(U8(4), x[i+2], x[i+2])
		VPOR(x[i+2], x[i], x[i])
	}
	VPACKUSDW(x[1], x[0], x[0]) // 0–3, 8–11 | 4–7, 12–15
	VPERMQ(U8(0xD8), x[0], x[0])
	high := XMM()
	VEXTRACTI128(U8(1), x[0], high)
	VPACKUSWB(high, x[0].AsX(), high)
	VMOVDQU(high, at(w.dst, disp))
}
