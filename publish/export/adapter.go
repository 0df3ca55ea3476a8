package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// Adapted is a model and a LoRA adapter of PEFT as one checkpoint. Weights that the
// adapter changes are float32 and computed as they are read: W + s·B·A, where s is
// lora_alpha/r, or lora_alpha/√r with use_rslora. Tensors that the adapter saves
// whole (modules_to_save) take the place of the model's. base has to stay open as
// long as the result, and so has what close closes.
//
// DoRA, adapters of embeddings, and biases are refused, and so is an adapter of
// which anything does not fit the model; the error lists all of it. The files and
// their meaning are those of https://github.com/huggingface/peft (0.17).
func Adapted(base *checkpoint.Checkpoint, dir string) (c *checkpoint.Checkpoint, closer io.Closer, err error) {
	cfg, err := readAdapterConfig(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("export: %s: %w", dir, err)
	}
	var weights *checkpoint.Checkpoint
	for _, name := range []string{AdapterWeightsFile, "adapter_model.bin"} {
		if _, err = os.Stat(filepath.Join(dir, name)); err == nil {
			weights, err = checkpoint.OpenFile(filepath.Join(dir, name))
			break
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("export: %s: %w", dir, err)
	}
	changes, err := cfg.changes(base, weights)
	if err != nil {
		weights.Close()
		return nil, nil, fmt.Errorf("export: %s does not fit %s: %w", dir, base.Name(), err)
	}
	var shards []checkpoint.Shard
	for _, s := range base.Shards() {
		out := checkpoint.Shard{File: s.File}
		for _, t := range s.Tensors {
			if change, ok := changes[t.Name]; ok {
				t = change
			}
			out.Tensors = append(out.Tensors, t)
		}
		shards = append(shards, out)
	}
	if c, err = checkpoint.New(base.Name()+"+"+dir, shards, base.Files()); err != nil {
		weights.Close()
		return nil, nil, err
	}
	return c, weights, nil
}

// adapterConfig is what of PEFT's LoraConfig matters here.
type adapterConfig struct {
	PeftType     string             `json:"peft_type"`
	R            int                `json:"r"`
	Alpha        float64            `json:"lora_alpha"`
	RSLoRA       bool               `json:"use_rslora"`
	DoRA         bool               `json:"use_dora"`
	Bias         string             `json:"bias"`
	FanInFanOut  bool               `json:"fan_in_fan_out"`
	RankPattern  map[string]int     `json:"rank_pattern"`
	AlphaPattern map[string]float64 `json:"alpha_pattern"`
}

func readAdapterConfig(dir string) (*adapterConfig, error) {
	b, err := os.ReadFile(filepath.Join(dir, AdapterConfigFile))
	if err != nil {
		return nil, err
	}
	var c adapterConfig
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", AdapterConfigFile, err)
	}
	switch {
	case c.PeftType != "LORA":
		return nil, fmt.Errorf("peft_type %q is not supported; LORA is", c.PeftType)
	case c.DoRA:
		return nil, errors.New("use_dora is not supported: merge the adapter with PEFT first")
	case c.Bias != "" && c.Bias != "none":
		return nil, fmt.Errorf("bias %q is not supported: merge the adapter with PEFT first", c.Bias)
	case c.FanInFanOut:
		return nil, errors.New("fan_in_fan_out is not supported: merge the adapter with PEFT first")
	}
	return &c, nil
}

// scale is what B·A of a module is multiplied by. Patterns name modules by the end
// of their path.
func (c *adapterConfig) scale(module string, rank int) float64 {
	alpha := c.Alpha
	for pattern, v := range c.AlphaPattern {
		if module == pattern || strings.HasSuffix(module, "."+pattern) {
			alpha = v
		}
	}
	if c.RSLoRA {
		return alpha / math.Sqrt(float64(rank))
	}
	return alpha / float64(rank)
}

// rank is that of a module by the configuration.
func (c *adapterConfig) rank(module string) int {
	for pattern, v := range c.RankPattern {
		if module == pattern || strings.HasSuffix(module, "."+pattern) {
			return v
		}
	}
	return c.R
}

