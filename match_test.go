package expo_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"expo"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

// differences are those for which a pair is refused.
func differences(t testing.TB, p expo.Pair, opt expo.Options) *expo.IncompatibleError {
	t.Helper()
	_, err := expo.Extrapolate(p, opt)
	var bad *expo.IncompatibleError
	if !errors.As(err, &bad) {
		t.Fatalf("error %v, want an IncompatibleError", err)
	}
	return bad
}

// TestMatchListsEverything has one of each kind in one pair.
func TestMatchListsEverything(t *testing.T) {
	sft, aligned := checkpointtest.Pair(1, tensor.BF16)
	float := func(name string, shape ...int) tensor.Tensor {
		n, _ := tensor.Elements(shape)
		return checkpointtest.Floats(name, tensor.BF16, shape, make([]float32, n))
	}
	rows := strings.Replace(aligned.Config, `"vocab_size": 40`, `"vocab_size": 42`, 1)
	sft.Config = strings.Replace(sft.Config, `"num_attention_heads": 4`, `"num_attention_heads": 8`, 1)
	aligned.Config = rows
	aligned.Set(float("model.embed_tokens.weight", 42, 16))
	aligned.Set(float("lm_head.weight", 42, 16))
	aligned.Set(float("model.norm.weight", 42)) // 42 rows, but the SFT model's 16 are not its vocabulary
	aligned.Set(float("model.layers.0.mlp.up_proj.weight", 16, 24))
	aligned.Set(float("model.layers.1.self_attn.q_proj.weight", 16, 16, 1))
	aligned.Remove("model.layers.0.mlp.down_proj.weight")
	sft.Remove("model.layers.1.mlp.down_proj.weight")
	sft.Set(checkpointtest.Ints("model.layers.0.ids", tensor.I64, []int{2}, []int64{1, 2}))
	aligned.Set(checkpointtest.Ints("model.layers.0.ids", tensor.I64, []int{2}, []int64{1, 3}))
	sft.Set(checkpointtest.Ints("same.ids", tensor.I64, []int{2}, []int64{1, 2}))
	aligned.Set(checkpointtest.Ints("same.ids", tensor.I64, []int{2}, []int64{1, 2}))
	sft.Set(checkpointtest.Ints("int.float", tensor.I32, []int{1}, []int64{1}))
	aligned.Set(checkpointtest.Floats("int.float", tensor.F32, []int{1}, []float32{1}))
	sft.Set(checkpointtest.Floats("float.int", tensor.F32, []int{1}, []float32{1}))
	aligned.Set(checkpointtest.Ints("float.int", tensor.I32, []int{1}, []int64{1}))
	sft.Set(checkpointtest.Floats("other.float", tensor.F32, []int{1}, []float32{1}))
	aligned.Set(checkpointtest.Floats("other.float", tensor.F64, []int{1}, []float32{2}))

	p := memoryPair(t, sft, aligned)
	e := differences(t, p, expo.Options{Alpha: 0.3})
	type row struct{ sft, aligned, policy, remedy string }
	want := map[string]row{
		"config.json: num_attention_heads":       {"8", "4", "", "structure differs"},
		"config.json: head_dim":                  {"2", "4", "", "structure differs"},
		"model.embed_tokens.weight":              {"BF16 [40 16]", "BF16 [42 16]", "--extra-rows=aligned", "added 2 tokens"},
		"lm_head.weight":                         {"BF16 [40 16]", "BF16 [42 16]", "--extra-rows=aligned", "added 2 tokens"},
		"model.norm.weight":                      {"BF16 [16]", "BF16 [42]", "", "other shapes"},
		"model.layers.0.mlp.up_proj.weight":      {"BF16 [24 16]", "BF16 [16 24]", "", "other shapes"},
		"model.layers.1.self_attn.q_proj.weight": {"BF16 [16 16]", "BF16 [16 16 1]", "", "other shapes"},
		"model.layers.0.mlp.down_proj.weight":    {"BF16 [16 24]", "absent", "--missing=aligned", "--missing=aligned"},
		"model.layers.1.mlp.down_proj.weight":    {"absent", "BF16 [16 24]", "--missing=aligned", "--missing=aligned"},
		"model.layers.0.ids":                     {"I64 [2] with other values", "I64 [2]", "", "--alpha 'model.layers.*.ids=0'"},
		"int.float":                              {"I32 [1]", "F32 [1]", "", "does not pair"},
		"float.int":                              {"F32 [1]", "I32 [1]", "", "must be equal on both sides"},
	}
	for _, d := range e.Differences {
		w, ok := want[d.Tensor]
		if !ok {
			t.Errorf("unexpected: %+v", d)
			continue
		}
		delete(want, d.Tensor)
		if d.SFT != w.sft || d.Aligned != w.aligned || d.Policy != w.policy || !strings.Contains(d.Remedy, w.remedy) {
			t.Errorf("%+v, want %+v", d, w)
		}
	}
	for name := range want {
		t.Errorf("%s is not listed", name)
	}
	if want := fmt.Sprintf("expo: the models cannot be extrapolated: 9 of %d tensors differ, 1 tensor is only in the SFT model, 2 settings of config.json differ", len(aligned.Tensors)+1); e.Error() != want {
		t.Errorf("error %q, want %q", e.Error(), want)
	}
	if lines := e.Lines(); len(lines) != len(e.Differences) {
		t.Errorf("%d lines for %d differences", len(lines), len(e.Differences))
	}
	mentions(t, e.Lines(), "model.embed_tokens.weight", "SFT BF16 [40 16],", "aligned BF16 [42 16]")
	hints := e.Hints()
	if slices.Sort(hints); len(slices.Compact(hints)) != len(e.Hints()) {
		t.Errorf("hints repeat themselves: %q", hints)
	}
	mentions(t, hints, "--extra-rows=aligned")

	// Policies accept what they name and nothing else.
	e = differences(t, p, expo.Options{Alpha: 0.3, ExtraRows: expo.ExtraRowsAligned, Missing: expo.MissingAligned})
	if len(e.Differences) != 8 {
		t.Errorf("with policies: %d differences, want 8: %q", len(e.Differences), e.Lines())
	}
	// A rule for each of the others, but none for config.json.
	rules := []expo.Rule{{"model.norm.weight", 0}, {"model.layers.0.*", 0}, {"model.layers.1.self_attn.q_proj.weight", 0}, {"*int*", 0}}
	e = differences(t, p, expo.Options{Alpha: 0.3, ExtraRows: expo.ExtraRowsAligned, Missing: expo.MissingAligned, Rules: rules})
	if len(e.Differences) != 2 {
		t.Errorf("with rules: %d differences, want 2: %q", len(e.Differences), e.Lines())
	}
}

