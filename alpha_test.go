package expo_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"expo"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

func TestParseAlphas(t *testing.T) {
	for _, tt := range []struct {
		in    []string
		alpha float64
		rules []expo.Rule
	}{
		{[]string{"0.3"}, 0.3, nil},
		{[]string{"-1"}, -1, nil},
		{[]string{"1e-3"}, 1e-3, nil},
		{[]string{"25"}, 25, nil},
		{[]string{"0"}, 0, nil},
		{[]string{"1e-60"}, 1e-60, nil}, // 0 as a float32, but a number
		{[]string{"a=1", "b*=2", "3"}, 3, []expo.Rule{{"a", 1}, {"b*", 2}}},
		{[]string{"model.layers.[0-9].*=0.5", "0"}, 0, []expo.Rule{{"model.layers.[0-9].*", 0.5}}},
		{[]string{"a=b=-0.5", "1"}, 1, []expo.Rule{{"a=b", -0.5}}},
		{[]string{"a=1", "a=2", "3"}, 3, []expo.Rule{{"a", 1}, {"a", 2}}},
	} {
		alpha, rules, err := expo.ParseAlphas(tt.in)
		if err != nil || alpha != tt.alpha || !slices.Equal(rules, tt.rules) {
			t.Errorf("ParseAlphas(%q) = %v, %v, %v, want %v, %v", tt.in, alpha, rules, err, tt.alpha, tt.rules)
		}
	}
	for _, tt := range []struct {
		in   []string
		want string
	}{
		{nil, "no α given"},
		{[]string{}, "no α given"},
		{[]string{""}, "not a number"},
		{[]string{"x"}, "not a number"},
		{[]string{"0,3"}, "not a number"},
		{[]string{"0.3", "0.5"}, "more than one"},
		{[]string{"a=1"}, "no α for the tensors that no pattern matches"},
		{[]string{"0.3", "a=1"}, "put the pattern first"},
		{[]string{"=1", "0"}, "not valid"},
		{[]string{"[=1", "0"}, "not valid"},
		{[]string{"a[b=1", "0"}, "not valid"},
		{[]string{"a=", "0"}, "not a number"},
		{[]string{"a=x", "0"}, "not a number"},
		{[]string{"NaN"}, "not a finite number"},
		{[]string{"inf"}, "not a finite number"},
		{[]string{"a=-Inf", "1"}, "not a finite number"},
		{[]string{"1e39"}, "not a finite number in float32"},
		{[]string{"1e999"}, "not a finite number in float32"},
	} {
		_, _, err := expo.ParseAlphas(tt.in)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "expo: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("ParseAlphas(%q): error %v, want one with %q", tt.in, err, tt.want)
		}
	}
}

// TestRules checks that the first match wins, that hits are counted, and what
// is said of rules that match nothing.
func TestRules(t *testing.T) {
	sft, aligned := checkpointtest.Pair(2, tensor.F32)
	p := disk(t, sft, aligned)
	opt := expo.Options{Alpha: 0.3, Rules: []expo.Rule{
		{"model.layers.0.*", 1},
		{"model.layers.?.self_attn.*", 2}, // layer 0 is taken
		{"lm_head.weight", -0.5},
	}}
	dir, w := write(t, p, opt, expo.WriteOptions{})
	out := open(t, dir)
	want := map[string]int{"model.layers.0.*": 9, "model.layers.?.self_attn.*": 4, "lm_head.weight": 1, "*": len(aligned.Tensors) - 14}
	for _, r := range w.Record.Rules {
		if r.Tensors != want[r.Pattern] {
			t.Errorf("%s: %d tensors, want %d", r.Pattern, r.Tensors, want[r.Pattern])
		}
		delete(want, r.Pattern)
	}
	if len(want) > 0 {
		t.Errorf("no hits recorded for %v", want)
	}
	for name, alpha := range map[string]float64{
		"model.layers.0.self_attn.q_proj.weight": 1,
		"model.layers.1.self_attn.q_proj.weight": 2,
		"model.layers.1.mlp.up_proj.weight":      0.3,
		"lm_head.weight":                         -0.5,
	} {
		if got := w.Record.Statistics.Tensors[name].NominalAlpha; math.Abs(got-alpha) > 1e-12 {
			t.Errorf("%s: α %g, want %g", name, got, alpha)
		}
		av, sv := checkpointtest.Values(aligned.Tensor(name)), checkpointtest.Values(sft.Tensor(name))
		x, _ := out.Tensor(name)
		for i, v := range checkpointtest.Values(x) {
			if want := reference(float64(av[i]), float64(sv[i]), alpha, expo.Once, tensor.F32, tensor.F32, 0, i); !same(float64(v), want) {
				t.Errorf("%s: element %d is %g, want %g", name, i, v, want)
				break
			}
		}
	}

	var bad *expo.RuleError
	opt.Rules = append(opt.Rules, expo.Rule{Pattern: "model.layers.0.mlp.*", Alpha: 1}, expo.Rule{Pattern: "nothing", Alpha: 0})
	_, err := expo.Extrapolate(p, opt)
	if !errors.As(err, &bad) || !slices.Equal(bad.Patterns, []string{"model.layers.0.mlp.*", "nothing"}) {
		t.Errorf("error %v, want a RuleError of the last two rules", err)
	} else if want := `expo: no tensor matches --alpha pattern ["model.layers.0.mlp.*" "nothing"]`; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	_, err = expo.Extrapolate(p, expo.Options{Rules: []expo.Rule{{"nothing", 0}}})
	if !errors.As(err, &bad) {
		t.Errorf("α = 0 throughout: error %v, want a RuleError", err)
	}
}

