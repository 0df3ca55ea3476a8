package demo

import (
	"context"
	"fmt"
	"io/fs"
	"testing"

	"expo"
	"expo/align/reward"
	"expo/align/search"
	"expo/demo/notes"
	"expo/lm/tokenizer"
	"expo/weights/tensor"
)

func TestOpen(t *testing.T) {
	var first string
	for _, name := range Models() {
		c, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		for x := range c.Tensors() {
			if x.DType != tensor.F32 {
				t.Errorf("%s: %s is %v: rounding would take the deltas", name, x.Name, x.DType)
			}
		}
		b, err := fs.ReadFile(c.Files(), "tokenizer.json")
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = string(b)
		}
		if string(b) != first {
			t.Errorf("%s has another tokenizer than %s", name, Models()[0])
		}
	}
	if _, err := Open("../models/sft"); err == nil {
		t.Error("a path was taken for a name")
	}
}

// TestTokenizer checks that notes survive, and that most words are one token.
func TestTokenizer(t *testing.T) {
	c, err := Open("sft")
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Load(c.Files())
	if err != nil {
		t.Fatal(err)
	}
	learn, _ := notes.Prompts(notes.Seed)
	tokens, words := 0, 0
	for i, p := range learn[:300] {
		note := notes.Write(p, uint64(i))
		ids := tok.Encode(note, false)
		if got := tok.Decode(ids, false); got != note {
			t.Fatalf("%q came back as %q", note, got)
		}
		tokens, words = tokens+len(ids), words+notes.Look(p, note).Words
	}
	if r := float64(tokens) / float64(words); r > 1.5 {
		t.Errorf("%.2f tokens per word, want below 1.5", r)
	}
	if s := "Grüße an 猫 \x00\xff"; tok.Decode(tok.Encode(s, false), false) != "Grüße an 猫 \x00\ufffd" {
		t.Errorf("%q came back as %q", s, tok.Decode(tok.Encode(s, false), false))
	}
}

// line opens the line through a model, for n prompts.
func line(t *testing.T, end string, n int, seed uint64) *Line {
	t.Helper()
	var p expo.Pair
	var judge reward.Model
	sft, err := Open("sft")
	if err != nil {
		t.Fatal(err)
	}
	p.SFT = sft
	if p.Aligned, err = Open(end); err != nil {
		t.Fatal(err)
	}
	c, err := Open("reward")
	if err != nil {
		t.Fatal(err)
	}
	if judge, err = reward.Open(context.Background(), c, reward.Options{}); err != nil {
		t.Fatal(err)
	}
	_, test := notes.Prompts(notes.Seed)
	l, err := NewLine(context.Background(), p, judge, LineOptions{Prompts: test[:n], Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); judge.Close() })
	return l
}

// TestLine checks what the pairs are here to show, with margins of 3 standard
// errors and a sampling seed that had no part in choosing them.
func TestLine(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		end         string
		better, far float64 // an α with more reward than the aligned model, and too large an α
		gain        bool
	}{
		{"aligned", 2, 8, true},
		{"sppo", 3, 16, true},
		{"trained", 0.5, 2, false},
	} {
		t.Run(c.end, func(t *testing.T) {
			l := line(t, c.end, 80, 1001)
			r, err := search.Run(ctx, func(ctx context.Context, alpha float64) (search.Score, error) {
				list, err := l.Answer(ctx, alpha)
				return Score(list), err
			}, search.Options{Alphas: []float64{c.better, c.far}, Resamples: 100})
			if err != nil {
				t.Fatal(err)
			}
			at := func(alpha float64) search.Row {
				row, ok := r.Row(alpha)
				if !ok {
					t.Fatalf("no row for α %g", alpha)
				}
				return row
			}
			sft, better, far := at(search.SFT), at(c.better), at(c.far)
			for _, row := range r.Rows {
				t.Logf("α %4g: reward %.2f (%+.2f ± %.2f), rule %.2f, finished %.2f", row.Alpha, row.Reward, row.Difference, row.DifferenceSE, row.Tasks["rule"].Mean, row.Finished)
			}
			above := func(d, se search.Number) bool { return d > 3*se }
			if !above(-sft.Difference, sft.DifferenceSE) {
				t.Errorf("SFT %+.2f ± %.2f, want less than %s", sft.Difference, sft.DifferenceSE, c.end)
			}
			if rule := sft.Tasks["rule"]; !above(-rule.Difference, rule.DifferenceSE) {
				t.Errorf("SFT by the rule %+.2f ± %.2f, want less than %s", rule.Difference, rule.DifferenceSE, c.end)
			}
			rule := better.Tasks["rule"]
			if c.gain && !(above(better.Difference, better.DifferenceSE) && above(rule.Difference, rule.DifferenceSE)) {
				t.Errorf("α %g: reward %+.2f ± %.2f, rule %+.2f ± %.2f, want more than %s", c.better, better.Difference, better.DifferenceSE, rule.Difference, rule.DifferenceSE, c.end)
			}
			if !c.gain && above(better.Difference, better.DifferenceSE) {
				t.Errorf("α %g: reward %+.2f ± %.2f, want no more than %s", c.better, better.Difference, better.DifferenceSE, c.end)
			}
			if rule := far.Tasks["rule"]; !above(-rule.Difference, rule.DifferenceSE) {
				t.Errorf("α %g: rule %+.2f ± %.2f, want less than %s", c.far, rule.Difference, rule.DifferenceSE, c.end)
			}
		})
	}
}

// TestAnswer checks that answers depend on α and the seed alone.
func TestAnswer(t *testing.T) {
	ctx := context.Background()
	texts := func(l *Line, alphas ...float64) (out string) {
		for _, alpha := range alphas {
			list, err := l.Answer(ctx, alpha)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range list {
				out += fmt.Sprintln(alpha, x.Reward, x.Rule, x.Response.Text)
			}
		}
		return out
	}
	a, b := line(t, "aligned", 6, 3), line(t, "aligned", 6, 3)
	b.Answer(ctx, 5)
	if x, y := texts(a, 0, 2), texts(b, 0, 2); x != y {
		t.Errorf("the same α gave\n%s and then\n%s", x, y)
	}
	if x, y := texts(a, 2), texts(line(t, "aligned", 6, 4), 2); x == y {
		t.Error("another seed gave the same answers")
	}
	canceled, stop := context.WithCancel(ctx)
	stop()
	if _, err := a.Answer(canceled, 1); err == nil {
		t.Error("a context that had ended gave no error")
	}
}
