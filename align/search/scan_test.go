package search

import (
	"context"
	"math"
	"testing"
)

// line is made-up pairs whose log-ratios move in proportion to α + 1, two of ten
// of them the wrong way.
func line(_ context.Context, alpha float64) ([]PairLogprobs, error) {
	var out []PairLogprobs
	for i := range 10 {
		speed := 4.0
		if i < 2 {
			speed = -3
		}
		out = append(out, PairLogprobs{Chosen: -50 + speed*(alpha+1)/2, Rejected: -40 - speed*(alpha+1)/2, ChosenTokens: 25, RejectedTokens: 20})
	}
	return out, nil
}

func TestScan(t *testing.T) {
	seen := 0
	r, err := Scan(context.Background(), line, ScanOptions{Alphas: []float64{1, 2, 4, 8, 16}, Keep: 2, Measured: func(ScanRow) { seen++ }})
	if err != nil {
		t.Fatal(err)
	}
	if seen != 7 || r.Pairs != 10 || len(r.Rows) != 7 {
		t.Fatalf("%d rows of %d pairs, %d reported", len(r.Rows), r.Pairs, seen)
	}
	sft, aligned := r.Rows[0], r.Rows[1]
	if sft.Margin != 0 || math.Abs(float64(sft.Loss)-math.Ln2) > 1e-12 || !math.IsNaN(float64(sft.Accuracy)) {
		t.Errorf("at the SFT model: %+v", sft)
	}
	// Eight pairs with h = 4, two with −3.
	if want := (8*4.0 - 2*3) / 10; math.Abs(float64(aligned.Margin)-want) > 1e-12 || aligned.Accuracy != 0.8 {
		t.Errorf("margin %v, accuracy %v, want %v, 0.8", aligned.Margin, aligned.Accuracy, want)
	}
	want := (8*math.Log1p(math.Exp(-0.4)) + 2*math.Log1p(math.Exp(0.3))) / 10
	if math.Abs(float64(aligned.Loss)-want) > 1e-12 {
		t.Errorf("loss %v, want %v", aligned.Loss, want)
	}
	if want := -48.0 / 25; math.Abs(float64(aligned.ChosenLogprob)-(8*want+2*(-51.5/25))/10) > 1e-12 {
		t.Errorf("chosen %v", aligned.ChosenLogprob)
	}
	kept := 0
	best := r.Rows[0]
	for _, row := range r.Rows {
		if row.Promising {
			kept++
		}
		if row.Loss < best.Loss {
			best = row
		}
	}
	if kept != 2 || !best.Promising || float64(r.BestAlpha) != best.Alpha || best.Alpha == 16 {
		t.Errorf("%d kept, best %v, lowest loss at %v", kept, r.BestAlpha, best.Alpha)
	}
}

func TestCorrelate(t *testing.T) {
	s, err := Scan(context.Background(), line, ScanOptions{Alphas: []float64{1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	r := &Result{Rows: []Row{{Alpha: -1, Reward: 0}, {Alpha: 0, Reward: 1}, {Alpha: 1, Reward: 2}, {Alpha: 7, Reward: 9}}}
	c := Correlate(s, r)
	if c.N != 3 || math.Abs(float64(c.Margin)-1) > 1e-12 || c.MarginRank != 1 || c.LossRank != 1 {
		t.Errorf("got %+v, want perfect correlation over 3", c)
	}
	if got := ranks([]float64{3, 1, 3, 2}); got[0] != 3.5 || got[1] != 1 || got[2] != 3.5 || got[3] != 2 {
		t.Errorf("ranks %v", got)
	}
}
