package main

import (
	"encoding/binary"
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// matmul writes the tiles of MatMul.
func matmul() {
	tile(isas[0], bf16, true)
	for _, x := range isas {
		for _, f := range []format{bf16, f16, f32} {
			tile(x, f, false)
		}
	}
	TEXT("floatLineOffset", NOSPLIT, "func(p *float32) int")
	Pragma("noescape")
	Doc("floatLineOffset is the distance of p from the start of its cache line, in bytes.")
	p := param("p")
	ANDQ(U32(63), p)
	Store(p, ReturnIndex(0))
	RET()
}

// across is how many rows of w a tile has: as many as one store of four floats.
const across = 4

// down is how many vectors of activations a tile has at most: the products of
// down × across, across registers for w, and a few for the rest.
func (x isa) down() int {
	if x.wide {
		return 6
	}
	return 3
}

var physical = []reg.VecPhysical{
	reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7,
	reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
	reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
	reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31,
}

// fixed is vector register i. Tiles name their registers, since bytes
// that stand for an instruction need to know them and every one is in use.
func (x isa) fixed(i int) reg.VecPhysical {
	if x.wide {
		return physical[i]
	}
	return physical[i].AsY().(reg.VecPhysical)
}

// dotPairs is VDPBF16PS a, b, acc, which the assembler does not know: EVEX.512.F3.0F38.W0 52 /r.
func dotPairs(a, b, acc reg.VecPhysical) {
	n := func(r reg.VecPhysical) byte { return byte(r.PhysicalIndex()) }
	inv := func(v, bit byte) byte { return ^v >> bit & 1 }
	bytes := []byte{
		0x62,
		inv(n(acc), 3)<<7 | inv(n(a), 4)<<6 | inv(n(a), 3)<<5 | inv(n(acc), 4)<<4 | 2,
		(^n(b)&15)<<3 | 1<<2 | 2,
		2<<5 | inv(n(b), 4)<<3,
		0x52,
		3<<6 | n(acc)&7<<3 | n(a)&7,
	}
	Comment(fmt.Sprintf("VDPBF16PS Z%d, Z%d, Z%d", n(a), n(b), n(acc)))
	Instruction(&ir.Instruction{Opcode: "LONG", Operands: []Op{U32(binary.LittleEndian.Uint32(bytes))}})
	Instruction(&ir.Instruction{Opcode: "WORD", Operands: []Op{U16(binary.LittleEndian.Uint16(bytes[4:]))}})
}

// widenTo loads a vector of f from m into v as float32, or as it is.
func (x isa) widenTo(f format, pairs bool, m Mem, v reg.VecPhysical) {
	switch {
	case pairs || f == f32:
		VMOVUPS(m, v)
	case f == bf16:
		VPMOVZXWD(m, v)
		VPSLLD(U8(16), v, v)
	case f == f16:
		VCVTPH2PS(m, v)
	}
}

// resolve is the memory of a parameter.
func resolve(name string) Mem {
	a, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return a.Addr
}

// rows are addresses of up to six rows that lie stride bytes apart.
type rows struct {
	base, third, stride reg.Register // third is the address of row 3 if there is one
}

// newRows makes registers for n rows; start sets them.
func newRows(n int, stride reg.Register) rows {
	r := rows{base: GP64(), stride: stride}
	if n > 3 {
		r.third = GP64()
	}
	return r
}

func (r rows) start(from reg.Register) {
	MOVQ(from, r.base)
	if r.third != nil {
		LEAQ(Mem{Base: from, Index: r.stride, Scale: 2}, r.third)
		ADDQ(r.stride, r.third)
	}
}

func (r rows) advance(n int) {
	ADDQ(U32(n), r.base)
	if r.third != nil {
		ADDQ(U32(n), r.third)
	}
}

func (r rows) at(i, disp int) Mem {
	m := Mem{Base: r.base, Disp: disp}
	if i > 2 {
		m.Base = r.third
		i -= 3
	}
	if i > 0 {
		m.Index, m.Scale = r.stride, uint8(i)
	}
	return m
}

// tile writes the products of up to down activations with groups of four rows.
// Each product has one register, whose lane l takes elements l, l + lanes, ... in
// order; in the end the lanes are added as add4 says.
func tile(x isa, f format, pairs bool) {
	kind, doc, xtype := f.name, "fused multiply and add", "float32"
	if pairs {
		kind, doc, xtype = "Pairs"+f.name, "VDPBF16PS", "byte"
	}
	name := "tile" + kind + x.name
	// Bytes of one step along a row of w.
	wstep := x.floats() * f.width
	if pairs {
		wstep *= 2
	}
	xstep := 4 * x.floats()

	TEXT(name, NOSPLIT, fmt.Sprintf("func(m int, out *float32, stride int, x *%s, xs int, w *byte, ws int, tail *byte, steps, part, groups int, add bool, ahead, pace int)", xtype))
	Pragma("noescape")
	Doc(fmt.Sprintf("%s multiplies m ≤ %d vectors x with groups of 4 rows of w by %s,", name, x.down(), doc),
		fmt.Sprintf("%d bytes of x and %d of w in a step. Strides are in bytes. If tail is not nil,", xstep, wstep),
		"each row goes on with the 64 bytes that tail has for it. With add the results are added",
		"to out, and so are those of the second and later parts, if there are more steps than are",
		"in a part. What lies ahead bytes from the rows of a group is prefetched, pace bytes further",
		"in each step.")

	labels := 0
	label := func(s string) string { labels++; return fmt.Sprintf("%s%d", s, labels) }

	m := param("m")
	var variants []string
	for i := 1; i <= x.down(); i++ {
		l := label("m")
		variants = append(variants, l)
		if i < x.down() {
			CMPQ(m, U8(i))
			JEQ(LabelRef(l))
		}
	}
	for i := x.down(); i >= 1; i-- {
		Label(variants[i-1])
		tileOf(x, f, pairs, i, wstep, label)
	}
}

// tileOf writes the variant of tile for m activations.
func tileOf(x isa, f format, pairs bool, m, wstep int, label func(string) string) {
	xstep := 4 * x.floats()
	acc := func(i, r int) reg.VecPhysical { return x.fixed(i*across + r) }

	xbase, xs := param("x"), param("xs")
	wbase, ws := param("w"), param("ws")
	xp, wp, next := newRows(m, xs), newRows(across, ws), newRows(across, ws)
	// left is how many steps follow after this part, k how many in it.
	left, k, t := GP64(), GP64(), GP64()

	group, begin := label("group"), label("begin")
	Label(group)
	xp.start(xbase)
	wp.start(wbase)
	Load(Param("ahead"), t)
	ADDQ(wbase, t)
	next.start(t)
	Load(Param("steps"), left)
	Label(begin)
	for i := range m * across {
		zero(x.fixed(i))
	}
	Load(Param("part"), k)
	CMPQ(left, k)
	CMOVQLT(left, k)
	SUBQ(k, left)

	unroll := 2
	if m == 1 {
		unroll = 4
	}
	round := func(n int) {
		for j := range n {
			x.products(f, pairs, m, acc, xp, j, func(r int) Mem { return wp.at(r, j*wstep) })
		}
		// As many lines as w has in this many steps.
		for j := range max(1, n*wstep/64) {
			for r := range across {
				PREFETCHT0(next.at(r, 64*j))
			}
		}
		for range n {
			ADDQ(resolve("pace"), next.base)
			ADDQ(resolve("pace"), next.third)
		}
		xp.advance(n * xstep)
		wp.advance(n * wstep)
		SUBQ(U8(n), k)
	}
	many, one, rest, done := label("many"), label("one"), label("rest"), label("done")
	SUBQ(U8(unroll), k)
	JLT(LabelRef(rest))
	Label(many)
	round(unroll)
	JGE(LabelRef(many))
	Label(rest)
	ADDQ(U8(unroll), k)
	JZ(LabelRef(done))
	Label(one)
	round(1)
	JNZ(LabelRef(one))
	Label(done)

	// The tail: one step from other memory, after the last part.
	whole := label("whole")
	TESTQ(left, left)
	JNZ(LabelRef(whole))
	Load(Param("tail"), t)
	TESTQ(t, t)
	JZ(LabelRef(whole))
	x.products(f, pairs, m, acc, xp, 0, func(r int) Mem { return Mem{Base: t, Disp: 64 * r} })
	ADDQ(U32(64*across), resolve("tail"))
	Label(whole)

	sum, end, last := label("sum"), label("end"), label("last")
	finish := func(add bool) {
		Load(Param("out"), t)
		for i := range m {
			v := x.add4(acc(i, 0), acc(i, 1), acc(i, 2), acc(i, 3))
			if add {
				VADDPS(Mem{Base: t}, v, v)
			}
			VMOVUPS(v, Mem{Base: t})
			if i < m-1 {
				ADDQ(resolve("stride"), t)
			}
		}
	}
	CMPB(resolve("add"), U8(0))
	JNE(LabelRef(sum))
	finish(false)
	JMP(LabelRef(end))
	Label(sum)
	finish(true)
	Label(end)
	TESTQ(left, left)
	JZ(LabelRef(last))
	MOVB(U8(1), resolve("add"))
	JMP(LabelRef(begin))

	Label(last)
	ADDQ(U8(4*across), resolve("out"))
	LEAQ(Mem{Base: wbase, Index: ws, Scale: across}, wbase)
	// What was added because of parts starts afresh.
	single := label("single")
	Load(Param("part"), k)
	CMPQ(k, resolve("steps"))
	JGE(LabelRef(single))
	MOVB(U8(0), resolve("add"))
	Label(single)
	SUBQ(U8(1), resolve("groups"))
	JNZ(LabelRef(group))
	VZEROUPPER()
	RET()
}

// products multiplies the j-th step from xp on with the rows that w says.
func (x isa) products(f format, pairs bool, m int, acc func(i, r int) reg.VecPhysical, xp rows, j int, w func(r int) Mem) {
	xstep := 4 * x.floats()
	mul := func(a, b, c reg.VecPhysical) {
		if pairs {
			dotPairs(a, b, c)
		} else {
			VFMADD231PS(a, b, c)
		}
	}
	if x.wide {
		for r := range across {
			x.widenTo(f, pairs, w(r), x.fixed(24+r))
		}
		for i := range m {
			v := x.fixed(28 + i%4)
			VMOVUPS(xp.at(i, j*xstep), v)
			for r := range across {
				mul(x.fixed(24+r), v, acc(i, r))
			}
		}
		return
	}
	// There is one register for w.
	for i := range m {
		VMOVUPS(xp.at(i, j*xstep), x.fixed(12+i))
	}
	for r := range across {
		x.widenTo(f, pairs, w(r), x.fixed(15))
		for i := range m {
			mul(x.fixed(15), x.fixed(12+i), acc(i, r))
		}
	}
}

// add4 adds the lanes of four vectors, which it leaves alone, and returns the
// four sums. In each 128 bits lanes are added as (0+2)+(1+3), then the quarters
// of 64 bytes as (0+2)+(1+3), or the halves of 32 bytes.
func (x isa) add4(a, b, c, d reg.VecPhysical) reg.Register {
	first := 24
	if !x.wide {
		first = 12
	}
	s, t, u, v := x.fixed(first), x.fixed(first+1), x.fixed(first+2), x.fixed(first+3)
	VUNPCKLPS(b, a, s)
	VUNPCKHPS(b, a, t)
	VUNPCKLPS(d, c, u)
	VUNPCKHPS(d, c, v)
	VADDPS(t, s, s)
	VADDPS(v, u, u)
	VUNPCKLPD(u, s, t)
	VUNPCKHPD(u, s, v)
	VADDPS(v, t, t)
	if x.wide {
		VEXTRACTF64X4(U8(1), t, s.AsY())
		VADDPS(s.AsY(), t.AsY(), t.AsY())
		VEXTRACTF32X4(U8(1), t.AsY(), s.AsX())
	} else {
		VEXTRACTF128(U8(1), t.AsY(), s.AsX())
	}
	VADDPS(s.AsX(), t.AsX(), t.AsX())
	return t.AsX()
}

// zero clears a vector.
func zero(v reg.VecPhysical) {
	if v.PhysicalIndex() < 16 {
		VXORPS(v.AsX(), v.AsX(), v.AsX())
	} else {
		VPXORD(v, v, v)
	}
}

// probes writes what benchmarks compare with: reading, and multiplying without
// memory.
func probes() {
	TEXT("readProbe", NOSPLIT, "func(p *byte, n int) float32")
	Pragma("noescape")
	Doc("readProbe reads n bytes, a multiple of 512, with 64-byte loads.")
	p, n := param("p"), param("n")
	for i := range 8 {
		zero(physical[i])
	}
	Label("loop")
	for i := range 8 {
		VPORD(Mem{Base: p, Disp: 64 * i}, physical[i], physical[i])
		PREFETCHT0(Mem{Base: p, Disp: 64*i + ahead})
	}
	ADDQ(U32(512), p)
	SUBQ(U32(512), n)
	JNZ(LabelRef("loop"))
	for i := 1; i < 8; i++ {
		VPORD(physical[i], physical[0], physical[0])
	}
	returnFloat(reg.X0)
	VZEROUPPER()
	RET()

	peak := func(name, doc string, x isa, mul func(a, b, c reg.VecPhysical)) {
		TEXT(name, NOSPLIT, "func(n int)")
		Doc(doc)
		n := param("n")
		used := across * x.down()
		for i := range used + 2 {
			zero(x.fixed(i))
		}
		Label("loop")
		for i := range used {
			mul(x.fixed(used), x.fixed(used+1), x.fixed(i))
		}
		SUBQ(U8(1), n)
		JNZ(LabelRef("loop"))
		VZEROUPPER()
		RET()
	}
	fma := func(a, b, c reg.VecPhysical) { VFMADD231PS(a, b, c) }
	peak("peakPairsAVX512", "peakPairsAVX512 does n × 24 VDPBF16PS.", isas[0], dotPairs)
	peak("peakAVX512", "peakAVX512 does n × 24 multiplications and additions of 64 bytes.", isas[0], fma)
	peak("peakAVX2", "peakAVX2 does n × 12 multiplications and additions of 32 bytes.", isas[1], fma)
}
