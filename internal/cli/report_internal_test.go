package cli

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"expo/eval"
	"expo/eval/alpacaeval"
)

func TestBaseName(t *testing.T) {
	f := &reportFlags{baseOf: map[string]string{"zephyr_0.2_a2.5": "zephyr_0.2", "x-ExPO": "y"}}
	for _, tt := range []struct {
		model, base string
		ok          bool
	}{
		{"zephyr-7b-ExPO", "zephyr-7b", true},
		{"zephyr-7b_expo", "zephyr-7b", true},
		{"zephyr-7b-expo", "zephyr-7b", true},
		{"zephyr-7b-ExPO-0.3", "zephyr-7b", true},
		{"zephyr_0.2_a2.5", "zephyr_0.2", true},
		{"x-ExPO", "y", true},
		{"exponential-7b", "", false},
		{"my-exposure", "", false},
		{"-ExPO", "", false},
		{"zephyr", "", false},
	} {
		if base, ok := f.baseName(tt.model); base != tt.base || ok != tt.ok {
			t.Errorf("baseName(%q) = %q, %v, want %q, %v", tt.model, base, ok, tt.base, tt.ok)
		}
	}
}

func TestSigned(t *testing.T) {
	for _, tt := range []struct {
		format string
		x      float64
		want   string
	}{
		{"%.1f", 1.25, "1.2"}, {"%.1f", -1.26, "−1.3"}, {"%.1f", -0.04, "0.0"}, {"%+.1f", -0.04, "±0.0"}, {"%+.2f", 3, "+3.00"}, {"%.1e", -1.5e-7, "−1.5e−07"},
	} {
		if got := signed(tt.format, tt.x); got != tt.want {
			t.Errorf("signed(%q, %v) = %q, want %q", tt.format, tt.x, got, tt.want)
		}
	}
}

func TestIntervalOf(t *testing.T) {
	if ci := intervalOf(eval.Metric{Name: wrMetric, Value: 10, StdErr: 2}); ci == nil || math.Abs(ci.Low-6.0801) > 1e-4 || math.Abs(ci.High-13.9199) > 1e-4 {
		t.Errorf("interval of 10 ± 2 is %+v, want 6.0801 to 13.9199", ci)
	}
	if ci := intervalOf(eval.Metric{Name: lcMetric, Value: 10, StdErr: 2}); ci != nil {
		t.Errorf("the spread of LC's predictions became the interval %+v", ci)
	}
	if ci := intervalOf(eval.Metric{Name: wrMetric, Value: 10, StdErr: math.NaN()}); ci != nil {
		t.Errorf("no standard error became the interval %+v", ci)
	}
}

// Rows that two sets share are found by instruction, whatever their order.
func TestSharedRows(t *testing.T) {
	set := func(names string, preferences ...float64) *alpacaeval.Judged {
		j := new(alpacaeval.Judged)
		for i, name := range strings.Fields(names) {
			j.Rows = append(j.Rows, alpacaeval.Comparison{Instruction: name, Index: i, Preference: preferences[i]})
		}
		return j
	}
	a, b, ok := sharedRows(set("p q r s", 1.2, 1.4, 1.6, 2), set("s r q", 1.5, 1.5, 1.5))
	if !ok {
		t.Fatal("no rows are shared")
	}
	mean, stderr, n := alpacaeval.PairedDifference(a, b)
	// s 50, r 10, q −10: the mean is 50/3, the deviations' squares sum to 1866.667.
	if math.Abs(mean-50.0/3) > 1e-9 || math.Abs(stderr-math.Sqrt(1866.6666666666667/2/3)) > 1e-9 || n != 3 {
		t.Errorf("difference %v ± %v over %d, want 16.667 ± 17.638 over 3", mean, stderr, n)
	}
	if _, _, ok := sharedRows(set("p", 1), set("q", 1)); ok {
		t.Error("sets without a common instruction share rows")
	}
	without := func(n int, counted bool) *measured {
		m := &measured{judged: set(strings.Repeat("p ", n), 1, 1.5, 2), counted: counted}
		for i := range m.judged.Rows {
			m.judged.Rows[i].Instruction = ""
		}
		return m
	}
	for _, tt := range []struct {
		a, b *measured
		want bool
	}{
		{without(3, true), without(3, false), true},
		{without(3, true), without(2, false), false}, // which is missing is not known
		{without(3, false), without(2, false), true},
		{without(3, false), new(measured), false},
	} {
		if _, _, ok := sharedJudgments(tt.a, tt.b); ok != tt.want {
			t.Errorf("rows are shared: %v, want %v", ok, tt.want)
		}
	}
	w := winsOf(pairedRows(&measured{judged: set("p q r s", 1.2, 1.4, 1.6, 2)}, &measured{judged: set("p q r s", 1.9, 1.5, 1.5, 2)}))
	if want := (wins{Both: 1, ExPO: 1, Base: 1, Neither: 1, N: 4}); w != want {
		t.Errorf("wins %+v, want %+v", w, want)
	}
}

