package model

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync/atomic"

	"expo/internal/kernel"
)

// A Step is what Forward does for one sequence: read Tokens after those that
// the cache holds.
type Step struct {
	Cache  *Cache
	Tokens []int

	// Want are the indices into Tokens after which logits are wanted, in
	// ascending order. For each, Logits is called once with the index and the
	// model's Outputs() logits, which are valid and may be changed until it
	// returns. Calls come from several goroutines at once.
	Want   []int
	Logits func(i int, logits []float32)
}

// NonFiniteError is a hidden state that is not finite, as a damaged model or
// one extrapolated too far produces them.
type NonFiniteError struct {
	Layer int // first layer whose input is not finite; num_hidden_layers: the last one's output
}

func (e *NonFiniteError) Error() string {
	if e.Layer == 0 {
		return "model: an embedding is not finite"
	}
	return fmt.Sprintf("model: the hidden state is not finite after layer %d", e.Layer-1)
}

// chunk is the number of tokens computed together. More would not be faster,
// and buffers grow with it.
const chunk = 512

// A position is one token on its way through the layers.
type position struct {
	step  int
	index int // into the step's Tokens
	at    int // position in the sequence
	want  bool
}

// scratch are the buffers of Forward, (tokens, …) each, kept between calls.
type scratch struct {
	x                  []float32 // hidden state
	norm, sum          []float32
	q, k, v, attention []float32
	gate, up           []float32
	cos, sin           []float32
	logits             []float32
	scores             [][]float32 // by worker
	turned             [][]float32 // by worker
	operands           operandsPool
	ones               []float32
}

func sized(b *[]float32, n int) []float32 {
	if cap(*b) < n {
		*b = make([]float32, n)
	}
	*b = (*b)[:n]
	return *b
}

// Forward reads the tokens of all steps, one sequence each, and computes the
// logits that are wanted. On an error the caches are as they were, though some
// Logits may have been called.
func (m *Model) Forward(ctx context.Context, batch []Step) error {
	return m.compute(ctx, batch, nil)
}

func (m *Model) compute(ctx context.Context, batch []Step, observe Observer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer runtime.KeepAlive(m)
	ps, err := m.positions(batch)
	if err != nil {
		return err
	}
	for i := range batch {
		s := &batch[i]
		s.Cache.grow(s.Cache.n + len(s.Tokens))
	}
	t := newTeam(m.jobs)
	defer t.end()
	f := &forward{m: m, t: t, batch: batch, s: &m.scratch, observe: observe}
	if f.s.operands == nil {
		f.s.operands = operandsPool{}
	}
	for len(f.s.ones) < max(m.cfg.IntermediateSize, m.cfg.HiddenSize) {
		f.s.ones = append(f.s.ones, 1)
	}
	f.s.scores = grown(f.s.scores, t.size)
	f.s.turned = grown(f.s.turned, t.size)
	for len(ps) > 0 && err == nil {
		n := min(chunk, len(ps))
		err = f.run(ctx, ps[:n])
		ps = ps[n:]
	}
	for i := range batch {
		s := &batch[i]
		if err == nil {
			s.Cache.n += len(s.Tokens)
		} else {
			s.Cache.Truncate(s.Cache.n)
		}
	}
	return err
}

func grown(b [][]float32, n int) [][]float32 {
	for len(b) < n {
		b = append(b, nil)
	}
	return b
}

// positions checks the batch and lists its tokens.
func (m *Model) positions(batch []Step) ([]position, error) {
	if m.layers == nil {
		return nil, errors.New("model: used after Close")
	}
	var ps []position
	seen := make(map[*Cache]bool, len(batch))
	for si, s := range batch {
		if s.Cache == nil || s.Cache.model != m || seen[s.Cache] {
			return nil, errors.New("model: a step needs a cache of this model that no other step has")
		}
		seen[s.Cache] = true
		want := s.Want
		for i, id := range s.Tokens {
			if id < 0 || id >= m.tokens.rows {
				return nil, fmt.Errorf("model: token id %d is not among the model's %d", id, m.tokens.rows)
			}
			p := position{step: si, index: i, at: s.Cache.n + i}
			if len(want) > 0 && want[0] == i {
				p.want, want = true, want[1:]
			}
			ps = append(ps, p)
		}
		if len(want) > 0 {
			return nil, fmt.Errorf("model: logits are wanted after index %d of %d tokens, out of range or order", want[0], len(s.Tokens))
		}
	}
	return ps, nil
}

// forward is one call of Forward.
type forward struct {
	m       *Model
	t       *team
	s       *scratch
	batch   []Step
	observe Observer     // nil: nobody
	bad     atomic.Int64 // 1 + the layer found not finite, 0 if none
}

func (f *forward) run(ctx context.Context, ps []position) error {
	m, s, n := f.m, f.s, len(ps)
	h := m.cfg.HiddenSize
	x := sized(&s.x, n*h)
	for i, p := range ps {
		m.tokens.row(x[i*h:(i+1)*h], f.batch[p.step].Tokens[p.index])
	}
	f.angles(ps)
	for l := range m.layers {
		if err := ctx.Err(); err != nil {
			return err
		}
		last := l == len(m.layers)-1
		var err error
		if ps, err = f.attention(l, ps, last); err != nil {
			return err
		}
		if len(ps) == 0 {
			return nil
		}
		if err := f.mlp(l, len(ps)); err != nil {
			return err
		}
	}
	if f.observe != nil { // then the last layer has computed all
		if ps = f.compact(ps, s.q); len(ps) == 0 {
			return nil
		}
	}
	return f.heads(ps)
}

