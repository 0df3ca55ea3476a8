package reward

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"expo/internal/kernel"
	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// An encoder is a DeBERTa-v2 or -v3 model in memory. It is not changed after it
// has been loaded.
type encoder struct {
	cfg  *debertaConfig
	jobs int

	words     linear // (vocab_size, embedding_size): rows are looked up
	positions *linear
	types     *linear
	project   *linear // embedding_size to hidden_size, nil if they are equal
	norm      norm

	layers    []encoderLayer
	act       activation
	conv      *linear // (hidden_size, kernel · hidden_size), taps outermost in a row
	convNorm  norm
	convAct   activation
	distances *distances // nil without relative attention
}

type encoderLayer struct {
	query, key, value, out linear
	up, down               linear
	attentionNorm, norm    norm

	// keys and queries of the distances, for each head (2·span,
	// attention_head_size) as F32; nil where pos_att_type does without.
	keys, queries [][]byte
}

// A loader reads tensors of a checkpoint under a common prefix. It goes on
// after a fault, so that all are known in the end.
type loader struct {
	c      *checkpoint.Checkpoint
	prefix string
	reads  []func() error
	faults []string
}

// find looks for a tensor of a shape.
func (l *loader) find(name string, shape ...int) (tensor.Tensor, bool) {
	t, ok := l.c.Tensor(l.prefix + name)
	switch {
	case !ok:
		l.faults = append(l.faults, l.prefix+name+" is missing")
	case fmt.Sprint(t.Shape) != fmt.Sprint(shape):
		l.faults = append(l.faults, fmt.Sprintf("%s has shape %v, the configuration wants %v", t.Name, t.Shape, shape))
	case t.DType.Format() != kernel.F32 && t.DType.Format() != kernel.F16 && t.DType.Format() != kernel.BF16:
		l.faults = append(l.faults, fmt.Sprintf("%s is %v; weights must be F32, F16 or BF16", t.Name, t.DType))
	default:
		return t, true
	}
	return t, false
}

// err is all faults so far. Only without any may anything be read.
func (l *loader) err() error {
	const most = 5
	switch n := len(l.faults); {
	case n == 0:
		return nil
	case n > most:
		return fmt.Errorf("%s; and %d more", strings.Join(l.faults[:most], "; "), n-most)
	default:
		return errors.New(strings.Join(l.faults, "; "))
	}
}

// vector is filled when the loader reads.
func (l *loader) vector(to *[]float32, name string, n int) {
	t, ok := l.find(name, n)
	if !ok {
		return
	}
	l.reads = append(l.reads, func() error {
		*to = make([]float32, n)
		return named(t, t.ReadFloat32(*to, 0))
	})
}

// matrix takes name.weight and, if it is biased, name.bias.
func (l *loader) matrix(to *linear, name string, out, in int, biased bool) {
	t, ok := l.find(name+".weight", out, in)
	if biased {
		l.vector(&to.bias, name+".bias", out)
	}
	if !ok {
		return
	}
	to.in, to.out, to.f = in, out, t.DType.Format()
	l.reads = append(l.reads, func() error {
		to.data = make([]byte, t.Size())
		return named(t, tensor.ReadFull(t.Data, to.data, 0))
	})
}

func (l *loader) layerNorm(to *norm, name string, n int, eps float64) {
	to.eps = eps
	l.vector(&to.w, name+".weight", n)
	l.vector(&to.b, name+".bias", n)
}

func named(t tensor.Tensor, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	return nil
}

// run reads everything that was asked for.
func (l *loader) run(ctx context.Context, jobs int) error {
	if err := l.err(); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(jobs)
	for _, read := range l.reads {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return read()
		})
	}
	return g.Wait()
}

