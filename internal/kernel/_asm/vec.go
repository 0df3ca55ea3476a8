package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa is one of the two instruction sets.
type isa struct {
	name string // suffix of function names
	wide bool   // AVX-512: 64-byte vectors, mask registers
}

var isas = []isa{{"AVX512", true}, {"AVX2", false}}

// vec is a new register of 16 or 8 float32.
func (x isa) vec() reg.VecVirtual {
	if x.wide {
		return ZMM()
	}
	return YMM()
}

// half is a new register of half that width.
func (x isa) half() reg.VecVirtual {
	if x.wide {
		return YMM()
	}
	return XMM()
}

// floats is how many float32 a vector holds.
func (x isa) floats() int {
	if x.wide {
		return 16
	}
	return 8
}

// The predicates of VCMPPS that are used, none of which signals.
const (
	eqOrdered    = U8(0)
	unordered    = U8(3)
	neqUnordered = U8(4)
)

var globals = map[string]bool{}

// constant is a vector with v in each 32-bit element: a register for AVX-512,
// which has enough of them, memory for AVX2. It is a valid first operand of
// two-source instructions.
func (x isa) constant(v uint32) Op {
	if x.wide {
		r, z := GP32(), ZMM()
		MOVL(U32(v), r)
		VPBROADCASTD(r, z)
		return z
	}
	return table(fmt.Sprintf("all%08x", v), 8, func(int) uint32 { return v })
}

// table is a read-only array of n 32-bit values, one for the whole file.
func table(name string, n int, f func(int) uint32) Mem {
	if !globals[name] {
		globals[name] = true
		GLOBL(name, attr.RODATA|attr.NOPTR)
		for i := range n {
			DATA(4*i, U32(f(i)))
		}
	}
	return NewDataAddr(Symbol{Name: name, Static: true}, 0)
}

// mask is a condition per element: an opmask register for AVX-512, a vector for
// AVX2.
type mask = reg.Register

// compare is p(a, b) per element, where it is taken that among is true. among
// may be nil.
func (x isa) compare(p U8, a, b reg.Register, among mask) mask {
	if x.wide {
		k := K()
		if among != nil {
			VCMPPS(p, b, a, among, k)
		} else {
			VCMPPS(p, b, a, k)
		}
		return k
	}
	m := YMM()
	VCMPPS(p, b, a, m)
	if among != nil {
		VPAND(among, m, m)
	}
	return m
}

// where replaces v by w, a register or constant, where m is true.
func (x isa) where(m mask, w Op, v reg.VecVirtual) {
	if x.wide {
		VMOVAPS(w, m, v)
	} else {
		VBLENDVPS(m, w, v, v)
	}
}

// pointer loads a pointer parameter.
func pointer(name string) reg.Register { return Load(Param(name), GP64()) }

// at is the memory of vector j, of elements of the given width, at p.
func (x isa) at(p reg.Register, j, width int) Mem {
	return Mem{Base: p, Disp: j * x.floats() * width}
}