// TestOptionsCheck lists options that no pair can be extrapolated with.
func TestOptionsCheck(t *testing.T) {
	s, a := checkpointtest.Pair(1, tensor.BF16)
	p := memoryPair(t, s, a)
	for want, opt := range map[string]expo.Options{
		"not a finite number": {Alpha: math.NaN()},
		"α 1e+300":            {Alpha: 1e300},
		`pattern "["`:         {Alpha: 1, Rules: []expo.Rule{{"[", 1}}},
		`pattern ""`:          {Alpha: 1, Rules: []expo.Rule{{"", 1}}},
		`of pattern "*"`:      {Alpha: 1, Rules: []expo.Rule{{"*", math.Inf(1)}}},
		"dtype F64":           {Alpha: 1, DType: tensor.F64},
		"dtype F8_E4M3":       {Alpha: 1, DType: tensor.F8E4M3},
		"unknown rounding":    {Alpha: 1, Rounding: 7},
		"extra rows":          {Alpha: 1, ExtraRows: "sft"},
		"missing tensors":     {Alpha: 1, Missing: "x"},
		"for heads":           {Alpha: 1, Head: "both"},
	} {
		if _, err := expo.Extrapolate(p, opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Extrapolate(%+v): error %v, want one with %q", opt, err, want)
		}
	}
}

func TestParseRounding(t *testing.T) {
	for _, r := range roundings {
		if got, err := expo.ParseRounding(r.String()); got != r || err != nil {
			t.Errorf("ParseRounding(%q) = %v, %v", r, got, err)
		}
	}
	for _, s := range []string{"", "Once", "per_op", "invalid"} {
		if _, err := expo.ParseRounding(s); err == nil {
			t.Errorf("ParseRounding(%q) succeeds", s)
		}
	}
}

func FuzzParseAlphas(f *testing.F) {
	f.Add("0.3", "")
	f.Add("model.*=1", "0")
	f.Add("[a-=2", "3")
	f.Add("a\\=1e40", "-0")
	f.Fuzz(func(t *testing.T, first, second string) {
		alpha, rules, err := expo.ParseAlphas([]string{first, second})
		if err != nil {
			return
		}
		// What was accepted must be usable as it is.
		w := tensor.Tensor{Name: "w", DType: tensor.F32, Shape: []int{1}, Data: tensor.Bytes{0, 0, 0, 0}}
		p := memoryPair(t, single(w), single(w))
		var bad *expo.RuleError
		if _, err := expo.Extrapolate(p, expo.Options{Alpha: alpha, Rules: rules}); err != nil && !errors.As(err, &bad) {
			t.Errorf("ParseAlphas(%q, %q) = %v, %v, which Extrapolate refuses: %v", first, second, alpha, rules, err)
		}
	})
}
