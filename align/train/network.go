package train

import (
	"expo/internal/kernel"
	"expo/lm/model"
)

// A network computes losses and gradients of one model. Sequences are laid end
// to end, without padding: all buffers are (tokens, …), row-major.
type network struct {
	cfg    *model.Config
	labels int
	team   *team
	w, g   *tensors
	format kernel.Format // of the factors of products with weights

	cos, sin, minus []float32 // (longest sequence, head_dim/2); minus is −sin

	tokens []int // of all sequences
	places []int // of each token in its sequence
	ranges []span
	kept   []activations // by layer
	last   []float32     // hidden states after the last layer
	d      []float32     // dL/d hidden state

	norm, act, dy, dgate, dup []float32
	dq, dk, dv, dmix          []float32
	partial                   []float32
	left                      [2]*kernel.Panels
	right                     [3]*kernel.Panels
	workers                   []*attentionScratch
	head                      headScratch
}

// A span is where one sequence lies among the tokens.
type span struct{ lo, hi int }

// activations are what the way back through a layer needs; the rest is computed
// again.
type activations struct {
	x        []float32 // hidden states before the layer
	q, k, v  []float32 // q and k turned
	mix      []float32 // output of attention, before o_proj
	mid      []float32 // hidden states between attention and MLP
	gate, up []float32
}

// newNetwork makes a network over weights w and gradients g of layout l, for
// sequences of up to length tokens.
func newNetwork(cfg *model.Config, labels int, l *layout, w, g []float32, length int, format kernel.Format, t *team) *network {
	n := &network{cfg: cfg, labels: labels, team: t, format: format}
	n.w = l.view(cfg, labels, w)
	if g != nil {
		n.g = l.view(cfg, labels, g)
	}
	n.cos, n.sin = ropeTable(&cfg.Rope, cfg.HeadDim, length)
	n.minus = make([]float32, len(n.sin))
	for i, v := range n.sin {
		n.minus[i] = -v
	}
	n.kept = make([]activations, cfg.NumHiddenLayers)
	for i := range n.left {
		n.left[i] = kernel.NewLeft(format)
	}
	for i := range n.right {
		n.right[i] = kernel.NewRight(format)
	}
	for range t.size {
		n.workers = append(n.workers, newAttentionScratch(cfg.HeadDim))
	}
	return n
}

// sized makes b hold n elements, whose values are arbitrary.
func sized(b *[]float32, n int) []float32 {
	if cap(*b) < n {
		*b = make([]float32, n+n/8)
	}
	*b = (*b)[:n]
	return *b
}

// rowBlock is how many rows of a (tokens, …) buffer are a piece of work. Sums over
// tokens are taken in such blocks, so it is part of a result's definition.
const rowBlock = 64

// packRows prepares vectors of length n, one after the other in x, for products.
func (n *network) packRows(p *kernel.Panels, x []float32, vectors, size int) *kernel.Panels {
	p.Resize(vectors, size)
	n.team.do(p.Count(), 1, size*p.Width()/2, func(_, lo, hi int) { p.PackRows(x, size, lo, hi) })
	return p
}

// packColumns prepares vectors that are the columns of x, (size, vectors).
func (n *network) packColumns(p *kernel.Panels, x []float32, vectors, size int) *kernel.Panels {
	p.Resize(vectors, size)
	n.team.do(p.Count(), 1, size*p.Width()/2, func(_, lo, hi int) { p.PackColumns(x, vectors, lo, hi) })
	return p
}

// Panels of each factor in a piece of a product.
const pieceLeft, pieceRight = 16, 8

// multiply computes out = a·bᵀ, (a.Vectors, b.Vectors), or adds it.
func (n *network) multiply(out []float32, a, b *kernel.Panels, add bool) {
	down := (a.Count() + pieceLeft - 1) / pieceLeft
	across := (b.Count() + pieceRight - 1) / pieceRight
	cost := a.N * pieceLeft * a.Width() * pieceRight * b.Width() / 16
	n.team.do(down*across, 1, cost, func(_, lo, hi int) {
		for at := lo; at < hi; at++ {
			i, j := at%down*pieceLeft, at/down*pieceRight
			kernel.Multiply(out, b.Vectors, a, b, add, i, min(i+pieceLeft, a.Count()), j, min(j+pieceRight, b.Count()))
		}
	})
}