// loop runs body until n elements are done, step at a time, advancing pointers.
func loop(n reg.Register, step int, ptrs []reg.Register, widths []int, body func()) {
	Label("loop")
	body()
	for i, p := range ptrs {
		ADDQ(U32(step*widths[i]), p)
	}
	SUBQ(U32(step), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// A format is a stored number format. Values are vectors of float32.
type format struct {
	name  string
	width int // bytes
}

var (
	bf16 = format{"BF16", 2}
	f16  = format{"F16", 2}
	f32  = format{"F32", 4}
)

// loader widens vectors of a format.
type loader struct {
	isa
	f              format
	lo, hi, odd Op // for BF16 and AVX-512
}

// loader prepares the constants that loading f needs.
func (x isa) loader(f format) *loader { return &loader{isa: x, f: f} }

// load widens the vector of l.f at m into v.
func (l *loader) load(m Mem, v reg.VecVirtual) {
	switch l.f {
	case bf16:
		VPMOVZXWD(m, v)
		VPSLLD(U8(16), v, v)
	case f16:
		VCVTPH2PS(m, v)
	case f32:
		VMOVUPS(m, v)
	}
}

// rounder rounds vectors of float32 to a format.
type rounder struct {
	isa
	f                              format
	nan, one, bias, upper, oddWord Op
}

// rounder prepares the constants that rounding to f needs, and, if back is set,
// those for the rounded value as float32.
func (x isa) rounder(f format, back bool) *rounder {
	r := &rounder{isa: x, f: f, nan: x.constant(0x7FC00000)}
	if f == bf16 {
		r.one = x.constant(1)
		r.bias = x.constant(0x7FFF)
		if back {
			r.upper = x.constant(0xFFFF0000)
		}
		if x.wide {
			z := ZMM()
			VMOVDQU32(table("oddWords", 16, func(i int) uint32 { return uint32(4*i+1) | uint32(4*i+3)<<16 }), z)
			r.oddWord = z
		}
	}
	return r
}

// nearestBF16 rounds v in place, leaving the result in the upper halves of the
// elements and garbage in the lower. NaNs stay NaNs if their lower half is zero.
func (r *rounder) nearestBF16(v reg.VecVirtual) {
	t := r.vec()
	VPSRLD(U8(16), v, t)
	VPAND2(r.wide, r.one, t, t)
	VPADDD(r.bias, v, v)
	VPADDD(t, v, v)
}

// VPAND2 is a bitwise and, which has another name in AVX-512.
func VPAND2(wide bool, a Op, b, d reg.Register) {
	if wide {
		VPANDD(a, b, d)
	} else {
		VPAND(a, b, d)
	}
}

// round rounds v, ties to even, with canonical NaN. The result is what store
// takes: v itself for BF16, as nearestBF16 leaves it, and F32; half a vector for
// F16.
func (r *rounder) round(v reg.VecVirtual) reg.VecVirtual {
	nan := r.compare(unordered, v, v, nil)
	switch r.f {
	case bf16:
		r.nearestBF16(v)
		r.where(nan, r.nan, v)
	case f16:
		r.where(nan, r.nan, v)
		h := r.half()
		VCVTPS2PH(U8(0), v, h)
		return h
	case f32:
		r.where(nan, r.nan, v)
	}
	return v
}

// back is the float32 value of a rounded vector.
func (r *rounder) back(v reg.VecVirtual) reg.VecVirtual {
	switch r.f {
	case bf16:
		w := r.vec()
		VPAND2(r.wide, r.upper, v, w)
		return w
	case f16:
		w := r.vec()
		VCVTPH2PS(v, w)
		return w
	}
	return v
}

// store writes rounded vectors to p. For BF16 and AVX-512 their number is even.
func (r *rounder) store(p reg.Register, vs ...reg.VecVirtual) {
	switch {
	case r.f == bf16 && r.wide:
		for j := 0; j < len(vs); j += 2 {
			VPERMT2W(vs[j+1], r.oddWord, vs[j])
			VMOVDQU32(vs[j], r.at(p, j, 2))
		}
	case r.f == bf16:
		for j, v := range vs {
			h := XMM()
			VPSRLD(U8(16), v, v)
			VEXTRACTI128(U8(1), v, h)
			VPACKUSDW(h, v.AsX(), h)
			VMOVDQU(h, r.at(p, j, 2))
		}
	case r.wide:
		for j, v := range vs {
			if r.f == f16 {
				VMOVDQU32(v, r.at(p, j, 2))
			} else {
				VMOVUPS(v, r.at(p, j, 4))
			}
		}
	default:
		for j, v := range vs {
			VMOVDQU(v, r.at(p, j, r.f.width))
		}
	}
}

// alpha is the float32 parameter of that name in every element. For AVX2 it has
// to be read again in each round of a loop, to leave the register free.
func (x isa) alpha() reg.VecVirtual {
	v := x.vec()
	a, err := Param("alpha").Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(a.Addr, v)
	return v
}

// hoistAlpha returns a function that gives alpha inside a loop.
func (x isa) hoistAlpha() func() reg.VecVirtual {
	if !x.wide {
		return x.alpha
	}
	v := x.alpha()
	return func() reg.VecVirtual { return v }
}

// unroll is how many vectors one round of a loop takes.
func (x isa) unroll() int {
	if x.wide {
		return 2
	}
	return 1
}
