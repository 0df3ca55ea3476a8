package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/reg"
)

// mix writes the formula on float32.
func mix() {
	for _, x := range isas {
		mix32(x)
		mixPerOp32(x)
	}
}

// differ compares a and s. The mask says where they are not equal for AVX-512,
// which can then leave those elements alone, and where they are for AVX2.
func (x isa) differ(a, s reg.VecVirtual, m mask) {
	if x.wide {
		x.compare(neqUnordered, a, s, m)
	} else {
		x.compare(eqOrdered, a, s, m)
	}
}

// extrapolate sets v = a + alpha·(a−s), each operation rounded to float32, or a
// where a == s; d = a−s, and m as differ does. It destroys s.
func (x isa) extrapolate(a, s, v, d reg.VecVirtual, m mask, alpha func(reg.VecVirtual) reg.VecVirtual) {
	VSUBPS(s, a, d)
	x.differ(a, s, m)
	VMULPS(alpha(s), d, s)
	if x.wide {
		VMOVAPS(a, v)
		VADDPS(s, a, m, v)
	} else {
		VADDPS(s, a, v)
		x.where(m, a, v)
	}
}

// extrapolatePerOp sets v to the same formula rounded to BF16 after each
// operation except the last, for a and s that are BF16 values, and d =
// float32(a−s). It destroys s. Every NaN that comes up has a lower half of zero.
func (r *rounder) extrapolatePerOp(a, s, v, d reg.VecVirtual, alpha func(reg.VecVirtual) reg.VecVirtual) {
	VSUBPS(s, a, d)
	VMOVAPS(d, v)
	r.nearestBF16(v)
	r.and(r.upper, v, v)
	VMULPS(alpha(s), v, v)
	r.nearestBF16(v)
	r.and(r.upper, v, v)
	VADDPS(v, a, v)
}

func mix32(x isa) {
	TEXT("mix"+x.name, NOSPLIT, "func(r, a, s *float32, alpha float32, n int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("mix%s is the loop of Mix32.", x.name))
	r, a, s, n := x.stream("r", f32), x.stream("a", f32), x.stream("s", f32), param("n")
	alpha := x.alpha()
	rd := x.rounder(f32, true)
	loop(x.floats(), n, func() {
		va, vs, v, d := x.vec(), x.vec(), x.vec(), x.vec()
		VMOVUPS(a.at(0), va)
		VMOVUPS(s.at(0), vs)
		x.extrapolate(va, vs, v, d, x.mask(), alpha)
		rd.store(r, false, rd.round(v))
	}, r, a, s)
}

func mixPerOp32(x isa) {
	TEXT("mixPerOp"+x.name, NOSPLIT, "func(r, a, s *float32, alpha float32, n int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("mixPerOp%s is the loop of MixPerOp32. If alpha is NaN, its lower half is zero.", x.name))
	r, a, s, n := x.stream("r", f32), x.stream("a", f32), x.stream("s", f32), param("n")
	alpha := x.alpha()
	rd := x.rounder(bf16, true)
	loop(x.floats(), n, func() {
		va, vs, v, d := x.vec(), x.vec(), x.vec(), x.vec()
		VMOVUPS(a.at(0), va)
		rd.back(rd.round(va), va)
		VMOVUPS(s.at(0), vs)
		rd.back(rd.round(vs), vs)
		rd.extrapolatePerOp(va, vs, v, d, alpha)
		rd.back(rd.round(v), v)
		VMOVUPS(v, r.at(0))
	}, r, a, s)
}