// TestExtraRows checks the values under the policy, with more rows on either
// side.
func TestExtraRows(t *testing.T) {
	small, _ := checkpointtest.Pair(1, tensor.F32)
	_, big := checkpointtest.Pair(2, tensor.F32)
	cut := func(m *checkpointtest.Model, rows int) {
		for _, name := range []string{"model.embed_tokens.weight", "lm_head.weight"} {
			x := m.Tensor(name)
			m.Set(checkpointtest.Raw(name, x.DType, []int{rows, 16}, checkpointtest.Bytes(x)[:rows*16*4]))
		}
		m.Config = strings.Replace(m.Config, `"vocab_size": 40`, fmt.Sprintf(`"vocab_size": %d`, rows), 1)
	}
	cut(&small, 37)
	for _, tt := range []struct {
		name         string
		sft, aligned checkpointtest.Model
		note         string
	}{
		{"aligned has more", small, big, "lm_head.weight: rows 37 to 39 are the aligned model's own"},
		{"aligned has fewer", big, small, "lm_head.weight: the SFT model's rows 37 to 39 are left out"},
	} {
		p := disk(t, tt.sft, tt.aligned)
		if e := differences(t, p, expo.Options{Alpha: 0.5}); len(e.Differences) != 2 || e.Differences[0].Policy != "--extra-rows=aligned" {
			t.Errorf("%s: %q", tt.name, e.Lines())
		}
		dir, w := write(t, p, expo.Options{Alpha: 0.5, ExtraRows: expo.ExtraRowsAligned}, expo.WriteOptions{})
		mentions(t, w.Record.Notes, tt.note)
		out := open(t, dir)
		for _, name := range []string{"model.embed_tokens.weight", "lm_head.weight"} {
			a, s := checkpointtest.Values(tt.aligned.Tensor(name)), checkpointtest.Values(tt.sft.Tensor(name))
			x, _ := out.Tensor(name)
			if !slices.Equal(x.Shape, tt.aligned.Tensor(name).Shape) {
				t.Fatalf("%s: %s has shape %v", tt.name, name, x.Shape)
			}
			for i, v := range checkpointtest.Values(x) {
				want := float64(a[i])
				if i < len(s) {
					want = reference(float64(a[i]), float64(s[i]), 0.5, expo.Once, tensor.F32, tensor.F32, 0, i)
				}
				if float64(v) != want {
					t.Errorf("%s: %s: element %d is %g, want %g", tt.name, name, i, v, want)
					break
				}
			}
			if got, want := w.Record.Statistics.Tensors[name].Elements, int64(min(len(a), len(s))); got != want {
				t.Errorf("%s: %s: %d elements measured, want %d", tt.name, name, got, want)
			}
		}
	}
	// Rows differ, but one side's vocab_size is not its rows.
	wrong := small.Clone()
	wrong.Config = big.Config
	if e := differences(t, memoryPair(t, wrong, big), expo.Options{Alpha: 0.5, ExtraRows: expo.ExtraRowsAligned}); len(e.Differences) != 2 || e.Differences[0].Policy != "" {
		t.Errorf("wrong vocab_size: %q", e.Lines())
	}
}

