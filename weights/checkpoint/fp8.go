package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"

	"encoding/binary"

	"expo/weights/tensor"
)

// Quantization names what config.json says about quantized weights:
// quant_method under quantization_config (or compression_config), "" if none.
func (c *Config) Quantization() string {
	for _, key := range quantizationKeys {
		if q, ok := c.Object(key); ok {
			if m, ok := q["quant_method"].(string); ok {
				return m
			}
			return "unnamed"
		}
	}
	return ""
}

var quantizationKeys = []string{"quantization_config", "compression_config"}

// scaleSuffixes are the names under which the scale of X.weight is stored, in
// place of "weight": DeepSeek's and Qwen's, and that of compressed-tensors.
// Both multiply, despite the name of the first.
var scaleSuffixes = []string{"weight_scale_inv", "weight_scale"}

// activationSuffixes are scales of activations; they mean nothing once the
// weights are no longer FP8.
var activationSuffixes = []string{"input_scale", "output_scale", "activation_scale"}

// HasFP8 reports whether any tensor is stored as F8_E4M3 or F8_E5M2.
func (c *Checkpoint) HasFP8() bool {
	for t := range c.Tensors() {
		if t.DType == tensor.F8E4M3 || t.DType == tensor.F8E5M2 {
			return true
		}
	}
	return false
}

