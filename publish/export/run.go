package export

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"expo/internal/quant"
	"expo/publish/imatrix"
	"expo/weights/checkpoint"
	"expo/weights/gguf"
	"expo/weights/tensor"
)

// A chunk is what one worker does at a time: some rows of a part.
type chunk struct {
	part       int
	first, end int // rows
}

// chunkElements is about how many elements a chunk has: few enough that they stay
// in the cache of a core from one step to the next.
const chunkElements = 1 << 18

// cut cuts parts into chunks of whole units. It depends on the parts alone, and so
// do sums over chunks.
func cut(ps []part) []chunk {
	var out []chunk
	for i, p := range ps {
		unit := max(p.unit, 1)
		step := max(1, chunkElements/(unit*p.width())) * unit
		for row := 0; row < p.rows; row += step {
			out = append(out, chunk{i, row, min(row+step, p.rows)})
		}
	}
	return out
}

func (p *part) elements() int64 { return int64(p.rows) * int64(p.width()) }

// sums are what is measured of a chunk, in float64.
type sums struct {
	theta2, error2               float64 // Σθ², Σ(out − θ)²
	weighedTheta2, weighedError2 float64 // where columns have an importance, by that
	delta2, along                float64 // Σδ², Σ(out − aligned)·δ
	offset                       float64 // as along, with the aligned model as out
}

func (s *sums) add(o sums) {
	s.theta2 += o.theta2
	s.error2 += o.error2
	s.weighedTheta2 += o.weighedTheta2
	s.weighedError2 += o.weighedError2
	s.delta2 += o.delta2
	s.along += o.along
	s.offset += o.offset
}

