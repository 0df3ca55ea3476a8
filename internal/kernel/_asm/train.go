package main

import (
	"encoding/binary"
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// train writes what training needs: the tiles of Multiply, and its panels.
func train() {
	productTile(isas[0], true, 2)
	for _, x := range isas {
		productTile(x, false, 2)
		productTile(x, false, 1)
	}
	for _, pairs := range []bool{false, true} {
		for _, rows := range []int{12, 16} {
			packRows(rows, pairs)
		}
		packColumns(pairs)
	}
	for _, x := range isas {
		siluBackward(x)
		rmsBackward(x)
		softmaxBackward(x)
		adamW(x)
	}
}

// left and right are how many vectors of each factor a tile has: as many
// products as leave registers for two vectors of the right factor and a few
// elements of the left one.
func (x isa) left() int {
	if x.wide {
		return 12
	}
	return 6
}

// productTile writes the tile of so many vector registers of the right factor.
func productTile(x isa, pairs bool, vectors int) {
	name, doc := "productTile"+x.name, "fused multiplication and addition of float32"
	switch {
	case pairs:
		name, doc = "productTilePairs"+x.name, "VDPBF16PS"
	case vectors == 1:
		name = "productTileNarrow" + x.name
	}
	TEXT(name, NOSPLIT, "func(out *float32, stride int, a, b *uint32, n int, add bool)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s multiplies a panel of %d vectors by one of %d over n words, not 0,", name, x.left(), vectors*x.floats()),
		"by "+doc+". The stride of out is in bytes. With add the sums are added to out.")
	acc := func(i, j int) reg.VecPhysical { return x.fixed(vectors*i + j) }
	used := vectors * x.left()
	var b, broadcast []reg.VecPhysical
	for j := range vectors {
		b = append(b, x.fixed(used+j))
	}
	for i := used + vectors; i < used+vectors+4 && (x.wide || i < 16); i++ {
		broadcast = append(broadcast, x.fixed(i))
	}
	pa, pb, n := param("a"), param("b"), param("n")
	for i := range used {
		zero(x.fixed(i))
	}
	vector := 4 * x.floats()
	step := func(k int) {
		for j := range b {
			VMOVUPS(Mem{Base: pb, Disp: (vectors*k + j) * vector}, b[j])
		}
		for i := range x.left() {
			v := broadcast[i%len(broadcast)]
			VBROADCASTSS(Mem{Base: pa, Disp: 4 * (k*x.left() + i)}, v)
			for j := range b {
				if pairs {
					dotPairs(b[j], v, acc(i, j))
				} else {
					VFMADD231PS(b[j], v, acc(i, j))
				}
			}
		}
	}
	round := func(steps int) {
		for k := range steps {
			step(k)
		}
		ADDQ(U32(4*x.left()*steps), pa)
		ADDQ(U32(vectors*vector*steps), pb)
		SUBQ(U8(steps), n)
	}
	SUBQ(U8(4), n)
	JLT(LabelRef("rest"))
	Label("many")
	round(4)
	JGE(LabelRef("many"))
	Label("rest")
	ADDQ(U8(4), n)
	JZ(LabelRef("done"))
	Label("one")
	round(1)
	JNZ(LabelRef("one"))
	Label("done")

	out, stride := param("out"), param("stride")
	finish := func(add bool) {
		for i := range x.left() {
			for j := range b {
				to := Mem{Base: out, Disp: j * vector}
				if add {
					VADDPS(to, acc(i, j), acc(i, j))
				}
				VMOVUPS(acc(i, j), to)
			}
			if i < x.left()-1 {
				ADDQ(stride, out)
			}
		}
		VZEROUPPER()
		RET()
	}
	CMPB(resolve("add"), U8(0))
	JNE(LabelRef("sum"))
	finish(false)
	Label("sum")
	finish(true)
}

