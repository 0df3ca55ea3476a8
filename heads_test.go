package expo_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"expo"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

// headModel is a model in one of the states that heads can be in.
func headModel(state string, shift float32) checkpointtest.Model {
	vals := func(base float32) []float32 {
		out := make([]float32, 8*4)
		for i := range out {
			out[i] = base + shift + float32(i)/64
		}
		return out
	}
	m := checkpointtest.Model{Tensors: []tensor.Tensor{
		checkpointtest.Floats("model.embed_tokens.weight", tensor.BF16, []int{8, 4}, vals(1)),
		checkpointtest.Floats("model.norm.weight", tensor.BF16, []int{4}, []float32{1, 1, 1 + shift, 1}),
	}}
	head := checkpointtest.Floats("lm_head.weight", tensor.BF16, []int{8, 4}, vals(2))
	same := checkpointtest.Floats("lm_head.weight", tensor.BF16, []int{8, 4}, vals(1))
	tied, architecture := true, "LlamaForCausalLM"
	switch state {
	case "tied": // no head is stored, nor needed
	case "twice":
		m.Set(same)
	case "loose":
		m.Set(head)
	case "own":
		m.Set(head)
		tied = false
	case "lost":
		tied = false
	case "none":
		tied, architecture = false, "LlamaModel"
	default:
		panic(state)
	}
	m.Config = fmt.Sprintf(`{"architectures": [%q], "tie_word_embeddings": %v, "vocab_size": 8}`, architecture, tied)
	return m
}

// headOutcome says what became of the head: "pair" (with the SFT model's
// stored head), "embed" (with its embedding), "copy", "-" (none in the
// result), or what it was refused for: "refuse" and the policy.
func headOutcome(t *testing.T, sft, aligned checkpointtest.Model, opt expo.Options) string {
	t.Helper()
	p := memoryPair(t, sft, aligned)
	c, err := expo.Extrapolate(p, opt)
	var bad *expo.IncompatibleError
	if errors.As(err, &bad) {
		if len(bad.Differences) != 1 || bad.Differences[0].Tensor != "lm_head.weight" {
			t.Errorf("differences %q, want one, of lm_head.weight", bad.Lines())
		}
		return strings.TrimSpace("refuse " + bad.Differences[0].Policy)
	}
	if err != nil {
		t.Fatal(err)
	}
	want := func(a, s tensor.Tensor) string {
		m := memoryPair(t, single(s), single(a))
		return string(bytesOf(t, extrapolate(t, m, expo.Options{Alpha: opt.Alpha}), "w"))
	}
	if got := string(bytesOf(t, c, "model.embed_tokens.weight")); got != want(aligned.Tensor("model.embed_tokens.weight"), sft.Tensor("model.embed_tokens.weight")) {
		t.Errorf("the embedding has other values")
	}
	head, ok := c.Tensor("lm_head.weight")
	if !ok {
		return "-"
	}
	got := string(checkpointtest.Bytes(head))
	if got == string(bytesOf(t, p.Aligned, "lm_head.weight")) {
		return "copy"
	}
	if h, ok := p.SFT.Tensor("lm_head.weight"); ok && got == want(aligned.Tensor("lm_head.weight"), h) {
		return "pair"
	}
	if got == want(aligned.Tensor("lm_head.weight"), sft.Tensor("model.embed_tokens.weight")) {
		return "embed"
	}
	return "neither"
}