// run computes all chunks and writes them to the files of a stage.
func (pl *planned) run(ctx context.Context, st *stage) error {
	for i, o := range pl.outputs {
		if err := st.files[i].Truncate(o.layout.Size()); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	var total, done int64
	for _, p := range pl.parts {
		total += p.elements()
	}
	var progress sync.Mutex
	next := make(chan int)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(next)
		for i := range pl.chunks {
			select {
			case next <- i:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range pl.opt.jobs() {
		g.Go(func() error {
			w := worker{pl: pl, st: st}
			for i := range next {
				if err := w.do(i); err != nil {
					return err
				}
				if pl.opt.Progress != nil {
					c := pl.chunks[i]
					progress.Lock()
					done += int64(c.end-c.first) * int64(pl.parts[c.part].width())
					pl.opt.Progress(done, total)
					progress.Unlock()
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// A worker has the buffers for one chunk.
type worker struct {
	pl *planned
	st *stage

	theta, aligned, sft, spare, out []float32
	bytes                           []byte
	quantizer                       quant.Quantizer
}

func (w *worker) do(index int) error {
	c := w.pl.chunks[index]
	p := &w.pl.parts[c.part]
	n := (c.end - c.first) * p.width()
	room := func(buffers ...*[]float32) {
		for _, b := range buffers {
			*b = slices.Grow((*b)[:0], n)[:n]
		}
	}
	room(&w.theta, &w.spare, &w.out)
	pair := w.pl.opt.Aligned != nil && p.values == nil
	if pair {
		room(&w.aligned, &w.sft)
		if err := p.read(w.pl.opt.Aligned, w.aligned, w.spare, c.first); err != nil {
			return err
		}
		if err := p.read(w.pl.opt.SFT, w.sft, w.spare, c.first); err != nil {
			return err
		}
	}
	var have *checkpoint.Checkpoint
	var err error
	offsets := map[rounding]float64{{typ: gguf.F32}: 0}
	for i, o := range w.pl.outputs {
		if o.weights != have {
			if err := p.read(o.weights, w.theta, w.spare, c.first); err != nil {
				return err
			}
			if k := quant.NotFinite(w.theta); k >= 0 {
				return fmt.Errorf("export: %s: %s has the value %v; only finite ones can be exported", o.weights.Name(), p.name, w.theta[k])
			}
			have = o.weights
		}
		typ := o.tensors[c.part].Type
		row := n
		if !p.vector {
			row = p.cols
		}
		size := row / typ.BlockSize() * typ.BlockBytes()
		w.bytes = slices.Grow(w.bytes[:0], n/row*size)[:n/row*size]
		how := rounding{typ: typ}
		if o.columns[c.part] != nil {
			how.importance = o.importance
		}
		w.encode(w.bytes, w.theta, typ, o.columns[c.part])
		at := o.layout.Offset(c.part) + int64(c.first)*int64(p.width())/int64(typ.BlockSize())*int64(typ.BlockBytes())
		if _, err := w.st.files[i].WriteAt(w.bytes, at); err != nil {
			return fmt.Errorf("export: %w", err)
		}
		switch {
		case !pair && (p.vector || typ == gguf.F32):
			continue // nothing is lost
		case p.holds(o.weights, typ):
			copy(w.out, w.theta)
		default:
			if err := decode(w.out, w.bytes, typ); err != nil {
				return err
			}
		}
		if typ == gguf.F16 {
			if k := quant.NotFinite(w.out); k >= 0 {
				return fmt.Errorf("export: %s: %s has the value %v, which F16 cannot hold; use BF16 or F32", o.weights.Name(), p.name, w.theta[k])
			}
		}
		s := &o.sums[index]
		if !p.vector {
			s.error2, s.theta2 = quant.Compare(w.out, w.theta)
		}
		if columns := o.columns[c.part]; columns != nil {
			s.weighedError2, s.weighedTheta2 = quant.CompareWeighted(w.out, w.theta, columns)
		}
		if pair {
			s.along, s.delta2 = quant.Project(w.out, w.aligned, w.sft)
			if s.offset, err = w.offset(offsets, how, o.columns[c.part]); err != nil {
				return err
			}
		}
	}
	return nil
}

// holds reports whether the checkpoint has the part as a type already.
func (p *part) holds(c *checkpoint.Checkpoint, typ gguf.Type) bool {
	t, ok := c.Tensor(p.source)
	return ok && t.DType == typ.DType()
}

// A rounding is a type that values are stored as, and the importance that they are
// quantized with, if any.
type rounding struct {
	typ        gguf.Type
	importance *imatrix.Matrix
}

// offset is how far storing the aligned model in some way moves it along δ. known
// has what was asked before about the same chunk.
func (w *worker) offset(known map[rounding]float64, how rounding, columns []float32) (float64, error) {
	if along, ok := known[how]; ok {
		return along, nil
	}
	w.encode(w.bytes, w.aligned, how.typ, columns)
	if err := decode(w.out, w.bytes, how.typ); err != nil {
		return 0, err
	}
	known[how], _ = quant.Project(w.out, w.aligned, w.sft)
	return known[how], nil
}

// encode stores x as a type that a file can have. columns are the importance of
// those of its rows, or nil.
func (w *worker) encode(dst []byte, x []float32, typ gguf.Type, columns []float32) {
	switch typ {
	case gguf.F32:
		for i, v := range x {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(v))
		}
	case gguf.F16:
		quant.NarrowF16(dst, x)
	case gguf.BF16:
		quant.NarrowBF16(dst, x)
	default:
		if columns != nil {
			w.quantizer.QuantizeWeighted(dst, x, columns, blocks[typ])
			return
		}
		w.quantizer.Quantize(dst, x, blocks[typ])
	}
}

// decode is the value of what encode has stored.
func decode(x []float32, b []byte, typ gguf.Type) error {
	if d := typ.DType(); d != tensor.Invalid {
		t := tensor.Tensor{DType: d, Shape: []int{len(x)}, Data: tensor.Bytes(b)}
		return t.ReadFloat32(x, 0)
	}
	quant.Dequantize(x, b, blocks[typ])
	return nil
}

// report is what became of an output.
func (o *output) report(pl *planned, f File) WrittenFile {
	w := WrittenFile{Path: f.Path, Type: f.Type.String(), Bytes: o.layout.Size(), Tensors: map[string]int{}, Importance: usedImportance(f, o.weighted)}
	bits, weights := 0.0, 0.0
	for i, t := range o.tensors {
		w.Tensors[t.Type.String()]++
		n := float64(pl.parts[i].elements())
		weights += n
		bits += n * 8 * float64(t.Type.BlockBytes()) / float64(t.Type.BlockSize())
	}
	w.BitsPerWeight = bits / weights
	var s sums
	for _, c := range o.sums {
		s.add(c)
	}
	if s.theta2 > 0 {
		w.RelativeError = math.Sqrt(s.error2 / s.theta2)
	}
	if w.Importance != nil && s.weighedTheta2 > 0 {
		w.Importance.RelativeError = math.Sqrt(s.weighedError2 / s.weighedTheta2)
	}
	w.Alpha = f.Alpha
	if s.delta2 > 0 {
		e := s.along / s.delta2
		noise := math.Sqrt(s.error2 / (weights * s.delta2))
		offset := s.offset / s.delta2
		w.EffectiveAlpha, w.AlphaOffset, w.AlphaNoise = &e, &offset, &noise
	}
	return w
}
