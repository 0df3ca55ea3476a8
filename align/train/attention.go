package train

import (
	"math"

	"expo/internal/kernel"
)

// Attention is computed for one sequence and one head of keys and values at a
// time, some queries together. Nothing of it is kept for the way back: scores
// and probabilities are computed again there.

// queryBlock is how many queries are done together: they meet the keys up to the
// last of them, so what lies above the diagonal costs little.
const queryBlock = 96

// attentionScratch is one worker's.
type attentionScratch struct {
	q, mix, p, d, ds []float32
	ql, pl, dl, dsl  *kernel.Panels
	kr, vr           *kernel.Panels // vectors are keys
	vrc, krc, qr, r  *kernel.Panels // vectors are elements of a head
}

// newAttentionScratch is for heads of dimension d.
func newAttentionScratch(d int) *attentionScratch {
	left := func() *kernel.Panels { return kernel.NewLeft(kernel.F32) }
	keys := func() *kernel.Panels { return kernel.NewRight(kernel.F32) }
	values := keys
	if wide := keys().Width(); (d-1)%wide < wide/2 {
		values = kernel.NewNarrow
	}
	return &attentionScratch{
		ql: left(), pl: left(), dl: left(), dsl: left(),
		kr: keys(), vr: keys(), vrc: values(), krc: values(), qr: values(), r: values(),
	}
}

// product computes out = a·bᵀ, or adds it.
func product(out []float32, stride int, a, b *kernel.Panels, add bool) {
	kernel.Multiply(out, stride, a, b, add, 0, a.Count(), 0, b.Count())
}

func rowsOf(p *kernel.Panels, x []float32, stride, vectors, size int) *kernel.Panels {
	p.Resize(vectors, size)
	p.PackRows(x, stride, 0, p.Count())
	return p
}

func columnsOf(p *kernel.Panels, x []float32, stride, vectors, size int) *kernel.Panels {
	p.Resize(vectors, size)
	p.PackColumns(x, stride, 0, p.Count())
	return p
}

// window is how many keys a query of layer l sees, 0 for all before it.
func (n *network) window(l int) int {
	if n.cfg.Sliding != nil && n.cfg.Sliding[l] {
		return n.cfg.SlidingWindow
	}
	return 0
}

// eachHead shares out sequences and heads of keys and values.
func (n *network) eachHead(f func(s *attentionScratch, sequence span, head int)) {
	heads := n.cfg.NumKeyValueHeads
	n.team.do(len(n.ranges)*heads, 1, worth, func(worker, lo, hi int) {
		for i := lo; i < hi; i++ {
			f(n.workers[worker], n.ranges[i/heads], i%heads)
		}
	})
}

// probabilities computes, for queries [from, to) of a head that begins at column
// of q, the softmax of their scores: (to − from, to), 0 for keys they do not see.
// It leaves the scaled queries in s.q and keys' panels alone.
func (n *network) probabilities(s *attentionScratch, l int, q []float32, stride, from, to int) []float32 {
	d := n.cfg.HeadDim
	scale := float32(1 / math.Sqrt(float64(d)))
	rows := to - from
	qs := sized(&s.q, rows*d)
	for i := range rows {
		copy(qs[i*d:(i+1)*d], q[(from+i)*stride:])
	}
	kernel.Scale(qs, scale)
	// The last panel of keys may reach beyond to.
	width := min(s.kr.Vectors, (to+s.kr.Width()-1)/s.kr.Width()*s.kr.Width())
	p := sized(&s.p, rows*width)
	a := rowsOf(s.ql, qs, d, rows, d)
	kernel.Multiply(p, width, a, s.kr, false, 0, a.Count(), 0, (to+s.kr.Width()-1)/s.kr.Width())
	w := n.window(l)
	for i := range rows {
		at := from + i
		first := 0
		if w > 0 {
			first = max(0, at+1-w)
		}
		row := p[i*width : (i+1)*width]
		clear(row[:first])
		kernel.Softmax(row[first : at+1])
		clear(row[at+1:])
	}
	return p
}