// narrowPairs is VCVTNE2PS2BF16 low, high, out, which the assembler does not
// know: EVEX.512.F2.0F38.W0 72 /r.
func narrowPairs(low, high, out reg.VecPhysical) {
	n := func(r reg.VecPhysical) byte { return byte(r.PhysicalIndex()) }
	inv := func(v, bit byte) byte { return ^v >> bit & 1 }
	bytes := []byte{
		0x62,
		inv(n(out), 3)<<7 | inv(n(low), 4)<<6 | inv(n(low), 3)<<5 | inv(n(out), 4)<<4 | 2,
		(^n(high)&15)<<3 | 1<<2 | 3,
		2<<5 | inv(n(high), 4)<<3,
		0x72,
		3<<6 | n(out)&7<<3 | n(low)&7,
	}
	Comment(fmt.Sprintf("VCVTNE2PS2BF16 Z%d, Z%d, Z%d", n(low), n(high), n(out)))
	Instruction(&ir.Instruction{Opcode: "LONG", Operands: []Op{U32(binary.LittleEndian.Uint32(bytes))}})
	Instruction(&ir.Instruction{Opcode: "WORD", Operands: []Op{U16(binary.LittleEndian.Uint16(bytes[4:]))}})
}

// packRows turns blocks of 16 words of each row, as a matrix is transposed.
func packRows(rows int, pairs bool) {
	name, words := fmt.Sprintf("packRows%dAVX512", rows), "elements"
	if pairs {
		name, words = fmt.Sprintf("packRowsPairs%dAVX512", rows), "pairs of elements, rounded to bfloat16,"
	}
	TEXT(name, NOSPLIT, "func(dst *uint32, step int, x *float32, stride int, n int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s writes n %s of each of %d rows of x, stride bytes apart, so that", name, words, rows),
		"those of one place lie side by side, step bytes from the next ones. n is a multiple of 16 and not 0.")
	dst, step, x, stride, n := param("dst"), param("step"), param("x"), param("stride"), param("n")
	// Row 3i begins at base[i].
	var base []reg.GPVirtual
	for i := range (rows + 2) / 3 {
		p := GP64()
		if i == 0 {
			MOVQ(x, p)
		} else {
			LEAQ(Mem{Base: base[i-1], Index: stride, Scale: 2}, p)
			ADDQ(stride, p)
		}
		base = append(base, p)
	}
	row := func(i, disp int) Mem {
		m := Mem{Base: base[i/3], Disp: disp}
		if i%3 > 0 {
			m.Index, m.Scale = stride, uint8(i%3)
		}
		return m
	}
	mask := K()
	if rows < 16 {
		r := GP32()
		MOVL(U32(1<<rows-1), r)
		KMOVW(r, mask)
	}
	z := physical
	Label("loop")
	for i := range 16 {
		switch {
		case i >= rows:
			zero(z[i])
		case pairs:
			VMOVUPS(row(i, 0), z[16])
			VMOVUPS(row(i, 64), z[17])
			narrowPairs(z[16], z[17], z[i])
		default:
			VMOVUPS(row(i, 0), z[i])
		}
	}
	for i := 0; i < 16; i += 2 {
		VUNPCKLPS(z[i+1], z[i], z[16+i])
		VUNPCKHPS(z[i+1], z[i], z[17+i])
	}
	// Then z[4g+j] has, in its quarter q, the words 4q+j of rows 4g to 4g+3.
	for g := 0; g < 16; g += 4 {
		t := z[16+g:]
		VUNPCKLPD(t[2], t[0], z[g])
		VUNPCKHPD(t[2], t[0], z[g+1])
		VUNPCKLPD(t[3], t[1], z[g+2])
		VUNPCKHPD(t[3], t[1], z[g+3])
	}
	const even, odd = 0x88, 0xDD // quarters 0 and 2, 1 and 3, of two registers
	for j := range 4 {
		VSHUFF32X4(U8(even), z[4+j], z[j], z[16])
		VSHUFF32X4(U8(even), z[12+j], z[8+j], z[17])
		VSHUFF32X4(U8(odd), z[4+j], z[j], z[18])
		VSHUFF32X4(U8(odd), z[12+j], z[8+j], z[19])
		// Words j, 8+j, 4+j, 12+j.
		VSHUFF32X4(U8(even), z[17], z[16], z[20+j])
		VSHUFF32X4(U8(odd), z[17], z[16], z[24+j])
		VSHUFF32X4(U8(even), z[19], z[18], z[28+j])
		VSHUFF32X4(U8(odd), z[19], z[18], z[j])
	}
	for _, r := range []int{20, 28, 24, 0} {
		for j := range 4 {
			to := Mem{Base: dst}
			if rows < 16 {
				VMOVUPS(z[r+j], mask, to)
			} else {
				VMOVUPS(z[r+j], to)
			}
			ADDQ(step, dst)
		}
	}
	advance := 64
	if pairs {
		advance = 128
	}
	for _, p := range base {
		ADDQ(U32(advance), p)
	}
	SUBQ(U8(16), n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

func packColumns(pairs bool) {
	name, words := "packColumnsAVX512", "rows of x, stride bytes apart,"
	if pairs {
		name, words = "packColumnsPairsAVX512", "pairs of rows of x, all stride bytes apart, as pairs of bfloat16"
	}
	TEXT(name, NOSPLIT, "func(dst *uint32, step int, x *float32, stride int, n int, lanes int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s writes the first lanes ≤ 16 elements of n %s", name, words), "step bytes apart.")
	dst, step, x, stride, n, lanes := param("dst"), param("step"), param("x"), param("stride"), param("n"), param("lanes")
	mask, one := K(), GP64()
	MOVQ(U32(1), one)
	SHLXQ(lanes, one, one)
	DECQ(one)
	KMOVW(one.As32(), mask)
	z := physical
	if pairs {
		VMOVDQU32(table("interleave", 16, func(i int) uint32 { return uint32(i) | uint32(16+i)<<16 }), z[3])
	}
	Label("loop")
	VMOVUPS_Z(Mem{Base: x}, mask, z[0])
	ADDQ(stride, x)
	if pairs {
		VMOVUPS_Z(Mem{Base: x}, mask, z[1])
		ADDQ(stride, x)
		narrowPairs(z[0], z[1], z[2])
		VPERMW(z[2], z[3], z[0])
	}
	VMOVUPS(z[0], mask, Mem{Base: dst})
	ADDQ(step, dst)
	DECQ(n)
	JNZ(LabelRef("loop"))
	VZEROUPPER()
	RET()
}

