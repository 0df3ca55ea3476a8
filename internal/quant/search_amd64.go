//go:build !purego

package quant

import "math"

// A search has the loops that work on as many sub-blocks at once as a row of the
// Quantizer's arrays has lanes.
type search struct {
	lanes        int
	weighPlain   func(x, w *float32)
	weighSquare  func(x, w *float32)
	weigh        func(x, w, base *float32)
	fitOffset    func(x, w *float32, q, try *int32, tries *float32, steps int, fit *float32)
	fitSymmetric func(x, w, wx *float32, bytes int, q, try *int32, tries *float32, steps int, scales *float32)
	recode       func(x *float32, rows int, scales, offsets *float32, q *int32, least, most int)
}

var (
	narrow = search{8, weighPlainAVX2, weighSquareAVX2, weighAVX2, fitOffsetAVX2, fitSymmetricAVX2, recodeAVX2}
	wide   = search{16, weighPlainAVX512, weighSquareAVX512, weighAVX512, fitOffsetAVX512, fitSymmetricAVX512, recodeAVX512}
)

// searchFor is the one for so many sub-blocks.
func searchFor(subBlocks int) *search {
	if inUse == avx512 && subBlocks > 8 {
		return &wide
	}
	return &narrow
}

// The dividends of the steps by which scales are tried, in the order of the
// reference. Before those with offsets stands the largest code, as an integer and
// as a float; before the symmetric ones the smallest code and the largest, as
// integers.
var (
	tries4K = triesOffset(15, -1, 0.1, 20)
	tries5K = triesOffset(31, -0.5, 0.1, 15)
	tries6K = triesSymmetric(32)

	finely4 = triesOffset(15, -0.9, 0.05, 36)
	finely5 = triesOffset(31, -0.9, 0.05, 36)
	tries40 = triesSymmetric(8)
	tries50 = triesSymmetric(16)
)

func triesOffset(top int, first, step float32, steps int) []float32 {
	t := []float32{math.Float32frombits(uint32(top)), float32(top)}
	for k := range steps + 1 {
		t = append(t, first+float32(step*float32(k))+float32(top))
	}
	return t
}

func triesSymmetric(half int) []float32 {
	t := []float32{math.Float32frombits(uint32(-half)), math.Float32frombits(uint32(half - 1)), -float32(half)}
	for k := -9; k <= 9; k++ {
		if k != 0 {
			t = append(t, -(float32(half) + float32(float32(0.1)*float32(k))))
		}
	}
	return t
}

// offsets fits 32 rows with weights. It returns rows of scales, of offsets and of
// sums of weights.
func (z *Quantizer) offsets(s *search, tries []float32) (scales, offsets, weights []float32) {
	s.fitOffset(&z.x[0], &z.w[0], &z.q[0], &z.try[0], &tries[0], len(tries)-2, &z.fit[0])
	return z.fit[:s.lanes], z.fit[s.lanes:][:s.lanes], z.fit[2*s.lanes:][:s.lanes]
}

// symmetric fits rows with weights. q gets their codes, scales a row of scales.
func (z *Quantizer) symmetric(s *search, tries []float32, q []int32, scales []float32) {
	s.fitSymmetric(&z.x[0], &z.w[0], &z.wx[0], 4*len(q), &q[0], &z.try[0], &tries[0], len(tries)-3, &scales[0])
}

// turn8 puts 8 sub-blocks of n elements each into lanes, from one on.
func (s *search) turn8(rows *[512]float32, x []float32, n, lane int) {
	turnAVX2(&rows[lane], 4*s.lanes, &x[:8*n][0], n)
}

// turn1 puts the elements of x into a lane.
func (s *search) turn1(rows *[512]float32, x []float32, lane int) {
	for i, v := range x {
		rows[(s.lanes*i+lane)&511] = v
	}
}