// TestHeads is the whole table: both sides' states, and each policy.
func TestHeads(t *testing.T) {
	const (
		refuse  = "refuse"
		stored  = "refuse --head=stored"
		tied    = "refuse --head=tied"
		missing = "refuse --missing=aligned"
	)
	for _, tt := range []struct {
		aligned, sft string
		want         [3]string // without a policy, HeadStored, HeadTied
	}{
		{"tied", "tied", [3]string{"-", "-", "-"}},
		{"tied", "twice", [3]string{"-", "-", "-"}},
		{"tied", "loose", [3]string{tied, tied, "-"}},
		{"tied", "own", [3]string{tied, tied, "-"}},
		{"tied", "lost", [3]string{refuse, refuse, refuse}},
		{"tied", "none", [3]string{"-", "-", "-"}},

		{"twice", "tied", [3]string{"embed", "embed", "-"}},
		{"twice", "twice", [3]string{"pair", "pair", "-"}},
		{"twice", "loose", [3]string{stored, "pair", "-"}},
		{"twice", "own", [3]string{stored, "pair", "-"}},
		{"twice", "lost", [3]string{refuse, refuse, refuse}},
		{"twice", "none", [3]string{"embed", "embed", "-"}},

		{"loose", "tied", [3]string{stored, "embed", "-"}},
		{"loose", "twice", [3]string{stored, "pair", "-"}},
		{"loose", "loose", [3]string{stored, "pair", "-"}},
		{"loose", "own", [3]string{stored, "pair", "-"}},
		{"loose", "lost", [3]string{refuse, refuse, refuse}},
		{"loose", "none", [3]string{stored, missing, "-"}},

		{"own", "tied", [3]string{stored, "embed", refuse}},
		{"own", "twice", [3]string{"pair", "pair", refuse}},
		{"own", "loose", [3]string{stored, "pair", refuse}},
		{"own", "own", [3]string{"pair", "pair", refuse}},
		{"own", "lost", [3]string{refuse, refuse, refuse}},
		{"own", "none", [3]string{missing, missing, refuse}},

		{"lost", "tied", [3]string{refuse, refuse, refuse}},
		{"lost", "own", [3]string{refuse, refuse, refuse}},
		{"lost", "lost", [3]string{refuse, refuse, refuse}},

		{"none", "tied", [3]string{"-", "-", refuse}},
		{"none", "twice", [3]string{"-", "-", refuse}},
		{"none", "loose", [3]string{missing, missing, refuse}},
		{"none", "own", [3]string{missing, missing, refuse}},
		{"none", "lost", [3]string{refuse, refuse, refuse}},
		{"none", "none", [3]string{"-", "-", refuse}},
	} {
		for i, policy := range []expo.Head{expo.Refuse, expo.HeadStored, expo.HeadTied} {
			t.Run(fmt.Sprintf("aligned %s,sft %s,%s", tt.aligned, tt.sft, policy), func(t *testing.T) {
				got := headOutcome(t, headModel(tt.sft, 0), headModel(tt.aligned, 0.25), expo.Options{Alpha: 0.5, Head: policy})
				if got != tt.want[i] {
					t.Errorf("%s, want %s", got, tt.want[i])
				}
			})
		}
	}
}

// TestHeadPoliciesSuggested checks that the policy named for a refusal is one
// that accepts the pair.
func TestHeadPoliciesSuggested(t *testing.T) {
	states := []string{"tied", "twice", "loose", "own", "lost", "none"}
	for _, aligned := range states {
		for _, sft := range states {
			p := memoryPair(t, headModel(sft, 0), headModel(aligned, 0.25))
			_, err := expo.Extrapolate(p, expo.Options{Alpha: 0.5})
			var bad *expo.IncompatibleError
			if !errors.As(err, &bad) || bad.Differences[0].Policy == "" {
				continue
			}
			opt := expo.Options{Alpha: 0.5}
			switch policy := bad.Differences[0].Policy; policy {
			case "--head=stored":
				opt.Head = expo.HeadStored
			case "--head=tied":
				opt.Head = expo.HeadTied
			case "--missing=aligned":
				opt.Missing = expo.MissingAligned
			default:
				t.Errorf("unknown policy %s", policy)
			}
			// HeadStored may leave a head missing that has no counterpart at all.
			_, err = expo.Extrapolate(p, opt)
			if err != nil && !(sft == "none" && errors.As(err, &bad) && bad.Differences[0].Policy == "--missing=aligned") {
				t.Errorf("aligned %s, SFT %s: %s does not help: %v", aligned, sft, bad.Differences[0].Policy, err)
			}
		}
	}
}

// TestHeadByRule checks that α = 0 for the head makes the SFT model's head
// irrelevant, but not what is unclear about the aligned model's own.
func TestHeadByRule(t *testing.T) {
	rules := []expo.Rule{{Pattern: "lm_head.*", Alpha: 0}}
	for _, tt := range []struct{ aligned, sft, want string }{
		{"own", "tied", "copy"},
		{"own", "loose", "copy"},
		{"own", "none", "copy"},
		{"own", "lost", "copy"},
		{"twice", "own", "copy"},
		{"twice", "loose", "copy"},
		{"twice", "tied", "copy"},
		{"tied", "own", "-"},
		{"tied", "loose", "-"},
		{"loose", "own", "refuse --head=stored"},
		{"lost", "own", "refuse"},
	} {
		if got := headOutcome(t, headModel(tt.sft, 0), headModel(tt.aligned, 0.25), expo.Options{Alpha: 0.5, Rules: rules}); got != tt.want {
			t.Errorf("aligned %s, SFT %s: %s, want %s", tt.aligned, tt.sft, got, tt.want)
		}
	}
}

// TestHeadUndeclared checks that without tie_word_embeddings what is stored
// decides.
func TestHeadUndeclared(t *testing.T) {
	silent := func(state string, shift float32) checkpointtest.Model {
		m := headModel(state, shift)
		m.Config = `{"architectures": ["LlamaForCausalLM"], "vocab_size": 8}`
		return m
	}
	for _, tt := range []struct{ aligned, sft, want string }{
		{"tied", "tied", "-"},
		{"own", "own", "pair"},
		{"twice", "twice", "pair"},
		{"tied", "own", "refuse --head=tied"},
		{"own", "tied", "refuse --head=stored"},
	} {
		if got := headOutcome(t, silent(tt.sft, 0), silent(tt.aligned, 0.25), expo.Options{Alpha: 0.5}); got != tt.want {
			t.Errorf("aligned %s, SFT %s: %s, want %s", tt.aligned, tt.sft, got, tt.want)
		}
	}
}

