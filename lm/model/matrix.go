package model

import (
	"expo/internal/kernel"
	"expo/internal/quant"
)

// A format is how weights lie in memory: numbers, or ggml blocks.
type format struct {
	plain kernel.Format // None for blocks
	block quant.Format  // None for numbers
}

// rowBytes is the size of n elements; ok is false if they do not fill blocks.
func (f format) rowBytes(n int) (bytes int, ok bool) {
	if f.block == quant.None {
		return n * f.plain.Bytes(), true
	}
	if n%f.block.BlockSize() != 0 {
		return 0, false
	}
	return quant.RowBytes(f.block, n), true
}

// widen converts len(dst) elements to float32.
func (f format) widen(dst []float32, src []byte) {
	if f.block == quant.None {
		kernel.Widen(dst, src, f.plain)
		return
	}
	quant.Dequantize(dst, src, f.block)
}

// A matrix is (rows, cols) weights, row after row, with a bias of rows values
// or none.
type matrix struct {
	name       string // as it is stored
	rows, cols int
	f          format
	data       []byte
	mapped     []byte // the pages around data, if it lies in a file
	bias       []float32
}

// row converts row r to float32.
func (w *matrix) row(dst []float32, r int) {
	size := len(w.data) / w.rows
	w.f.widen(dst, w.data[r*size:(r+1)*size])
}

// operands are vectors prepared to be multiplied with matrices: once for each
// format that these have.
type operands struct {
	m, n  int
	plain map[kernel.Format]*kernel.Activations
	block map[int][]quant.Activations // by block size
}

// operandsPool keeps prepared vectors of each length, so that a token does not
// allocate them anew.
type operandsPool map[int]*operands

// prepare takes the m vectors of x, (m, n), for products with the given
// matrices, all of n columns.
func (pool operandsPool) prepare(t *team, x []float32, m, n int, ws ...*matrix) *operands {
	o := pool[n]
	if o == nil {
		o = &operands{n: n, plain: map[kernel.Format]*kernel.Activations{}, block: map[int][]quant.Activations{}}
		pool[n] = o
	}
	if o.m < m {
		// Room for the next power of two, not for the longest prompt at once.
		room := 1
		for room < m {
			room *= 2
		}
		clear(o.plain)
		clear(o.block)
		o.m = room
	}
	var seen []format
next:
	for _, w := range ws {
		for _, f := range seen {
			if f.plain == w.f.plain && (f.block == quant.None) == (w.f.block == quant.None) &&
				(f.block == quant.None || f.block.BlockSize() == w.f.block.BlockSize()) {
				continue next
			}
		}
		seen = append(seen, w.f)
		if w.f.block == quant.None {
			a := o.plain[w.f.plain]
			if a == nil {
				a = kernel.NewActivations(o.m, n, w.f.plain)
				o.plain[w.f.plain] = a
			}
			a.SetBy(x, m, func(vectors int, f func(lo, hi int)) {
				t.do(vectors, 1, 4*n, func(_, lo, hi int) { f(lo, hi) })
			})
			continue
		}
		size := w.f.block.BlockSize()
		if len(o.block[size]) < m {
			o.block[size] = make([]quant.Activations, o.m)
		}
		as := o.block[size]
		t.do(m, 1, 4*n, func(_, lo, hi int) {
			for i := lo; i < hi; i++ {
				as[i].Set(x[i*n:(i+1)*n], w.f.block)
			}
		})
	}
	return o
}

// mul computes out[i*stride+r] = x_i·w_r (+ bias) for the m prepared vectors
// and the rows lo to hi of w.
func (o *operands) mul(out []float32, stride, m int, w *matrix, lo, hi int) {
	size := len(w.data) / w.rows
	data := w.data[lo*size : hi*size]
	if w.f.block == quant.None {
		kernel.MatMul(out[lo:], stride, o.plain[w.f.plain], data, hi-lo)
	} else {
		quant.MatMul(out[lo:], stride, data, w.f.block, hi-lo, w.cols, o.block[w.f.block.BlockSize()][:m])
	}
	if w.bias == nil {
		return
	}
	for i := range m {
		y := out[i*stride+lo : i*stride+hi]
		for r, b := range w.bias[lo:hi] {
			y[r] += b
		}
	}
}

// rowUnit is the number of rows that threads take at least, so that kernels
// have whole tiles to work on.
const rowUnit = 16

// mulAll computes the products of all rows of some matrices: outs[k] is
// (m, rows of ws[k]).
func (o *operands) mulAll(t *team, m int, outs [][]float32, ws ...*matrix) {
	total := 0
	for _, w := range ws {
		total += (w.rows + rowUnit - 1) / rowUnit
	}
	t.do(total, 1, m*o.n*rowUnit, func(_, lo, hi int) {
		at := 0
		for k, w := range ws {
			units := (w.rows + rowUnit - 1) / rowUnit
			a, b := max(lo-at, 0), min(hi-at, units)
			if a < b {
				o.mul(outs[k], w.rows, m, w, a*rowUnit, min(b*rowUnit, w.rows))
			}
			at += units
		}
	})
}
