package expo_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"expo"
	"expo/weights/checkpoint"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

// TestZeroCopies checks that α = 0 gives the aligned model byte for byte, of
// whatever types, and does not care what the SFT model is.
func TestZeroCopies(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	_, aligned := scaledPair(t)
	for _, d := range inputs {
		aligned.Set(tensor.Tensor{Name: "any." + d.String(), DType: d, Shape: []int{64}, Data: sample(r, d, 64).Data})
	}
	aligned.Set(checkpointtest.Ints("ids", tensor.I64, []int{2}, []int64{1, -2}))
	other := checkpointtest.Model{Tensors: []tensor.Tensor{checkpointtest.Ints("ids", tensor.I8, nil, []int64{3})}, Config: `{"model_type": "other"}`}
	p := disk(t, other, aligned)
	for _, rounding := range []expo.Rounding{expo.Once, expo.Stochastic} {
		opt := expo.Options{Rounding: rounding}
		sameTensors(t, extrapolate(t, p, opt), p.Aligned)
		dir, w := write(t, p, opt, expo.WriteOptions{})
		out := open(t, dir)
		sameTensors(t, out, p.Aligned)
		if got := string(out.Config().Raw()); got != aligned.Config {
			t.Errorf("config.json is\n%s\nwant\n%s", got, aligned.Config)
		}
		if w.Record.Statistics.Alternatives != nil || !w.Record.Statistics.Total.Honest() {
			t.Errorf("statistics %+v", w.Record.Statistics)
		}
		v, err := expo.Rebuild(t.Context(), out, p, expo.RebuildOptions{})
		if err != nil || len(v.Problems) > 0 {
			t.Errorf("rebuild: %v, %v", v, err)
		}
	}
}

// TestZeroIsNoCopy lists what is more than a copy.
func TestZeroIsNoCopy(t *testing.T) {
	s, a := checkpointtest.Pair(1, tensor.F32)
	p := memoryPair(t, s, a)
	for name, opt := range map[string]expo.Options{
		"dtype":    {DType: tensor.BF16},
		"per-op":   {Rounding: expo.PerOp},
		"f16":      {DType: tensor.F16},
		"any rule": {Rules: []expo.Rule{{Pattern: "model.norm.weight", Alpha: 1}}},
	} {
		c := extrapolate(t, p, opt)
		got := checkpointtest.Bytes(first(c))
		if name == "any rule" {
			if string(got) != string(bytesOf(t, p.Aligned, first(c).Name)) {
				t.Errorf("%s: %s has other bytes", name, first(c).Name)
			}
			if string(bytesOf(t, c, "model.norm.weight")) == string(bytesOf(t, p.Aligned, "model.norm.weight")) {
				t.Errorf("%s: model.norm.weight was copied", name)
			}
		} else if len(got) == len(bytesOf(t, p.Aligned, first(c).Name)) {
			t.Errorf("%s: %s was copied", name, first(c).Name)
		}
	}
}

func first(c *checkpoint.Checkpoint) tensor.Tensor {
	for x := range c.Tensors() {
		return x
	}
	panic("no tensors")
}

