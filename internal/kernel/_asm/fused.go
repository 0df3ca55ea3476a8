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

// ahead is how far before its use memory is prefetched, in bytes. The hardware
// alone does not keep up with a loop of which only a few rounds are in flight.
const ahead = 4096

// onePass writes one function. It holds the loop twice, with ordinary and with
// non-temporal stores.
func onePass(x isa, f format, perOp, stats bool) {
	name := "fused" + f.name
	if perOp {
		name = "fusedPerOp"
	}
	sig := "func(dst, a, s *byte, alpha float32, n int, stream bool)"
	doc := "extrapolates n elements"
	if stats {
		name += "Stats"
		sig = "func(sums *[4][8]float64, counts *[2]int64, dst, a, s *byte, alpha float32, n int, stream bool)"
		doc += ", taken to be finite, and adds them to sums and counts"
	}
	name += x.name
	TEXT(name, NOSPLIT, sig)
	Pragma("noescape")
	Doc(fmt.Sprintf("%s %s. With stream, dst is aligned to 64 bytes.", name, doc))

	dst, a, s, n := x.stream("dst", f), x.stream("a", f), x.stream("s", f), param("n")
	alpha := x.alpha()
	l := x.loader(f)
	// What is not finite shows in the sums, and is then done again.
	r := x.rounder(f, !stats)
	var t *tally
	if stats {
		t = x.tally(n)
	}

	// round computes and stores what there is of one round.
	round := func(nonTemporal, behind bool) {
		var rounded []reg.VecVirtual
		for j := range x.unroll() {
			var v values
			if stats {
				v = t.vs[j]
				if behind {
					t.add(v)
				}
			} else {
				v = values{a: x.vec(), d: x.vec(), m: x.mask()}
			}
			vs, w := x.vec(), v.out
			if f != f32 || !stats {
				w = x.vec()
			}
			l.load(a, j, v.a)
			l.load(s, j, vs)
			if perOp {
				if stats {
					x.differ(v.a, vs, v.m)
				}
				r.extrapolatePerOp(v.a, vs, w, v.d, alpha)
			} else {
				x.extrapolate(v.a, vs, w, v.d, v.m, alpha)
			}
			w = r.round(w)
			if stats {
				r.back(w, v.out)
			}
			rounded = append(rounded, w)
		}
		for i := 0; i < x.step()*f.width; i += 64 {
			PREFETCHT0(Mem{Base: a.Register, Disp: ahead + i})
			PREFETCHT0(Mem{Base: s.Register, Disp: ahead + i})
		}
		r.store(dst, nonTemporal, rounded...)
		advance(x.step(), n, dst, a, s)
	}
	tally := func() {
		for _, v := range t.vs {
			t.add(v)
		}
	}
	// The statistics run one round behind: their instructions find their inputs
	// ready, and do not fill the scheduler waiting for them.
	all := func(label string, nonTemporal bool) {
		if !stats {
			Label(label)
			round(nonTemporal, false)
			JNZ(LabelRef(label))
			return
		}
		round(nonTemporal, false)
		JZ(LabelRef(label + "End"))
		Label(label)
		round(nonTemporal, true)
		JNZ(LabelRef(label))
		Label(label + "End")
		tally()
	}

	stream, err := Param("stream").Resolve()
	if err != nil {
		panic(err)
	}
	CMPB(stream.Addr, U8(0))
	JNE(LabelRef("past"))
	all("loop", false)
	JMP(LabelRef("end"))
	Label("past")
	all("pastLoop", true)
	Label("end")
	if stats {
		t.end()
		return
	}
	VZEROUPPER()
	RET()
}
