package quant

import (
	"encoding/binary"
	"fmt"
)

// Dequantize converts the blocks of src, len(dst) elements of f, to float32.
//
// With d, m and dmin as stored, F16 values, and q the unsigned code of an
// element, each operation rounded to float32, the value is
//
//	Q8_0        float32(q)·d, q signed
//	Q4_0, Q5_0  (q − 8)·d, (q − 16)·d
//	Q4_1, Q5_1  q·d + m
//	Q4_K, Q5_K  (d·s)·q − dmin·o, with scale s and offset o of its 32 elements
//	Q6_K        (d·s)·(q − 32), with the signed scale s of its 16 elements
//
// Where d or m is not finite, values may be NaN, and which one is not defined.
//
// It panics if len(dst) is not a multiple of f.BlockSize() or src is too short.
func Dequantize(dst []float32, src []byte, f Format) {
	n := f.blocks("Dequantize", len(dst))
	if len(src) < n*f.bytes() {
		panic(fmt.Sprintf("quant: Dequantize: src has %d bytes, %d elements of %v need %d", len(src), len(dst), f, n*f.bytes()))
	}
	src = src[:n*f.bytes()]
	if n == 0 || fastDequantize(dst, src, f, n) {
		return
	}
	dequantize(dst, src, f)
}

// dequantize is the portable definition of [Dequantize].
func dequantize(dst []float32, src []byte, f Format) {
	for size, bytes := f.size(), f.bytes(); len(dst) > 0; dst, src = dst[size:], src[bytes:] {
		switch f {
		case Q4_0, Q5_0:
			var q [32]uint8
			d := codes32(&q, src, f)
			bias := int(8)
			if f == Q5_0 {
				bias = 16
			}
			for i, c := range q {
				dst[i] = float32(int(c)-bias) * d
			}
		case Q4_1, Q5_1:
			var q [32]uint8
			d := codes32(&q, src, f)
			m := half(binary.LittleEndian.Uint16(src[2:]))
			for i, c := range q {
				dst[i] = float32(float32(c)*d) + m
			}
		case Q8_0:
			d := half(binary.LittleEndian.Uint16(src))
			for i, c := range src[2:34] {
				dst[i] = float32(int8(c)) * d
			}
		case Q4_K, Q5_K:
			var q [256]uint8
			codesK(&q, src, f)
			d, dmin := half(binary.LittleEndian.Uint16(src)), half(binary.LittleEndian.Uint16(src[2:]))
			for j := range 8 {
				s, o := scaleK(src[4:16], j)
				ds, m := d*float32(s), float32(dmin*float32(o))
				for i := 32 * j; i < 32*j+32; i++ {
					dst[i] = float32(ds*float32(q[i])) - m
				}
			}
		case Q6_K:
			var q [256]uint8
			codesK(&q, src, f)
			d := half(binary.LittleEndian.Uint16(src[208:]))
			for j, s := range src[192:208] {
				ds := d * float32(int8(s))
				for i := 16 * j; i < 16*j+16; i++ {
					dst[i] = ds * float32(int(q[i])-32)
				}
			}
		}
	}
}

// codes32 sets q to the unsigned codes of a block of 32 elements of 4 or 5 bits
// and returns d.
func codes32(q *[32]uint8, src []byte, f Format) float32 {
	var high uint32
	qs := src[f.bytes()-16 : f.bytes()]
	if f == Q5_0 || f == Q5_1 {
		high = binary.LittleEndian.Uint32(src[f.bytes()-20:])
	}
	for i, b := range qs {
		q[i] = b&15 | uint8(high>>i&1)<<4
		q[i+16] = b>>4 | uint8(high>>(i+16)&1)<<4
	}
	return half(binary.LittleEndian.Uint16(src))
}

// codesK sets q to the unsigned codes of a block of 256 elements.
func codesK(q *[256]uint8, src []byte, f Format) {
	switch f {
	case Q4_K:
		for c := range 4 {
			lo, hi, qs := q[64*c:64*c+32], q[64*c+32:64*c+64], src[16+32*c:48+32*c]
			for i, b := range qs {
				lo[i], hi[i] = b&15, b>>4
			}
		}
	case Q5_K:
		high := src[16:48]
		for c := range 4 {
			lo, hi, qs := q[64*c:64*c+32], q[64*c+32:64*c+64], src[48+32*c:80+32*c]
			for i, b := range qs {
				h := high[i] >> (2 * c)
				lo[i], hi[i] = b&15|h&1<<4, b>>4|h>>1&1<<4
			}
		}
	case Q6_K:
		for c := range 2 {
			q, low, high := q[128*c:128*c+128], src[64*c:64*c+64], src[128+32*c:160+32*c]
			for i, h := range high {
				q[i] = low[i]&15 | h&3<<4
				q[i+32] = low[i+32]&15 | h>>2&3<<4
				q[i+64] = low[i]>>4 | h>>4&3<<4
				q[i+96] = low[i+32]>>4 | h>>6<<4
			}
		}
	}
}

// scaleK is the j-th scale and offset, 6 bits each, of the 12 bytes that hold 8
// of them in Q4_K and Q5_K.
func scaleK(b []byte, j int) (scale, offset uint8) {
	if j < 4 {
		return b[j] & 63, b[j+4] & 63
	}
	return b[j+4]&15 | b[j-4]>>6<<4, b[j+4]>>4 | b[j]>>6<<4
}
