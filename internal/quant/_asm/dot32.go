package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Layout of the records of activations; see activations.go of package quant.
const (
	record = 256
	scales = 128
	sums   = 192
)

// dot32 writes the products for formats with blocks of 32. They take four blocks
// at a time: with AVX-512 in one vector, with AVX2 in two.
//
// Weights are read 16 or 32 bytes at a time and put together. Reading 64 and
// picking from them takes fewer instructions, but where the weights come from
// memory it was slower by half: most such reads cross a line of the cache.
func dot32() {
	for _, x := range isas {
		for _, f := range formats32 {
			counts := []int{1, x.many()}
			if x.wide {
				counts = append(counts, 2*x.many())
			}
			for _, n := range counts {
				(&dotGroup{product: &product{isa: x, f: f, n: n}}).write()
			}
		}
	}
}

type dotGroup struct {
	*product
	acc    [][]reg.VecVirtual // of each vector, those of each part of a group
	others []reg.VecVirtual   // of each vector, in the odd places
	spread []reg.VecVirtual   // for each part, picks the scale of each lane

	// With AVX-512:
	nibbles, sixteen, flip reg.VecVirtual // 0x0F, 0x10, 0x80 in each byte
	element, lane          [4]reg.Register
}

// parts is how many vectors the codes of four blocks fill.
func (d *dotGroup) parts() int {
	if d.wide {
		return 1
	}
	return 2
}

func (d *dotGroup) write() {
	d.begin()
	d.load()
	f := d.f
	for h := range d.parts() {
		m := table("spread", 16, func(i int) uint32 { return uint32(i / 4 * 2) }).Offset(32 * h)
		v := d.vec()
		if d.wide {
			VMOVDQU32(m, v)
		} else {
			VMOVDQU(m, v)
		}
		d.spread = append(d.spread, v)
	}
	if d.wide {
		d.constants()
	}
	for range d.n {
		var acc []reg.VecVirtual
		for range d.parts() {
			acc = append(acc, d.vec())
		}
		d.acc = append(d.acc, acc)
		if f.offset {
			d.others = append(d.others, d.vec())
		}
	}
	groups := param("blocks")
	SHRQ(U8(2), groups)
	SHLQ(U8(8), groups) // the length of their records

	Label("row")
	for v := range d.n {
		for _, acc := range d.acc[v] {
			zero(acc)
		}
		if f.offset {
			zero(d.others[v])
		}
	}
	XORQ(d.off, d.off)
	TESTQ(groups, groups)
	JZ(LabelRef("last"))
	Label("loop")
	d.group(4)
	d.prefetch(4 * f.bytes)
	ADDQ(U32(4*f.bytes), d.w)
	ADDQ(U32(record), d.off)
	CMPQ(d.off, groups)
	JNE(LabelRef("loop"))
	Label("last")
	tail := param("blocks")
	ANDQ(U8(3), tail)
	JZ(LabelRef("end"))
	CMPQ(tail, U8(2))
	JEQ(LabelRef("two"))
	JHI(LabelRef("three"))
	for n := 1; n < 4; n++ {
		if n > 1 {
			Label([]string{2: "two", 3: "three"}[n])
		}
		d.group(n)
		ADDQ(U32(n*f.bytes), d.w)
		if n < 3 {
			JMP(LabelRef("end"))
		}
	}
	Label("end")
	for v := range d.n {
		d.put(d.total(v), v)
	}
	d.nextRow("row")
}

// constants prepares what AVX-512 has registers for.
func (d *dotGroup) constants() {
	mask := func(m uint32) reg.Register {
		r, k := GP32(), K()
		MOVL(U32(m), r)
		KMOVD(r, k)
		return k
	}
	for i := 1; i < 4; i++ {
		d.element[i] = mask(1 << i)
		if d.f.qh > 0 {
			d.lane[i] = mask(15 << (4 * i))
		}
	}
	if d.f.name == "Q8_0" {
		d.flip = constant(0x80808080)
		return
	}
	d.nibbles = constant(0x0F0F0F0F)
	if d.f.qh > 0 {
		d.sixteen = constant(0x10101010)
	}
}

// block is the memory of a field of the i-th block.
func (d *dotGroup) block(i, disp int) Mem { return Mem{Base: d.w, Disp: i*d.f.bytes + disp} }