// blocksK makes blocks of Q4_K or Q5_K. weights are nil or those of the columns.
func (z *Quantizer) blocksK(dst []byte, src, weights []float32, f Format, tries []float32, top int) {
	bytes := f.bytes()
	var column int
	var sums []float32
	if weights != nil {
		z.sums = sumsOfSquares(z.sums[:0], src, 256)
		sums = z.sums
	}
	for len(src) > 0 {
		s := searchFor(len(src) / 32)
		n := s.lanes / 8
		for k := range n {
			s.turn8(&z.x, src[256*k:], 32, 8*k)
		}
		if weights == nil {
			s.weighPlain(&z.x[0], &z.w[0])
		} else {
			for k, sum := range sums[:n] {
				s.turn8(&z.w, weights[column:], 32, 8*k)
				for lane := range 8 {
					z.base[8*k+lane] = 2 * sum / 256
				}
				if column += 256; column == len(weights) {
					column = 0
				}
			}
			sums = sums[n:]
			s.weigh(&z.x[0], &z.w[0], &z.base[0])
		}
		scales, offsets, importance := z.offsets(s, tries)
		for k := range n {
			b, scales, offsets := dst[k*bytes:], (*[8]float32)(scales[8*k:]), (*[8]float32)(offsets[8*k:])
			if weights == nil {
				putScalesK(b, scales, offsets)
			} else {
				putWeightedScalesK(b, scales, offsets, (*[8]float32)(importance[8*k:]), f)
			}
		}
		s.recode(&z.x[0], 32, &scales[0], &offsets[0], &z.q[0], 0, top)
		for k := range n {
			z.putCodesK(dst[k*bytes:], f, s.lanes, 8*k)
		}
		src, dst = src[256*n:], dst[n*bytes:]
	}
}

// putCodesK stores the codes of 8 lanes, 4 bits or 5.
func (z *Quantizer) putCodesK(b []byte, f Format, lanes, lane int) {
	codes := z.q[lane:]
	qs := b[f.bytes()-128:][:128]
	for i := range 32 {
		q := (*[8]int32)(codes[lanes*i:])
		qs[i] = uint8(q[0]&15 | q[1]<<4)
		qs[i+32] = uint8(q[2]&15 | q[3]<<4)
		qs[i+64] = uint8(q[4]&15 | q[5]<<4)
		qs[i+96] = uint8(q[6]&15 | q[7]<<4)
	}
	if f == Q5_K {
		high := b[16:48]
		for i := range high {
			q := (*[8]int32)(codes[lanes*i:])
			var h int32
			for j, c := range q {
				h |= c >> 4 << j
			}
			high[i] = uint8(h)
		}
	}
}

// blocks6K makes blocks of Q6_K, whose 16 sub-blocks go into one row or two halves.
func (z *Quantizer) blocks6K(dst []byte, src, weights []float32) {
	s := searchFor(16)
	part := 16 * s.lanes
	turn := func(rows *[512]float32, x []float32) {
		for lane := 0; lane < s.lanes; lane += 8 {
			s.turn8(rows, x[16*lane:], 16, lane)
		}
	}
	var column int
	scales, offsets := (*[16]float32)(z.fit[:]), &z.base
	clear(offsets[:])
	for ; len(src) > 0; src, dst = src[256:], dst[210:] {
		for at := 0; at < 256; at += part {
			turn(&z.x, src[at:])
			if weights == nil {
				s.weighSquare(&z.x[0], &z.w[0])
			} else {
				turn(&z.w, weights[column:])
				if column += part; column == len(weights) {
					column = 0
				}
			}
			z.symmetric(s, tries6K, z.q[at:][:part], scales[at/16:])
		}
		if !putScales6(dst, scales) {
			continue
		}
		for at := 0; at < 256; at += part {
			if part < 256 {
				turn(&z.x, src[at:])
			}
			s.recode(&z.x[0], 16, &scales[at/16], &offsets[0], &z.q[at], -32, 31)
		}
		z.putCodes6(dst, s.lanes)
	}
}

