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

// unroll is how many vectors one round of a loop takes. AVX-512 packs two
// vectors of BF16 at a time; AVX2 has no registers for a second one.
func (x isa) unroll() int {
	if x.wide {
		return 2
	}
	return 1
}

// step is how many elements one round takes.
func (x isa) step() int { return x.floats() * x.unroll() }

// A mask is a condition per element: an opmask register for AVX-512, a vector
// for AVX2.
type mask = reg.Register

// mask is a new register for one.
func (x isa) mask() mask {
	if x.wide {
		return K()
	}
	return YMM()
}

// The predicates of VCMPPS that are used, none of which signals.
const (
	eqOrdered    = U8(0)
	unordered    = U8(3)
	neqUnordered = U8(4)
)

// compare sets m to p(a, b).
func (x isa) compare(p U8, a, b reg.Register, m mask) { VCMPPS(p, b, a, m) }

// where replaces v by w, a register or constant, where m is true.
func (x isa) where(m mask, w Op, v reg.VecVirtual) {
	if x.wide {
		VMOVAPS(w, m, v)
	} else {
		VBLENDVPS(m, w, v, v)
	}
}

// and is the bitwise d = a & b.
func (x isa) and(a Op, b, d reg.Register) {
	if x.wide {
		VPANDD(a, b, d)
	} else {
		VPAND(a, b, d)
	}
}

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

var tables = map[string]bool{}

// table is a read-only array of n 32-bit values, one per name in a file.
func table(name string, n int, f func(int) uint32) Mem {
	if !tables[name] {
		tables[name] = true
		GLOBL(name, attr.RODATA|attr.NOPTR)
		for i := range n {
			DATA(4*i, U32(f(i)))
		}
	}
	return NewDataAddr(Symbol{Name: name, Static: true}, 0)
}

// words is a table of 32 16-bit values, in a register.
func words(name string, f func(int) int) reg.VecVirtual {
	z := ZMM()
	VMOVDQU32(table(name, 16, func(i int) uint32 { return uint32(f(2*i)) | uint32(f(2*i+1))<<16 }), z)
	return z
}

// param loads a parameter of 64 bits.
func param(name string) reg.Register { return Load(Param(name), GP64()) }

// alpha returns what gives the parameter of that name in every element of t or
// another register. AVX2 reads it again each time, to leave the register free.
func (x isa) alpha() func(t reg.VecVirtual) reg.VecVirtual {
	a, err := Param("alpha").Resolve()
	if err != nil {
		panic(err)
	}
	if x.wide {
		z := ZMM()
		VBROADCASTSS(a.Addr, z)
		return func(reg.VecVirtual) reg.VecVirtual { return z }
	}
	return func(t reg.VecVirtual) reg.VecVirtual {
		VBROADCASTSS(a.Addr, t)
		return t
	}
}

// A stream is an array that a loop walks along.
type stream struct {
	isa
	format
	reg.Register
}

// stream is the array of f behind a pointer parameter.
func (x isa) stream(name string, f format) stream { return stream{x, f, param(name)} }

// at is the memory of the j-th vector of the present round.
func (s stream) at(j int) Mem {
	return Mem{Base: s.Register, Disp: j * s.floats() * s.width}
}

// advance moves streams and the remaining count n on by one round of so many
// elements, leaving the flags from n.
func advance(elements int, n reg.Register, ss ...stream) {
	for _, s := range ss {
		ADDQ(U32(elements*s.width), s.Register)
	}
	SUBQ(U32(elements), n)
}

// loop runs body until n elements are done, and returns.
func loop(elements int, n reg.Register, body func(), ss ...stream) {
	Label("loop")
	body()
	advance(elements, n, ss...)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