// group adds the products of n blocks, at most four. What stands in the place of
// blocks that are not there meets zeros among the activations.
func (d *dotGroup) group(n int) {
	scale := d.scales(n)
	scaled := make([]reg.VecVirtual, d.n)
	rescale := func(v int) {
		scaled[v] = d.vec()
		VMULPS(d.at(v, scales), scale, scaled[v])
		if d.f.offset {
			VADDPS(scaled[v], d.others[v], d.others[v])
		}
	}
	// Of eight vectors one after the other, so that the registers suffice.
	late := d.parts() == 1
	if !late {
		for v := range d.n {
			rescale(v)
		}
	}
	for h := range d.parts() {
		size := 4 / d.parts()
		if h*size >= n {
			break
		}
		lo, hi := d.codes(h*size, min(n, (h+1)*size))
		for v := range d.n {
			if late {
				rescale(v)
			}
			p, s := d.integers(v, h, lo, hi), d.vec()
			VPERMPS(scaled[v], d.spread[h], s)
			VCVTDQ2PS(p, p)
			VMULPS(s, p, p)
			VADDPS(p, d.acc[v][h], d.acc[v][h])
		}
	}
}

// scales are those of n blocks in the first even places, zero for blocks that are
// not there, and the offsets in the odd places. In formats without offsets these
// have something else, that nobody looks at.
func (d *dotGroup) scales(n int) reg.VecVirtual {
	scale := d.vec()
	if !d.wide {
		halves := XMM()
		VMOVD(d.block(0, 0), halves)
		for i := 1; i < n; i++ {
			VPINSRD(U8(i), d.block(i, 0), halves, halves)
		}
		VCVTPH2PS(halves, scale)
		return scale
	}
	halves := ZMM()
	if n == 4 {
		VPBROADCASTD(d.block(0, 0), halves)
	} else {
		one, k := GP32(), K()
		MOVL(U32(1), one)
		KMOVD(one, k)
		VPBROADCASTD_Z(d.block(0, 0), k, halves)
	}
	for i := 1; i < n; i++ {
		VPBROADCASTD(d.block(i, 0), d.element[i], halves)
	}
	VCVTPH2PS(halves.AsY(), scale)
	return scale
}

// bytes puts 16 bytes of each of the blocks from i to end together.
func (d *dotGroup) bytes(i, end, disp int) reg.VecVirtual {
	v := d.vec()
	if !d.wide {
		VBROADCASTI128(d.block(i, disp), v)
		if i+1 < end {
			VINSERTI128(U8(1), d.block(i+1, disp), v, v)
		}
		return v
	}
	VBROADCASTI32X4(d.block(i, disp), v)
	for k := 1; i+k < end; k++ {
		VINSERTI32X4(U8(k), d.block(i+k, disp), v, v)
	}
	return v
}

// codes are the unsigned codes of the blocks from i to end, their first and their
// second halves; for AVX2 signed ones of Q8_0.
func (d *dotGroup) codes(i, end int) (lo, hi reg.VecVirtual) {
	f := d.f
	switch {
	case f.name == "Q8_0" && d.wide:
		return d.codes8(end)
	case f.name == "Q8_0":
		return d.bytes(i, end, f.qs), d.bytes(i, end, f.qs+16)
	}
	lo, hi = d.bytes(i, end, f.qs), d.vec()
	VPSRLW(U8(4), lo, hi)
	for _, q := range []reg.VecVirtual{lo, hi} {
		if d.wide {
			VPANDD(d.nibbles, q, q)
		} else {
			VPAND(every(0x0F), q, q)
		}
	}
	if f.qh > 0 {
		d.fifthBits(i, end, lo, hi)
	}
	return lo, hi
}

// fifthBits adds 16 to the codes that have the bit.
func (d *dotGroup) fifthBits(i, end int, lo, hi reg.VecVirtual) {
	// All bits of a block in each 4 bytes of its lane, then in each byte the one
	// that has the bit.
	high := d.vec()
	VPBROADCASTD(d.block(i, d.f.qh), high)
	for k := 1; i+k < end; k++ {
		if d.wide {
			VPBROADCASTD(d.block(i+k, d.f.qh), d.lane[k], high)
			continue
		}
		next := YMM()
		VPBROADCASTD(d.block(i+1, d.f.qh), next)
		VPBLENDD(U8(0xF0), next, high, high)
	}
	for half, q := range []reg.VecVirtual{lo, hi} {
		from := bytesTable(fmt.Sprintf("byteOfBit%d", half), 64, func(i int) int { return 2*half + i%16/8 })
		bit := bytesTable("bit", 64, func(i int) int { return 1 << (i % 8) })
		b := d.vec()
		VPSHUFB(from, high, b)
		if d.wide {
			k := K()
			VPTESTMB(bit, b, k)
			VPADDB(d.sixteen, q, k, q)
			continue
		}
		VPAND(bit, b, b)
		VPCMPEQB(bit, b, b)
		VPAND(every(0x10), b, b)
		VPOR(b, q, q)
	}
}

