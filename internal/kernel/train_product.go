package kernel

import (
	"fmt"
	"math"
)

// Training multiplies matrices in three ways, x·Wᵀ, y·W and yᵀ·x, so neither
// factor is always the one whose rows lie in a piece. Both are therefore
// rearranged first, once for all products they take part in, into panels: of a
// few vectors, element after element.

// A Panels is one factor of [Multiply]: Vectors vectors of N elements. Make it
// with [NewLeft] or [NewRight], give it a size with [Panels.Resize], and fill it
// with [Panels.PackRows] or [Panels.PackColumns].
type Panels struct {
	Vectors, N int

	width int  // vectors in a panel
	pairs bool // a word is two bfloat16, the first one low, rather than a float32
	round bool // float32, but rounded to bfloat16
	steps int  // words for a vector
	words []uint32
}

// NewLeft is an empty left factor. f is F32, or BF16 to round elements to
// bfloat16 and, where there is an instruction for it, multiply them as such.
// It is for the implementation in use when it is made.
func NewLeft(f Format) *Panels {
	left, _, _ := panelWidths()
	return newPanels(left, f)
}

// NewRight is an empty right factor of the same kind.
func NewRight(f Format) *Panels {
	_, right, _ := panelWidths()
	return newPanels(right, f)
}

// NewNarrow is an empty right factor of F32 with panels of half the width, which
// wastes less on a few vectors. Results are the same.
func NewNarrow() *Panels {
	_, _, narrow := panelWidths()
	return newPanels(narrow, F32)
}

func newPanels(width int, f Format) *Panels {
	if f != F32 && f != BF16 {
		panic(fmt.Sprintf("kernel: no panels of format %d", f))
	}
	pairs := f == BF16 && multipliesPairs()
	return &Panels{width: width, pairs: pairs, round: f == BF16 && !pairs}
}

// Resize makes room for vectors vectors of n elements. What was there is lost.
func (p *Panels) Resize(vectors, n int) {
	p.Vectors, p.N, p.steps = vectors, n, n
	if p.pairs {
		p.steps = (n + 1) / 2
	}
	need := p.Count()*p.steps*p.width + maxPanel
	if cap(p.words) < need {
		p.words = wordLines(need)
	}
	p.words = p.words[:need]
}

// maxPanel is how many words may be read behind the last panel.
const maxPanel = 32

// Count is the number of panels.
func (p *Panels) Count() int { return (p.Vectors + p.width - 1) / p.width }

// Width is the number of vectors in a panel.
func (p *Panels) Width() int { return p.width }

// PackRows fills panels [lo, hi) with vectors that lie in x one after the other,
// stride apart: element k of vector v is x[v*stride+k].
func (p *Panels) PackRows(x []float32, stride, lo, hi int) {
	for at := lo; at < hi && p.N > 0; at++ {
		panel := p.panel(at)
		first := at * p.width
		n := min(p.width, p.Vectors-first)
		if n < p.width {
			clear(panel)
		}
		p.packRows(panel, x[first*stride:], stride, n)
	}
}

// PackColumns fills panels [lo, hi) with vectors that lie side by side in x:
// element k of vector v is x[k*stride+v].
func (p *Panels) PackColumns(x []float32, stride, lo, hi int) {
	for at := lo; at < hi && p.N > 0; at++ {
		panel := p.panel(at)
		first := at * p.width
		n := min(p.width, p.Vectors-first)
		if n < p.width {
			clear(panel)
		}
		p.packColumns(panel, x[first:], stride, n)
	}
}

func (p *Panels) panel(i int) []uint32 {
	size := p.steps * p.width
	return p.words[i*size : (i+1)*size]
}

func (p *Panels) packRows(panel []uint32, x []float32, stride, n int) {
	done := p.fastPackRows(panel, x, stride, n) // words of each row
	for v := range n {
		row := x[v*stride : v*stride+p.N]
		switch {
		case p.pairs:
			for s := done; s < p.steps; s++ {
				w := uint32(toBF16(row[2*s]))
				if 2*s+1 < p.N {
					w |= uint32(toBF16(row[2*s+1])) << 16
				}
				panel[s*p.width+v] = w
			}
		case p.round:
			for s := done; s < p.steps; s++ {
				panel[s*p.width+v] = uint32(toBF16(row[s])) << 16
			}
		default:
			for s := done; s < p.steps; s++ {
				panel[s*p.width+v] = math.Float32bits(row[s])
			}
		}
	}
}

