package expo

import (
	"bytes"
	"fmt"
	"slices"

	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// matcher pairs the tensors of two checkpoints and collects what does not
// pair.
type matcher struct {
	opt          Options
	sft, aligned *checkpoint.Checkpoint // dequantized
	diffs        []Difference
	notes        []string
	dropHead     map[string]bool          // aligned tensors left out
	instead      map[string]tensor.Tensor // what stands in for a tensor that the SFT model lacks
	settled      map[string]bool          // SFT tensors that need no partner
}

func (pl *plan) match(p Pair) error {
	m := &matcher{opt: pl.opt, dropHead: map[string]bool{}, instead: map[string]tensor.Tensor{}, settled: map[string]bool{}}
	var err error
	if m.sft, err = p.SFT.Dequantize(); err != nil {
		return err
	}
	if m.aligned, err = p.Aligned.Dequantize(); err != nil {
		return err
	}
	m.configs()
	if err := m.heads(); err != nil {
		return err
	}
	for _, s := range m.aligned.Shards() {
		var steps []step
		for _, t := range s.Tensors {
			if m.dropHead[t.Name] {
				continue
			}
			st, err := m.step(t)
			if err != nil {
				return err
			}
			if t.DType.Float() {
				pl.hit(st.rule)
			}
			steps = append(steps, st)
		}
		pl.shards = append(pl.shards, steps)
		pl.files = append(pl.files, s.File)
	}
	m.onlySFT()
	if len(m.diffs) > 0 {
		return &IncompatibleError{Differences: m.diffs, Tensors: m.aligned.Len()}
	}
	m.ties(pl)
	pl.notes = m.notes
	pl.config, err = m.config(p.Aligned)
	return err
}

// copied reports whether α = 0 makes a tensor's partner irrelevant. per-op
// keeps its formula even there.
func (m *matcher) copied(alpha float64) bool { return alpha == 0 && m.opt.Rounding != PerOp }

func (m *matcher) step(a tensor.Tensor) (step, error) {
	st := step{name: a.Name, aligned: a, out: a.DType, common: a.Elements()}
	st.alpha, st.rule = m.opt.alphaOf(a.Name)
	s, paired := m.sft.Tensor(a.Name)
	if stand, ok := m.instead[a.Name]; ok {
		s, paired = stand, true
	}
	st.raw = !a.DType.Float()
	if !st.raw {
		st.out = m.outDType(a)
	}
	differ := func(d Difference) {
		d.Tensor = a.Name
		if d.SFT == "" {
			d.SFT = describe(s)
		}
		if d.Aligned == "" {
			d.Aligned = describe(a)
		}
		m.diffs = append(m.diffs, d)
	}
	free := m.copied(st.alpha) // needs no partner
	switch {
	case !paired && (free || m.opt.Missing == MissingAligned):
	case !paired:
		differ(Difference{SFT: "absent", Policy: "--missing=aligned",
			Remedy: "the SFT model lacks tensors that the aligned model has; take them from it with --missing=aligned"})
	case st.raw && free:
	case st.raw:
		equal, err := equalTensors(a, s)
		if err != nil {
			return st, err
		}
		if !equal && a.DType == s.DType && slices.Equal(a.Shape, s.Shape) {
			differ(Difference{SFT: describe(s) + " with other values",
				Remedy: "tensors without floating-point values must be equal on both sides; a rule such as --alpha '" + globbed(a.Name) + "=0' takes them from the aligned model"})
		} else if !equal {
			differ(Difference{Remedy: "tensors of these types must be equal on both sides"})
		}
	case !s.DType.Float():
		if !free {
			differ(Difference{Remedy: "one side has no floating-point values there"})
		}
	case slices.Equal(a.Shape, s.Shape):
		st.sft = s
	case free:
	case m.vocabularyRows(a, s):
		if m.opt.ExtraRows == ExtraRowsAligned {
			st.sft = s
			st.common = min(a.Elements(), s.Elements())
			break
		}
		remedy := fmt.Sprintf("the aligned model added %d tokens; keep its rows with --extra-rows=aligned", a.Shape[0]-s.Shape[0])
		if a.Shape[0] < s.Shape[0] {
			remedy = fmt.Sprintf("the SFT model has %d rows more; leave them out with --extra-rows=aligned", s.Shape[0]-a.Shape[0])
		}
		differ(Difference{Policy: "--extra-rows=aligned", Remedy: remedy})
	default:
		differ(Difference{Remedy: "tensors of other shapes do not pair: are these two models of one family and size?"})
	}
	return st, nil
}

// globbed turns a name into a pattern for all layers.
func globbed(name string) string {
	parts := bytes.Split([]byte(name), []byte("."))
	for i, p := range parts {
		if len(bytes.Trim(p, "0123456789")) == 0 && len(p) > 0 {
			parts[i] = []byte("*")
		}
	}
	return string(bytes.Join(parts, []byte(".")))
}

// vocabularyRows reports whether two shapes differ in nothing but the size of
// the vocabulary: the first dimension is each side's vocab_size.
func (m *matcher) vocabularyRows(a, s tensor.Tensor) bool {
	if len(a.Shape) == 0 || len(a.Shape) != len(s.Shape) || !slices.Equal(a.Shape[1:], s.Shape[1:]) {
		return false
	}
	av, aok := m.aligned.Config().Int("vocab_size")
	sv, sok := m.sft.Config().Int("vocab_size")
	return aok && sok && int64(a.Shape[0]) == av && int64(s.Shape[0]) == sv
}

// outDType is the output's type of a floating-point tensor.
func (m *matcher) outDType(a tensor.Tensor) tensor.DType {
	switch {
	case m.opt.DType != tensor.Invalid:
		return m.opt.DType
	case m.opt.Rounding == PerOp:
		return tensor.BF16
	}
	if a.DType != tensor.F8E4M3 && a.DType != tensor.F8E5M2 && !checkpoint.Dequantized(a) {
		return a.DType
	}
	if d, ok := m.aligned.Config().DType(); ok && d.Float() && d.Bits() >= 16 {
		return d
	}
	return tensor.BF16
}

// onlySFT deals with what the aligned model lacks.
func (m *matcher) onlySFT() {
	for s := range m.sft.Tensors() {
		if _, ok := m.aligned.Tensor(s.Name); ok || m.settled[s.Name] {
			continue
		}
		if alpha, _ := m.opt.alphaOf(s.Name); m.copied(alpha) || m.opt.Missing == MissingAligned {
			m.notes = append(m.notes, fmt.Sprintf("%s is only in the SFT model and is left out", printable(s.Name)))
			continue
		}
		m.diffs = append(m.diffs, Difference{Tensor: s.Name, SFT: describe(s), Aligned: "absent", Policy: "--missing=aligned",
			Remedy: "the aligned model lacks tensors that the SFT model has; leave them out with --missing=aligned"})
	}
}

// config is the output's config.json, nil if it stays as it is.
func (m *matcher) config(stored *checkpoint.Checkpoint) ([]byte, error) {
	c := stored.Config()
	if !c.Exists() {
		return nil, nil
	}
	dtype := m.opt.DType
	if dtype == tensor.Invalid && m.opt.Rounding == PerOp {
		dtype = tensor.BF16
	}
	var remove []string
	if stored.HasFP8() {
		remove = []string{"quantization_config", "compression_config"}
		if d, ok := c.DType(); dtype == tensor.Invalid && (!ok || d.Bits() < 16) {
			dtype = tensor.BF16
		}
	}
	b, err := c.Edited(dtype, remove...)
	if err != nil || bytes.Equal(b, c.Raw()) {
		return nil, err
	}
	return b, nil
}

// equalTensors compares bytes, block by block.
func equalTensors(a, b tensor.Tensor) (bool, error) {
	if a.DType != b.DType || !slices.Equal(a.Shape, b.Shape) {
		return false, nil
	}
	size := a.Size()
	const block = 1 << 20
	x, y := make([]byte, min(size, block)), make([]byte, min(size, block))
	for off := int64(0); off < size; off += block {
		n := min(size-off, block)
		if err := read(a, x[:n], off); err != nil {
			return false, err
		}
		if err := read(b, y[:n], off); err != nil {
			return false, err
		}
		if !bytes.Equal(x[:n], y[:n]) {
			return false, nil
		}
	}
	return true, nil
}