// angles computes what rope turns by, for all positions.
func (f *forward) angles(ps []position) {
	m := f.m
	half := m.cfg.HeadDim / 2
	cos, sin := sized(&f.s.cos, len(ps)*half), sized(&f.s.sin, len(ps)*half)
	var inv []float32
	var factor float32
	length := -1
	for i, p := range ps {
		st := &f.batch[p.step]
		n := 0
		if whole := st.Cache.n + len(st.Tokens); m.cfg.Rope.dependsOnLength(whole) {
			n = whole
		}
		if n != length {
			inv, factor = m.cfg.Rope.Frequencies(m.cfg.HeadDim, n)
			length = n
		}
		Angles(cos[i*half:(i+1)*half], sin[i*half:(i+1)*half], inv, factor, p.at)
	}
	if m.round {
		roundAll(cos)
		roundAll(sin)
	}
}

// normed computes RMSNorm of the hidden states: x/√(mean x² + ε), rounded,
// times weight. Rounding that is left to operands, here and below, since BF16
// matrices take bfloat16 vectors. Squares whose sum is not finite say so of x.
func (f *forward) normed(layer, n int, weight []float32) ([]float32, error) {
	m, h := f.m, f.m.cfg.HiddenSize
	x, y := f.s.x, sized(&f.s.norm, n*h)
	eps := float32(m.cfg.RMSNormEps)
	f.t.do(n, 1, 8*h, func(_, lo, hi int) {
		for i := lo; i < hi; i++ {
			a, b := x[i*h:(i+1)*h], y[i*h:(i+1)*h]
			if square := float64(kernel.Dot(a, a)); math.IsNaN(square) || math.IsInf(square, 0) {
				f.bad.CompareAndSwap(0, int64(layer)+1)
			}
			if !m.round {
				kernel.RMSNorm(b, a, weight, eps)
				continue
			}
			kernel.RMSNorm(b, a, f.s.ones[:h], eps)
			roundAll(b)
			for k, w := range weight {
				b[k] *= w
			}
		}
	})
	if bad := f.bad.Load(); bad != 0 {
		return nil, &NonFiniteError{Layer: int(bad) - 1}
	}
	return y, nil
}

// add adds y to the hidden states.
func (f *forward) add(n int, y []float32) {
	h := f.m.cfg.HiddenSize
	x := f.s.x
	f.t.do(n, 1, 2*h, func(_, lo, hi int) {
		a, b := x[lo*h:hi*h], y[lo*h:hi*h]
		if f.m.round {
			roundAll(b)
		}
		for k, v := range b {
			a[k] += v
		}
		if f.m.round {
			roundAll(a)
		}
	})
}

// mlp adds down(silu(gate(x))·up(x)) of the normed hidden states to them.
func (f *forward) mlp(l, n int) error {
	m, s, w := f.m, f.s, &f.m.layers[l]
	y, err := f.normed(l, n, w.mlpNorm)
	if err != nil {
		return err
	}
	width := m.cfg.IntermediateSize
	gate, up := sized(&s.gate, n*width), sized(&s.up, n*width)
	o := f.prepare(y, n, m.cfg.HiddenSize, w.gate, w.up)
	units := (width + rowUnit - 1) / rowUnit
	f.t.do(units, 1, 2*n*m.cfg.HiddenSize*rowUnit, func(_, lo, hi int) {
		lo, hi = lo*rowUnit, min(hi*rowUnit, width)
		o.mul(gate, width, n, w.gate, lo, hi)
		o.mul(up, width, n, w.up, lo, hi)
		for i := range n {
			f.activate(gate[i*width+lo:i*width+hi], up[i*width+lo:i*width+hi])
		}
	})
	sum := sized(&s.sum, n*m.cfg.HiddenSize)
	f.prepare(gate, n, width, w.down).mulAll(f.t, n, [][]float32{sum}, w.down)
	f.add(n, sum)
	return nil
}

// activate replaces gate by silu(gate)·up.
func (f *forward) activate(gate, up []float32) {
	if !f.m.round {
		kernel.SiLUMul(gate, up)
		return
	}
	roundAll(gate)
	roundAll(up)
	kernel.SiLUMul(gate, f.s.ones[:len(gate)])
	roundAll(gate)
	for i, u := range up {
		gate[i] *= u
	}
}

// logitRows is how many positions' logits are held at a time.
const logitRows = 32

// heads computes the logits of the positions, all of which want them.
func (f *forward) heads(ps []position) error {
	m := f.m
	y, err := f.normed(len(m.layers), len(ps), m.norm)
	if err != nil {
		return err
	}
	h, width := m.cfg.HiddenSize, m.head.rows
	for lo := 0; lo < len(ps); lo += logitRows {
		part := ps[lo:min(lo+logitRows, len(ps))]
		out := sized(&f.s.logits, len(part)*width)
		f.prepare(y[lo*h:(lo+len(part))*h], len(part), h, m.head).
			mulAll(f.t, len(part), [][]float32{out}, m.head)
		f.t.do(len(part), 1, 1<<16, func(_, a, b int) {
			for i := a; i < b; i++ {
				logits := out[i*width : (i+1)*width]
				if m.round {
					roundAll(logits)
				}
				if fn := f.batch[part[i].step].Logits; fn != nil {
					fn(part[i].index, logits)
				}
			}
		})
	}
	return nil
}