// plan asks the loader for the tensors of an encoder. finish is to be called
// when they have been read.
func (l *loader) plan(cfg *debertaConfig, jobs int) (e *encoder, finish func(context.Context) error, err error) {
	if cfg.NumHiddenLayers > l.c.Len() {
		return nil, nil, fmt.Errorf("config.json has %d layers, the checkpoint %d tensors", cfg.NumHiddenLayers, l.c.Len())
	}
	h, width := cfg.HiddenSize, cfg.NumAttentionHeads*cfg.AttentionHeadSize
	e = &encoder{cfg: cfg, jobs: jobs, layers: make([]encoderLayer, cfg.NumHiddenLayers)}
	e.act, _ = activations(cfg.HiddenAct)
	e.convAct, _ = activations(cfg.ConvAct)

	l.matrix(&e.words, "embeddings.word_embeddings", cfg.VocabSize, cfg.EmbeddingSize, false)
	if cfg.PositionBiasedInput {
		e.positions = new(linear)
		l.matrix(e.positions, "embeddings.position_embeddings", cfg.MaxPositionEmbeddings, cfg.EmbeddingSize, false)
	}
	if cfg.TypeVocabSize > 0 {
		e.types = new(linear)
		l.matrix(e.types, "embeddings.token_type_embeddings", cfg.TypeVocabSize, cfg.EmbeddingSize, false)
	}
	if cfg.EmbeddingSize != h {
		e.project = new(linear)
		l.matrix(e.project, "embeddings.embed_proj", h, cfg.EmbeddingSize, false)
	}
	l.layerNorm(&e.norm, "embeddings.LayerNorm", h, cfg.LayerNormEps)

	type position struct{ keys, queries linear }
	var own []position // projections for distances, where they are not shared
	if cfg.RelativeAttention && !cfg.ShareAttKey {
		own = make([]position, cfg.NumHiddenLayers)
	}
	for i := range e.layers {
		w, at := &e.layers[i], fmt.Sprintf("encoder.layer.%d.", i)
		l.matrix(&w.query, at+"attention.self.query_proj", width, h, true)
		l.matrix(&w.key, at+"attention.self.key_proj", width, h, true)
		l.matrix(&w.value, at+"attention.self.value_proj", width, h, true)
		l.matrix(&w.out, at+"attention.output.dense", h, width, true)
		l.layerNorm(&w.attentionNorm, at+"attention.output.LayerNorm", h, cfg.LayerNormEps)
		l.matrix(&w.up, at+"intermediate.dense", cfg.IntermediateSize, h, true)
		l.matrix(&w.down, at+"output.dense", h, cfg.IntermediateSize, true)
		l.layerNorm(&w.norm, at+"output.LayerNorm", h, cfg.LayerNormEps)
		if own != nil && cfg.C2P {
			l.matrix(&own[i].keys, at+"attention.self.pos_key_proj", width, h, true)
		}
		if own != nil && cfg.P2C {
			l.matrix(&own[i].queries, at+"attention.self.pos_query_proj", width, h, true)
		}
	}
	var relative []float32
	var relativeNorm norm
	if cfg.RelativeAttention {
		e.distances = &distances{buckets: cfg.PositionBuckets, longest: cfg.MaxRelativePositions, span: cfg.span()}
		if t, ok := l.find("encoder.rel_embeddings.weight", 2*cfg.span(), h); ok {
			l.reads = append(l.reads, func() error {
				relative = make([]float32, 2*cfg.span()*h)
				return named(t, t.ReadFloat32(relative, 0))
			})
		}
		if cfg.NormRelEbd {
			l.layerNorm(&relativeNorm, "encoder.LayerNorm", h, cfg.LayerNormEps)
		}
	}
	if cfg.ConvKernelSize > 0 {
		e.conv = new(linear)
		l.convolution(e.conv, "encoder.conv.conv", h, cfg.ConvKernelSize)
		l.layerNorm(&e.convNorm, "encoder.conv.LayerNorm", h, cfg.LayerNormEps)
	}

	return e, func(ctx context.Context) error {
		if relative == nil {
			return nil
		}
		if cfg.NormRelEbd {
			for i := 0; i < len(relative); i += h {
				relativeNorm.apply(relative[i : i+h])
			}
		}
		for i := range e.layers {
			if err := ctx.Err(); err != nil {
				return err
			}
			w := &e.layers[i]
			keys, queries := &w.key, &w.query
			if own != nil {
				keys, queries = &own[i].keys, &own[i].queries
			}
			if cfg.C2P {
				w.keys = e.perHead(keys, relative)
			}
			if cfg.P2C {
				w.queries = e.perHead(queries, relative)
			}
		}
		return nil
	}, nil
}

// convolution takes a Conv1d of h channels to h, whose weight is (h, h, kernel),
// and puts the taps outermost in each row.
func (l *loader) convolution(to *linear, name string, h, kernelSize int) {
	t, ok := l.find(name+".weight", h, h, kernelSize)
	l.vector(&to.bias, name+".bias", h)
	if !ok {
		return
	}
	to.in, to.out, to.f = kernelSize*h, h, kernel.F32
	l.reads = append(l.reads, func() error {
		to.data = make([]byte, 4*h*h*kernelSize)
		row, turned := make([]float32, h*kernelSize), make([]float32, h*kernelSize)
		for r := range h {
			if err := t.ReadFloat32(row, int64(r*len(row))); err != nil {
				return named(t, err)
			}
			for c := range h {
				for k := range kernelSize {
					turned[k*h+c] = row[c*kernelSize+k]
				}
			}
			kernel.Narrow(to.data[4*r*len(row):], turned, kernel.F32)
		}
		return nil
	})
}

// perHead projects the embeddings of all distances, (2·span, hidden_size), and
// sorts the result by heads.
func (e *encoder) perHead(l *linear, relative []float32) [][]byte {
	n, d := len(relative)/l.in, e.cfg.AttentionHeadSize
	y := make([]float32, n*l.out)
	l.apply(e.jobs, y, l.out, relative, n)
	heads := make([][]byte, e.cfg.NumAttentionHeads)
	for head := range heads {
		b := make([]byte, 4*n*d)
		for r := range n {
			kernel.Narrow(b[4*r*d:], y[r*l.out+head*d:r*l.out+(head+1)*d], kernel.F32)
		}
		heads[head] = b
	}
	return heads
}