// TestMissing checks what the policy takes and leaves, and that it is noted.
func TestMissing(t *testing.T) {
	sft, aligned := checkpointtest.Pair(1, tensor.BF16)
	for i := range 6 {
		sft.Set(checkpointtest.Floats(fmt.Sprintf("layers.%d.inv_freq", i), tensor.F32, []int{1}, []float32{1}))
	}
	aligned.Set(checkpointtest.Floats("k_norm\x1b.weight", tensor.BF16, []int{2}, []float32{1, 2}))
	aligned.Set(checkpointtest.Ints("steps", tensor.I64, nil, []int64{5}))
	p := disk(t, sft, aligned)
	if e := differences(t, p, expo.Options{Alpha: 0.3}); len(e.Differences) != 8 {
		t.Errorf("%q", e.Lines())
	} else {
		for _, l := range e.Lines() {
			if strings.Contains(l, "\x1b") {
				t.Errorf("line %q steers a terminal", l)
			}
		}
	}
	dir, w := write(t, p, expo.Options{Alpha: 0.3, Missing: expo.MissingAligned}, expo.WriteOptions{})
	out := open(t, dir)
	if out.Len() != len(aligned.Tensors) {
		t.Errorf("%d tensors, want the aligned model's %d", out.Len(), len(aligned.Tensors))
	}
	for _, name := range []string{"k_norm\x1b.weight", "steps"} {
		if got, want := bytesOf(t, out, name), bytesOf(t, p.Aligned, name); string(got) != string(want) {
			t.Errorf("%q is %x, want %x", name, got, want)
		}
	}
	mentions(t, w.Record.Notes, `2 tensors are only in the aligned model and taken from it: steps, "k_norm\x1b.weight"`)
	mentions(t, w.Record.Notes, "6 tensors are only in the SFT model and left out: layers.0.inv_freq", "…")
	if len(w.Record.Notes) != 2 {
		t.Errorf("notes %q", w.Record.Notes)
	}
}

// TestStructure checks which settings refuse a pair.
func TestStructure(t *testing.T) {
	for _, tt := range []struct {
		name, sft, aligned string
		want               []string
	}{
		{"equal", `{"num_attention_heads": 4, "hidden_size": 16}`, `{"hidden_size": 16, "num_attention_heads": 4}`, nil},
		{"key/value heads by default", `{"num_attention_heads": 4, "hidden_size": 16}`, `{"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 4}`, nil},
		{"fewer key/value heads", `{"num_attention_heads": 4, "hidden_size": 16}`, `{"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2}`, []string{"num_key_value_heads"}},
		{"other head_dim", `{"num_attention_heads": 4, "hidden_size": 16}`, `{"hidden_size": 16, "num_attention_heads": 4, "head_dim": 8}`, []string{"head_dim"}},
		{"other family", `{"model_type": "llama"}`, `{"model_type": "mistral"}`, []string{"model_type"}},
		{"layers", `{"num_hidden_layers": 2}`, `{"num_hidden_layers": 3}`, []string{"num_hidden_layers"}},
		{"inside text_config", `{"text_config": {"hidden_size": 2}}`, `{"text_config": {"hidden_size": 3}}`, []string{"hidden_size"}},
		{"one side silent", `{"hidden_size": 2}`, `{}`, nil},
		{"no config", "", `{"hidden_size": 2}`, nil},
	} {
		w := checkpointtest.Floats("w", tensor.F32, []int{1}, []float32{1})
		s, a := single(w), single(w)
		s.Config, a.Config = tt.sft, tt.aligned
		p := memoryPair(t, s, a)
		var got []string
		if _, err := expo.Extrapolate(p, expo.Options{Alpha: 1}); err != nil {
			for _, d := range differences(t, p, expo.Options{Alpha: 1}).Differences {
				got = append(got, strings.TrimPrefix(d.Tensor, "config.json: "))
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v differ, want %v", tt.name, got, tt.want)
		}
	}
}
