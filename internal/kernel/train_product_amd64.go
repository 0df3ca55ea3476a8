//go:build !purego

package kernel

import "unsafe"

//go:generate go run -C _asm . -part train -out ../train_amd64.s -stubs ../train_amd64.go -pkg kernel

// panelWidths are how many vectors the panels of the left, the right and the
// narrow right factor have: a tile.
func panelWidths() (left, right, narrow int) {
	switch {
	case inUse >= avx512:
		return 12, 32, 16
	case inUse >= avx2:
		return 6, 16, 8
	}
	return portableLeft, portableRight, portableRight
}

func wordLines(n int) []uint32 {
	x := make([]uint32, n+16)
	skip := (64 - floatLineOffset((*float32)(unsafe.Pointer(&x[0])))) % 64 / 4
	return x[skip : skip+n : skip+n]
}

func fastProductTile(out []float32, stride, width int, pa, pb []uint32, n int, add, pairs bool) bool {
	switch {
	case inUse >= avx512 && width == 16:
		productTileNarrowAVX512(&out[0], 4*stride, &pa[0], &pb[0], n, add)
	case inUse == avx2 && width == 8:
		productTileNarrowAVX2(&out[0], 4*stride, &pa[0], &pb[0], n, add)
	case inUse >= avx512 && pairs:
		productTilePairsAVX512(&out[0], 4*stride, &pa[0], &pb[0], n, add)
	case inUse >= avx512:
		productTileAVX512(&out[0], 4*stride, &pa[0], &pb[0], n, add)
	case inUse >= avx2:
		productTileAVX2(&out[0], 4*stride, &pa[0], &pb[0], n, add)
	default:
		return false
	}
	return true
}

// fastPackRows returns how many words of each row it has taken care of.
func (p *Panels) fastPackRows(panel []uint32, x []float32, stride, n int) int {
	if inUse < avx512 || n < p.width || p.round {
		return 0
	}
	per := 1 // elements of a word
	if p.pairs {
		per = 2
	}
	words := p.N / per &^ 15
	if words > 0 {
		p.transpose(panel, x, stride, words)
	}
	if words == p.steps {
		return words
	}
	// What is left, as a block of its own.
	var rows [maxPanel * 32]float32
	var block [maxPanel * 16]uint32
	for v := range n {
		copy(rows[v*16*per:], x[v*stride+words*per:v*stride+p.N])
	}
	p.transpose(block[:], rows[:], 16*per, 16)
	copy(panel[words*p.width:], block[:(p.steps-words)*p.width])
	return p.steps
}

// transpose writes words of all rows of a panel, a multiple of 16.
func (p *Panels) transpose(panel []uint32, x []float32, stride, words int) {
	step := 4 * p.width
	switch {
	case p.width == 12 && p.pairs:
		packRowsPairs12AVX512(&panel[0], step, &x[0], 4*stride, words)
	case p.width == 12:
		packRows12AVX512(&panel[0], step, &x[0], 4*stride, words)
	case p.pairs:
		packRowsPairs16AVX512(&panel[0], step, &x[0], 4*stride, words)
		packRowsPairs16AVX512(&panel[16], step, &x[16*stride], 4*stride, words)
	default:
		for at := 0; at < p.width; at += 16 {
			packRows16AVX512(&panel[at], step, &x[at*stride], 4*stride, words)
		}
	}
}

// fastPackColumns returns how many words it has taken care of.
func (p *Panels) fastPackColumns(panel []uint32, x []float32, stride, n int) int {
	words := p.N
	if p.pairs {
		words /= 2
	}
	if inUse < avx512 || p.round || words == 0 {
		return 0
	}
	for at := 0; at < n; at += 16 {
		lanes := min(16, n-at)
		if p.pairs {
			packColumnsPairsAVX512(&panel[at], 4*p.width, &x[at], 4*stride, words, lanes)
		} else {
			packColumnsAVX512(&panel[at], 4*p.width, &x[at], 4*stride, words, lanes)
		}
	}
	return words
}