// project computes out = x·Wᵀ + bias, where x is packed by rows, or adds that to
// out.
func (n *network) project(out []float32, x *kernel.Panels, p projection, add bool) {
	b := n.packRows(n.right[0], p.w, p.rows, p.cols)
	if p.bias != nil {
		for i := range x.Vectors {
			row := out[i*p.rows : (i+1)*p.rows]
			if add {
				kernel.Axpy(row, 1, p.bias)
			} else {
				copy(row, p.bias)
			}
		}
		add = true
	}
	n.multiply(out, x, b, add)
}

// back is the way back through project: given dy, it sets dx (or adds to it),
// and adds to the gradient of p. x is packed by columns.
func (n *network) back(dx, dy []float32, x *kernel.Panels, p, g projection, add bool) {
	tokens := x.N
	a := n.packRows(n.left[0], dy, tokens, p.rows)
	b := n.packColumns(n.right[0], p.w, p.cols, p.rows)
	n.multiply(dx, a, b, add)
	a = n.packColumns(n.left[1], dy, p.rows, tokens)
	n.multiply(g.w, a, x, true)
	n.backBias(g, dy)
}

// backBias adds dy's rows to the gradient of a bias, if there is one.
func (n *network) backBias(g projection, dy []float32) {
	if g.bias == nil {
		return
	}
	for i := 0; i < len(dy); i += g.rows {
		kernel.Axpy(g.bias, 1, dy[i:i+g.rows])
	}
}

// normalize computes RMSNorm of the rows of x.
func (n *network) normalize(out, x, w []float32) {
	h, eps := n.cfg.HiddenSize, float32(n.cfg.RMSNormEps)
	n.team.do(len(x)/h, 16, 2*h, func(_, lo, hi int) {
		for i := lo * h; i < hi*h; i += h {
			kernel.RMSNorm(out[i:i+h], x[i:i+h], w, eps)
		}
	})
}

// normalizeBack adds dL/dx to dx and dL/dw to dw.
func (n *network) normalizeBack(dx, dw, x, w, dy []float32) {
	h, eps := n.cfg.HiddenSize, float32(n.cfg.RMSNormEps)
	rows := len(x) / h
	blocks := (rows + rowBlock - 1) / rowBlock
	sums := sized(&n.partial, 2*blocks*h)
	clear(sums)
	n.team.do(blocks, 1, 8*h*rowBlock, func(_, lo, hi int) {
		for b := lo; b < hi; b++ {
			sum, scratch := sums[2*b*h:(2*b+1)*h], sums[(2*b+1)*h:(2*b+2)*h]
			for i := b * rowBlock * h; i < min((b+1)*rowBlock, rows)*h; i += h {
				kernel.RMSNormBackward(dx[i:i+h], sum, x[i:i+h], w, dy[i:i+h], scratch, eps)
			}
		}
	})
	for b := range blocks {
		kernel.Axpy(dw, 1, sums[2*b*h:(2*b+1)*h])
	}
}

// turn applies rope to the heads of the rows of x.
func (n *network) turn(x []float32, heads int, sin []float32) {
	d := n.cfg.HeadDim
	half, width := d/2, heads*d
	n.team.do(len(n.places), 16, 2*width, func(_, lo, hi int) {
		for i := lo; i < hi; i++ {
			at := n.places[i] * half
			for row := x[i*width : (i+1)*width]; len(row) > 0; row = row[d:] {
				kernel.Rope(row[:d], n.cos[at:at+half], sin[at:at+half])
			}
		}
	})
}

// forward computes the hidden states of sequences after the last layer.
func (n *network) forward(sequences [][]int) {
	n.tokens, n.places, n.ranges = n.tokens[:0], n.places[:0], n.ranges[:0]
	for _, s := range sequences {
		n.ranges = append(n.ranges, span{len(n.tokens), len(n.tokens) + len(s)})
		n.tokens = append(n.tokens, s...)
		for i := range s {
			n.places = append(n.places, i)
		}
	}
	cfg, t := n.cfg, len(n.tokens)
	h, inner := cfg.HiddenSize, cfg.IntermediateSize
	q, kv := cfg.NumAttentionHeads*cfg.HeadDim, cfg.NumKeyValueHeads*cfg.HeadDim
	norm, act := sized(&n.norm, t*h), sized(&n.act, t*inner)
	x := sized(n.hidden(0), t*h)
	for i, id := range n.tokens {
		copy(x[i*h:(i+1)*h], n.w.tokens[id*h:(id+1)*h])
	}
	for l := range n.kept {
		a, w := &n.kept[l], &n.w.layers[l]
		n.normalize(norm, x, w.attentionNorm)
		p := n.packRows(n.left[0], norm, t, h)
		n.project(sized(&a.q, t*q), p, w.q, false)
		n.project(sized(&a.k, t*kv), p, w.k, false)
		n.project(sized(&a.v, t*kv), p, w.v, false)
		n.turn(a.q, cfg.NumAttentionHeads, n.sin)
		n.turn(a.k, cfg.NumKeyValueHeads, n.sin)
		n.attention(l, sized(&a.mix, t*q))
		copy(sized(&a.mid, t*h), x)
		n.project(a.mid, n.packRows(n.left[0], a.mix, t, q), w.o, true)

		n.normalize(norm, a.mid, w.mlpNorm)
		p = n.packRows(n.left[0], norm, t, h)
		n.project(sized(&a.gate, t*inner), p, w.gate, false)
		n.project(sized(&a.up, t*inner), p, w.up, false)
		n.team.do(t, 8, 8*inner, func(_, lo, hi int) {
			b := act[lo*inner : hi*inner]
			copy(b, a.gate[lo*inner:])
			kernel.SiLUMul(b, a.up[lo*inner:hi*inner])
		})
		x = sized(n.hidden(l+1), t*h)
		copy(x, a.mid)
		n.project(x, n.packRows(n.left[0], act, t, inner), w.down, true)
	}
}