// putCodes6 stores the codes of rows of lanes. Of 8 lanes the rows of sub-blocks 8
// to 15 follow those of 0 to 7.
func (z *Quantizer) putCodes6(b []byte, lanes int) {
	for c := range 2 {
		rows := z.q[8*c:]
		if lanes == 8 {
			rows = z.q[128*c:]
		}
		low, high := b[64*c:64*c+64], b[128+32*c:160+32*c]
		for i := range 32 {
			// Element i of the half is in sub-block i/16, the next of the four
			// codes that share bytes two sub-blocks on.
			q := rows[i%16*lanes+i/16:][:7]
			q1, q2, q3, q4 := uint8(q[0]+32), uint8(q[2]+32), uint8(q[4]+32), uint8(q[6]+32)
			low[i] = q1&15 | q3<<4
			low[i+32] = q2&15 | q4<<4
			high[i] = q1>>4 | q2>>4<<2 | q3>>4<<4 | q4>>4<<6
		}
	}
}

// weighted32 makes blocks of 32 elements with weights of columns.
func (z *Quantizer) weighted32(dst []byte, src, weights []float32, f Format, tries []float32) {
	n, bytes := len(weights), f.bytes()
	z.sums = sumsOfSquares(z.sums[:0], src, n)
	column, rest := 0, z.sums
	for len(src) > 0 {
		s := searchFor(len(src) / 32)
		blocks := min(s.lanes, len(src)/32)
		if blocks < s.lanes {
			z.x, z.w = [512]float32{}, [512]float32{}
		}
		for lane := 0; lane < blocks; {
			// Eight at once unless the row ends before.
			together := 1
			if n-column >= 8*32 && blocks-lane >= 8 {
				together = 8
				s.turn8(&z.x, src[32*lane:], 32, lane)
				s.turn8(&z.w, weights[column:], 32, lane)
			} else {
				s.turn1(&z.x, src[32*lane:][:32], lane)
				s.turn1(&z.w, weights[column:][:32], lane)
			}
			for range together {
				z.base[lane] = rest[0] / float32(n)
				lane++
			}
			if column += 32 * together; column == n {
				column, rest = 0, rest[1:]
			}
		}
		s.weigh(&z.x[0], &z.w[0], &z.base[0])
		var scales, offsets []float32
		var bias int32
		switch f {
		case Q4_0, Q5_0:
			scales = z.fit[:s.lanes]
			z.symmetric(s, tries, z.q[:32*s.lanes], scales)
			bias = -int32(math.Float32bits(tries[0]))
		default:
			scales, offsets, _ = z.offsets(s, tries)
		}
		for lane := range blocks {
			b := dst[lane*bytes:][:bytes]
			putScale(b, scales[lane])
			b = b[2:]
			if offsets != nil {
				putScale(b, -offsets[lane])
				b = b[2:]
			}
			var q [32]uint8
			for i := range q {
				q[i] = uint8(z.q[(s.lanes*i+lane)&511] + bias)
			}
			putCodes(b, &q, f)
		}
		src, dst = src[32*blocks:], dst[blocks*bytes:]
	}
}

// sumsOfSquares appends the sums of the rows of n elements each, every one added up
// in order, four beside each other since each addition waits for the one before it.
func sumsOfSquares(to, x []float32, n int) []float32 {
	for ; len(x) >= 4*n; x = x[4*n:] {
		var a, b, c, d float32
		x1, x2, x3 := x[n:2*n], x[2*n:3*n], x[3*n:4*n]
		for i, v := range x[:n] {
			a += float32(v * v)
			b += float32(x1[i] * x1[i])
			c += float32(x2[i] * x2[i])
			d += float32(x3[i] * x3[i])
		}
		to = append(to, a, b, c, d)
	}
	for ; len(x) > 0; x = x[n:] {
		to = append(to, sumOfSquares(x[:n]))
	}
	return to
}