// siluBackward takes σ(g) as exp(min(g,0)) / (1 + exp(−|g|)), as silu does.
func siluBackward(x isa) {
	begin(x, "siluBackward", "gate, up, dy *float32, n int", "replaces gate and up by the gradients for them, and dy by gate·σ(gate)·up.")
	gate, up, dy, n := x.stream("gate", f32), x.stream("up", f32), x.stream("dy", f32), param("n")
	e := x.exponential()
	sign := x.constant(1 << 31)
	loop(x.floats(), n, func() {
		g, v, sigma, silu := x.vec(), x.vec(), x.vec(), x.vec()
		VMOVUPS(gate.at(0), g)
		if x.wide {
			VPORD(sign, g, v)
		} else {
			VORPS(sign, g, v)
		}
		e.apply(v)
		VMOVUPS(e.one, sigma)
		if x.wide {
			m := K()
			VPMOVD2M(g, m)
			x.where(m, v, sigma)
		} else {
			x.where(g, v, sigma)
		}
		VADDPS(e.one, v, v)
		VDIVPS(v, sigma, sigma)
		VMULPS(sigma, g, silu)
		// The slope, in v.
		VMOVUPS(e.one, v)
		VSUBPS(sigma, v, v)
		VMULPS(silu, v, v)
		VADDPS(sigma, v, v)
		d, t := x.vec(), x.vec()
		VMOVUPS(dy.at(0), d)
		VMULPS(up.at(0), d, t)
		VMULPS(v, t, t)
		VMOVUPS(t, gate.at(0))
		VMULPS(up.at(0), silu, t)
		VMOVUPS(t, dy.at(0))
		VMULPS(silu, d, d)
		VMOVUPS(d, up.at(0))
	}, gate, up, dy)
}

