package main

import (
	"encoding/binary"
	"fmt"

	"github.com/mmcloughlin/avo/attr"
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

// tiles is a function on its way that multiplies vectors, up to down at a time,
// with groups of four rows. Each product has one register, whose lane l takes
// elements l, l + lanes, ... in order; in the end the lanes are added as add4
// says.
type tiles struct {
	isa
	f      format
	pairs  bool
	wstep  int // bytes of one step along a row of w
	labels int

	xbase, xs, wbase, ws reg.Register
	// Of this group: where the next tile's results go and what it fetches, how many
	// tiles are left, their size, and after how many it falls by one.
	out, fetch, left, size, until Mem
	next, done                    string // labels behind a tile and behind all
}

func (t *tiles) label(s string) string {
	t.labels++
	return fmt.Sprintf("%s%d", s, t.labels)
}

func tile(x isa, f format, pairs bool) {
	kind, doc, xtype, shift := f.name, "fused multiply and add", "float32", ""
	if pairs {
		kind, doc, xtype, shift = "Pairs"+f.name, "VDPBF16PS", "byte", ", shift"
	}
	name := "tile" + kind + x.name
	t := &tiles{isa: x, f: f, pairs: pairs, wstep: x.floats() * f.width}
	if pairs {
		t.wstep *= 2
	}

	TEXT(name, NOSPLIT, fmt.Sprintf("func(m, larger, tiles int, out *float32, stride int, x *%s, xs, xskip int, w *byte, ws int, tail *byte, steps, part, groups int, add bool, ahead, last, share, pace%s int)", xtype, shift))
	Pragma("noescape")
	lines := []string{
		fmt.Sprintf("%s multiplies vectors x with groups of 4 rows of w by %s,", name, doc),
		fmt.Sprintf("%d bytes of x and %d of w in a step. All tiles finish a group before the next: the first", 4*x.floats(), t.wstep),
		fmt.Sprintf("larger ones have m ≤ %d vectors, the others m-1. Strides are in bytes. If tail is not nil,", x.down()),
		"each row goes on with the 64 bytes that tail has for it. With add the results are added",
		"to out, and so are those of the second and later parts, if there are more steps than are",
		"in a part; xskip bytes lie between two parts of x. What lies ahead bytes from the rows of",
		"a group, last bytes from those of the last one, is prefetched: each tile begins share",
		"bytes behind the one before and goes on by pace in a step.",
	}
	if pairs {
		lines = append(lines, "", "If shift is not 0, all rows begin shift bytes, an even number, behind the start of a",
			"cache line, have no tail, and are read by lines. Where there are several tiles, each has",
			fmt.Sprintf("%d vectors or more.", x.down()/2))
	}
	Doc(lines...)

	t.ws, t.xs, t.wbase, t.xbase = param("ws"), param("xs"), param("w"), GP64()
	t.out, t.fetch, t.left, t.size, t.until = AllocLocal(8), AllocLocal(8), AllocLocal(8), AllocLocal(8), AllocLocal(8)
	t.next, t.done = t.label("next"), t.label("done")
	g := GP64()
	set := func(local Mem, name string) {
		Load(Param(name), g)
		MOVQ(g, local)
	}

	group, more, begin := t.label("group"), t.label("more"), t.label("begin")
	if pairs {
		// The words of two lines that are one vector.
		words := GLOBL("words", attr.RODATA|attr.NOPTR)
		for i := range 64 {
			DATA(2*i, U16(i))
		}
		LEAQ(words, g)
		Load(Param("shift"), t.xbase)
		SUBQ(t.xbase, t.wbase)
		VMOVDQU16(Mem{Base: g, Index: t.xbase, Scale: 1}, t.shift())
	}
	Label(group)
	Load(Param("x"), t.xbase)
	set(t.out, "out")
	set(t.left, "tiles")
	set(t.size, "m")
	set(t.until, "larger")
	Load(Param("ahead"), g)
	CMPQ(resolve("groups"), U8(1))
	JNE(LabelRef(more))
	Load(Param("last"), g)
	Label(more)
	ADDQ(t.wbase, g)
	MOVQ(g, t.fetch)

	Label(begin)
	MOVQ(t.size, g)
	if pairs {
		several, shifted := t.label("several"), t.label("shifted")
		CMPQ(resolve("tiles"), U8(1))
		JNE(LabelRef(several))
		t.variants(g, 1, way{})
		Label(several)
		CMPQ(resolve("shift"), U8(0))
		JNE(LabelRef(shifted))
		t.variants(g, x.down()/2, way{spread: true})
		Label(shifted)
		t.variants(g, x.down()/2, way{spread: true, shifted: true})
	} else {
		t.variants(g, 1, way{})
	}

	Label(t.next)
	SUBQ(U8(1), t.left)
	end, same := t.label("end"), t.label("same")
	JZ(LabelRef(end))
	Load(Param("share"), g)
	ADDQ(g, t.fetch)
	SUBQ(U8(1), t.until)
	JNZ(LabelRef(same))
	SUBQ(U8(1), t.size)
	Label(same)
	JMP(LabelRef(begin))

	Label(end)
	t.group(group)
	Label(t.done)
	VZEROUPPER()
	RET()
}

// shift is the register that holds how to shift two lines.
func (t *tiles) shift() reg.VecPhysical { return t.fixed(31) }

// A way is how a tile reads rows.
type way struct {
	// spread is for one tile among several: it fetches as many lines as one that is
	// alone does in half the time at most, between products, since of requests in a
	// row those that the processor has no room for are lost.
	spread bool
	// shifted rows are read by lines, since loads that cross lines take that room.
	shifted bool
}

// variants goes to the one for m ≥ least vectors.
func (t *tiles) variants(m reg.Register, least int, how way) {
	labels := map[int]string{}
	for i := least; i <= t.down(); i++ {
		labels[i] = t.label("m")
		if i < t.down() {
			CMPQ(m, U8(i))
			JEQ(LabelRef(labels[i]))
		}
	}
	for i := t.down(); i >= least; i-- {
		Label(labels[i])
		t.of(i, how)
	}
}

// of writes the variant for a tile of m vectors.
func (t *tiles) of(m int, how way) {
	xstep := 4 * t.floats()
	acc := func(i, r int) reg.VecPhysical { return t.fixed(i*across + r) }

	xp, wp, next := newRows(m, t.xs), newRows(across, t.ws), newRows(across, t.ws)
	// left is how many steps follow after this part, k how many in it.
	left, k, a := GP64(), GP64(), GP64()

	own, begin := t.label("own"), t.label("part")
	alone := t.pairs && !how.spread
	if alone {
		Label(own)
		Load(Param("ahead"), a)
		ADDQ(t.wbase, a)
	} else {
		MOVQ(t.fetch, a)
	}
	xp.start(t.xbase)
	wp.start(t.wbase)
	next.start(a)
	Load(Param("steps"), left)
	Label(begin)
	for i := range m * across {
		zero(t.fixed(i))
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
		then := func(j, i int) {}
		if how.spread {
			then = func(j, i int) {
				for r := range across {
					if at := r * m * n / across; at/m == j && at%m == i {
						PREFETCHT0(next.at(r, 0))
					}
				}
			}
		}
		for j := range n {
			t.products(m, acc, xp, j, func(r int) Mem { return wp.at(r, j*t.wstep) }, how, then)
		}
		if !how.spread {
			// As many lines as w has in this many steps, if this tile fetches all.
			fetched := t.label("fetched")
			lines := max(1, n*t.wstep/64)
			for j := range lines {
				if j == 1 && !t.pairs {
					CMPQ(resolve("pace"), U8(64))
					JLT(LabelRef(fetched))
				}
				for r := range across {
					PREFETCHT0(next.at(r, 64*j))
				}
			}
			if lines > 1 && !t.pairs {
				Label(fetched)
			}
		}
		for range n {
			ADDQ(resolve("pace"), next.base)
			ADDQ(resolve("pace"), next.third)
		}
		xp.advance(n * xstep)
		wp.advance(n * t.wstep)
		SUBQ(U8(n), k)
	}
	many, one, rest, done := t.label("many"), t.label("one"), t.label("rest"), t.label("done")
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

	if !how.shifted {
		// The tail: one step from other memory, after the last part.
		whole := t.label("whole")
		TESTQ(left, left)
		JNZ(LabelRef(whole))
		Load(Param("tail"), a)
		TESTQ(a, a)
		JZ(LabelRef(whole))
		t.products(m, acc, xp, 0, func(r int) Mem { return Mem{Base: a, Disp: 64 * r} }, way{}, func(j, i int) {})
		Label(whole)
	}

	sum, end, last := t.label("sum"), t.label("added"), t.label("last")
	finish := func(add bool) {
		if alone {
			Load(Param("out"), a)
		} else {
			MOVQ(t.out, a)
		}
		for i := range m {
			v := t.add4(acc(i, 0), acc(i, 1), acc(i, 2), acc(i, 3))
			if add {
				VADDPS(Mem{Base: a}, v, v)
			}
			VMOVUPS(v, Mem{Base: a})
			ADDQ(resolve("stride"), a)
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
	ADDQ(resolve("xskip"), xp.base)
	if xp.third != nil {
		ADDQ(resolve("xskip"), xp.third)
	}
	JMP(LabelRef(begin))

	Label(last)
	single := t.label("single")
	// What was added because of parts starts afresh.
	Load(Param("part"), k)
	CMPQ(k, resolve("steps"))
	JGE(LabelRef(single))
	MOVB(U8(0), resolve("add"))
	Label(single)
	if alone {
		t.group(own)
		JMP(LabelRef(t.done))
		return
	}
	MOVQ(a, t.out)
	IMUL3Q(U8(m), t.xs, a)
	ADDQ(a, t.xbase)
	JMP(LabelRef(t.next))
}

// group goes to label with the next group of rows if there is one.
func (t *tiles) group(label string) {
	ADDQ(U8(4*across), resolve("out"))
	LEAQ(Mem{Base: t.wbase, Index: t.ws, Scale: across}, t.wbase)
	none := t.label("none")
	CMPQ(resolve("tail"), U8(0))
	JEQ(LabelRef(none))
	ADDQ(U32(64*across), resolve("tail"))
	Label(none)
	SUBQ(U8(1), resolve("groups"))
	JNZ(LabelRef(label))
}

// products multiplies the j-th step from xp on with the rows that w says, which
// are in the two lines from there on if they are shifted, and goes on to then
// after each vector.
func (t *tiles) products(m int, acc func(i, r int) reg.VecPhysical, xp rows, j int, w func(r int) Mem, how way, then func(j, i int)) {
	xstep := 4 * t.floats()
	mul := func(a, b, c reg.VecPhysical) {
		if t.pairs {
			dotPairs(a, b, c)
		} else {
			VFMADD231PS(a, b, c)
		}
	}
	if t.wide {
		for r := range across {
			t.widenTo(t.f, t.pairs, w(r), t.fixed(24+r))
			if how.shifted {
				VPERMT2W(w(r).Offset(64), t.shift(), t.fixed(24+r))
			}
		}
		for i := range m {
			v := t.fixed(28 + i%3)
			VMOVUPS(xp.at(i, j*xstep), v)
			for r := range across {
				mul(t.fixed(24+r), v, acc(i, r))
			}
			then(j, i)
		}
		return
	}
	// There is one register for w.
	for i := range m {
		VMOVUPS(xp.at(i, j*xstep), t.fixed(12+i))
	}
	for r := range across {
		t.widenTo(t.f, t.pairs, w(r), t.fixed(15))
		for i := range m {
			mul(t.fixed(15), t.fixed(12+i), acc(i, r))
		}
	}
	for i := range m {
		then(j, i)
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
