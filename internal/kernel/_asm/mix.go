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

// extrapolate is r = a + alpha·(a−s) with each operation rounded to float32, and
// a where a == s. It returns d = a−s too, and where the two are equal (AVX2) or
// not equal (AVX-512).
func (x isa) extrapolate(a, s reg.VecVirtual, alpha func() reg.VecVirtual) (r, d reg.VecVirtual, m mask) {
	r, d = x.vec(), x.vec()
	VSUBPS(s, a, d)
	p := x.vec()
	VMULPS(alpha(), d, p)
	if x.wide {
		m = x.compare(neqUnordered, a, s, nil)
		VMOVAPS(a, r)
		VADDPS(p, a, m, r)
	} else {
		m = x.compare(eqOrdered, a, s, nil)
		VADDPS(p, a, r)
		x.where(m, a, r)
	}
	return r, d, m
}

// extrapolatePerOp is the same formula rounded to BF16 after each operation, for
// a and s that are BF16 values, without the last rounding. d is float32(a−s).
// Every NaN that comes up has a lower half of zero.
func (r *rounder) extrapolatePerOp(a, s reg.VecVirtual, alpha func() reg.VecVirtual) (v, d reg.VecVirtual) {
	d, v = r.vec(), r.vec()
	VSUBPS(s, a, d)
	t := r.vec()
	VMOVAPS(d, t)
	r.nearestBF16(t)
	VPAND2(r.wide, r.upper, t, t)
	VMULPS(alpha(), t, t)
	r.nearestBF16(t)
	VPAND2(r.wide, r.upper, t, t)
	VADDPS(t, a, v)
	return v, d
}

func mix32(x isa) {
	TEXT("mix"+x.name, NOSPLIT, "func(r, a, s *float32, alpha float32, n int)")
	Doc(fmt.Sprintf("mix%s is the loop of Mix32.", x.name))
	r, a, s, n := pointer("r"), pointer("a"), pointer("s"), pointer("n")
	alpha := x.hoistAlpha()
	rd := x.rounder(f32, false)
	loop(n, x.floats(), []reg.Register{r, a, s}, []int{4, 4, 4}, func() {
		v, _, _ := x.extrapolate(x.load(f32, x.at(a, 0, 4)), x.load(f32, x.at(s, 0, 4)), alpha)
		rd.store(r, rd.round(v))
	})
}

func mixPerOp32(x isa) {
	TEXT("mixPerOp"+x.name, NOSPLIT, "func(r, a, s *float32, alpha float32, n int)")
	Doc(fmt.Sprintf("mixPerOp%s is the loop of MixPerOp32. alpha has a lower half of zero if NaN.", x.name))
	r, a, s, n := pointer("r"), pointer("a"), pointer("s"), pointer("n")
	alpha := x.hoistAlpha()
	rd := x.rounder(bf16, true)
	loop(n, x.floats(), []reg.Register{r, a, s}, []int{4, 4, 4}, func() {
		va := rd.back(rd.round(x.load(f32, x.at(a, 0, 4))))
		vs := rd.back(rd.round(x.load(f32, x.at(s, 0, 4))))
		v, _ := rd.extrapolatePerOp(va, vs, alpha)
		VMOVUPS(rd.back(rd.round(v)), x.at(r, 0, 4))
	})
}
