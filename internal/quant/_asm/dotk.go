package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Layout of the records of activations; see activations.go of package quant.
const (
	recordK = 320
	sums16  = 256
	sums32  = 288
	scaleAt = 304
)

// dotK writes the products for formats with blocks of 256.
func dotK() {
	for _, x := range isas {
		for _, f := range formatsK {
			for _, n := range []int{1, x.many()} {
				(&dotBlock{product: &product{isa: x, f: f, n: n}}).write()
			}
		}
	}
}

type dotBlock struct {
	*product
	acc      []reg.VecVirtual
	integers []reg.VecVirtual // of one block
	pick     []reg.VecVirtual // words of scales, for AVX-512

	nibbles, sixteen, shift, shift2, high reg.VecVirtual
	bits                                  []reg.VecVirtual
}

func (d *dotBlock) write() {
	d.begin()
	d.load()
	f := d.f
	for range d.n {
		d.acc = append(d.acc, XMM())
		d.integers = append(d.integers, d.vec())
	}
	if d.wide {
		d.constants()
	}
	end := param("blocks")
	IMUL3Q(U32(recordK), end, end)

	Label("row")
	for v := range d.n {
		VXORPS(d.acc[v], d.acc[v], d.acc[v])
	}
	XORQ(d.off, d.off)
	Label("loop")
	for v := range d.n {
		zero(d.integers[v])
	}
	if f.name == "Q6_K" {
		d.block6()
	} else {
		d.block()
	}
	d.prefetch(f.bytes)
	ADDQ(U32(f.bytes), d.w)
	ADDQ(U32(recordK), d.off)
	CMPQ(d.off, end)
	JNE(LabelRef("loop"))
	for v, acc := range d.acc {
		if f.name != "Q6_K" {
			t := XMM()
			VMOVSHDUP(acc, t)
			VSUBSS(t, acc, acc)
		}
		d.put(acc, v)
	}
	d.nextRow("row")
}

// constants prepares what AVX-512 has registers for.
func (d *dotBlock) constants() {
	words := func(name string, f func(i int) int) reg.VecVirtual {
		return load512(wordsTable(name, 32, f))
	}
	d.nibbles = constant(0x0F0F0F0F)
	if d.f.name == "Q6_K" {
		d.sixteen = constant(0x30303030)
		d.shift = words("left42", func(i int) int { return 4 - i/16*2 })
		d.shift2 = words("right02", func(i int) int { return i / 16 * 2 })
		for c := range 4 {
			d.pick = append(d.pick, load512(pickScale(fmt.Sprintf("four%d", c), 64, true, func(lane int) int { return 4*c + lane })))
		}
		return
	}
	d.shift = words("right04", func(i int) int { return i / 16 * 4 })
	for c := range 4 {
		d.pick = append(d.pick, load512(pickScale(fmt.Sprintf("two%d", c), 64, false, func(lane int) int { return 2*c + lane/2 })))
	}
	if d.f.name == "Q5_K" {
		d.sixteen = constant(0x10101010)
		for c := range 4 {
			d.bits = append(d.bits, load512(bytesTable(fmt.Sprintf("bits%d", c), 64, func(i int) int { return 1 << (2*c + i/32) })))
		}
	}
}

// pickScale is an index for VPSHUFB that puts one byte, with a zero after it or,
// if upper, before it, in each word of a lane of 16 bytes.
func pickScale(name string, n int, upper bool, from func(lane int) int) Mem {
	return bytesTable(name, n, func(i int) int {
		if (i%2 == 1) != upper {
			return 0x80
		}
		return from(i / 16)
	})
}

