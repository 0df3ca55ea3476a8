package quant

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Dot sets out[r] to the product of row r of a matrix with x, for r in 0…rows−1.
// w holds rows × n elements of f, row after row; x has been set for f and has n
// elements.
//
// Products of codes are summed as integers, exactly. What follows is float32, each
// operation rounded:
//
// With blocks of 32, a block is cut into 4 lanes: lane l has the 8 elements i with
// ⌊(i mod 16)/4⌋ = l. With p the lane's integer, of signed codes where the format
// is symmetric, and d the product of the scales of weights and activations, d·p is
// added to accumulator 4·(b mod 4) + l for each block b in turn. In Q4_1 and Q5_1
// also m·(dₓ·Σa) of each block is added to accumulator b mod 4 of another four.
// The 16 are added in halves, i to i+8 and then i to i+4; the other four are added
// to what is left, if there are any; then i to i+2 and 0 to 1.
//
// With blocks of 256, the integers are Σ s·Σ q·a over the scales s of the block,
// of signed codes in Q6_K, and, in Q4_K and Q5_K, Σ o·Σ a over its offsets. The
// first times d·dₓ and the second times dmin·dₓ have an accumulator each, for all
// blocks in turn; the result is the first minus the second.
//
// A NaN is the canonical 0x7FC00000. It panics if a length does not fit.
func Dot(out []float32, w []byte, f Format, rows, n int, x *Activations) {
	row := f.blocks("Dot", n) * f.bytes()
	needOut("Dot", len(out), rows)
	needWeights("Dot", len(w), f, rows, n, row)
	x.check("Dot", n, f)
	out = out[:rows]
	switch {
	case rows == 0:
	case n == 0:
		clear(out)
	default:
		multiply(out, len(out), w[:rows*row], f, rows, n, []*Activations{x})
	}
}

// MatMul sets out[i·stride + r] to the product of row r with xs[i], as [Dot] does
// and with the same bits, for r in 0…rows−1. Weights are read from memory once
// for as many vectors as the caches allow. With a stride of more than rows, parts
// of a matrix can be multiplied by different goroutines into one output.
//
// It panics if a length does not fit.
func MatMul(out []float32, stride int, w []byte, f Format, rows, n int, xs []Activations) {
	row := f.blocks("MatMul", n) * f.bytes()
	if rows < 0 || stride < rows {
		panic(fmt.Sprintf("quant: MatMul: stride %d for %d rows", stride, rows))
	}
	if len(xs) == 0 || rows == 0 {
		return
	}
	needOut("MatMul", len(out), (len(xs)-1)*stride+rows)
	needWeights("MatMul", len(w), f, rows, n, row)
	for i := range xs {
		xs[i].check("MatMul", n, f)
	}
	if n == 0 {
		for i := range xs {
			clear(out[i*stride:][:rows])
		}
		return
	}
	// Rows that stay in the second-level cache while all vectors meet them.
	tile := max(1, tileBytes/row)
	var some [8]*Activations
	for r := 0; r < rows; r += tile {
		part := min(tile, rows-r)
		for i := 0; i < len(xs); i += len(some) {
			vs := some[:0]
			for j := i; j < min(i+len(some), len(xs)); j++ {
				vs = append(vs, &xs[j])
			}
			multiply(out[i*stride+r:], stride, w[r*row:][:part*row], f, part, n, vs)
		}
	}
}

// tileBytes of weights are multiplied with all vectors before the next.
const tileBytes = 128 << 10

func needOut(who string, have, need int) {
	if need < 0 || have < need {
		panic(fmt.Sprintf("quant: %s: out has %d elements, want %d", who, have, need))
	}
}

func needWeights(who string, have int, f Format, rows, n, row int) {
	if row > 0 && have/row < rows {
		panic(fmt.Sprintf("quant: %s: w has %d bytes, %d rows of %d elements of %v need %d each", who, have, rows, n, f, row))
	}
}

