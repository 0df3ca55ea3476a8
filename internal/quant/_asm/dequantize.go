package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// dequantize writes the conversions to float32.
//
// AVX-512 computes the values of the 16 or 32 codes of a block and picks from
// them; AVX2, whose permutation takes 8 elements, converts and multiplies codes.
func dequantize() {
	for _, x := range isas {
		for _, f := range append(append([]format{}, formats32...), formatsK...) {
			TEXT("dequantize"+f.name+x.name, NOSPLIT, "func(dst *float32, src *byte, blocks int)")
			Pragma("noescape")
			Doc(fmt.Sprintf("dequantize%s%s converts so many blocks, not 0.", f.name, x.name))
			c := &conversion{isa: x, f: f, dst: param("dst"), src: param("src")}
			n := param("blocks")
			size := 32
			var body func()
			switch {
			case f.name == "Q8_0":
				body = c.block8
			case f.name == "Q6_K":
				size = 256
				c.local = AllocLocal(64)
				body = c.block6
			case f.name == "Q4_K" || f.name == "Q5_K":
				size = 256
				c.local = AllocLocal(64)
				body = c.blockK
			default:
				body = c.block32
			}
			c.constants()
			Label("loop")
			body()
			ADDQ(U32(f.bytes), c.src)
			ADDQ(U32(4*size), c.dst)
			DECQ(n)
			JNZ(LabelRef("loop"))
			VZEROUPPER()
			RET()
		}
	}
}

type conversion struct {
	isa
	f        format
	dst, src reg.Register
	local    Mem // 16 scales

	values         [2]reg.VecVirtual // of the codes, times 1
	low, five, six reg.VecVirtual
	bias           reg.VecVirtual
	twice          reg.VecVirtual
}

// floats is how many values a vector holds.
func (c *conversion) floats() int {
	if c.wide {
		return 16
	}
	return 8
}

func (c *conversion) at(disp int) Mem   { return Mem{Base: c.src, Disp: disp} }
func (c *conversion) out(value int) Mem { return Mem{Base: c.dst, Disp: 4 * value} }

func (c *conversion) constants() {
	if !c.wide {
		return
	}
	bias := 0
	if c.f.bias > 0 {
		bias = 1 << c.f.bias
	}
	switch c.f.name {
	case "Q8_0":
	case "Q6_K":
		c.low, c.six, c.bias = constant(0x0F), constant(0x30), constant(32)
	default:
		name := fmt.Sprintf("codes%d", bias)
		for i := range 2 {
			if i == 0 || c.f.qh > 0 {
				c.values[i] = load512(table(name, 32, func(i int) uint32 { return math.Float32bits(float32(i - bias)) }).Offset(64 * i))
			}
		}
		c.low, c.five = constant(0x0F), constant(0x10)
		if c.local.Base != nil {
			c.twice = load512(table("twice", 16, func(i int) uint32 { return uint32(i / 8) }))
		}
	}
}

// half is an F16 value in every element.
func (c *conversion) half(m Mem) reg.VecVirtual {
	v := c.vec()
	if c.wide {
		VPBROADCASTW(m, v.AsY())
		VCVTPH2PS(v.AsY(), v)
	} else {
		VPBROADCASTW(m, v.AsX())
		VCVTPH2PS(v.AsX(), v)
	}
	return v
}

// block8 converts a block of Q8_0.
func (c *conversion) block8() {
	d := c.half(c.at(0))
	for i := 0; i < 32; i += c.floats() {
		v := c.vec()
		VPMOVSXBD(c.at(2+i), v)
		VCVTDQ2PS(v, v)
		VMULPS(d, v, v)
		VMOVUPS(v, c.out(i))
	}
}

// block32 converts a block of one of the other formats of 32.
func (c *conversion) block32() {
	f := c.f
	d := c.half(c.at(0))
	var m reg.VecVirtual
	if f.offset {
		m = c.half(c.at(2))
	}
	if c.wide {
		var values [2]reg.VecVirtual
		for i, t := range c.values {
			if t == nil {
				continue
			}
			values[i] = ZMM()
			VMULPS(d, t, values[i])
			if m != nil {
				VADDPS(m, values[i], values[i])
			}
		}
		q, h := ZMM(), ZMM()
		VPMOVZXBD(c.at(f.qs), q)
		VPSRLD(U8(4), q, h)
		for i, q := range []reg.VecVirtual{q, h} {
			if f.qh == 0 {
				VPERMPS(values[0], q, q)
			} else {
				k := K()
				KMOVW(c.at(f.qh+2*i), k)
				if i == 0 {
					VPANDD(c.low, q, q)
				}
				VPORD(c.five, q, k, q)
				VPERMI2PS(values[1], values[0], q)
			}
			VMOVUPS(q, c.out(16*i))
		}
		return
	}
	high := YMM()
	if f.qh > 0 {
		VPBROADCASTD(c.at(f.qh), high)
	}
	for i := 0; i < 16; i += 8 {
		q, h := YMM(), YMM()
		VPMOVZXBD(c.at(f.qs+i), q)
		VPSRLD(U8(4), q, h)
		VPAND(all(0x0F), q, q)
		for j, q := range []reg.VecVirtual{q, h} {
			first := 16*j + i
			if f.qh > 0 {
				b := YMM()
				VPSRLVD(table(fmt.Sprintf("from%d", first), 8, func(i int) uint32 { return uint32(first + i) }), high, b)
				VPAND(all(1), b, b)
				VPSLLD(U8(4), b, b)
				VPOR(b, q, q)
			}
			if f.bias > 0 {
				VPSUBD(all(1<<f.bias), q, q)
			}
			VCVTDQ2PS(q, q)
			VMULPS(d, q, q)
			if m != nil {
				VADDPS(m, q, q)
			}
			VMOVUPS(q, c.out(first))
		}
	}
}

