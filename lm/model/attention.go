package model

import (
	"math"

	"expo/internal/kernel"
)

// attention adds the attention of layer l to the hidden states and returns the
// positions that go on: all, or in the last layer those whose logits are
// wanted, whose hidden states are then the first.
func (f *forward) attention(l int, ps []position, last bool) ([]position, error) {
	m, s, w, n := f.m, f.s, &f.m.layers[l], len(ps)
	cfg := m.cfg
	h, d := cfg.HiddenSize, cfg.HeadDim
	qw, kw := cfg.NumAttentionHeads*d, cfg.NumKeyValueHeads*d
	y, err := f.normed(l, n, w.attentionNorm)
	if err != nil {
		return nil, err
	}
	q, k, v := sized(&s.q, n*qw), sized(&s.k, n*kw), sized(&s.v, n*kw)
	f.prepare(y, n, h, w.q, w.k, w.v).mulAll(f.t, n, [][]float32{q, k, v}, w.q, w.k, w.v)
	f.t.do(n, 1, 16*(qw+kw), func(worker, lo, hi int) {
		for i := lo; i < hi; i++ {
			f.turn(worker, i, q[i*qw:(i+1)*qw])
			f.turn(worker, i, k[i*kw:(i+1)*kw])
			f.keep(l, ps[i], k[i*kw:(i+1)*kw], v[i*kw:(i+1)*kw])
		}
	})
	if last && f.observe == nil {
		ps = f.compact(ps, q)
		if n = len(ps); n == 0 {
			return nil, nil
		}
	}
	out := sized(&s.attention, n*qw)
	group := cfg.NumAttentionHeads / cfg.NumKeyValueHeads
	ts := f.tiles(ps, group)
	longest := ts[0].hi
	for _, t := range ts {
		longest = max(longest, t.hi)
	}
	f.t.do(len(ts)*cfg.NumKeyValueHeads, 1, 2*longest*group*d, func(worker, lo, hi int) {
		for item := lo; item < hi; item++ {
			// Neighbouring items read the same keys.
			f.attend(worker, l, item/len(ts), ps, ts[item%len(ts)], q, out)
		}
	})
	sum := sized(&s.sum, n*h)
	f.prepare(out, n, qw, w.o).mulAll(f.t, n, [][]float32{sum}, w.o)
	f.add(n, sum)
	return ps, nil
}

// A tile is some neighbouring positions of one sequence, whose queries meet the
// same keys at the same time.
type tile struct {
	from, to int // positions, as indices
	hi       int // keys up to here are seen by the last
}

const (
	tilePositions = 16
	tileScores    = 1 << 18 // elements of a worker's buffer, unless one position needs more
)

func (f *forward) tiles(ps []position, group int) []tile {
	var ts []tile
	for i, p := range ps {
		if n := len(ts); n > 0 {
			t := &ts[n-1]
			if ps[t.from].step == p.step && i-t.from < tilePositions && (i+1-t.from)*group*(p.at+1) <= tileScores {
				t.to, t.hi = i+1, p.at+1
				continue
			}
		}
		ts = append(ts, tile{i, i + 1, p.at + 1})
	}
	return ts
}

// compact moves the hidden states and queries of wanted positions to the
// front: past the last layer's keys and values the others matter to nobody.
func (f *forward) compact(ps []position, q []float32) []position {
	h, qw := f.m.cfg.HiddenSize, f.m.cfg.NumAttentionHeads*f.m.cfg.HeadDim
	var kept []position
	for i, p := range ps {
		if !p.want {
			continue
		}
		n := len(kept)
		copy(f.s.x[n*h:(n+1)*h], f.s.x[i*h:(i+1)*h])
		copy(q[n*qw:(n+1)*qw], q[i*qw:(i+1)*qw])
		kept = append(kept, p)
	}
	return kept
}

