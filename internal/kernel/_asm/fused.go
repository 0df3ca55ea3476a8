package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// fused writes the loops that go from stored bytes to stored bytes in one pass.
func fused() {
	for _, x := range isas {
		for _, f := range []format{bf16, f16, f32} {
			onePass(x, f, false, false)
			onePass(x, f, false, true)
		}
		onePass(x, bf16, true, false)
		onePass(x, bf16, true, true)
	}
}

func onePass(x isa, f format, perOp, stats bool) {
	name := "fused" + f.name
	if perOp {
		name = "fusedPerOp"
	}
	sig := "func(dst, a, s *byte, alpha float32, n int)"
	doc := "extrapolates n elements"
	if stats {
		name += "Stats"
		sig = "func(sums *[4][8]float64, counts *[2]int64, dst, a, s *byte, alpha float32, n int)"
		doc += " and measures them as measure" + x.name + " does"
	}
	name += x.name
	TEXT(name, NOSPLIT, sig)
	Doc(fmt.Sprintf("%s %s.", name, doc))

	dst, a, s, n := pointer("dst"), pointer("a"), pointer("s"), pointer("n")
	alpha := x.hoistAlpha()
	r := x.rounder(f, stats || perOp)
	var t *tally
	if stats {
		t = x.tally(n)
	}

	Label("loop")
	var vs []reg.VecVirtual
	for j := range x.unroll() {
		va, vsft := x.load(f, x.at(a, j, f.width)), x.load(f, x.at(s, j, f.width))
		var v, d reg.VecVirtual
		var m mask
		if perOp {
			v, d = r.extrapolatePerOp(va, vsft, alpha)
			if stats {
				m = t.unequal(va, vsft)
			}
		} else {
			v, d, m = x.extrapolate(va, vsft, alpha)
		}
		v = r.round(v)
		if stats {
			t.add(va, d, r.back(v), m)
		}
		vs = append(vs, v)
	}
	r.store(dst, vs...)
	step := x.floats() * x.unroll()
	for _, p := range []reg.Register{dst, a, s} {
		ADDQ(U32(step*f.width), p)
	}
	SUBQ(U32(step), n)
	JNZ(LabelRef("loop"))
	if stats {
		t.end()
		return
	}
	VZEROUPPER()
	RET()
}