// broadcast is one of the scales in memory, in every element.
func (c *conversion) broadcast(i int) reg.VecVirtual {
	v := c.vec()
	VBROADCASTSS(c.local.Offset(4*i), v)
	return v
}

// blockK converts a block of Q4_K or Q5_K.
func (c *conversion) blockK() {
	f := c.f
	packed, head := c.scalesOf(c.src)
	if c.wide {
		s, d := ZMM(), ZMM()
		VPMOVZXBD(packed, s)
		VCVTDQ2PS(s, s)
		VPBROADCASTD(head, d.AsY()) // d and dmin
		VCVTPH2PS(d.AsY(), d)
		VPERMPS(d, c.twice, d)
		VMULPS(s, d, d)
		VMOVUPS(d, c.local)
	} else {
		VCVTPH2PS(head, head)
		for i := range 2 {
			s, d := YMM(), YMM()
			if i == 1 {
				VPSRLDQ(U8(8), packed, packed)
				VMOVSHDUP(head, head)
			}
			VPMOVZXBD(packed, s)
			VCVTDQ2PS(s, s)
			VBROADCASTSS(head, d)
			VMULPS(s, d, d)
			VMOVUPS(d, c.local.Offset(32*i))
		}
	}
	n := c.floats()
	var high []reg.VecVirtual
	for i := 0; c.wide && f.qh > 0 && i < 32; i += n {
		v := c.vec()
		VPMOVZXBD(c.at(f.qh+i), v)
		high = append(high, v)
	}
	for j := range 8 {
		d, m := c.broadcast(j), c.broadcast(8+j)
		var values [2]reg.VecVirtual
		for i, t := range c.values {
			if t == nil {
				continue
			}
			values[i] = ZMM()
			VMULPS(d, t, values[i])
			VSUBPS(m, values[i], values[i])
		}
		for i := 0; i < 32; i += n {
			q, b := c.vec(), c.vec()
			VPMOVZXBD(c.at(f.qs+j/2*32+i), q)
			if j%2 == 1 {
				VPSRLD(U8(4), q, q)
			}
			out := c.out(32*j + i)
			if c.wide && f.qh == 0 {
				VPERMPS(values[0], q, q)
				VMOVUPS(q, out)
				continue
			}
			if f.qh > 0 {
				// The fifth bit of the code, from the j-th of its byte.
				from := b
				switch {
				case c.wide && j == 4:
					from = high[i/n]
				case c.wide && j < 4:
					VPSLLD(U8(4-j), high[i/n], b)
				case c.wide:
					VPSRLD(U8(j-4), high[i/n], b)
				default:
					VPMOVZXBD(c.at(f.qh+i), b)
					if j < 4 {
						VPSLLD(U8(4-j), b, b)
					} else if j > 4 {
						VPSRLD(U8(j-4), b, b)
					}
				}
				if c.wide {
					VPTERNLOGD(U8(choose), c.five, from, q)
					VPERMI2PS(values[1], values[0], q)
					VMOVUPS(q, out)
					continue
				}
				VPAND(all(0x10), b, b)
			}
			if j%2 == 0 {
				VPAND(all(0x0F), q, q)
			}
			if f.qh > 0 {
				VPOR(b, q, q)
			}
			VCVTDQ2PS(q, q)
			VMULPS(d, q, q)
			VSUBPS(m, q, q)
			VMOVUPS(q, out)
		}
	}
}

// choose is the truth table of c ? b : a, with a the destination.
const choose = 0xD8

// block6 converts a block of Q6_K.
func (c *conversion) block6() {
	d, n := c.half(c.at(208)), c.floats()
	for i := 0; i < 16; i += n {
		s := c.vec()
		VPMOVSXBD(c.at(192+i), s)
		VCVTDQ2PS(s, s)
		VMULPS(s, d, s)
		VMOVUPS(s, c.local.Offset(4*i))
	}
	for first := 0; first < 256; first += n {
		h, j, i := first/128, first%128/32, first%32
		q, b := c.vec(), c.vec()
		VPMOVZXBD(c.at(64*h+j%2*32+i), q)
		if j >= 2 {
			VPSRLD(U8(4), q, q)
		}
		VPMOVZXBD(c.at(c.f.qh+32*h+i), b)
		if j < 2 {
			VPSLLD(U8(4-2*j), b, b)
		} else if j == 3 {
			VPSRLD(U8(2), b, b)
		}
		if c.wide {
			if j < 2 {
				VPANDD(c.low, q, q)
			}
			VPTERNLOGD(U8(orAnd), c.six, b, q)
			VPSUBD(c.bias, q, q)
		} else {
			if j < 2 {
				VPAND(all(0x0F), q, q)
			}
			VPAND(all(0x30), b, b)
			VPOR(b, q, q)
			VPSUBD(all(32), q, q)
		}
		VCVTDQ2PS(q, q)
		VMULPS(c.broadcast(first/16), q, q)
		VMOVUPS(q, c.out(first))
	}
}
