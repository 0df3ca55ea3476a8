package quant

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Activations are a vector of float32 rounded to 8 bits, to be multiplied with
// quantized weights. The zero value is empty; Set may be called again and keeps
// the memory.
//
// Elements that meet one block of weights, 32 or 256, share a scale: with most
// the largest magnitude among them, d = most/127 and a = x·(127/most), rounded to
// the nearest integer, ties to even. Each operation is rounded to float32. A
// block whose largest magnitude is below 2⁻¹⁰⁰ counts as zeros; one with an
// infinity or a NaN makes every product with it NaN.
type Activations struct {
	n    int
	size int    // 32 or 256
	b    []byte // records, see below
}

// Activations lie in records, in the order in which the assembly takes them.
//
// For blocks of 32 a record holds four of them, of which those beyond the end are
// zero, in 256 bytes:
//
//	0    4 × 16 int8     elements 0…15 of each block
//	64   4 × 16 int8     elements 16…31 of each block
//	128  4 × 2 float32   d and d·Σa of each block
//	192  4 × 4 int32     −Σa over each of the block's lanes (see Dot)
//
// For blocks of 256 it holds one, in 320 bytes:
//
//	0    256 int8        a
//	256  16 int16        Σa over each 16 elements
//	288  8 int16         Σa over each 32 elements
//	304  float32         d
const (
	group   = 4 // blocks of 32 in a record
	record  = 256
	scales  = 128
	sums    = 192
	recordK = 320
	sums16  = 256
	sums32  = 288
	scaleAt = 304
)

// smallest is the magnitude below which a block of activations counts as zeros.
const smallest = 0x1p-100

// Set rounds x for products with weights of f, or of any other format with the
// same BlockSize. It panics if len(x) is not a multiple of f.BlockSize().
func (a *Activations) Set(x []float32, f Format) {
	n := f.blocks("Activations.Set", len(x))
	a.n, a.size = len(x), f.size()
	need := n * recordK
	if a.size == 32 {
		need = (n + group - 1) / group * record
	}
	if cap(a.b) < need {
		a.b = make([]byte, need)
	}
	a.b = a.b[:need]
	if a.size == 256 {
		if n > 0 && !fastSetK(a.b, x) {
			setK(a.b, x)
		}
		return
	}
	if n%group != 0 {
		clear(a.b[need-record:])
	}
	if n > 0 && !fastSet32(a.b, x) {
		set32(a.b, x)
	}
}

// Len is the number of elements.
func (a *Activations) Len() int { return a.n }

// For reports whether a was set for weights of f.
func (a *Activations) For(f Format) bool { return a.size == f.known("Activations.For").size() }

// check panics unless a can meet rows of n elements of f.
func (a *Activations) check(who string, n int, f Format) {
	if a.n != n || a.size != f.size() {
		panic(fmt.Sprintf("quant: %s: activations of %d elements for blocks of %d, the rows have %d elements of %v", who, a.n, a.size, n, f))
	}
}

// set32 is the portable definition of Set for blocks of 32.
func set32(b []byte, x []float32) {
	for k := 0; len(x) > 0; k, x = k+1, x[32:] {
		rec, i := b[k/group*record:][:record], k%group
		d, inv := scaleOf(x[:32])
		var lanes [4]int32
		var total int32
		for e, v := range x[:32] {
			a := rounded(v, inv)
			rec[e/16*64+16*i+e%16] = uint8(a)
			lanes[e%16/4] -= int32(a)
			total += int32(a)
		}
		le := binary.LittleEndian
		le.PutUint32(rec[scales+8*i:], math.Float32bits(d))
		le.PutUint32(rec[scales+8*i+4:], math.Float32bits(d*float32(total)))
		for l, s := range lanes {
			le.PutUint32(rec[sums+16*i+4*l:], uint32(s))
		}
	}
}

// setK is the portable definition of Set for blocks of 256.
func setK(b []byte, x []float32) {
	for ; len(x) > 0; b, x = b[recordK:], x[256:] {
		rec := b[:recordK]
		d, inv := scaleOf(x[:256])
		le := binary.LittleEndian
		var sum, before int16
		for e, v := range x[:256] {
			a := rounded(v, inv)
			rec[e] = uint8(a)
			if sum += int16(a); e%16 == 15 {
				le.PutUint16(rec[sums16+e/16*2:], uint16(sum))
				if e%32 == 31 {
					le.PutUint16(rec[sums32+e/32*2:], uint16(before+sum))
				}
				before, sum = sum, 0
			}
		}
		le.PutUint32(rec[scaleAt:], math.Float32bits(d))
	}
}

// rounded is v·inv, rounded. What counts as zero has an inv of 0, whatever v is.
func rounded(v, inv float32) int8 {
	if inv == 0 {
		return 0
	}
	return int8(nearest(v * inv))
}

// scaleOf is the scale of a block and what to multiply its elements with. Where
// they are not finite the scale is NaN, and zero is what is left of them.
func scaleOf(x []float32) (d, inv float32) {
	// The order of the patterns is that of the magnitudes, with NaN at the top.
	var most uint32
	for _, v := range x {
		most = max(most, math.Float32bits(v)&^(1<<31))
	}
	switch m := math.Float32frombits(most); {
	case most >= 0x7F800000:
		return canonicalNaN, 0
	case m < smallest:
		return 0, 0
	default:
		return m / 127, 127 / m
	}
}
