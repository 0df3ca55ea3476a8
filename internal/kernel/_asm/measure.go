package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// measure writes the statistics of float32 arrays.
func measure() {
	for _, x := range isas {
		TEXT("measure"+x.name, NOSPLIT, "func(sums *[4][8]float64, counts *[2]int64, a, s, out *float32, n int)")
		Doc(fmt.Sprintf("measure%s adds n elements to sums and counts, all of them taken to be finite.", x.name))
		a, s, out, n := pointer("a"), pointer("s"), pointer("out"), pointer("n")
		t := x.tally(n)
		Label("loop")
		va, vs := x.load(f32, x.at(a, 0, 4)), x.load(f32, x.at(s, 0, 4))
		d := x.vec()
		VSUBPS(vs, va, d)
		t.add(va, d, x.load(f32, x.at(out, 0, 4)), t.unequal(va, vs))
		for _, p := range []reg.Register{a, s, out} {
			ADDQ(U32(4*x.floats()), p)
		}
		SUBQ(U32(x.floats()), n)
		JNZ(LabelRef("loop"))
		t.end()
	}
}

// tally is the statistics inside a loop: the sums of delta2, aligned2, step2 and
// stepDelta, in one register of 8 lanes for AVX-512 and in two of 4 for AVX2,
// and the counts.
type tally struct {
	isa
	sums [4][]reg.VecVirtual

	// AVX-512 counts unequal elements in a vector and subtracts them from the
	// number of all; AVX2, short of vector registers, counts equal ones.
	ones             Op
	unequals         reg.VecVirtual
	swalloweds       reg.VecVirtual
	equal, swallowed reg.Register
}

// tally loads the sums. n is the number of elements to come.
func (x isa) tally(n reg.Register) *tally {
	t := &tally{isa: x}
	sums := pointer("sums")
	parts := 1
	if !x.wide {
		parts = 2
	}
	for i := range t.sums {
		for j := range parts {
			v := x.vec()
			VMOVUPD(Mem{Base: sums, Disp: 64*i + 32*j}, v)
			t.sums[i] = append(t.sums[i], v)
		}
	}
	t.equal, t.swallowed = GP64(), GP64()
	if x.wide {
		MOVQ(n, t.equal)
		t.ones = x.constant(1)
		t.unequals, t.swalloweds = x.vec(), x.vec()
		VPXORD(t.unequals, t.unequals, t.unequals)
		VPXORD(t.swalloweds, t.swalloweds, t.swalloweds)
	} else {
		XORQ(t.equal, t.equal)
		XORQ(t.swallowed, t.swallowed)
	}
	return t
}

// unequal is the mask that add takes: where a and s are not equal for AVX-512,
// where they are for AVX2.
func (t *tally) unequal(a, s reg.VecVirtual) mask {
	if t.wide {
		return t.compare(neqUnordered, a, s, nil)
	}
	return t.compare(eqOrdered, a, s, nil)
}

// add takes in one vector; m is as from unequal.
func (t *tally) add(a, d, out reg.VecVirtual, m mask) {
	if t.wide {
		VPADDD(t.ones, t.unequals, m, t.unequals)
		same := t.compare(eqOrdered, out, a, m)
		VPADDD(t.ones, t.swalloweds, same, t.swalloweds)
	} else {
		bits := GP32()
		VMOVMSKPS(m, bits)
		POPCNTL(bits, bits)
		ADDQ(bits.As64(), t.equal)
		same := t.compare(eqOrdered, out, a, nil)
		VANDNPS(same, m, same)
		bits = GP32()
		VMOVMSKPS(same, bits)
		POPCNTL(bits, bits)
		ADDQ(bits.As64(), t.swallowed)
	}
	e := t.vec()
	VSUBPS(a, out, e)
	for j := range 2 {
		k := 0
		if !t.wide {
			k = j
		}
		wd := t.double(d, j)
		VFMADD231PD(wd, wd, t.sums[0][k])
		wa := t.double(a, j)
		VFMADD231PD(wa, wa, t.sums[1][k])
		we := t.double(e, j)
		VFMADD231PD(we, we, t.sums[2][k])
		VFMADD231PD(wd, we, t.sums[3][k])
	}
}

// double is the lower (0) or upper (1) half of v as float64.
func (t *tally) double(v reg.VecVirtual, half int) reg.VecVirtual {
	w := t.vec()
	switch {
	case half == 0 && t.wide:
		VCVTPS2PD(v.AsY(), w)
	case half == 0:
		VCVTPS2PD(v.AsX(), w)
	case t.wide:
		h := YMM()
		VEXTRACTF32X8(U8(1), v, h)
		VCVTPS2PD(h, w)
	default:
		h := XMM()
		VEXTRACTF128(U8(1), v, h)
		VCVTPS2PD(h, w)
	}
	return w
}

// end stores everything and returns.
func (t *tally) end() {
	sums, counts := pointer("sums"), pointer("counts")
	for i := range t.sums {
		for j, v := range t.sums[i] {
			VMOVUPD(v, Mem{Base: sums, Disp: 64*i + 32*j})
		}
	}
	if t.wide {
		SUBQ(total(t.unequals), t.equal)
		t.swallowed = total(t.swalloweds)
	}
	ADDQ(t.equal, Mem{Base: counts})
	ADDQ(t.swallowed, Mem{Base: counts, Disp: 8})
	VZEROUPPER()
	RET()
}

// total is the sum of the 16 elements of v, which it destroys.
func total(v reg.VecVirtual) reg.Register {
	h, q, n := YMM(), XMM(), GP32()
	VEXTRACTI64X4(U8(1), v, h)
	VPADDD(h, v.AsY(), h)
	VEXTRACTI128(U8(1), h, q)
	VPADDD(q, h.AsX(), q)
	VPHADDD(q, q, q)
	VPHADDD(q, q, q)
	VMOVD(q, n)
	return n.As64()
}
