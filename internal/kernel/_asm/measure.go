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
		Pragma("noescape")
		Doc(fmt.Sprintf("measure%s adds n elements to sums and counts, all of them taken to be finite.", x.name))
		a, s, out, n := x.stream("a", f32), x.stream("s", f32), x.stream("out", f32), param("n")
		t := x.tally(n)
		Label("loop")
		for j, v := range t.vs {
			vs := x.vec()
			VMOVUPS(a.at(j), v.a)
			VMOVUPS(s.at(j), vs)
			VMOVUPS(out.at(j), v.out)
			VSUBPS(vs, v.a, v.d)
			x.differ(v.a, vs, v.m)
			t.add(v)
		}
		advance(x.step(), n, a, s, out)
		JNZ(LabelRef("loop"))
		t.end()
	}
}

// tally is the statistics inside a loop: the sums of δ², a², step² and step·δ,
// each in one register of 8 lanes for AVX-512 and in two of 4 for AVX2, and the
// counts of equal and swallowed elements.
type tally struct {
	isa
	vs   []values // of one round
	sums [4][]reg.VecVirtual

	// AVX-512 counts unequal elements in a vector and subtracts them from the
	// number of all; AVX2, short of vector registers, counts equal ones.
	ones                Op
	unequals, swallowed reg.VecVirtual
	equal, swallowed64  reg.Register
}

// values are what add takes: a vector of a, δ and out, and the mask of differ.
type values struct {
	a, d, out reg.VecVirtual
	m         mask
}

// tally loads the sums. n is the number of elements to come.
func (x isa) tally(n reg.Register) *tally {
	t := &tally{isa: x}
	for range x.unroll() {
		t.vs = append(t.vs, values{x.vec(), x.vec(), x.vec(), x.mask()})
	}
	sums := param("sums")
	for i := range t.sums {
		for j := 0; j < 64; j += 4 * x.floats() {
			v := x.vec()
			VMOVUPD(Mem{Base: sums, Disp: 64*i + j}, v)
			t.sums[i] = append(t.sums[i], v)
		}
	}
	t.equal, t.swallowed64 = GP64(), GP64()
	if x.wide {
		MOVQ(n, t.equal)
		t.ones = x.constant(1)
		t.unequals, t.swallowed = x.vec(), x.vec()
		VPXORD(t.unequals, t.unequals, t.unequals)
		VPXORD(t.swallowed, t.swallowed, t.swallowed)
	} else {
		XORQ(t.equal, t.equal)
		XORQ(t.swallowed64, t.swallowed64)
	}
	return t
}

// add takes in one vector. It destroys v.out and v.m.
func (t *tally) add(v values) {
	if t.wide {
		VPADDD(t.ones, t.unequals, v.m, t.unequals)
		VCMPPS(eqOrdered, v.a, v.out, v.m, v.m)
		VPADDD(t.ones, t.swallowed, v.m, t.swallowed)
	} else {
		count(v.m, t.equal)
		same := YMM()
		t.compare(eqOrdered, v.out, v.a, same)
		VANDNPS(same, v.m, same)
		count(same, t.swallowed64)
	}
	e := v.out
	VSUBPS(v.a, v.out, e)
	for j := range 2 {
		k := j % len(t.sums[0])
		wd, w := t.vec(), t.vec()
		t.double(v.d, j, wd)
		VFMADD231PD(wd, wd, t.sums[0][k])
		t.double(v.a, j, w)
		VFMADD231PD(w, w, t.sums[1][k])
		w = t.vec()
		t.double(e, j, w)
		VFMADD231PD(w, w, t.sums[2][k])
		VFMADD231PD(wd, w, t.sums[3][k])
	}
}

// count adds the number of true elements of a mask vector to n.
func count(m reg.Register, n reg.Register) {
	bits := GP32()
	VMOVMSKPS(m, bits)
	POPCNTL(bits, bits)
	ADDQ(bits.As64(), n)
}

// double sets w to the lower (0) or upper (1) half of v as float64.
func (t *tally) double(v reg.VecVirtual, half int, w reg.VecVirtual) {
	switch {
	case half == 0 && t.wide:
		VCVTPS2PD(v.AsY(), w)
	case half == 0:
		VCVTPS2PD(v.AsX(), w)
	case t.wide:
		VEXTRACTF32X8(U8(1), v, w.AsY())
		VCVTPS2PD(w.AsY(), w)
	default:
		VEXTRACTF128(U8(1), v, w.AsX())
		VCVTPS2PD(w.AsX(), w)
	}
}

// end stores everything and returns.
func (t *tally) end() {
	sums, counts := param("sums"), param("counts")
	for i := range t.sums {
		for j, v := range t.sums[i] {
			VMOVUPD(v, Mem{Base: sums, Disp: 64*i + 32*j})
		}
	}
	if t.wide {
		SUBQ(total(t.unequals), t.equal)
		t.swallowed64 = total(t.swallowed)
	}
	ADDQ(t.equal, Mem{Base: counts})
	ADDQ(t.swallowed64, Mem{Base: counts, Disp: 8})
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
