package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// attention writes the weighted sums of values.
func attention() {
	for _, x := range isas {
		for _, f := range []format{bf16, f16, f32} {
			weigh(x, f)
		}
	}
}

// weigh writes the sums for up to down queries and four vectors of a value. Each
// element of a sum has its own place in a register, to which key after key is
// added.
func weigh(x isa, f format) {
	name := "weigh" + f.name + x.name
	TEXT(name, NOSPLIT, "func(queries, vectors int, out *float32, os int, p *float32, ps int, v *byte, vs int, keys int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s adds p[i][j]·v[j] to out[i] for keys j and queries i < %d, for vectors ≤ 4 of", name, x.down()+1),
		fmt.Sprintf("%d elements, by fused multiply and add. Strides are in bytes.", x.floats()))
	queries, vectors := param("queries"), param("vectors")
	for q := x.down(); q >= 1; q-- {
		for c := across; c >= 1; c-- {
			if c == across {
				Label(fmt.Sprintf("q%d", q))
				if q > 1 {
					CMPQ(queries, U8(q))
					JNE(LabelRef(fmt.Sprintf("q%d", q-1)))
				}
			} else {
				Label(fmt.Sprintf("q%dv%d", q, c))
			}
			if c > 1 {
				CMPQ(vectors, U8(c))
				JNE(LabelRef(fmt.Sprintf("q%dv%d", q, c-1)))
			}
			weighOf(x, f, q, c)
		}
	}
}

func weighOf(x isa, f format, q, c int) {
	acc := func(i, j int) reg.VecPhysical { return x.fixed(i*across + j) }
	wstep, ostep := x.floats()*f.width, 4*x.floats()
	each := func(do func(i, j int, m Mem)) {
		out := param("out")
		for i := range q {
			for j := range c {
				do(i, j, Mem{Base: out, Disp: j * ostep})
			}
			if i < q-1 {
				ADDQ(resolve("os"), out)
			}
		}
	}
	each(func(i, j int, m Mem) { VMOVUPS(m, acc(i, j)) })
	v, vs, keys := param("v"), param("vs"), param("keys")
	p := newRows(q, param("ps"))
	p.start(param("p"))
	loop := fmt.Sprintf("loop%d%d", q, c)
	Label(loop)
	at := func(j int) Mem { return Mem{Base: v, Disp: j * wstep} }
	if x.wide {
		for j := range c {
			x.widenTo(f, false, at(j), x.fixed(24+j))
		}
		for i := range q {
			b := x.fixed(28 + i%4)
			VBROADCASTSS(p.at(i, 0), b)
			for j := range c {
				VFMADD231PS(x.fixed(24+j), b, acc(i, j))
			}
		}
	} else {
		for i := range q {
			VBROADCASTSS(p.at(i, 0), x.fixed(12+i))
		}
		for j := range c {
			x.widenTo(f, false, at(j), x.fixed(15))
			for i := range q {
				VFMADD231PS(x.fixed(15), x.fixed(12+i), acc(i, j))
			}
		}
	}
	p.advance(4)
	ADDQ(vs, v)
	SUBQ(U8(1), keys)
	JNZ(LabelRef(loop))
	each(func(i, j int, m Mem) { VMOVUPS(acc(i, j), m) })
	VZEROUPPER()
	RET()
}
