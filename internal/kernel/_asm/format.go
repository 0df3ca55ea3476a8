package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A format is a stored number format. Values are vectors of float32.
type format struct {
	name  string
	width int // bytes
}

var (
	bf16 = format{"BF16", 2}
	f16  = format{"F16", 2}
	f32  = format{"F32", 4}
	f64  = format{"F64", 8}
)

// A loader widens vectors of a format.
type loader struct {
	isa
	f      format
	spread [2]reg.VecVirtual // where the words of two vectors come from
	upper  reg.Register      // mask of the words that are not zero
}

// loader prepares the constants that loading f needs.
func (x isa) loader(f format) *loader {
	l := &loader{isa: x, f: f}
	if f == bf16 && x.wide {
		l.spread[0] = words("spreadLow", func(i int) int { return i / 2 })
		l.spread[1] = words("spreadHigh", func(i int) int { return 16 + i/2 })
		r := GP32()
		l.upper = K()
		MOVL(U32(0xAAAAAAAA), r)
		KMOVD(r, l.upper)
	}
	return l
}

// load widens the j-th vector of s into v.
func (l *loader) load(s stream, j int, v reg.VecVirtual) {
	switch {
	case l.f == bf16 && l.wide:
		// Both vectors of a pair are picked from the same 64 bytes.
		VPERMW_Z(s.at(j&^1), l.spread[j&1], l.upper, v)
	case l.f == bf16:
		VPMOVZXWD(s.at(j), v)
		VPSLLD(U8(16), v, v)
	case l.f == f16:
		VCVTPH2PS(s.at(j), v)
	case l.f == f32:
		VMOVUPS(s.at(j), v)
	}
}

// A rounder rounds vectors of float32 to a format, ties to even.
type rounder struct {
	isa
	f                         format
	one, bias, upper, nan, of Op
}

// rounder prepares the constants. With canonical, NaNs become canonical;
// otherwise they have to come with a lower half of zero if f is BF16.
func (x isa) rounder(f format, canonical bool) *rounder {
	r := &rounder{isa: x, f: f}
	if canonical {
		r.nan = x.constant(0x7FC00000)
	}
	if f == bf16 {
		r.one = x.constant(1)
		r.bias = x.constant(0x7FFF)
		r.upper = x.constant(0xFFFF0000)
		if x.wide {
			r.of = words("oddWords", func(i int) int { return 2*i + 1 })
		}
	}
	return r
}

// nearestBF16 rounds v in place, leaving the result in the upper halves of the
// elements and garbage in the lower. A NaN stays one if its lower half is zero.
func (r *rounder) nearestBF16(v reg.VecVirtual) {
	t := r.vec()
	VPSRLD(U8(16), v, t)
	r.and(r.one, t, t)
	VPADDD(r.bias, v, v)
	VPADDD(t, v, v)
}

// round rounds v in place and returns what store takes: v for BF16, as
// nearestBF16 leaves it, and for F32; half a vector for F16.
func (r *rounder) round(v reg.VecVirtual) reg.VecVirtual {
	var nan mask
	if r.nan != nil {
		nan = r.mask()
		r.compare(unordered, v, v, nan)
	}
	if r.f == bf16 {
		r.nearestBF16(v)
	}
	if r.nan != nil {
		r.where(nan, r.nan, v)
	}
	if r.f == f16 {
		h := r.half()
		VCVTPS2PH(U8(0), v, h)
		return h
	}
	return v
}

// back sets w to the float32 value of v, which round returned.
func (r *rounder) back(v, w reg.VecVirtual) {
	switch r.f {
	case bf16:
		r.and(r.upper, v, w)
	case f16:
		VCVTPH2PS(v, w)
	case f32:
		if v != w {
			VMOVAPS(v, w)
		}
	}
}

// store writes the vectors of one round, as round returned them, to s. With
// nonTemporal, s is aligned to the size of a vector.
func (r *rounder) store(s stream, nonTemporal bool, vs ...reg.VecVirtual) {
	put := func(v reg.VecVirtual, m Mem) {
		switch {
		case nonTemporal:
			VMOVNTDQ(v, m)
		case r.wide:
			VMOVDQU32(v, m)
		default:
			VMOVDQU(v, m)
		}
	}
	for j := 0; j < len(vs); j++ {
		v := vs[j]
		switch {
		case r.f == bf16 && r.wide:
			VPERMT2W(vs[j+1], r.of, v)
			put(v, s.at(j))
			j++
		case r.f == bf16:
			h := XMM()
			VPSRLD(U8(16), v, v)
			VEXTRACTI128(U8(1), v, h)
			VPACKUSDW(h, v.AsX(), h)
			put(h, s.at(j))
		default:
			put(v, s.at(j))
		}
	}
}