// TestHeadUnderAnotherName checks that a head whose name is not known is not
// taken for lost.
func TestHeadUnderAnotherName(t *testing.T) {
	model := func(shift float32) checkpointtest.Model {
		m := headModel("own", shift)
		h := m.Tensor("lm_head.weight")
		m.Remove("lm_head.weight")
		h.Name = "model.decoder.proj.weight"
		m.Set(h)
		return m
	}
	extrapolate(t, memoryPair(t, model(0), model(0.25)), expo.Options{Alpha: 0.5})
}

// TestTiedHeadStaysTied checks that a stored head that is the embedding is so
// in the result too, whatever the rounding, and that it is said where not.
func TestTiedHeadStaysTied(t *testing.T) {
	for _, sft := range []string{"twice", "tied"} {
		for _, rounding := range roundings {
			c := extrapolate(t, memoryPair(t, headModel(sft, 0), headModel("twice", 0.25)), expo.Options{Alpha: 0.3, Rounding: rounding})
			if string(bytesOf(t, c, "lm_head.weight")) != string(bytesOf(t, c, "model.embed_tokens.weight")) {
				t.Errorf("SFT %s, %v: the head is no longer the embedding", sft, rounding)
			}
		}
	}
	p := disk(t, headModel("twice", 0), headModel("twice", 0.25))
	_, w := write(t, p, expo.Options{Alpha: 0.3, Rules: []expo.Rule{{Pattern: "lm_head.*", Alpha: 0.5}}}, expo.WriteOptions{})
	mentions(t, w.Record.Notes, "the result's lm_head.weight is no longer its embedding", "α 0.5", "0.3")
	_, w = write(t, disk(t, headModel("own", 0), headModel("twice", 0.25)), expo.Options{Alpha: 0.3, Head: expo.HeadStored}, expo.WriteOptions{})
	mentions(t, w.Record.Notes, "the result's lm_head.weight is no longer its embedding", "the SFT model has a head of its own")
	_, w = write(t, disk(t, headModel("tied", 0), headModel("own", 0.25)), expo.Options{Alpha: 0.3, Head: expo.HeadStored}, expo.WriteOptions{})
	mentions(t, w.Record.Notes, "its embedding stands in for it")
	_, w = write(t, disk(t, headModel("loose", 0), headModel("loose", 0.25)), expo.Options{Alpha: 0.3, Head: expo.HeadTied}, expo.WriteOptions{})
	mentions(t, w.Record.Notes, "stored heads were left out")
	_, w = write(t, p, expo.Options{Alpha: 0.3}, expo.WriteOptions{})
	if len(w.Record.Notes) > 0 {
		t.Errorf("notes %q", w.Record.Notes)
	}
}

// TestHeadTiedAtZero checks that the policy holds for α = 0 too.
func TestHeadTiedAtZero(t *testing.T) {
	c := extrapolate(t, memoryPair(t, headModel("loose", 0), headModel("loose", 0.25)), expo.Options{Head: expo.HeadTied})
	if _, ok := c.Tensor("lm_head.weight"); ok || c.Len() != 2 {
		t.Errorf("the stored head is still there, among %d tensors", c.Len())
	}
}

// TestTensorsCounted counts the tensors that either model has, or should have: no
// more of them can differ.
func TestTensorsCounted(t *testing.T) {
	reshape := func(m checkpointtest.Model) checkpointtest.Model {
		for _, name := range []string{"model.embed_tokens.weight", "model.norm.weight"} {
			m.Set(checkpointtest.Floats(name, tensor.BF16, []int{1}, []float32{1}))
		}
		return m
	}
	for _, c := range []struct {
		name         string
		sft, aligned checkpointtest.Model
		want         string
	}{
		{"the SFT model alone has a head, and all else differs", headModel("own", 0), reshape(headModel("tied", 0)), "3 of 3 tensors differ"},
		{"the aligned model alone has one", headModel("tied", 0), headModel("own", 0), "1 of 3 tensors differ"},
		{"neither has the one it needs", headModel("lost", 0), headModel("lost", 0), "1 of 3 tensors differ"},
	} {
		p := memoryPair(t, c.sft, c.aligned)
		e := differences(t, p, expo.Options{Alpha: 0.5})
		if !strings.HasSuffix(e.Error(), ": "+c.want) {
			t.Errorf("%s: %q, want %q", c.name, e.Error(), c.want)
		}
		an, err := expo.Examine(t.Context(), p, expo.Options{}, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := an.Err(); err == nil || err.Error() != e.Error() {
			t.Errorf("%s: Examine has %v, want %v", c.name, err, e)
		}
	}
}