func rmsBackward(x isa) {
	begin(x, "rmsBackward", "dx, dw, x, dy, t *float32, s, c float32, n int", "adds s·t − c·x to dx and dy·(x·s) to dw.")
	dx, dw, u, dy, t, n := x.stream("dx", f32), x.stream("dw", f32), x.stream("x", f32), x.stream("dy", f32), x.stream("t", f32), param("n")
	s, c := x.broadcast("s"), x.broadcast("c")
	loop(x.floats(), n, func() {
		a, b, v := x.vec(), x.vec(), x.vec()
		VMOVUPS(u.at(0), v)
		VMULPS(t.at(0), s, a)
		VMULPS(v, c, b)
		VSUBPS(b, a, a)
		VADDPS(dx.at(0), a, a)
		VMOVUPS(a, dx.at(0))
		VMULPS(s, v, v)
		VMULPS(dy.at(0), v, v)
		VADDPS(dw.at(0), v, v)
		VMOVUPS(v, dw.at(0))
	}, dx, dw, u, dy, t)
}

func softmaxBackward(x isa) {
	begin(x, "softmaxBackward", "d, p *float32, c float32, n int", "replaces d by p·(d − c).")
	d, p, n := x.stream("d", f32), x.stream("p", f32), param("n")
	c := x.broadcast("c")
	loop(x.floats(), n, func() {
		v := x.vec()
		VMOVUPS(d.at(0), v)
		VSUBPS(c, v, v)
		VMULPS(p.at(0), v, v)
		VMOVUPS(v, d.at(0))
	}, d, p)
}

func adamW(x isa) {
	begin(x, "adamW", "w, m, v, dw *float32, o *[7]float32, c1, c2 float32, n int", "does a step of AdamW, whose fields are o, with 1 − Beta1 and 1 − Beta2.")
	w, m, v, g, n := x.stream("w", f32), x.stream("m", f32), x.stream("v", f32), x.stream("dw", f32), param("n")
	o := param("o")
	// The fields of AdamW, in their order; c1 and c2 are 1 − Beta1 and 1 − Beta2.
	var field [7]func() Op
	for i := range field {
		at := Mem{Base: o, Disp: 4 * i}
		if x.wide {
			r := x.vec()
			VBROADCASTSS(at, r)
			field[i] = func() Op { return r }
		} else {
			field[i] = func() Op {
				r := x.vec()
				VBROADCASTSS(at, r)
				return r
			}
		}
	}
	scale, decay, beta1, beta2, rate, root, epsilon := field[0], field[1], field[2], field[3], field[4], field[5], field[6]
	c1, c2 := x.broadcast("c1"), x.broadcast("c2")
	loop(x.floats(), n, func() {
		d, a, b, t := x.vec(), x.vec(), x.vec(), x.vec()
		VMOVUPS(g.at(0), d)
		VMULPS(scale(), d, d)
		VMOVUPS(m.at(0), a)
		VMULPS(beta1(), a, a)
		VMULPS(d, c1, t)
		VADDPS(t, a, a)
		VMOVUPS(a, m.at(0))
		VMOVUPS(v.at(0), b)
		VMULPS(beta2(), b, b)
		VMULPS(d, d, d)
		VMULPS(d, c2, d)
		VADDPS(d, b, b)
		VMOVUPS(b, v.at(0))
		VSQRTPS(b, b)
		VMULPS(root(), b, b)
		VADDPS(epsilon(), b, b)
		VMULPS(rate(), a, a)
		VDIVPS(b, a, a)
		VMOVUPS(w.at(0), t)
		VMULPS(decay(), t, t)
		VSUBPS(a, t, t)
		VMOVUPS(t, w.at(0))
	}, w, m, v, g)
}
