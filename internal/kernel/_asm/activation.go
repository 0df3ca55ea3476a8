package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// activation writes the loops over vectors of float32 that a model needs beside
// products with matrices.
func activation() {
	for _, x := range isas {
		dot(x)
		axpy(x)
		scale(x)
		maximum(x)
		expSum(x)
		silu(x)
		scaleMul(x)
		rope(x)
	}
}

// begin starts a function that does n elements, a multiple of a vector.
func begin(x isa, name, sig, doc string) {
	TEXT(name+x.name, NOSPLIT, "func("+sig+")")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s%s %s n is a multiple of %d and not 0.", name, x.name, doc, x.floats()))
}

func (x isa) float(v float64) Op { return x.constant(math.Float32bits(float32(v))) }

// broadcast is the float32 parameter of that name in every element of a register.
func (x isa) broadcast(name string) reg.VecVirtual {
	v := x.vec()
	VBROADCASTSS(resolve(name), v)
	return v
}

// dot has four accumulators, so that one need not wait for the other.
func dot(x isa) {
	TEXT("dot"+x.name, NOSPLIT, "func(a, b *float32, n int, ta, tb *float32) float32")
	Pragma("noescape")
	Doc(fmt.Sprintf("dot%s is the sum of products of n elements, n a multiple of %d, and of %d more at ta and tb.", x.name, x.floats(), x.floats()))
	a, b, n := x.stream("a", f32), x.stream("b", f32), param("n")
	acc := []reg.VecPhysical{x.fixed(0), x.fixed(1), x.fixed(2), x.fixed(3)}
	v := x.fixed(4)
	for _, r := range acc {
		zero(r)
	}
	four := 4 * x.floats()
	mul := func(from, with Mem, j int) {
		VMOVUPS(from, v)
		VFMADD231PS(with, v, acc[j])
	}
	SUBQ(U32(four), n)
	JLT(LabelRef("rest"))
	Label("loop")
	for j := range acc {
		mul(a.at(j), b.at(j), j)
	}
	advance(four, n, a, b)
	JGE(LabelRef("loop"))
	Label("rest")
	ADDQ(U32(four), n)
	JZ(LabelRef("tail"))
	Label("one")
	mul(a.at(0), b.at(0), 0)
	advance(x.floats(), n, a, b)
	JNZ(LabelRef("one"))
	Label("tail")
	mul(Mem{Base: param("ta")}, Mem{Base: param("tb")}, 1)
	VADDPS(acc[2], acc[0], acc[0])
	VADDPS(acc[3], acc[1], acc[1])
	VADDPS(acc[1], acc[0], acc[0])
	s := x.add4(acc[0], acc[0], acc[0], acc[0])
	returnFloat(s)
	VZEROUPPER()
	RET()
}

// returnFloat stores the first element of v as the first result.
func returnFloat(v Op) {
	a, err := ReturnIndex(0).Resolve()
	if err != nil {
		panic(err)
	}
	VMOVSS(v, a.Addr)
}

func axpy(x isa) {
	begin(x, "axpy", "y, x *float32, alpha float32, n int", "adds alpha·x to y, product and sum rounded.")
	y, u, n := x.stream("y", f32), x.stream("x", f32), param("n")
	alpha := x.broadcast("alpha")
	loop(x.floats(), n, func() {
		v := x.vec()
		VMULPS(u.at(0), alpha, v)
		VADDPS(y.at(0), v, v)
		VMOVUPS(v, y.at(0))
	}, y, u)
}

func scale(x isa) {
	begin(x, "scale", "x *float32, s float32, n int", "multiplies x by s.")
	u, n := x.stream("x", f32), param("n")
	s := x.broadcast("s")
	loop(x.floats(), n, func() {
		v := x.vec()
		VMULPS(u.at(0), s, v)
		VMOVUPS(v, u.at(0))
	}, u)
}

func maximum(x isa) {
	begin(x, "maximum", "x *float32, n int) (largest float32, nan int", "finds the largest of x, or says that there is a NaN.")
	u, n := x.stream("x", f32), param("n")
	best, v := x.vec(), x.vec()
	nan, m := x.mask(), x.mask()
	VMOVUPS(u.at(0), best)
	x.compare(unordered, best, best, nan)
	Label("loop")
	VMOVUPS(u.at(0), v)
	x.compare(unordered, v, v, m)
	if x.wide {
		KORW(m, nan, nan)
	} else {
		VORPS(m, nan, nan)
	}
	VMAXPS(v, best, best)
	advance(x.floats(), n, u)
	JNZ(LabelRef("loop"))

	flag := GP32()
	if x.wide {
		KMOVW(nan, flag)
		h := YMM()
		VEXTRACTF64X4(U8(1), best, h)
		VMAXPS(h, best.AsY(), best.AsY())
	} else {
		VMOVMSKPS(nan, flag)
	}
	h := XMM()
	VEXTRACTF128(U8(1), best.AsY(), h)
	VMAXPS(h, best.AsX(), h)
	t := XMM()
	VPERMILPS(U8(0b01_00_11_10), h, t)
	VMAXPS(t, h, h)
	VPERMILPS(U8(0b10_11_00_01), h, t)
	VMAXPS(t, h, h)
	returnFloat(h)
	Store(flag.As64(), ReturnIndex(1))
	VZEROUPPER()
	RET()
}

// An exponential is what exp(v), v ≤ 0, needs: v = n·ln 2 + r with |r| ≤ ½ ln 2,
// and exp(r) = 1 + r + r²·q(r). q has the five coefficients that make the
// largest relative error least, 3.6e-9, found by exchange of the extrema
// (Remez) in float64. ln 2 is in two pieces, the first short enough for n times
// it to be exact.
type exponential struct {
	isa
	low                      reg.VecVirtual
	log2e, ln2hi, ln2lo, one Op
	q                        []Op
}