// codes8 are the codes of the first n blocks of Q8_0, plus 128.
func (d *dotGroup) codes8(n int) (lo, hi reg.VecVirtual) {
	var z [2]reg.VecVirtual // blocks 0 and 1, 2 and 3
	for i := range z {
		if 2*i >= n {
			z[i] = z[0]
			break
		}
		z[i] = ZMM()
		VBROADCASTI64X4(d.block(2*i, d.f.qs), z[i])
		if 2*i+1 < n {
			VINSERTI64X4(U8(1), d.block(2*i+1, d.f.qs), z[i], z[i])
		}
	}
	lo, hi = ZMM(), ZMM()
	VSHUFI64X2(U8(0x88), z[1], z[0], lo)
	VSHUFI64X2(U8(0xDD), z[1], z[0], hi)
	VPXORD(d.flip, lo, lo)
	VPXORD(d.flip, hi, hi)
	return lo, hi
}

// integers are the sums of the products of codes, lane by lane, of the h-th part
// of a group with the v-th vector.
func (d *dotGroup) integers(v, h int, lo, hi reg.VecVirtual) reg.VecVirtual {
	p := d.vec()
	if d.wide {
		// Starts with what unsigned codes give too much.
		if d.f.bias > 0 {
			VPSLLD(U8(d.f.bias), d.at(v, sums), p)
		} else {
			zero(p)
		}
		VPDPBUSD(d.at(v, 0), lo, p)
		VPDPBUSD(d.at(v, 64), hi, p)
		return p
	}
	ones, t := all(0x00010001), YMM()
	if d.f.name == "Q8_0" {
		// |q|·(a with the sign of q): of two such products, at most 2·128·127, the
		// sum fits in 16 bits, of four it does not.
		for i, q := range []reg.VecVirtual{lo, hi} {
			u, a := []reg.VecVirtual{p, t}[i], YMM()
			VMOVDQU(d.at(v, 64*i+32*h), a)
			VPABSB(q, u)
			VPSIGNB(q, a, a)
			VPMADDUBSW(a, u, u)
			VPMADDWD(ones, u, u)
		}
		VPADDD(t, p, p)
		return p
	}
	VPMADDUBSW(d.at(v, 32*h), lo, p)
	VPMADDUBSW(d.at(v, 64+32*h), hi, t)
	VPADDW(t, p, p)
	VPMADDWD(ones, p, p)
	if d.f.bias > 0 {
		VMOVDQU(d.at(v, sums+32*h), t)
		VPSLLD(U8(d.f.bias), t, t)
		VPADDD(t, p, p)
	}
	return p
}

// total adds up the accumulators of the v-th vector.
func (d *dotGroup) total(v int) reg.VecVirtual {
	eight, sum, t := YMM(), XMM(), XMM()
	upper := func(v, h reg.VecVirtual) {
		if d.wide {
			VEXTRACTF32X4(U8(1), v, h)
		} else {
			VEXTRACTF128(U8(1), v, h)
		}
	}
	if d.wide {
		VEXTRACTF64X4(U8(1), d.acc[v][0], eight)
		VADDPS(eight, d.acc[v][0].AsY(), eight)
	} else {
		VADDPS(d.acc[v][1], d.acc[v][0], eight)
	}
	upper(eight, sum)
	VADDPS(sum, eight.AsX(), sum)
	if d.f.offset {
		upper(d.others[v], t)
		VSHUFPS(U8(0xDD), t, d.others[v].AsX(), t)
		VADDPS(t, sum, sum)
	}
	VPERMILPD(U8(1), sum, t)
	VADDPS(t, sum, sum)
	VMOVSHDUP(sum, t)
	VADDSS(t, sum, sum)
	return sum
}