// changes are the tensors of the model that the adapter changes, by name.
func (c *adapterConfig) changes(base, weights *checkpoint.Checkpoint) (map[string]tensor.Tensor, error) {
	out := map[string]tensor.Tensor{}
	factors := map[string][2]tensor.Tensor{}
	var errs []error
	for t := range weights.Tensors() {
		name := strings.TrimPrefix(t.Name, "base_model.model.")
		name = strings.ReplaceAll(name, ".default.", ".")
		if module, ok := strings.CutSuffix(name, ".lora_A.weight"); ok {
			f := factors[module]
			f[0] = t
			factors[module] = f
			continue
		}
		if module, ok := strings.CutSuffix(name, ".lora_B.weight"); ok {
			f := factors[module]
			f[1] = t
			factors[module] = f
			continue
		}
		old, ok := base.Tensor(name)
		switch {
		case strings.Contains(name, "lora_"):
			errs = append(errs, fmt.Errorf("%s is not supported", t.Name))
		case !ok:
			errs = append(errs, fmt.Errorf("the model has no %s", name))
		case !slices.Equal(old.Shape, t.Shape):
			errs = append(errs, fmt.Errorf("%s has shape %v, in the model %v", name, t.Shape, old.Shape))
		default:
			t.Name = name
			out[name] = t
		}
	}
	for module, f := range factors {
		t, err := c.change(base, module, f[0], f[1])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out[t.Name] = t
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if len(errs) == 0 && len(out) == 0 {
		errs = append(errs, errors.New("the adapter has no tensors"))
	}
	return out, errors.Join(errs...)
}

func (c *adapterConfig) change(base *checkpoint.Checkpoint, module string, a, b tensor.Tensor) (tensor.Tensor, error) {
	w, ok := base.Tensor(module + ".weight")
	switch {
	case a.Data == nil || b.Data == nil:
		return w, fmt.Errorf("%s has one of its two factors only", module)
	case !ok:
		return w, fmt.Errorf("the model has no %s.weight", module)
	case !w.DType.Float() || !a.DType.Float() || !b.DType.Float():
		return w, fmt.Errorf("%s: %v and factors of %v and %v cannot be computed with", module, w.DType, a.DType, b.DType)
	case len(a.Shape) != 2 || len(b.Shape) != 2 || len(w.Shape) != 2 || a.Shape[0] != b.Shape[1] || a.Shape[0] == 0 || a.Shape[1] != w.Shape[1] || b.Shape[0] != w.Shape[0]:
		return w, fmt.Errorf("%s: factors of shapes %v and %v do not make the model's %v", module, b.Shape, a.Shape, w.Shape)
	}
	rank := a.Shape[0]
	if want := c.rank(module); want != rank {
		return w, fmt.Errorf("%s: its factors have rank %d, adapter_config.json says %d", module, rank, want)
	}
	m := &adapted{w: w, a: a, b: b, scale: float32(c.scale(module, rank))}
	return tensor.Tensor{Name: w.Name, DType: tensor.F32, Shape: w.Shape, Data: m}, nil
}

// adapted is the data of W + s·B·A.
type adapted struct {
	w, a, b tensor.Tensor
	scale   float32
}

// adaptedScratch are the buffers of one computation.
type adaptedScratch struct{ a, b, sum, out []float32 }

var adaptedPool = sync.Pool{New: func() any { return new(adaptedScratch) }}

// ReadAt computes the bytes [off, off+len(p)). Neither end need lie on an element.
func (m *adapted) ReadAt(p []byte, off int64) (int, error) {
	size := m.w.Elements() * 4
	if off < 0 {
		return 0, fmt.Errorf("export: %s: negative offset %d", m.w.Name, off)
	}
	want := len(p)
	p = p[:max(0, min(int64(want), size-off))]
	if len(p) > 0 {
		if err := m.compute(p, off); err != nil {
			return 0, err
		}
	}
	if len(p) < want {
		return len(p), io.EOF
	}
	return len(p), nil
}

func (m *adapted) compute(p []byte, off int64) error {
	buf := adaptedPool.Get().(*adaptedScratch)
	defer adaptedPool.Put(buf)
	rank, cols := m.a.Shape[0], m.a.Shape[1]
	room := func(b *[]float32, n int) []float32 {
		*b = slices.Grow((*b)[:0], n)[:n]
		return *b
	}
	a := room(&buf.a, rank*cols)
	if err := readFloat32(m.a, a, 0); err != nil {
		return err
	}
	b, sum, out := room(&buf.b, rank), room(&buf.sum, cols), room(&buf.out, cols)
	for done := 0; done < len(p); {
		element := (off + int64(done)) / 4
		row, first := element/int64(cols), int(element%int64(cols))
		// The elements of this row that are wanted, in whole or in part.
		end := min(int64(cols), (off+int64(len(p))+3)/4-row*int64(cols))
		n := int(end) - first
		if err := readFloat32(m.b, b, row*int64(rank)); err != nil {
			return err
		}
		if err := readFloat32(m.w, out[:n], element); err != nil {
			return err
		}
		s := sum[:n]
		clear(s)
		for k, c := range b {
			for j, v := range a[k*cols+first:][:n] {
				s[j] += float32(c * v)
			}
		}
		for j, v := range s {
			out[j] += float32(m.scale * v)
		}
		skip := int((off + int64(done)) % 4)
		done += copy(p[done:], littleEndian(out[:n])[skip:])
	}
	return nil
}