// Dequantize gives the checkpoint in which every FP8 weight that has a scale
// is float32, value = float32(q) · float32(scale), one rounding, computed when
// it is read; the scales are gone. FP8 tensors without a scale stay as they
// are: their value is the code's own. Shards keep their names and order. c
// must stay open.
//
// A scale is X.weight_scale_inv or X.weight_scale for X.weight of shape
// (rows, columns): a scalar, one per row (rows, 1) or (rows), or a grid over
// blocks of quantization_config.weight_block_size, the last of which may be
// ragged; F32, BF16, F16, or the bare exponents F8_E8M0 and U8 (2^(byte−127)).
//
// Other ways of quantizing (GPTQ, AWQ, bitsandbytes, MXFP4 …) are refused by
// name.
func (c *Checkpoint) Dequantize() (*Checkpoint, error) {
	method := c.config.Quantization()
	switch method {
	case "", "fp8", "compressed-tensors", "fbgemm_fp8":
	default:
		return nil, fmt.Errorf("checkpoint: %s is quantized with %s, whose codes cannot be extrapolated; use the model it was made from", c.name, method)
	}
	if !c.HasFP8() {
		if method != "" {
			return nil, fmt.Errorf("checkpoint: %s is quantized with %s but holds no FP8 tensor; use the model it was made from", c.name, method)
		}
		return c, nil
	}
	block := c.config.blockSize()
	drop := make(map[string]bool)
	scaled := make(map[string]tensor.Tensor)
	var errs []error
	for t := range c.Tensors() {
		base, ok := strings.CutSuffix(t.Name, "weight")
		if !ok || t.DType != tensor.F8E4M3 && t.DType != tensor.F8E5M2 {
			continue
		}
		for _, suffix := range activationSuffixes {
			if _, ok := c.Tensor(base + suffix); ok {
				drop[base+suffix] = true
			}
		}
		for _, suffix := range scaleSuffixes {
			s, ok := c.Tensor(base + suffix)
			if !ok {
				continue
			}
			d, err := newDequantizer(t, s, block)
			if err != nil {
				errs = append(errs, err)
				break
			}
			drop[s.Name] = true
			scaled[t.Name] = tensor.Tensor{Name: t.Name, DType: tensor.F32, Shape: t.Shape, Data: d}
			break
		}
	}
	for t := range c.Tensors() {
		for _, suffix := range scaleSuffixes {
			if strings.HasSuffix(t.Name, "."+suffix) && !drop[t.Name] && len(errs) == 0 {
				errs = append(errs, fmt.Errorf("%s: no FP8 weight beside it that it could scale", t.Name))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("checkpoint: %s: %w", c.name, err)
	}
	out := &Checkpoint{name: c.name, files: c.files, sources: c.sources}
	for _, s := range c.shards {
		n := Shard{File: s.File}
		for _, t := range s.Tensors {
			if drop[t.Name] {
				continue
			}
			if d, ok := scaled[t.Name]; ok {
				t = d
			}
			n.Tensors = append(n.Tensors, t)
		}
		out.shards = append(out.shards, n)
	}
	return out, out.init()
}

// blockSize is quantization_config.weight_block_size, or (0, 0).
func (c *Config) blockSize() [2]int {
	q, _ := c.Object("quantization_config")
	list, _ := q["weight_block_size"].([]any)
	var b [2]int
	if len(list) != 2 {
		return b
	}
	for i, v := range list {
		n, err := parseInt(v)
		if err != nil || n <= 0 || n > math.MaxInt32 {
			return [2]int{}
		}
		b[i] = int(n)
	}
	return b
}

func parseInt(v any) (int64, error) {
	n, ok := v.(interface{ Int64() (int64, error) })
	if !ok {
		return 0, errors.New("not a number")
	}
	return n.Int64()
}

// dequantizer computes float32 values of a scaled FP8 weight on demand.
type dequantizer struct {
	q              tensor.Tensor
	scale          tensor.Tensor
	columns        int64 // of the weight, all dimensions but the last folded into rows
	blockR, blockC int64
	scaleC         int64 // columns of the scale grid

	once   sync.Once
	scales []float32
	err    error
}

func newDequantizer(q, s tensor.Tensor, block [2]int) (*dequantizer, error) {
	elements := q.Elements()
	d := &dequantizer{q: q, scale: s, columns: 1}
	if len(q.Shape) > 0 {
		d.columns = int64(q.Shape[len(q.Shape)-1])
	}
	rows := int64(0)
	if d.columns > 0 {
		rows = elements / d.columns
	}
	if !s.DType.Float() && s.DType != tensor.U8 && s.DType != tensor.F8E8M0 {
		return nil, fmt.Errorf("%s: a scale of type %v is not known", s.Name, s.DType)
	}
	n := s.Elements()
	// The grid is that of the configuration if it fits, the scale's own shape
	// otherwise (transformers derives it from the latter alone and refuses
	// ragged blocks).
	sr, sc := n, int64(1)
	if len(s.Shape) >= 2 {
		sc = int64(s.Shape[len(s.Shape)-1])
		if sc > 0 {
			sr = n / sc
		}
	}
	switch {
	case elements == 0 || n == 1:
		d.blockR, d.blockC, d.scaleC = max(rows, 1), max(d.columns, 1), 1
	case block[0] > 0 && sr == ceilDiv(rows, int64(block[0])) && sc == ceilDiv(d.columns, int64(block[1])):
		d.blockR, d.blockC, d.scaleC = int64(block[0]), int64(block[1]), sc
	case sc == 1 && sr == rows:
		d.blockR, d.blockC, d.scaleC = 1, d.columns, 1
	case sr > 0 && sc > 0 && rows%sr == 0 && d.columns%sc == 0:
		d.blockR, d.blockC, d.scaleC = rows/sr, d.columns/sc, sc
	default:
		return nil, fmt.Errorf("%s: shape %v does not fit the weight's %v in blocks of %v", s.Name, s.Shape, q.Shape, block)
	}
	return d, nil
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }

// load reads the scales, 1/16,384 of the weight's size at the usual blocks.
func (d *dequantizer) load() error {
	d.once.Do(func() {
		n := d.scale.Elements()
		d.scales = make([]float32, n)
		if d.scale.DType.Float() {
			d.err = d.scale.ReadFloat32(d.scales, 0)
			return
		}
		b := make([]byte, n)
		if d.err = tensor.ReadFull(d.scale.Data, b, 0); d.err != nil {
			d.err = fmt.Errorf("%s: %w", d.scale.Name, d.err)
			return
		}
		for i, e := range b {
			switch e {
			case 0xff:
				d.scales[i] = float32(math.NaN())
			default:
				d.scales[i] = float32(math.Ldexp(1, int(e)-127))
			}
		}
	})
	return d.err
}

// ReadAt fills p with little-endian float32 values; off and len(p) may be any
// number of bytes.
func (d *dequantizer) ReadAt(p []byte, off int64) (int, error) {
	if err := d.load(); err != nil {
		return 0, err
	}
	size := d.q.Elements() * 4
	if off < 0 || off > size {
		return 0, fmt.Errorf("checkpoint: %s: offset %d of %d", d.q.Name, off, size)
	}
	want := len(p)
	if int64(want) > size-off {
		p = p[:size-off]
	}
	const chunk = 16 << 10
	vals := make([]float32, min(chunk, len(p)/4+2))
	buf := make([]byte, 4*len(vals))
	for done := 0; done < len(p); {
		pos := off + int64(done)
		first := pos / 4
		n := min(int64(len(vals)), d.q.Elements()-first)
		if err := d.values(vals[:n], first); err != nil {
			return done, err
		}
		for i, v := range vals[:n] {
			binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(v))
		}
		done += copy(p[done:], buf[pos%4:4*n])
	}
	if len(p) < want {
		return len(p), io.EOF
	}
	return len(p), nil
}

func (d *dequantizer) values(dst []float32, first int64) error {
	if err := d.q.ReadFloat32(dst, first); err != nil {
		return err
	}
	for i := 0; i < len(dst); {
		at := first + int64(i)
		row, col := at/d.columns, at%d.columns
		blockEnd := min((col/d.blockC+1)*d.blockC, d.columns)
		n := min(int(blockEnd-col), len(dst)-i)
		s := d.scales[row/d.blockR*d.scaleC+col/d.blockC]
		for j := range dst[i : i+n] {
			dst[i+j] *= s
		}
		i += n
	}
	return nil
}

// Dequantized reports whether a tensor is one that Dequantize computes.
func Dequantized(t tensor.Tensor) bool {
	_, ok := t.Data.(*dequantizer)
	return ok
}
