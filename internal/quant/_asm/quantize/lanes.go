package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Arrays of the searches have a row of lanes, 8 or 16, one for each sub-block, for
// each element of a sub-block.

// isa is one of the two instruction sets.
type isa struct {
	name string // suffix of function names
	wide bool   // AVX-512
}

// begin is the head of a function.
func (i isa) begin(name, params string, doc ...string) {
	TEXT(name+i.name, NOSPLIT, "func("+params+")")
	Pragma("noescape")
	doc[0] = name + i.name + " " + doc[0]
	Doc(doc...)
}

// vec is a new register of a row.
func (i isa) vec() reg.VecVirtual {
	if i.wide {
		return ZMM()
	}
	return YMM()
}

// row is how many bytes a row has.
func (i isa) row() int {
	if i.wide {
		return 64
	}
	return 32
}

// all is v in each lane, as memory.
func (i isa) all(v uint32) Mem {
	if i.wide {
		return table(fmt.Sprintf("wide%08x", v), 16, func(int) uint32 { return v })
	}
	return all(v)
}

// number is a float in each lane, as memory.
func (i isa) number(v float32) Mem { return i.all(math.Float32bits(v)) }

// load is a row of integers, and store stores one.
func (i isa) load(m Mem, v reg.VecVirtual) {
	if i.wide {
		VMOVDQU32(m, v)
	} else {
		VMOVDQU(m, v)
	}
}

func (i isa) store(v reg.VecVirtual, m Mem) {
	if i.wide {
		VMOVDQU32(v, m)
	} else {
		VMOVDQU(v, m)
	}
}

// A lanes is a set of lanes: a mask register, or one with all bits of a lane.
type lanes interface{ reg.Register }

// compare is where a is so to b.
func (i isa) compare(how U8, a, b reg.VecVirtual) lanes { return i.compareTo(how, a, b) }

func (i isa) compareTo(how U8, a reg.VecVirtual, b Op) lanes {
	if i.wide {
		k := K()
		VCMPPS(how, b, a, k)
		return k
	}
	v := YMM()
	VCMPPS(how, b, a, v)
	return v
}

// both is a ∩ b.
func (i isa) both(a, b lanes) lanes {
	if i.wide {
		k := K()
		KANDW(a, b, k)
		return k
	}
	v := YMM()
	VANDPS(a, b, v)
	return v
}

// blend copies v to the lanes m of to, clear zeroes them, and keep stores them.
func (i isa) blend(m lanes, v, to reg.VecVirtual) {
	if i.wide {
		VMOVAPS(v, m, to)
	} else {
		VBLENDVPS(m, v, to, to)
	}
}

func (i isa) clear(m lanes, v reg.VecVirtual) {
	if i.wide {
		none := i.vec()
		zero(none)
		VMOVAPS(none, m, v)
	} else {
		VANDNPS(v, m, v)
	}
}

func (i isa) keep(m lanes, v reg.VecVirtual, to Mem) {
	if i.wide {
		VMOVDQU32(v, m, to)
	} else {
		VPMASKMOVD(v, m, to)
	}
}

// jumpNone jumps if there is no lane.
func (i isa) jumpNone(m lanes, label string) {
	if i.wide {
		KORTESTW(m, m)
	} else {
		any := GP32()
		VMOVMSKPS(m, any)
		TESTL(any, any)
	}
	JEQ(LabelRef(label))
}

// rows repeats a body for n rows; off counts bytes.
func (i isa) rows(label string, n int, body func(off reg.Register)) { i.rowsAfter(label, 0, n, body) }

// rowsAfter leaves out the first rows.
func (i isa) rowsAfter(label string, first, n int, body func(off reg.Register)) {
	i.rowsUpTo(label, first, U32(i.row()*n), body)
}

// rowsUpTo is told the bytes of the rows.
func (i isa) rowsUpTo(label string, first int, end Op, body func(off reg.Register)) {
	off := GP64()
	if first == 0 {
		XORQ(off, off)
	} else {
		MOVQ(U32(i.row()*first), off)
	}
	Label(label)
	body(off)
	ADDQ(U8(i.row()), off)
	CMPQ(off, end)
	JNE(LabelRef(label))
}

func row(base, off reg.Register) Mem { return Mem{Base: base, Index: off, Scale: 1} }

// nearest rounds v to an integer as the reference does, by what adding 1.5·2²³
// leaves in the lower bits, and keeps it within limits.
func (i isa) nearest(v reg.VecVirtual, least, most Op) {
	VADDPS(i.number(12582912), v, v)
	if i.wide {
		VPANDD(i.all(0x7FFFFF), v, v)
	} else {
		VPAND(i.all(0x7FFFFF), v, v)
	}
	VPSUBD(i.all(0x400000), v, v)
	VPMAXSD(least, v, v)
	VPMINSD(most, v, v)
}