// TestZeroByRule checks that a rule with α = 0 keeps a tensor's bytes, also
// NaN of any payload, and frees it from needing a partner.
func TestZeroByRule(t *testing.T) {
	nan := binary.LittleEndian.AppendUint16(nil, 0xFFAB)
	nan = binary.LittleEndian.AppendUint16(nan, 0x8000)
	sft, aligned := checkpointtest.Pair(1, tensor.BF16)
	aligned.Set(checkpointtest.Raw("kept.nan", tensor.BF16, []int{2}, nan))
	sft.Set(checkpointtest.Floats("kept.nan", tensor.BF16, []int{2}, []float32{1, 2}))
	aligned.Set(checkpointtest.Floats("kept.shape", tensor.BF16, []int{2}, []float32{1, 2}))
	sft.Set(checkpointtest.Floats("kept.shape", tensor.BF16, []int{3}, []float32{1, 2, 3}))
	aligned.Set(checkpointtest.Ints("kept.values", tensor.I32, []int{1}, []int64{1}))
	sft.Set(checkpointtest.Ints("kept.values", tensor.I32, []int{1}, []int64{2}))
	aligned.Set(checkpointtest.Floats("kept.type", tensor.F32, []int{1}, []float32{1}))
	sft.Set(checkpointtest.Ints("kept.type", tensor.I32, []int{1}, []int64{1}))
	aligned.Set(checkpointtest.Floats("kept.only.aligned", tensor.F32, []int{1}, []float32{float32(math.Inf(1))}))
	sft.Set(checkpointtest.Floats("kept.only.sft", tensor.F32, []int{1}, []float32{1}))
	p := memoryPair(t, sft, aligned)
	c := extrapolate(t, p, expo.Options{Alpha: 0.3, Rules: []expo.Rule{{Pattern: "kept.*", Alpha: 0}}})
	for x := range p.Aligned.Tensors() {
		same := string(bytesOf(t, c, x.Name)) == string(checkpointtest.Bytes(x))
		if kept := len(x.Name) > 5 && x.Name[:5] == "kept."; same != kept {
			t.Errorf("%s: copied is %v", x.Name, same)
		}
	}
	if _, ok := c.Tensor("kept.only.sft"); ok {
		t.Error("the SFT model's own tensor is in the result")
	}
	// A rule that exempts only what the result does not have is still of use.
	sft2, aligned2 := checkpointtest.Pair(1, tensor.BF16)
	sft2.Set(checkpointtest.Floats("rotary.inv_freq", tensor.F32, []int{1}, []float32{1}))
	extrapolate(t, memoryPair(t, sft2, aligned2), expo.Options{Alpha: 0.3, Rules: []expo.Rule{{Pattern: "rotary.*", Alpha: 0}}})
	// per-op has no rule for floating-point tensors, but no formula for others.
	for _, name := range []string{"kept.nan", "kept.shape", "kept.type", "kept.only.aligned"} {
		aligned.Remove(name)
	}
	for _, name := range []string{"kept.nan", "kept.shape", "kept.type", "kept.only.sft"} {
		sft.Remove(name)
	}
	c = extrapolate(t, memoryPair(t, sft, aligned), expo.Options{Alpha: 0.3, Rounding: expo.PerOp, Rules: []expo.Rule{{Pattern: "kept.*", Alpha: 0}}})
	if got := bytesOf(t, c, "kept.values"); got[0] != 1 {
		t.Errorf("kept.values is %v", got)
	}
}

// TestOwnRows checks that what is taken from the aligned model is taken as it
// is, also under per-op, whose formula would change −0 and infinity.
func TestOwnRows(t *testing.T) {
	vals := []float32{float32(math.Copysign(0, -1)), float32(math.Inf(-1)), 1, 0.25}
	sft, aligned := checkpointtest.Pair(1, tensor.BF16)
	aligned.Set(checkpointtest.Floats("extra.weight", tensor.BF16, []int{4}, vals))
	aligned.Set(checkpointtest.Floats("model.embed_tokens.weight", tensor.BF16, []int{2, 2}, vals))
	sft.Set(checkpointtest.Floats("model.embed_tokens.weight", tensor.BF16, []int{1, 2}, []float32{0, 1}))
	aligned.Config, sft.Config = `{"vocab_size": 2}`, `{"vocab_size": 1}`
	p := memoryPair(t, sft, aligned)
	for _, rounding := range roundings {
		opt := expo.Options{Alpha: 0.3, Rounding: rounding, Missing: expo.MissingAligned, ExtraRows: expo.ExtraRowsAligned}
		c := extrapolate(t, p, opt)
		if got, want := bytesOf(t, c, "extra.weight"), bytesOf(t, p.Aligned, "extra.weight"); string(got) != string(want) {
			t.Errorf("%v: extra.weight is %x, want %x", rounding, got, want)
		}
		if got, want := bytesOf(t, c, "model.embed_tokens.weight")[4:], bytesOf(t, p.Aligned, "model.embed_tokens.weight")[4:]; string(got) != string(want) {
			t.Errorf("%v: row 1 is %x, want %x", rounding, got, want)
		}
	}
}

// TestOutputIsAtomic checks that nothing but the directory is left beside it.
func TestOutputIsAtomic(t *testing.T) {
	s, a := checkpointtest.Pair(1, tensor.BF16)
	dir, _ := write(t, disk(t, s, a), expo.Options{Alpha: 0.3}, expo.WriteOptions{})
	entries, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "*"))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the output: %v, %v", entries, err)
	}
}