// attention computes out, the mix of values for every query, (tokens, heads · d).
func (n *network) attention(l int, out []float32) {
	a := &n.kept[l]
	d, group := n.cfg.HeadDim, n.cfg.NumAttentionHeads/n.cfg.NumKeyValueHeads
	qs, ks := n.cfg.NumAttentionHeads*d, n.cfg.NumKeyValueHeads*d
	n.eachHead(func(s *attentionScratch, seq span, head int) {
		length := seq.hi - seq.lo
		rowsOf(s.kr, a.k[seq.lo*ks+head*d:], ks, length, d)
		columnsOf(s.vrc, a.v[seq.lo*ks+head*d:], ks, d, length)
		for j := head * group; j < (head+1)*group; j++ {
			q, to := a.q[seq.lo*qs+j*d:], out[seq.lo*qs+j*d:]
			for from := 0; from < length; from += queryBlock {
				end := min(from+queryBlock, length)
				p := n.probabilities(s, l, q, qs, from, end)
				product(to[from*qs:], qs, rowsOf(s.pl, p, len(p)/(end-from), end-from, end), s.vrc, false)
			}
		}
	})
}

// attentionBack sets dq, dk and dv, given dL/d mix.
func (n *network) attentionBack(l int, dq, dk, dv, dmix []float32) {
	a := &n.kept[l]
	d, group := n.cfg.HeadDim, n.cfg.NumAttentionHeads/n.cfg.NumKeyValueHeads
	qs, ks := n.cfg.NumAttentionHeads*d, n.cfg.NumKeyValueHeads*d
	scale := float32(1 / math.Sqrt(float64(d)))
	n.eachHead(func(s *attentionScratch, seq span, head int) {
		length := seq.hi - seq.lo
		k, v := a.k[seq.lo*ks+head*d:], a.v[seq.lo*ks+head*d:]
		rowsOf(s.kr, k, ks, length, d)
		columnsOf(s.krc, k, ks, d, length)
		rowsOf(s.vr, v, ks, length, d)
		dk, dv := dk[seq.lo*ks+head*d:], dv[seq.lo*ks+head*d:]
		for i := range length {
			clear(dk[i*ks : i*ks+d])
			clear(dv[i*ks : i*ks+d])
		}
		for j := head * group; j < (head+1)*group; j++ {
			q, dq, dmix := a.q[seq.lo*qs+j*d:], dq[seq.lo*qs+j*d:], dmix[seq.lo*qs+j*d:]
			for from := 0; from < length; from += queryBlock {
				end := min(from+queryBlock, length)
				rows := end - from
				p := n.probabilities(s, l, q, qs, from, end)
				width := len(p) / rows
				dm := dmix[from*qs:]
				// dP = dmix·Vᵀ, then dS.
				ds := sized(&s.ds, rows*width)
				x := rowsOf(s.dl, dm, qs, rows, d)
				kernel.Multiply(ds, width, x, s.vr, false, 0, x.Count(), 0, (end+s.vr.Width()-1)/s.vr.Width())
				for i := range rows {
					row := ds[i*width : (i+1)*width]
					kernel.SoftmaxBackward(row[:from+i+1], p[i*width:])
					clear(row[from+i+1:])
				}
				// dQ = dS·K·scale; dK += dSᵀ·(Q·scale); dV += Pᵀ·dmix.
				product(dq[from*qs:], qs, rowsOf(s.pl, ds, width, rows, end), s.krc, false)
				for i := range rows {
					kernel.Scale(dq[(from+i)*qs:(from+i)*qs+d], scale)
				}
				product(dk, ks, columnsOf(s.dsl, ds, width, end, rows), columnsOf(s.qr, s.q, d, d, rows), true)
				product(dv, ks, columnsOf(s.dsl, p, width, end, rows), columnsOf(s.r, dm, qs, d, rows), true)
			}
		}
	})
}
