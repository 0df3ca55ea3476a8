package expo_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"expo"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

func examine(t testing.TB, p expo.Pair, opt expo.Options) *expo.Anatomy {
	t.Helper()
	a, err := expo.Examine(t.Context(), p, opt, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// apart is a pair whose relative norm is about r.
func apart(r float64) (sft, aligned checkpointtest.Model) {
	rnd := rand.New(rand.NewPCG(8, 8))
	const n = 5000
	x, y := make([]float32, n), make([]float32, n)
	for i := range x {
		x[i] = float32(rnd.NormFloat64())
		y[i] = x[i] + float32(r*rnd.NormFloat64())
	}
	return single(checkpointtest.Floats("w", tensor.F32, []int{n}, x)), single(checkpointtest.Floats("w", tensor.F32, []int{n}, y))
}

func TestKind(t *testing.T) {
	for _, tt := range []struct {
		r    float64
		want string
	}{
		{0, "identical weights"},
		{1e-7, "almost identical"},
		{1e-5, "SFT → preference-tuned"},
		{5e-3, "SFT → preference-tuned"},
		{0.05, "base → SFT"},
		{5, "different models"},
	} {
		s, a := apart(tt.r)
		an := examine(t, memoryPair(t, s, a), expo.Options{})
		if !strings.HasPrefix(an.Kind, tt.want) || strings.Contains(an.Kind, "not extrapolable") {
			t.Errorf("‖δ‖ %g: %s, want %s", tt.r, an.Kind, tt.want)
		}
		a.Set(checkpointtest.Floats("only", tensor.F32, []int{1}, []float32{1}))
		an = examine(t, memoryPair(t, s, a), expo.Options{})
		if !strings.HasPrefix(an.Kind, tt.want) || !strings.HasSuffix(an.Kind, "; not extrapolable as it is") {
			t.Errorf("‖δ‖ %g, with a tensor missing: %s", tt.r, an.Kind)
		}
		if an := examine(t, memoryPair(t, s, a), expo.Options{Missing: expo.MissingAligned}); len(an.Differences) > 0 || len(an.Notes) != 1 {
			t.Errorf("with the policy: %+v", an.Differences)
		}
	}
	s, _ := apart(1)
	other := single(checkpointtest.Floats("w", tensor.F32, []int{3}, []float32{1, 2, 3}))
	an := examine(t, memoryPair(t, s, other), expo.Options{})
	if an.Kind != "different models: no tensor pairs" || an.Total.Tensors != 0 {
		t.Errorf("nothing pairs: %s", an.Kind)
	}
	// Lists are empty in JSON, not null.
	if b, err := json.Marshal(an); err != nil || strings.Contains(string(b), "null") {
		t.Errorf("%s, %v", b, err)
	}
}

// TestExamineGroups compares rows with plain sums.
func TestExamineGroups(t *testing.T) {
	sft, aligned := checkpointtest.Pair(3, tensor.BF16)
	sft.Set(checkpointtest.Ints("ids", tensor.I64, []int{1}, []int64{1}))
	aligned.Set(checkpointtest.Ints("ids", tensor.I64, []int{1}, []int64{1}))
	an := examine(t, memoryPair(t, sft, aligned), expo.Options{})
	names := func(rows []expo.Delta) (out []string) {
		for _, d := range rows {
			out = append(out, d.Name)
		}
		return out
	}
	if got, want := names(an.Layers), []string{"model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "lm_head"}; !slices.Equal(got, want) {
		t.Errorf("layers %q, want %q", got, want)
	}
	if got := names(an.Modules); len(got) != 12 || got[1] != "model.layers.*.self_attn.q_proj.weight" {
		t.Errorf("modules %q", got)
	}
	if len(an.Tensors) != 21 || an.Total.Tensors != 21 {
		t.Errorf("%d tensors, total of %d", len(an.Tensors), an.Total.Tensors)
	}
	check := func(rows []expo.Delta, in func(row, tensor string) bool) {
		t.Helper()
		share, tensors := 0.0, 0
		for _, d := range rows {
			var n naive
			count := 0
			for _, a := range aligned.Tensors {
				if a.DType == tensor.BF16 && in(d.Name, a.Name) {
					av := checkpointtest.Values(a)
					n.add(av, checkpointtest.Values(sft.Tensor(a.Name)), av, 1)
					count++
				}
			}
			near := func(x, y float64) bool { return math.Abs(x-y) <= 1e-10*math.Abs(y) }
			if d.Tensors != count || d.Elements != n.elements || !near(d.DeltaNorm, math.Sqrt(n.delta2)) || !near(d.AlignedNorm, math.Sqrt(n.aligned2)) ||
				!near(d.RelativeNorm, math.Sqrt(n.delta2/n.aligned2)) || !near(d.Unchanged, float64(n.equal)/float64(n.elements)) ||
				!near(d.Share, n.delta2/(an.Total.DeltaNorm*an.Total.DeltaNorm)) {
				t.Errorf("%+v, want %d tensors, %+v", d, count, n)
			}
			share += d.Share
			tensors += d.Tensors
		}
		if math.Abs(share-1) > 1e-9 || tensors != 21 {
			t.Errorf("shares add up to %g, tensors to %d", share, tensors)
		}
	}
	check(an.Tensors, func(row, name string) bool { return row == name })
	check(an.Layers, func(row, name string) bool { return strings.HasPrefix(name, row+".") })
	check(an.Modules, func(row, name string) bool {
		return row == strings.NewReplacer(".0.", ".*.", ".1.", ".*.").Replace(name)
	})
	check([]expo.Delta{an.Total}, func(string, string) bool { return true })
	if d := an.Tensors[0]; d.SFT != "BF16" || d.Aligned != "BF16" || !slices.Equal(d.Shape, []int{40, 16}) {
		t.Errorf("%+v", d)
	}
}

// TestExamineOutcomes checks the table of effective α against what Write
// measures when asked for each.
func TestExamineOutcomes(t *testing.T) {
	sft, aligned := checkpointtest.Pair(7, tensor.BF16)
	p := disk(t, sft, aligned)
	an := examine(t, p, expo.Options{Seed: 11})
	if want := 4 * len(expo.ExamineAlphas); len(an.Outcomes) != want {
		t.Fatalf("%d outcomes, want %d", len(an.Outcomes), want)
	}
	for i, o := range an.Outcomes {
		if o.Alpha != expo.ExamineAlphas[i/4] {
			t.Errorf("outcome %d is for α %g", i, o.Alpha)
		}
		opt := expo.Options{Alpha: o.Alpha, Seed: 11}
		switch o.Output {
		case "bf16":
		case "f16":
			opt.DType = tensor.F16
		case "f32":
			opt.DType = tensor.F32
		case "stochastic":
			opt.Rounding = expo.Stochastic
		default:
			t.Fatalf("output %q", o.Output)
		}
		dir, w := write(t, p, opt, expo.WriteOptions{NoDigest: true})
		got := w.Record.Statistics.Total
		if math.Abs(got.EffectiveAlpha-o.EffectiveAlpha) > 1e-9 || got.Swallowed != o.Swallowed || got.Overflow != o.Overflow {
			t.Errorf("α %g, %s: examined %+v, written %+v", o.Alpha, o.Output, o, got)
		}
		// Noise against the real numbers, by plain sums.
		var noise, step float64
		for x := range open(t, dir).Tensors() {
			av, sv := checkpointtest.Values(aligned.Tensor(x.Name)), checkpointtest.Values(sft.Tensor(x.Name))
			for j, v := range checkpointtest.Values(x) {
				d := float64(av[j] - sv[j])
				e := float64(v) - float64(av[j]) - o.Alpha*d
				noise += e * e
				step += o.Alpha * d * o.Alpha * d
			}
		}
		if want := math.Sqrt(noise / step); math.Abs(o.Noise-want) > 1e-6+1e-6*want {
			t.Errorf("α %g, %s: noise %g, want %g", o.Alpha, o.Output, o.Noise, want)
		}
	}
	// Neither α nor the rounding nor the number of workers plays a part.
	one, err := expo.Examine(t.Context(), p, expo.Options{Seed: 11, Alpha: 5, Rounding: expo.PerOp, Rules: []expo.Rule{{Pattern: "nothing", Alpha: 0}}}, 1, nil)
	if err != nil || !reflect.DeepEqual(one, an) {
		t.Errorf("other options give another anatomy, error %v", err)
	}
}

// TestExamineIncompatible checks that a pair that does not match is measured
// where it does, and that all is said of it.
func TestExamineIncompatible(t *testing.T) {
	sft, aligned := checkpointtest.Pair(3, tensor.BF16)
	sft.Config = strings.Replace(sft.Config, `"rope_theta": 10000.0`, `"rope_theta": 500000.0`, 1)
	aligned.Config = strings.Replace(aligned.Config, `"tie_word_embeddings": false`, `"tie_word_embeddings": true`, 1)
	aligned.Files["tokenizer.json"] = strings.Replace(aligned.Files["tokenizer.json"], `"w7": 7`, `"w8x": 7`, 1)
	aligned.Files["chat_template.jinja"] = "other"
	aligned.Remove("model.norm.weight")
	p := disk(t, sft, aligned)
	an := examine(t, p, expo.Options{})
	if len(an.Differences) != 2 {
		t.Errorf("differences %+v, want the norm and the head", an.Differences)
	}
	// Neither the head, which would have to be paired by a policy, nor the norm.
	if an.Total.Tensors != 19 {
		t.Errorf("%d tensors measured, want 19", an.Total.Tensors)
	}
	mentions(t, an.Settings, "rope_theta: SFT 500000, aligned 10000")
	mentions(t, an.Settings, "tie_word_embeddings: SFT false, aligned true")
	mentions(t, an.Vocabulary, `7 is "w7" in SFT, "w8x" in aligned`)
	mentions(t, an.Vocabulary, "chat template: the two differ")
	if an := examine(t, p, expo.Options{Head: expo.HeadTied, Missing: expo.MissingAligned}); len(an.Differences) > 0 || len(an.Notes) != 2 {
		t.Errorf("with policies: %+v, notes %q", an.Differences, an.Notes)
	}
	if _, err := expo.Examine(t.Context(), p, expo.Options{Head: "x"}, 0, nil); err == nil {
		t.Error("an unknown policy was accepted")
	}
}

func TestExamineProgress(t *testing.T) {
	sft, aligned := large(tensor.F32, 1)
	p := memoryPair(t, sft, aligned)
	last, total := int64(-1), int64(0)
	if _, err := expo.Examine(t.Context(), p, expo.Options{}, 2, func(done, n int64) {
		if done < last {
			t.Errorf("%d after %d", done, last)
		}
		last, total = done, n
	}); err != nil {
		t.Fatal(err)
	}
	if last != total || total == 0 {
		t.Errorf("ended at %d of %d", last, total)
	}
	// A cancelled context ends it, as a failing input does.
	ctx, cancel := context.WithCancel(t.Context())
	var calls atomic.Int64
	_, err := expo.Examine(ctx, p, expo.Options{}, 2, func(int64, int64) {
		if calls.Add(1) == 2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	broken := sft.Tensor("embed.weight")
	broken.Data = tensor.Bytes(nil)
	sft.Set(broken)
	if _, err := expo.Examine(t.Context(), memoryPair(t, sft, aligned), expo.Options{}, 2, nil); err == nil || !strings.Contains(err.Error(), "embed.weight") {
		t.Errorf("error %v, want one of embed.weight", err)
	}
}

// TestExamineFP8 checks that scaled weights are compared by value.
func TestExamineFP8(t *testing.T) {
	sft, aligned := scaledPair(t)
	an := examine(t, memoryPair(t, sft, aligned), expo.Options{})
	var n naive
	av := f32s(scaledValues(aligned))
	n.add(av, f32s(scaledValues(sft)), av, 1)
	for _, d := range an.Tensors {
		if d.Name == "layer.weight" && math.Abs(d.DeltaNorm-math.Sqrt(n.delta2)) > 1e-9*d.DeltaNorm {
			t.Errorf("‖δ‖ is %g, want %g", d.DeltaNorm, math.Sqrt(n.delta2))
		}
	}
	if len(an.Tensors) != 2 || len(an.Differences) != 0 {
		t.Errorf("%+v", an)
	}
}