// multiply is MatMul for up to eight vectors. Neither rows nor n is 0.
func multiply(out []float32, stride int, w []byte, f Format, rows, n int, xs []*Activations) {
	if !fastMultiply(out, stride, w, f, rows, n, xs) {
		row := len(w) / rows
		for r := range rows {
			for i, x := range xs {
				if f.size() == 32 {
					out[i*stride+r] = dot32(w[r*row:][:row], f, x.b)
				} else {
					out[i*stride+r] = dotK(w[r*row:][:row], f, x.b)
				}
			}
		}
	}
	for i := range xs {
		for r, v := range out[i*stride:][:rows] {
			if v != v {
				out[i*stride+r] = canonicalNaN
			}
		}
	}
}

// dot32 is the portable definition of the product of one row with one vector, for
// formats with blocks of 32.
func dot32(w []byte, f Format, x []byte) float32 {
	var acc [16]float32
	var others [4]float32
	offset := f == Q4_1 || f == Q5_1
	for b := 0; len(w) > 0; b, w = b+1, w[f.bytes():] {
		rec, i := x[b/group*record:][:record], b%group
		lo, hi := rec[16*i:][:16], rec[64+16*i:][:16]
		var p [4]int32
		var d float32
		if f == Q8_0 {
			d = half(binary.LittleEndian.Uint16(w))
			q := w[2:34]
			for e := range 16 {
				p[e/4] += int32(int8(q[e]))*int32(int8(lo[e])) + int32(int8(q[e+16]))*int32(int8(hi[e]))
			}
		} else {
			var q [32]uint8
			d = codes32(&q, w, f)
			var bias int32
			switch f {
			case Q4_0:
				bias = 8
			case Q5_0:
				bias = 16
			}
			for e := range 16 {
				p[e/4] += (int32(q[e])-bias)*int32(int8(lo[e])) + (int32(q[e+16])-bias)*int32(int8(hi[e]))
			}
		}
		d *= float32At(rec[scales+8*i:])
		for l := range p {
			acc[4*i+l] += float32(d * float32(p[l]))
		}
		if offset {
			m := half(binary.LittleEndian.Uint16(w[2:]))
			others[i] += float32(m * float32At(rec[scales+8*i+4:]))
		}
	}
	for i := range 8 {
		acc[i] += acc[i+8]
	}
	for i := range 4 {
		acc[i] += acc[i+4]
		if offset {
			acc[i] += others[i]
		}
	}
	return (acc[0] + acc[2]) + (acc[1] + acc[3])
}

// dotK is the portable definition for formats with blocks of 256.
func dotK(w []byte, f Format, x []byte) float32 {
	var acc, other float32
	for ; len(w) > 0; w, x = w[f.bytes():], x[recordK:] {
		rec := x[:recordK]
		dx := float32At(rec[scaleAt:])
		var q [256]uint8
		codesK(&q, w, f)
		var p int32
		if f == Q6_K {
			for j, s := range w[192:208] {
				var t int32
				for e := 16 * j; e < 16*j+16; e++ {
					t += (int32(q[e]) - 32) * int32(int8(rec[e]))
				}
				p += int32(int8(s)) * t
			}
			d := half(binary.LittleEndian.Uint16(w[208:]))
			acc += float32(d * dx * float32(p))
			continue
		}
		var o int32
		for j := range 8 {
			scale, offset := scaleK(w[4:16], j)
			var t int32
			for e := 32 * j; e < 32*j+32; e++ {
				t += int32(q[e]) * int32(int8(rec[e]))
			}
			p += int32(scale) * t
			o += int32(offset) * int32(int16(binary.LittleEndian.Uint16(rec[sums32+2*j:])))
		}
		d, dmin := half(binary.LittleEndian.Uint16(w)), half(binary.LittleEndian.Uint16(w[2:]))
		acc += float32(d * dx * float32(p))
		other += float32(dmin * dx * float32(o))
	}
	return acc - other
}

func float32At(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) }
