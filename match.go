package expo

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// matcher pairs the tensors of two checkpoints and collects what does not
// pair.
type matcher struct {
	plan         *plan
	opt          Options
	sft, aligned *checkpoint.Checkpoint // dequantized
	diffs        []Difference
	notes        []string
	taken, left  []string                 // only in the aligned model and taken, only in the SFT model and left out
	head         headState                // of the aligned model
	dropHead     bool                     // head is left out
	parted       string                   // why a head that was the embedding no longer is
	instead      map[string]tensor.Tensor // what stands in for a tensor that the SFT model lacks
	settled      map[string]bool          // tensors that need no partner, or have been spoken of
}

func (pl *plan) match(p Pair) error {
	m := &matcher{plan: pl, opt: pl.opt, instead: make(map[string]tensor.Tensor), settled: make(map[string]bool)}
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
			if m.dropHead && t.Name == m.head.name {
				continue
			}
			st, err := m.step(t)
			if err != nil {
				return err
			}
			pl.hit(t)
			steps = append(steps, st)
		}
		pl.shards = append(pl.shards, steps)
		pl.files = append(pl.files, s.File)
	}
	m.onlySFT()
	m.ties()
	m.list("taken from it", "aligned", m.taken)
	m.list("left out", "SFT", m.left)
	pl.notes = m.notes
	if len(m.diffs) > 0 {
		return incompatible(m.diffs, m.sft, m.aligned)
	}
	pl.config, err = m.config(p.Aligned)
	return err
}

// copied reports whether α = 0 makes a floating-point tensor's partner
// irrelevant. per-op keeps its formula even there.
func (m *matcher) copied(alpha float64) bool { return alpha == 0 && m.opt.Rounding != PerOp }

func (m *matcher) step(a tensor.Tensor) (step, error) {
	st := step{name: a.Name, aligned: a, out: a.DType, stream: a.Name, common: a.Elements(), raw: !a.DType.Float()}
	st.alpha, _ = m.opt.alphaOf(a.Name)
	free := m.copied(st.alpha) // needs no partner
	if st.raw {
		free = st.alpha == 0
	} else {
		st.out = m.outDType(a)
	}
	if m.head.equal && a.Name == m.head.name {
		st.stream = m.head.embed.Name
	}
	s, paired := m.sft.Tensor(a.Name)
	if stand, ok := m.instead[a.Name]; ok {
		s, paired = stand, true
	}
	differ := func(d Difference) {
		d.Tensor = a.Name
		if d.SFT == "" {
			d.SFT = describe(s)
		}
		d.Aligned = describe(a)
		m.diffs = append(m.diffs, d)
	}
	switch {
	case m.settled[a.Name]:
	case !paired && (free || m.opt.Missing == MissingAligned):
		m.taken = append(m.taken, a.Name)
	case !paired:
		differ(Difference{SFT: "absent", Policy: "--missing=aligned",
			Remedy: "the SFT model lacks tensors that the aligned model has; take them from it with --missing=aligned"})
	case st.raw && free:
	case st.raw:
		equal, err := equalTensors(a, s)
		if err != nil {
			return st, err
		}
		if !equal {
			d := Difference{Remedy: "tensors without floating-point values must be equal on both sides; a rule such as --alpha '" + globbed(printable(a.Name)) + "=0' takes them from the aligned model"}
			if a.DType == s.DType && slices.Equal(a.Shape, s.Shape) {
				d.SFT = describe(s) + " with other values"
			}
			differ(d)
		}
	case !s.DType.Float():
		if !free {
			differ(Difference{Remedy: "a tensor with floating-point values does not pair with one without"})
		}
	case slices.Equal(a.Shape, s.Shape):
		st.sft = s
	case free:
	case m.vocabularyRows(a, s):
		if m.opt.ExtraRows == ExtraRowsAligned {
			st.sft = s
			st.common = min(a.Elements(), s.Elements())
			m.notes = append(m.notes, rowsNote(a, s))
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

func rowsNote(a, s tensor.Tensor) string {
	if a.Shape[0] > s.Shape[0] {
		return fmt.Sprintf("%s: rows %d to %d are the aligned model's own", printable(a.Name), s.Shape[0], a.Shape[0]-1)
	}
	return fmt.Sprintf("%s: the SFT model's rows %d to %d are left out", printable(a.Name), a.Shape[0], s.Shape[0]-1)
}

// globbed turns a name into a pattern for all layers.
func globbed(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		if p != "" && strings.Trim(p, "0123456789") == "" {
			parts[i] = "*"
		}
	}
	return strings.Join(parts, ".")
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
	if d, ok := declared(m.aligned.Config()); ok {
		return d
	}
	return tensor.BF16
}

// declared is the type that FP8 weights become: config.json's, if it is one
// that can be written.
func declared(c *checkpoint.Config) (tensor.DType, bool) {
	d, ok := c.DType()
	return d, ok && d.Float() && d.Bits() >= 16
}

// onlySFT deals with what the aligned model lacks.
func (m *matcher) onlySFT() {
	for s := range m.sft.Tensors() {
		if _, ok := m.aligned.Tensor(s.Name); ok || m.settled[s.Name] {
			continue
		}
		m.plan.hitAbsent(s.Name)
		alpha, _ := m.opt.alphaOf(s.Name)
		if m.copied(alpha) || !s.DType.Float() && alpha == 0 || m.opt.Missing == MissingAligned {
			m.left = append(m.left, s.Name)
			continue
		}
		m.diffs = append(m.diffs, Difference{Tensor: s.Name, SFT: describe(s), Aligned: "absent", Policy: "--missing=aligned",
			Remedy: "the aligned model lacks tensors that the SFT model has; leave them out with --missing=aligned"})
	}
}

// list notes tensors that only one side has. There may be thousands.
func (m *matcher) list(fate, side string, names []string) {
	if len(names) == 0 {
		return
	}
	const most = 4
	var text []string
	for _, n := range names[:min(len(names), most)] {
		text = append(text, printable(n))
	}
	if len(names) > most {
		text = append(text, "…")
	}
	m.notes = append(m.notes, fmt.Sprintf("%s only in the %s model and %s: %s", count(len(names), "tensor is", "tensors are"), side, fate, strings.Join(text, ", ")))
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
		if _, ok := declared(c); dtype == tensor.Invalid && !ok {
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