// hidden is the buffer of the hidden states before layer l.
func (n *network) hidden(l int) *[]float32 {
	if l < len(n.kept) {
		return &n.kept[l].x
	}
	return &n.last
}

// backward takes dL/d hidden state, in n.d, back through the layers to the
// embedding, adding to the gradients.
func (n *network) backward() {
	cfg, t := n.cfg, len(n.tokens)
	h, inner := cfg.HiddenSize, cfg.IntermediateSize
	q, kv := cfg.NumAttentionHeads*cfg.HeadDim, cfg.NumKeyValueHeads*cfg.HeadDim
	norm, dnorm, dact := sized(&n.norm, t*h), sized(&n.dy, t*h), sized(&n.act, t*inner)
	dgate, dup := sized(&n.dgate, t*inner), sized(&n.dup, t*inner)
	dq, dk, dv, dmix := sized(&n.dq, t*q), sized(&n.dk, t*kv), sized(&n.dv, t*kv), sized(&n.dmix, t*q)
	for l := len(n.kept) - 1; l >= 0; l-- {
		a, w, g := &n.kept[l], &n.w.layers[l], &n.g.layers[l]

		// MLP. dL/d act first; SiLUMulBackward gives act itself in exchange.
		n.multiply(dact, n.packRows(n.left[0], n.d, t, h), n.packColumns(n.right[0], w.down.w, inner, h), false)
		n.team.do(t, 8, 16*inner, func(_, lo, hi int) {
			lo, hi = lo*inner, hi*inner
			copy(dgate[lo:hi], a.gate[lo:hi])
			copy(dup[lo:hi], a.up[lo:hi])
			kernel.SiLUMulBackward(dgate[lo:hi], dup[lo:hi], dact[lo:hi])
		})
		n.multiply(g.down.w, n.packColumns(n.left[0], n.d, h, t), n.packColumns(n.right[0], dact, inner, t), true)
		n.backBias(g.down, n.d)
		n.normalize(norm, a.mid, w.mlpNorm)
		p := n.packColumns(n.right[1], norm, h, t)
		n.back(dnorm, dgate, p, w.gate, g.gate, false)
		n.back(dnorm, dup, p, w.up, g.up, true)
		n.normalizeBack(n.d, g.mlpNorm, a.mid, w.mlpNorm, dnorm)

		// Attention.
		n.back(dmix, n.d, n.packColumns(n.right[1], a.mix, q, t), w.o, g.o, false)
		n.attentionBack(l, dq, dk, dv, dmix)
		n.turn(dq, cfg.NumAttentionHeads, n.minus)
		n.turn(dk, cfg.NumKeyValueHeads, n.minus)
		n.normalize(norm, a.x, w.attentionNorm)
		p = n.packColumns(n.right[1], norm, h, t)
		n.back(dnorm, dq, p, w.q, g.q, false)
		n.back(dnorm, dk, p, w.k, g.k, true)
		n.back(dnorm, dv, p, w.v, g.v, true)
		n.normalizeBack(n.d, g.attentionNorm, a.x, w.attentionNorm, dnorm)
	}
	// Columns are shared out, so that rows of one token are added in order.
	n.team.do(h, 16, t, func(_, lo, hi int) {
		for i, id := range n.tokens {
			kernel.Axpy(n.g.tokens[id*h+lo:id*h+hi], 1, n.d[i*h+lo:i*h+hi])
		}
	})
}