func (p *Panels) packColumns(panel []uint32, x []float32, stride, n int) {
	done := p.fastPackColumns(panel, x, stride, n) // words
	for s := done; s < p.steps; s++ {
		to := panel[s*p.width : s*p.width+n]
		if p.pairs {
			even := x[2*s*stride:][:n]
			if 2*s+1 == p.N {
				for v, f := range even {
					to[v] = uint32(toBF16(f))
				}
				continue
			}
			odd := x[(2*s+1)*stride:][:n]
			for v, f := range even {
				to[v] = uint32(toBF16(f)) | uint32(toBF16(odd[v]))<<16
			}
			continue
		}
		row := x[s*stride:][:n]
		if p.round {
			for v, f := range row {
				to[v] = uint32(toBF16(f)) << 16
			}
			continue
		}
		for v, f := range row {
			to[v] = math.Float32bits(f)
		}
	}
}

// productPart is how many words of a vector are multiplied before the sums are
// added to the result: the part of a panel stays in the level 1 cache.
const productPart = 256

// productBand is how many panels of the left factor meet one panel of the right
// before the next: their parts stay in the level 2 cache.
const productBand = 16

// Multiply computes out[i*stride+j] = Σ_k a_i[k]·b_j[k], k < a.N, for the vectors
// i of the panels [alo, ahi) of a and j of [blo, bhi) of b; with add it adds the
// sums to what is there. b's vectors may be longer than a's. Work is divided
// among threads by ranges of panels.
//
// An element depends on its two vectors alone. Products are added one after the
// other, by fused multiplication and addition in the assembly, 256 at a time (512
// bfloat16, of which the odd one of a pair is added first, by VDPBF16PS); the
// sums of such parts are added to the result in their order.
func Multiply(out []float32, stride int, a, b *Panels, add bool, alo, ahi, blo, bhi int) {
	if a.pairs != b.pairs || a.steps > b.steps {
		panic(fmt.Sprintf("kernel: Multiply: factors of %d and %d elements do not fit", a.N, b.N))
	}
	if ahi <= alo || bhi <= blo {
		return
	}
	if last := (min(a.Vectors, ahi*a.width)-1)*stride + min(b.Vectors, bhi*b.width); len(out) < last {
		panic(fmt.Sprintf("kernel: Multiply: out has %d elements, want %d", len(out), last))
	}
	if a.steps == 0 {
		if !add {
			for i := alo * a.width; i < min(a.Vectors, ahi*a.width); i++ {
				clear(out[i*stride+blo*b.width : i*stride+min(b.Vectors, bhi*b.width)])
			}
		}
		return
	}
	var edge [maxTile]float32
	for k := 0; k < a.steps; k += productPart {
		n := min(productPart, a.steps-k)
		more := add || k > 0
		for band := alo; band < ahi; band += productBand {
			end := min(ahi, band+productBand)
			for j := blo; j < bhi; j++ {
				pb := b.words[(j*b.steps+k)*b.width:]
				cols := min(b.width, b.Vectors-j*b.width)
				for i := band; i < end; i++ {
					pa := a.words[(i*a.steps+k)*a.width:]
					rows := min(a.width, a.Vectors-i*a.width)
					at := out[i*a.width*stride+j*b.width:]
					if rows == a.width && cols == b.width {
						a.tile(at, stride, b.width, pa, pb, n, more)
						continue
					}
					a.tile(edge[:], b.width, b.width, pa, pb, n, false)
					for r := range rows {
						sums, to := edge[r*b.width:r*b.width+cols], at[r*stride:r*stride+cols]
						if more {
							for c, v := range sums {
								to[c] += v
							}
						} else {
							copy(to, sums)
						}
					}
				}
			}
		}
	}
}

// maxTile is the number of elements in the largest tile.
const maxTile = 12 * 32

// The portable tile.
const portableLeft, portableRight = 4, 4

// tile multiplies one panel by another, of width vectors, over n words.
func (a *Panels) tile(out []float32, stride, width int, pa, pb []uint32, n int, add bool) {
	if fastProductTile(out, stride, width, pa, pb, n, add, a.pairs) {
		return
	}
	var sums [portableLeft][portableRight]float32
	for range n {
		x, y := (*[portableLeft]uint32)(pa), (*[portableRight]uint32)(pb)
		y0, y1 := math.Float32frombits(y[0]), math.Float32frombits(y[1])
		y2, y3 := math.Float32frombits(y[2]), math.Float32frombits(y[3])
		for i := range sums {
			v := math.Float32frombits(x[i])
			sums[i][0] += float32(v * y0)
			sums[i][1] += float32(v * y1)
			sums[i][2] += float32(v * y2)
			sums[i][3] += float32(v * y3)
		}
		pa, pb = pa[portableLeft:], pb[portableRight:]
	}
	for i := range sums {
		to := out[i*stride : i*stride+portableRight]
		for j, v := range sums[i] {
			if add {
				v += to[j]
			}
			to[j] = v
		}
	}
}
