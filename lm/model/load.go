package model

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"

	"expo/internal/kernel"
	"expo/internal/quant"
	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// Quantization is what happens to weights on the way into memory.
type Quantization uint8

// Weights stay as they are stored, or matrices become ggml's Q8_0: 34 bytes
// for 32 weights.
const (
	AsStored Quantization = iota
	Q8_0
)

// LoadOptions are for Load and LoadGGUF.
type LoadOptions struct {
	// Quantize matrices, embeddings and head included. Those whose rows are no
	// multiple of 32 stay as they are, as do the ones that are quantized
	// already.
	Quantize Quantization
	// Jobs is the number of threads that load and, later, compute. Zero is one
	// for each that Go runs.
	Jobs int
	// NoMap reads weights into memory of the process even where a file can be
	// used as it lies. A mapped file must not be cut short while the model is
	// in use, or the process dies; one that is replaced by renaming may.
	NoMap bool
}

// A part is where a matrix, or a vector (then cols is 1), has its weights from,
// so that Update can read them again. Block b of the destination, block rows of
// it, is the stored tensor's from row at(b) on.
type part struct {
	name       string
	rows, cols int
	stored     int // rows of the stored tensor
	matrix     *matrix
	vector     []float32
	block      int
	at         func(b int) int // nil: the rows as they are stored
}

// source is one stored tensor.
type source struct {
	tensor tensor.Tensor // Data alone is set for blocks
	f      format
}

// Load takes a model into memory. Nothing is widened: a BF16 model takes 2
// bytes a weight. Matrices that lie in a file as they are computed with are
// mapped, so that they take their place in the system's file cache alone, and
// a model that is there loads at once; others are read. c may be closed
// afterwards; to take weights again from another checkpoint, use Update.
func Load(ctx context.Context, c *checkpoint.Checkpoint, opt LoadOptions) (*Model, error) {
	cfg, err := ParseConfig(c.Config())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name(), err)
	}
	if cfg.NumHiddenLayers > c.Len() || cfg.NumHiddenLayers > maxLayers {
		return nil, fmt.Errorf("model: %s: config.json has %d layers, the checkpoint %d tensors", c.Name(), cfg.NumHiddenLayers, c.Len())
	}
	names := hfNames
	if cfg.ModelType == "internlm2" {
		names = internNames
	}
	m, err := load(ctx, cfg, names, finder(c), opt)
	if err != nil {
		return nil, fmt.Errorf("model: %s: %w", c.Name(), err)
	}
	return m, nil
}

func load(ctx context.Context, cfg *Config, names tensorNames, find func(string) (source, error), opt LoadOptions) (*Model, error) {
	m, err := build(cfg, names, find, opt)
	if err != nil {
		return nil, err
	}
	if err := m.read(ctx, find); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// finder looks up what can be used as weights.
func finder(c *checkpoint.Checkpoint) func(name string) (source, error) {
	return func(name string) (source, error) {
		t, ok := c.Tensor(name)
		if !ok {
			return source{}, errors.New("is missing")
		}
		switch f := t.DType.Format(); f {
		case kernel.BF16, kernel.F16, kernel.F32:
			return source{t, format{plain: f}}, nil
		}
		return source{}, fmt.Errorf("is %v; weights must be BF16, F16 or F32", t.DType)
	}
}

// Update replaces all weights by those of a checkpoint with the same tensors,
// types and shapes, such as another point on the line of the same pair. After
// an error the model must not be used until another Update succeeds.
func (m *Model) Update(ctx context.Context, c *checkpoint.Checkpoint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.read(ctx, finder(c)); err != nil {
		return fmt.Errorf("model: %s: %w", c.Name(), err)
	}
	return nil
}

// Close gives the memory of the weights back. The model cannot be used after.
func (m *Model) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.own.free()
	m.tokens, m.head, m.layers, m.parts = nil, &matrix{}, nil, nil
}

// pieceBytes is how much of a tensor one goroutine reads at a time.
const pieceBytes = 4 << 20