func (x isa) exponential() *exponential {
	e := &exponential{
		isa: x, low: x.vec(),
		log2e: x.float(math.Log2E), ln2hi: x.float(0.693359375), ln2lo: x.float(math.Ln2 - 0.693359375),
		one: x.float(1),
	}
	// exp(−105) is less than half of the smallest subnormal.
	VMOVUPS(x.float(-105), e.low)
	for _, c := range []float64{0.0013814540579915047, 0.00836874544620514, 0.04166838899254799, 0.1666652113199234, 0.4999999403953552} {
		e.q = append(e.q, x.float(c))
	}
	return e
}

// apply replaces v ≤ 0 by exp(v). NaN stays NaN.
func (e *exponential) apply(v reg.VecVirtual) {
	n, q, r2 := e.vec(), e.vec(), e.vec()
	VMAXPS(v, e.low, v) // the first is what comes out if one is NaN
	VMULPS(e.log2e, v, n)
	if e.wide {
		VRNDSCALEPS(U8(8), n, n)
	} else {
		VROUNDPS(U8(8), n, n)
	}
	VFNMADD231PS(e.ln2hi, n, v)
	VFNMADD231PS(e.ln2lo, n, v)
	VMOVUPS(e.q[0], q)
	for _, c := range e.q[1:] {
		VFMADD213PS(c, v, q)
	}
	VMULPS(v, v, r2)
	VFMADD213PS(v, r2, q)
	VADDPS(e.one, q, q)
	if e.wide {
		VSCALEFPS(n, q, v)
		return
	}
	// 2ⁿ in two factors, since the result may be subnormal and 2ⁿ too small.
	i, h := e.vec(), e.vec()
	VCVTPS2DQ(n, i)
	VPSRAD(U8(1), i, h)
	VPSUBD(h, i, i)
	for _, p := range []reg.VecVirtual{h, i} {
		VPSLLD(U8(23), p, p)
		VPADDD(e.one, p, p)
		VMULPS(p, q, q)
	}
	VMOVAPS(q, v)
}

func expSum(x isa) {
	begin(x, "expSum", "x *float32, largest float32, sums *[16]float32, n int", "replaces x by exp(x − largest), and adds element k to sums[k mod lanes].")
	u, sums, n := x.stream("x", f32), param("sums"), param("n")
	largest := x.broadcast("largest")
	e := x.exponential()
	sum := x.vec()
	VMOVUPS(Mem{Base: sums}, sum)
	Label("loop")
	v := x.vec()
	VMOVUPS(u.at(0), v)
	VSUBPS(largest, v, v)
	e.apply(v)
	VADDPS(v, sum, sum)
	VMOVUPS(v, u.at(0))
	advance(x.floats(), n, u)
	JNZ(LabelRef("loop"))
	VMOVUPS(sum, Mem{Base: sums})
	VZEROUPPER()
	RET()
}

// silu computes g·σ(g) as g·exp(min(g,0)) / (1 + exp(−|g|)), which neither
// overflows nor cancels.
func silu(x isa) {
	begin(x, "silu", "gate, up *float32, n int", "replaces gate by gate·σ(gate)·up.")
	gate, up, n := x.stream("gate", f32), x.stream("up", f32), param("n")
	e := x.exponential()
	sign := x.constant(1 << 31)
	loop(x.floats(), n, func() {
		g, v, w := x.vec(), x.vec(), x.vec()
		VMOVUPS(gate.at(0), g)
		if x.wide {
			VPORD(sign, g, v)
		} else {
			VORPS(sign, g, v)
		}
		e.apply(v)
		VMOVUPS(e.one, w)
		if x.wide {
			m := K()
			VPMOVD2M(g, m)
			x.where(m, v, w)
		} else {
			x.where(g, v, w)
		}
		VADDPS(e.one, v, v)
		VMULPS(w, g, w)
		VDIVPS(v, w, w)
		VMULPS(up.at(0), w, w)
		VMOVUPS(w, gate.at(0))
	}, gate, up)
}

func scaleMul(x isa) {
	begin(x, "scaleMul", "out, x, w *float32, s float32, n int", "sets out to (x·s)·w.")
	out, u, w, n := x.stream("out", f32), x.stream("x", f32), x.stream("w", f32), param("n")
	s := x.broadcast("s")
	loop(x.floats(), n, func() {
		v := x.vec()
		VMULPS(u.at(0), s, v)
		VMULPS(w.at(0), v, v)
		VMOVUPS(v, out.at(0))
	}, out, u, w)
}

func rope(x isa) {
	begin(x, "rope", "a, b, cos, sin *float32, n int", "turns the pairs of a and b, product and sum rounded.")
	a, b, cos, sin, n := x.stream("a", f32), x.stream("b", f32), x.stream("cos", f32), x.stream("sin", f32), param("n")
	loop(x.floats(), n, func() {
		va, vb, c, s, ac, bc := x.vec(), x.vec(), x.vec(), x.vec(), x.vec(), x.vec()
		VMOVUPS(a.at(0), va)
		VMOVUPS(b.at(0), vb)
		VMOVUPS(cos.at(0), c)
		VMOVUPS(sin.at(0), s)
		VMULPS(c, va, ac)
		VMULPS(c, vb, bc)
		VMULPS(s, va, va)
		VMULPS(s, vb, vb)
		VSUBPS(vb, ac, ac)
		VADDPS(va, bc, bc)
		VMOVUPS(ac, a.at(0))
		VMOVUPS(bc, b.at(0))
	}, a, b, cos, sin)
}
