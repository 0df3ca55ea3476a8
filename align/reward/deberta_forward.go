package reward

import (
	"context"
	"fmt"
	"math"
	"slices"
)

// A sequence is the tokens of one text or of several in a row. Types are the
// token types of a model that has them, nil for all 0. Want are the positions
// whose hidden states are asked for.
type sequence struct {
	ids   []int
	types []int
	want  []int
}

// forward computes the hidden states that are wanted, (len(want), hidden_size)
// for each sequence. Sequences lie behind each other without padding, so that
// none sees another.
func (e *encoder) forward(ctx context.Context, seqs []sequence) ([][]float32, error) {
	cfg := e.cfg
	h, width := cfg.HiddenSize, cfg.NumAttentionHeads*cfg.AttentionHeadSize
	total, longest := 0, 0
	for i, s := range seqs {
		if len(s.ids) == 0 {
			return nil, fmt.Errorf("sequence %d is empty", i)
		}
		for _, id := range s.ids {
			if id < 0 || id >= cfg.VocabSize {
				return nil, fmt.Errorf("token %d is not in the vocabulary of %d; tokenizer and model do not belong together", id, cfg.VocabSize)
			}
		}
		if e.positions != nil && len(s.ids) > cfg.MaxPositionEmbeddings {
			return nil, fmt.Errorf("%w: %d tokens, and the model has %d positions", ErrTooLong, len(s.ids), cfg.MaxPositionEmbeddings)
		}
		total += len(s.ids)
		longest = max(longest, len(s.ids))
	}
	x := make([]float32, total*h)
	e.embed(x, seqs)

	var tables [][]int32 // by sequence
	if e.distances != nil {
		all := e.distances.rows(longest)
		for _, s := range seqs {
			n := len(s.ids)
			tables = append(tables, all[longest-n:longest+n-1])
		}
	}
	parts := 1
	if cfg.C2P {
		parts++
	}
	if cfg.P2C {
		parts++
	}
	scale := float32(1 / math.Sqrt(float64(cfg.AttentionHeadSize*parts)))

	q, k, v := make([]float32, total*width), make([]float32, total*width), make([]float32, total*width)
	mixed := make([]float32, total*width)
	y := make([]float32, total*h)
	inner := make([]float32, min(total, chunkRows)*cfg.IntermediateSize)
	heads := make([]head, min(e.jobs, len(seqs)*cfg.NumAttentionHeads))
	var before []float32
	if e.conv != nil {
		before = slices.Clone(x)
	}
	starts := make([]int, len(seqs))
	for i := 1; i < len(seqs); i++ {
		starts[i] = starts[i-1] + len(seqs[i-1].ids)
	}

	for i := range e.layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		l := &e.layers[i]
		l.query.apply(e.jobs, q, width, x, total)
		l.key.apply(e.jobs, k, width, x, total)
		l.value.apply(e.jobs, v, width, x, total)
		parallel(e.jobs, len(seqs)*cfg.NumAttentionHeads, func(worker, item int) {
			s, at := item/cfg.NumAttentionHeads, item%cfg.NumAttentionHeads
			lo, n := starts[s]*width, len(seqs[s].ids)
			hi := lo + n*width
			var rows []int32
			if tables != nil {
				rows = tables[s]
			}
			heads[worker].attend(l, at, cfg.AttentionHeadSize, n, width, q[lo:hi], k[lo:hi], v[lo:hi], mixed[lo:hi], rows, scale)
		})
		l.out.apply(e.jobs, y, h, mixed, total)
		e.addNorm(x, y, &l.attentionNorm)
		for from := 0; from < total; from += chunkRows {
			n := min(chunkRows, total-from)
			l.up.apply(e.jobs, inner, cfg.IntermediateSize, x[from*h:], n)
			parallel(e.jobs, n, func(_, i int) { e.act(inner[i*cfg.IntermediateSize : (i+1)*cfg.IntermediateSize]) })
			l.down.apply(e.jobs, y[from*h:], h, inner, n)
		}
		e.addNorm(x, y, &l.norm)
		if i == 0 && e.conv != nil {
			e.convolve(x, before, seqs, starts)
		}
	}

	out := make([][]float32, len(seqs))
	for i, s := range seqs {
		for _, at := range s.want {
			out[i] = append(out[i], x[(starts[i]+at)*h:(starts[i]+at+1)*h]...)
		}
	}
	return out, nil
}

// embed fills x with the embeddings of all tokens.
func (e *encoder) embed(x []float32, seqs []sequence) {
	h, width := e.cfg.HiddenSize, e.cfg.EmbeddingSize
	to := x
	if e.project != nil {
		to = make([]float32, len(x)/h*width)
	}
	add := make([]float32, width)
	plus := func(row []float32, table *linear, r int) {
		if table == nil {
			return
		}
		table.row(add, r)
		for i, v := range add {
			row[i] += v
		}
	}
	at := 0
	for _, s := range seqs {
		for i, id := range s.ids {
			row := to[at*width : (at+1)*width]
			e.words.row(row, id)
			plus(row, e.positions, i)
			kind := 0
			if s.types != nil {
				kind = min(s.types[i], e.cfg.TypeVocabSize-1)
			}
			plus(row, e.types, max(kind, 0))
			at++
		}
	}
	if e.project != nil {
		e.project.apply(e.jobs, x, h, to, at)
	}
	parallel(e.jobs, at, func(_, i int) { e.norm.apply(x[i*h : (i+1)*h]) })
}

// addNorm sets x = LayerNorm(x + y).
func (e *encoder) addNorm(x, y []float32, n *norm) {
	h := e.cfg.HiddenSize
	parallel(e.jobs, len(x)/h, func(_, i int) {
		row := x[i*h : (i+1)*h]
		for j, v := range y[i*h : (i+1)*h] {
			row[j] += v
		}
		n.apply(row)
	})
}

// convolve adds to x, the output of the first layer, the convolution of what
// went into it, as models with conv_kernel_size do (DeBERTa-v2-xlarge).
func (e *encoder) convolve(x, before []float32, seqs []sequence, starts []int) {
	h, taps := e.cfg.HiddenSize, e.cfg.ConvKernelSize
	y := make([]float32, len(x))
	wide := make([]float32, chunkRows*taps*h)
	for s := range seqs {
		n := len(seqs[s].ids)
		in := before[starts[s]*h : (starts[s]+n)*h]
		for from := 0; from < n; from += chunkRows {
			m := min(chunkRows, n-from)
			for i := range m {
				for k := range taps {
					to := wide[(i*taps+k)*h : (i*taps+k+1)*h]
					if at := from + i + k - taps/2; at >= 0 && at < n {
						copy(to, in[at*h:(at+1)*h])
					} else {
						clear(to)
					}
				}
			}
			e.conv.apply(e.jobs, y[(starts[s]+from)*h:], h, wide, m)
		}
	}
	parallel(e.jobs, len(y)/h, func(_, i int) { e.convAct(y[i*h : (i+1)*h]) })
	e.addNorm(x, y, &e.convNorm)
}