// turn applies rope to the heads in x, whose element i of the first half and of
// the second are a pair.
func (f *forward) turn(worker, i int, x []float32) {
	d := f.m.cfg.HeadDim
	half := d / 2
	cos, sin := f.s.cos[i*half:(i+1)*half], f.s.sin[i*half:(i+1)*half]
	if !f.m.round {
		for ; len(x) > 0; x = x[d:] {
			kernel.Rope(x[:d], cos, sin)
		}
		return
	}
	roundAll(x)
	t := sized(&f.s.turned[worker], 2*len(x))
	across := t[len(x):]
	t = t[:len(x)]
	for at := 0; at < len(x); at += d {
		a, b := x[at:at+half], x[at+half:at+d]
		for k, u := range a {
			v := b[k]
			t[at+k], t[at+half+k] = u*cos[k], v*cos[k]
			across[at+k], across[at+half+k] = -v*sin[k], u*sin[k]
		}
	}
	roundAll(t)
	roundAll(across)
	for k, v := range across {
		x[k] = t[k] + v
	}
	roundAll(x)
}

// keep stores a position's keys and values.
func (f *forward) keep(l int, p position, k, v []float32) {
	m, d := f.m, f.m.cfg.HeadDim
	size := d * m.kv.Bytes()
	pg := f.batch[p.step].Cache.pages[p.at/pageLen]
	slot := p.at % pageLen * size
	for j := range m.cfg.NumKeyValueHeads {
		kernel.Narrow(m.keys(pg, l, j)[slot:slot+size], k[j*d:(j+1)*d], m.kv)
		kernel.Narrow(m.values(pg, l, j)[slot:slot+size], v[j*d:(j+1)*d], m.kv)
	}
}

// attend computes the attention of the query heads that share key-value head
// j, for the positions of a tile. What a position gets does not depend on the
// tile: a score is a function of query and key, and values are added one after
// the other, those that a position does not see with weight 0.
func (f *forward) attend(worker, l, j int, ps []position, t tile, q, out []float32) {
	m, d := f.m, f.m.cfg.HeadDim
	group := m.cfg.NumAttentionHeads / m.cfg.NumKeyValueHeads
	width := group * d
	row := m.cfg.NumAttentionHeads * d
	queries := (t.to - t.from) * group
	window := m.cfg.window(l)
	first := 0
	if window > 0 {
		first = max(0, ps[t.from].at+1-window)
	}
	n := t.hi - first

	b := sized(&f.s.turned[worker], 2*queries*d)
	qs, sums := b[:queries*d], b[queries*d:]
	for i := t.from; i < t.to; i++ {
		copy(qs[(i-t.from)*width:], q[i*row+j*width:i*row+(j+1)*width])
	}
	// llama.cpp multiplies cached F16 keys and values with vectors rounded
	// alike; so does this, or answers would part where llama.cpp is sure.
	half := m.kv == kernel.F16
	if half {
		roundTo(qs, kernel.F16)
	}
	clear(sums)
	scores := sized(&f.s.scores[worker], queries*n)
	scale := float32(1 / math.Sqrt(float64(d)))
	pages := f.batch[ps[t.from].step].Cache.pages
	size := d * m.kv.Bytes()
	for at := first; at < t.hi; {
		slot := at % pageLen
		k := min(pageLen-slot, t.hi-at)
		kernel.ScoresBatch(scores[at-first:], n, qs, queries, m.keys(pages[at/pageLen], l, j)[slot*size:], m.kv, k, d, scale)
		at += k
	}
	for i := range queries {
		at := ps[t.from+i/group].at
		lo := 0
		if window > 0 {
			lo = max(0, at+1-window-first)
		}
		s := scores[i*n : (i+1)*n]
		clear(s[:lo])
		kernel.Softmax(s[lo : at+1-first])
		if half {
			roundTo(s[lo:at+1-first], kernel.F16)
		}
		clear(s[at+1-first:])
	}
	for at := first; at < t.hi; {
		slot := at % pageLen
		k := min(pageLen-slot, t.hi-at)
		kernel.WeightedSumBatch(sums, queries, scores[at-first:], n, m.values(pages[at/pageLen], l, j)[slot*size:], m.kv, k, d)
		at += k
	}
	for i := t.from; i < t.to; i++ {
		copy(out[i*row+j*width:i*row+(j+1)*width], sums[(i-t.from)*width:])
	}
}