func TestKindOf(t *testing.T) {
	for _, tt := range []struct{ head, want string }{
		{`{"suite": "alpacaeval"`, "result"},
		{`[{"suite": "mtbench", "x": {}}]`, "result"},
		{`{"config": {"results": 1}, "results": {}}`, "lm-eval"},
		{`{"question_id": 81, "model": "m", "judge": ["j"], "user_prompt": "a`, "judgments"},
		{`{"question_id": 81, "model_1": "m", "model_2": "n", "g1_winner": "tie"}`, "judgments"},
		{`{"question_id": 81, "answer_id": "x", "choices": [{"turns": ["a"]}]}`, ""},
		{`[{"instruction": "a", "output_1": "b"`, "annotations"},
		{`[{"instruction": "a", "output": "b", "generator": "c"}]`, ""},
		{",win_rate,standard_error\nm,1,2", "leaderboard"},
		{"source,annotator,model,row,instr,preference,len_base,len_model\n", "numbers"},
		{"row,instr,model,tanh_std_delta_len,instruction_difficulty,preference_surrogate\n", "gamed"},
		{"index,instruction_difficulty\n", "difficulty"},
		{"# a text\n", ""},
		{"[]", ""}, {"{}", ""}, {"[", ""}, {`{"a": [`, ""},
	} {
		if got, err := kindOf(strings.NewReader(tt.head)); got != tt.want || err != nil {
			t.Errorf("kindOf(%q) = %q, %v, want %q", tt.head, got, err, tt.want)
		}
	}
	if _, err := kindOf(strings.NewReader(" \n")); err == nil {
		t.Error("an empty file has a kind")
	}
}

func FuzzKindOf(f *testing.F) {
	f.Add([]byte(`[{"suite": "mtbench", "x": {}}]`))
	f.Add([]byte("\xef\xbb\xbf,win_rate\nm,1"))
	f.Add([]byte(`{"a":[[{"results":1}]],"results":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) { kindOf(bytes.NewReader(b)) })
}

func FuzzReadLMEval(f *testing.F) {
	f.Add([]byte(`{"results": {"arc": {"acc,none": 0.5, "acc_stderr,none": 0.1, "alias": "arc"}}, "n-samples": {"arc": {"effective": 25}}, "model_name": "m"}`))
	f.Add([]byte(`{"results": {"arc": {"acc": 1e999}}, "config": {"model_args": {"pretrained": 3}}}`))
	f.Add([]byte(`{"results": {"": {}}, "config": {"model_args": "pretrained=a/b,dtype=x"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		ms, err := readLMEval(bytes.NewReader(b), "dir/results.json")
		if err != nil {
			return
		}
		doc := comparedResults{}
		groupMeasured(&reportFlags{}, ms, &doc)
		for _, format := range []string{"text", "md", "latex", "json", "html"} {
			if err := doc.write(new(bytes.Buffer), format); err != nil {
				t.Errorf("%s: %v", format, err)
			}
		}
	})
}
