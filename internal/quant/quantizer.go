package quant

import (
	"fmt"
)

// A Quantizer stores float32 as blocks, with the bits of [Quantize], many times as
// fast where there is assembly. The zero value is ready. It belongs to one
// goroutine.
type Quantizer struct {
	// Eight sub-blocks at a time, a row for each of their elements and a lane for
	// each of them; w are weights of squared errors, try the codes being tried.
	x, w   [256]float32
	q, try [256]int32
}

// Quantize is the function of that name.
func (z *Quantizer) Quantize(dst []byte, src []float32, f Format) {
	n := f.blocks("Quantize", len(src))
	size, bytes := f.size(), f.bytes()
	if len(dst) < n*bytes {
		panic(fmt.Sprintf("quant: Quantize: dst has %d bytes, %d elements of %v need %d", len(dst), len(src), f, n*bytes))
	}
	for n > 0 {
		left := z.fastQuantize(dst, src, f, n)
		dst, src = dst[(n-left)*bytes:], src[(n-left)*size:]
		if n = left; n == 0 {
			return
		}
		// This block is for the reference, as all are where there is no assembly.
		Quantize(dst, src[:size], f)
		dst, src = dst[bytes:], src[size:]
		n--
	}
}

// turn puts the elements of 8 sub-blocks, of n elements each, into rows of lanes.
func (z *Quantizer) turn(x []float32, n int) {
	for lane := range 8 {
		sub := x[lane*n:][:n]
		for i, v := range sub {
			z.x[8*i+lane] = v
		}
	}
}

// putScalesK stores the scales and offsets of the sub-blocks of Q4_K or Q5_K, and
// sets them to their values as stored.
func putScalesK(b []byte, scales, offsets *[8]float32) {
	var maxScale, maxOffset float32
	for j := range 8 {
		maxScale, maxOffset = larger(maxScale, scales[j]), larger(maxOffset, offsets[j])
	}
	d, dmin := putHalf(b, maxScale/63), putHalf(b[2:], maxOffset/63)
	invScale, invOffset := sixtyThird(maxScale), sixtyThird(maxOffset)
	packed := b[4:16]
	clear(packed)
	for j := range 8 {
		s := uint8(min(63, nearest(invScale*scales[j])))
		o := uint8(min(63, nearest(invOffset*offsets[j])))
		if j < 4 {
			packed[j], packed[j+4] = s, o
		} else {
			packed[j+4] = s&15 | o&15<<4
			packed[j-4] |= s >> 4 << 6
			packed[j] |= o >> 4 << 6
		}
	}
	for j := range 8 {
		s, o := scaleK(packed, j)
		scales[j], offsets[j] = d*float32(s), float32(dmin*float32(o))
	}
}

// putCodesK stores the codes of rows of lanes, 4 bits or 5.
func (z *Quantizer) putCodesK(b []byte, f Format) {
	qs := b[f.bytes()-128:][:128]
	for i := range 32 {
		q := (*[8]int32)(z.q[8*i:])
		qs[i] = uint8(q[0]&15 | q[1]<<4)
		qs[i+32] = uint8(q[2]&15 | q[3]<<4)
		qs[i+64] = uint8(q[4]&15 | q[5]<<4)
		qs[i+96] = uint8(q[6]&15 | q[7]<<4)
	}
	if f == Q5_K {
		high := b[16:48]
		for i := range high {
			q := (*[8]int32)(z.q[8*i:])
			var h int32
			for j, c := range q {
				h |= c >> 4 << j
			}
			high[i] = uint8(h)
		}
	}
}

// putScales6 stores the scales of the sub-blocks of Q6_K and sets them to their
// values as stored. It is false if there is nothing but zeros.
func putScales6(b []byte, scales *[16]float32) bool {
	var most, mostScale float32
	for _, s := range scales {
		if a := abs(s); a > most {
			most, mostScale = a, s
		}
	}
	if most < negligible {
		clear(b[:210])
		return false
	}
	inv := -128 / mostScale
	d := putHalf(b[208:], 1/inv)
	for j := range scales {
		s := int8(min(127, nearest(inv*scales[j])))
		b[192+j] = uint8(s)
		scales[j] = d * float32(s)
	}
	return true
}

// putCodes6 stores the codes of rows of lanes, those of sub-blocks 0 to 7 before
// those of 8 to 15, each half of which is 128 elements of the block.
func (z *Quantizer) putCodes6(b []byte) {
	for c := range 2 {
		rows := z.q[128*c:][:128]
		low, high := b[64*c:64*c+64], b[128+32*c:160+32*c]
		for i := range 32 {
			// Element i of the half is in sub-block i/16, the next of the four
			// codes that share bytes two sub-blocks on.
			q := rows[i%16*8+i/16:]
			q1, q2, q3, q4 := uint8(q[0]+32), uint8(q[2]+32), uint8(q[4]+32), uint8(q[6]+32)
			low[i] = q1&15 | q3<<4
			low[i+32] = q2&15 | q4<<4
			high[i] = q1>>4 | q2>>4<<2 | q3>>4<<4 | q4>>4<<6
		}
	}
}