// scalesOf unpacks the 8 scales and, after them, the 8 offsets of a block of Q4_K
// or Q5_K at w into bytes. head has what the block begins with, d and dmin.
func (x isa) scalesOf(w reg.Register) (packed, head reg.VecVirtual) {
	and := func(m Mem, v reg.VecVirtual) {
		if x.wide {
			VPANDD(m, v, v)
		} else {
			VPAND(m, v, v)
		}
	}
	quad := func(name string, vs ...uint32) Mem {
		return table(name, 4, func(i int) uint32 { return vs[i] })
	}
	// The first 16 bytes are d and dmin, a, b, c. Scales 0…3 are the lower bits of
	// a and offsets 0…3 those of b; the others have 4 bits in c and 2 in a and b.
	head = XMM()
	if x.wide {
		VMOVDQU32(Mem{Base: w}, head)
	} else {
		VMOVDQU(Mem{Base: w}, head)
	}
	t, u := XMM(), XMM()
	VPSHUFD(U8(1|3<<2|2<<4|3<<6), head, t) // a, c, b, c
	VPSRLVD(quad("packedShift", 0, 0, 0, 4), t, t)
	and(quad("packedLow", 0x3F3F3F3F, 0x0F0F0F0F, 0x3F3F3F3F, 0x0F0F0F0F), t)
	VPSHUFD(U8(1|1<<2|2<<4|2<<6), head, u) // a, a, b, b
	VPSRLD(U8(2), u, u)
	and(quad("packedHigh", 0, 0x30303030, 0, 0x30303030), u)
	VPADDB(u, t, t)
	return t, head
}

// block adds a block of Q4_K or Q5_K.
func (d *dotBlock) block() {
	f := d.f
	packed, head := d.scalesOf(d.w)
	offsets, all, high := XMM(), d.vec(), d.vec()
	VPSRLDQ(U8(8), packed, offsets)
	VPMOVZXBW(offsets, offsets)
	VPBROADCASTQ(packed, all)
	if f.qh > 0 {
		if d.wide {
			VBROADCASTI64X4(Mem{Base: d.w, Disp: f.qh}, high)
		} else {
			VMOVDQU(Mem{Base: d.w, Disp: f.qh}, high)
		}
	}
	for c := range 4 {
		qs := Mem{Base: d.w, Disp: f.qs + 32*c}
		if d.wide {
			q, s := ZMM(), ZMM()
			VBROADCASTI64X4(qs, q)
			VPSRLVW(d.shift, q, q)
			VPANDD(d.nibbles, q, q)
			if f.qh > 0 {
				k := K()
				VPTESTMB(d.bits[c], high, k)
				VPADDB(d.sixteen, q, k, q)
			}
			VPSHUFB(d.pick[c], all, s)
			d.add(64*c, q, s)
			continue
		}
		lo, hi := YMM(), YMM()
		VMOVDQU(qs, lo)
		VPSRLW(U8(4), lo, hi)
		for i, q := range []reg.VecVirtual{lo, hi} {
			j := 2*c + i
			VPAND(every(0x0F), q, q)
			if f.qh > 0 {
				b := YMM()
				VPAND(every(1<<j), high, b)
				switch {
				case j < 4:
					VPSLLW(U8(4-j), b, b)
				case j > 4:
					VPSRLW(U8(j-4), b, b)
				}
				VPOR(b, q, q)
			}
			s := YMM()
			VPSHUFB(pickScale(fmt.Sprintf("one%d", j), 32, false, func(int) int { return j }), all, s)
			d.add(64*c+32*i, q, s)
		}
	}
	VCVTPH2PS(head, head)
	for v := range d.n {
		x, o, s, t := XMM(), XMM(), XMM(), XMM()
		d.fold(v, nil, x)
		VPMADDWD(d.at(v, sums32), offsets, o)
		// The sums of x and of o, side by side.
		VPUNPCKLDQ(o, x, t)
		VPUNPCKHDQ(o, x, x)
		VPADDD(t, x, x)
		VPSHUFD(U8(0xEE), x, t)
		VPADDD(t, x, x)
		VCVTDQ2PS(x, x)
		VBROADCASTSS(d.at(v, scaleAt), s)
		VMULPS(s, head, s)
		VMULPS(s, x, x)
		VADDPS(x, d.acc[v], d.acc[v])
	}
}

// add adds the products of the codes q with the activations at disp, times the
// words s.
func (d *dotBlock) add(disp int, q, s reg.VecVirtual) {
	for v := range d.n {
		p := d.vec()
		VPMADDUBSW(d.at(v, disp), q, p)
		if d.wide {
			VPDPWSSD(s, p, d.integers[v])
		} else {
			VPMADDWD(s, p, p)
			VPADDD(p, d.integers[v], d.integers[v])
		}
	}
}