// read fills the weights, and checks again that what find gives has the shape
// that was planned for.
func (m *Model) read(ctx context.Context, find func(string) (source, error)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(m.jobs)
	for _, p := range m.parts {
		src, err := find(p.name)
		if err == nil {
			err = p.fits(src)
		}
		if err != nil {
			g.Wait()
			return fmt.Errorf("%s: %w", p.name, err)
		}
		per, _ := src.f.rowBytes(p.cols)
		if p.matrix != nil {
			mapped, err := m.place(&p, src, p.rows*per)
			if err != nil {
				g.Wait()
				return fmt.Errorf("%s: %w", p.name, err)
			}
			if mapped {
				for area := p.matrix.mapped; len(area) > 0; {
					piece := area[:min(pieceBytes, len(area))]
					area = area[len(piece):]
					g.Go(func() error {
						populate(piece)
						return ctx.Err()
					})
				}
				continue
			}
		}
		step := max(1, pieceBytes/max(per, 1))
		for lo := 0; lo < p.rows; lo += step {
			hi := min(lo+step, p.rows)
			g.Go(func() error {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := p.readRows(src, per, lo, hi); err != nil {
					return fmt.Errorf("%s: %w", p.name, err)
				}
				return nil
			})
		}
	}
	return g.Wait()
}

// place gives a matrix the memory for its weights: the file's own, where that
// can be mapped and holds size bytes as the matrix wants them, or some to read
// into. What a matrix has to read into it keeps.
func (m *Model) place(p *part, src source, size int) (mapped bool, err error) {
	w := p.matrix
	if w.data != nil && w.mapped == nil {
		return false, nil
	}
	if w.mapped != nil {
		m.own.release(w.mapped)
		w.data, w.mapped = nil, nil
	}
	if base, off := tensor.Base(src.tensor.Data); !m.noMap && p.at == nil && w.f == src.f {
		if f, ok := base.(*os.File); ok {
			if area, data, ok := m.own.mapFile(f, off, size); ok {
				w.data, w.mapped = data, area
				return true, nil
			}
		}
	}
	bytes, _ := w.f.rowBytes(w.cols)
	if w.data, err = m.own.alloc(w.rows * bytes); err != nil {
		return false, fmt.Errorf("%d bytes: %w", w.rows*bytes, err)
	}
	return false, nil
}

// fits compares a stored tensor with what the part expects.
func (p *part) fits(src source) error {
	if src.rows() != p.stored || src.cols() != p.cols {
		want := []int{p.stored, p.cols}
		if p.vector != nil {
			want = want[:1]
		}
		return fmt.Errorf("has shape %v, the configuration wants %v", src.tensor.Shape, want)
	}
	if _, ok := src.f.rowBytes(p.cols); !ok {
		return fmt.Errorf("rows of %d do not fill blocks of %v", p.cols, src.f.block)
	}
	if p.matrix != nil && p.matrix.data != nil && p.matrix.f != p.matrix.f.after(src.f) {
		return fmt.Errorf("is no longer of the type that was loaded")
	}
	return nil
}

// after is the format of a matrix of format f once weights of another format
// have been read into it: only quantizing converts.
func (f format) after(src format) format {
	if f.block == quant.Q8_0 && src.block == quant.None {
		return f
	}
	return src
}

// rows and cols take a vector for a matrix of one column.
func (s source) rows() int {
	if len(s.tensor.Shape) == 0 {
		return 1
	}
	return s.tensor.Shape[0]
}

func (s source) cols() int {
	n := 1
	for _, d := range s.tensor.Shape[min(1, len(s.tensor.Shape)):] {
		n *= d
	}
	return n
}

// readRows fills the rows lo to hi, per bytes each in the source.
func (p *part) readRows(src source, per, lo, hi int) error {
	same := p.matrix != nil && p.matrix.f == src.f
	var buf []byte
	if same {
		buf = p.matrix.data[lo*per : hi*per]
	} else {
		buf = make([]byte, (hi-lo)*per)
	}
	for r := lo; r < hi; {
		end, from := hi, r
		if p.at != nil {
			b := r / p.block
			end = min((b+1)*p.block, hi)
			from = p.at(b) + r%p.block
		}
		if err := tensor.ReadFull(src.tensor.Data, buf[(r-lo)*per:(end-lo)*per], int64(from)*int64(per)); err != nil {
			return err
		}
		r = end
	}
	switch {
	case same:
	case p.vector != nil:
		src.f.widen(p.vector[lo:hi], buf)
	default:
		wide := make([]float32, (hi-lo)*p.cols)
		src.f.widen(wide, buf)
		size := quant.RowBytes(quant.Q8_0, p.cols)
		new(quant.Quantizer).Quantize(p.matrix.data[lo*size:hi*size], wide, quant.Q8_0)
	}
	return nil
}
