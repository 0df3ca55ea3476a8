package checkpoint

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"expo/weights/tensor"
)

// Quantization names what config.json says about quantized weights:
// quant_method under quantization_config or compression_config, at the top or
// in text_config; "" if none, "unnamed" if there is one without that key.
func (c *Config) Quantization() string {
	q, ok := c.quantizer()
	if !ok {
		return ""
	}
	if m, ok := q["quant_method"].(string); ok {
		return m
	}
	return "unnamed"
}

func (c *Config) quantizer() (map[string]any, bool) {
	for _, key := range quantizationKeys {
		v, _ := c.Value(key)
		if q, ok := v.(map[string]any); ok {
			return q, true
		}
	}
	return nil, false
}

var quantizationKeys = []string{"quantization_config", "compression_config"}

// scaleSuffixes follow the name of a weight in that of its scale: DeepSeek's
// and Qwen's, and that of compressed-tensors. Both multiply, despite the name
// of the first.
var scaleSuffixes = []string{"_scale_inv", "_scale"}

// activationSuffixes are scales of activations, in place of "weight"; they
// mean nothing once the weights are no longer FP8.
var activationSuffixes = []string{"input_scale", "input_scale_ub", "output_scale", "activation_scale"}

// HasFP8 reports whether any tensor is stored as F8_E4M3 or F8_E5M2.
func (c *Checkpoint) HasFP8() bool {
	for t := range c.Tensors() {
		if isFP8(t) {
			return true
		}
	}
	return false
}

func isFP8(t tensor.Tensor) bool { return t.DType == tensor.F8E4M3 || t.DType == tensor.F8E5M2 }

// Dequantize gives the checkpoint in which every FP8 weight that has a scale
// is float32, value = float32(q) · float32(scale), one rounding, computed when
// it is read; the scales are gone. FP8 tensors without a scale stay as they
// are: their value is the code's own. Shards keep their names and order. c
// must stay open.
//
// The scale of X is X_scale_inv or X_scale; X is usually named "….weight", and
// of shape (rows, columns), or (experts, rows, columns). A scale is one number,
// one per row (rows, 1) or (rows), or a grid over blocks of
// quantization_config.weight_block_size, the last of which may be ragged, each
// once per expert; its type is F32, BF16, F16, or that of a bare exponent,
// F8_E8M0 and U8 (2^(byte−127)). The scale may lie in another shard.
//
// Other ways of quantizing (GPTQ, AWQ, bitsandbytes, MXFP4 …) are refused by
// name, as is a scale that fits no rule.
func (c *Checkpoint) Dequantize() (*Checkpoint, error) {
	method := c.config.Quantization()
	switch method {
	case "", "fp8", "compressed-tensors", "fbgemm_fp8":
	default:
		return nil, fmt.Errorf("checkpoint: %s is quantized with %s, whose codes cannot be extrapolated; use the model it was made from", c.name, plain(method))
	}
	if !c.HasFP8() {
		if method != "" {
			return nil, fmt.Errorf("checkpoint: %s is quantized with %s but holds no FP8 tensor; use the model it was made from", c.name, method)
		}
		return c, nil
	}
	scaled, drop, err := c.scales()
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %s: %w", c.name, err)
	}
	out := &Checkpoint{name: c.name, files: c.files, sources: c.sources, skipped: c.skipped}
	for _, s := range c.shards {
		n := Shard{File: s.File}
		for _, t := range s.Tensors {
			if drop[t.Name] {
				continue
			}
			if d, ok := scaled[t.Name]; ok {
				t = tensor.Tensor{Name: t.Name, DType: tensor.F32, Shape: t.Shape, Data: d}
			}
			n.Tensors = append(n.Tensors, t)
		}
		out.shards = append(out.shards, n)
	}
	if err := out.init(); err != nil {
		return nil, err
	}
	return out, nil
}

// scales finds the scale of every FP8 tensor, and which tensors are of no use
// afterwards.
func (c *Checkpoint) scales() (map[string]*dequantizer, map[string]bool, error) {
	block := c.config.blockSize()
	scaled := make(map[string]*dequantizer)
	drop := make(map[string]bool)
	bare := make(map[string]string) // folder → an FP8 tensor in it without a scale
	var errs faults
	for t := range c.Tensors() {
		if !isFP8(t) {
			continue
		}
		if base, ok := strings.CutSuffix(t.Name, "weight"); ok {
			for _, suffix := range activationSuffixes {
				drop[base+suffix] = true
			}
		}
		s, ok := c.scaleOf(t.Name)
		if !ok {
			bare[folder(t.Name)] = t.Name
			continue
		}
		d, err := newDequantizer(t, s, block)
		if err != nil {
			errs.add(err)
			continue
		}
		scaled[t.Name], drop[s.Name] = d, true
	}
	if len(errs.list) > 0 {
		return nil, nil, errs.join()
	}
	// What is left over and called a scale belongs to some way of quantizing
	// that is not known here; passing over it would give wrong weights.
	for t := range c.Tensors() {
		if drop[t.Name] {
			continue
		}
		last := strings.TrimPrefix(t.Name, folder(t.Name))
		if beside, ok := bare[folder(t.Name)]; ok && beside != t.Name && strings.Contains(last, "scale") {
			errs.add(fmt.Errorf("%s: not known how it scales %s beside it", t.Name, beside))
		} else if last == "weight_scale_inv" || last == "weight_scale" {
			errs.add(fmt.Errorf("%s: no FP8 weight beside it that it could scale", t.Name))
		}
	}
	return scaled, drop, errs.join()
}

func (c *Checkpoint) scaleOf(name string) (tensor.Tensor, bool) {
	for _, suffix := range scaleSuffixes {
		if s, ok := c.Tensor(name + suffix); ok {
			return s, true
		}
	}
	return tensor.Tensor{}, false
}

// folder is a tensor's name up to and with its last dot.
func folder(name string) string { return name[:strings.LastIndexByte(name, '.')+1] }

// faults collects errors for one line: the first few, and how many there are.
type faults struct {
	list  []string
	count int
}

func (f *faults) add(err error) {
	if f.count++; len(f.list) < 3 {
		f.list = append(f.list, err.Error())
	}
}

func (f *faults) join() error {
	if f.count == 0 {
		return nil
	}
	text := strings.Join(f.list, "; ")
	if more := f.count - len(f.list); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return errors.New(text)
}

// plain quotes a word of a foreign file that is not one of letters, digits and
// a few signs.
func plain(s string) string {
	if len(s) > 64 {
		s = s[:64] + "…"
	}
	if s == "" || strings.ContainsFunc(s, func(r rune) bool {
		return r != '_' && r != '-' && r != '.' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return strconv.Quote(s)
	}
	return s
}

// blockSize is quantization_config.weight_block_size, (rows, columns), or
// (0, 0).
func (c *Config) blockSize() [2]int {
	q, _ := c.quantizer()
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