// fold sets x to four integers with the sum of those of the v-th vector, less
// that of the 8 in minus.
func (d *dotBlock) fold(v int, minus, x reg.VecVirtual) {
	y := d.integers[v]
	if d.wide {
		y = YMM()
		VEXTRACTI64X4(U8(1), d.integers[v], y)
		VPADDD(d.integers[v].AsY(), y, y)
	}
	if minus != nil {
		VPSUBD(minus, y, y)
	}
	if d.wide {
		VEXTRACTI32X4(U8(1), y, x)
	} else {
		VEXTRACTI128(U8(1), y, x)
	}
	VPADDD(y.AsX(), x, x)
}

// block6 adds a block of Q6_K.
func (d *dotBlock) block6() {
	words, all := YMM(), d.vec()
	at := Mem{Base: d.w, Disp: 192}
	VPMOVSXBW(at, words)
	if d.wide {
		VBROADCASTI32X4(at, all)
	} else {
		VBROADCASTI128(at, all)
	}
	for h := range 2 {
		low, high := Mem{Base: d.w, Disp: 64 * h}, Mem{Base: d.w, Disp: d.f.qh + 32*h}
		if d.wide {
			d.half512(h, low, high, all)
		} else {
			d.half256(h, low, high, all)
		}
	}
	// The last two bytes of the block are d.
	scale := XMM()
	VMOVD(Mem{Base: d.w, Disp: 206}, scale)
	VPSRLD(U8(16), scale, scale)
	VCVTPH2PS(scale, scale)
	for v := range d.n {
		bias, x, s := YMM(), XMM(), XMM()
		VPMADDWD(d.at(v, sums16), words, bias)
		VPSLLD(U8(5), bias, bias)
		d.fold(v, bias, x)
		VPSHUFD(U8(0xEE), x, s)
		VPADDD(s, x, x)
		VPSHUFD(U8(0xE5), x, s)
		VPADDD(s, x, x)
		VCVTDQ2PS(x, x)
		VMULSS(d.at(v, scaleAt), scale, s)
		VMULSS(s, x, x)
		VADDSS(x, d.acc[v], d.acc[v])
	}
}

func (d *dotBlock) half512(h int, low, high Mem, scales reg.VecVirtual) {
	lo, hi, upper := ZMM(), ZMM(), ZMM()
	VMOVDQU32(low, lo)
	VPSRLW(U8(4), lo, hi)
	VBROADCASTI64X4(high, upper)
	for i, q := range []reg.VecVirtual{lo, hi} {
		t, s := ZMM(), ZMM()
		VPANDD(d.nibbles, q, q)
		if i == 0 {
			VPSLLVW(d.shift, upper, t)
		} else {
			VPSRLVW(d.shift2, upper, t)
		}
		VPTERNLOGD(U8(orAnd), d.sixteen, t, q)
		VPSHUFB(d.pick[2*h+i], scales, s)
		VPSRAW(U8(8), s, s)
		d.add(128*h+64*i, q, s)
	}
}

// orAnd is the truth table of a | b&c, with a the destination.
const orAnd = 0xF8

func (d *dotBlock) half256(h int, low, high Mem, scales reg.VecVirtual) {
	upper := YMM()
	VMOVDQU(high, upper)
	for i := range 4 {
		q, t, s := YMM(), YMM(), YMM()
		VMOVDQU(low.Offset(i%2*32), q)
		if i >= 2 {
			VPSRLW(U8(4), q, q)
		}
		VPAND(every(0x0F), q, q)
		switch {
		case i < 2:
			VPSLLW(U8(4-2*i), upper, t)
			VPAND(every(0x30), t, t)
		case i == 2:
			VPAND(every(0x30), upper, t)
		default:
			VPSRLW(U8(2), upper, t)
			VPAND(every(0x30), t, t)
		}
		VPOR(t, q, q)
		j := 8*h + 2*i
		VPSHUFB(pickScale(fmt.Sprintf("next%d", j), 32, true, func(lane int) int { return j + lane }), scales, s)
		VPSRAW(U8(8), s, s)
		d.add(128*h+32*i, q, s)
	}
}
