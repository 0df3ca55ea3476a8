package reward

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
)

// TestRewards follows one matrix by hand through to the win probabilities.
func TestRewards(t *testing.T) {
	s := Rewards([][]float64{
		{9, 1, 2}, // the diagonal does not count
		{-3, 9, 0.5},
		{0, -1, 9},
	})
	want := []float64{(1 + 3 + 2 - 0) / 3.0, (-3 - 1 + 0.5 + 1) / 3, (0 - 2 - 1 - 0.5) / 3}
	for i := range want {
		if math.Abs(s[i]-want[i]) > 1e-12 {
			t.Fatalf("got %v, want %v", s, want)
		}
	}
	p, mean := WinProbabilities(s)
	total := 0.0
	for i := range p {
		sum := 0.0
		for j := range p {
			if math.Abs(p[i][j]-1/(1+math.Exp(want[j]-want[i]))) > 1e-12 {
				t.Errorf("P(%d ≻ %d) is %v", i, j, p[i][j])
			}
			sum += p[i][j]
		}
		if p[i][i] != 0.5 || math.Abs(mean[i]-sum/3) > 1e-12 {
			t.Errorf("response %d: itself %v, mean %v of %v", i, p[i][i], mean[i], p[i])
		}
		total += mean[i]
	}
	if math.Abs(total-1.5) > 1e-12 {
		t.Errorf("means add up to %v, want half of their number", total)
	}
	if s := Rewards(nil); len(s) != 0 {
		t.Errorf("of nothing: %v", s)
	}
}

func TestSigmoid(t *testing.T) {
	for x, want := range map[float64]float64{0: 0.5, 800: 1, -800: 0, math.Inf(-1): 0, 2: 0.8807970779778823, -2: 0.11920292202211755} {
		if got := sigmoid(x); math.Abs(got-want) > 1e-15 {
			t.Errorf("σ(%v): got %v, want %v", x, got, want)
		}
	}
}

// byLength rewards the length of a response, and cannot score some.
type byLength struct{}

func (byLength) Score(_ context.Context, items []Item) ([]float64, error) {
	scores, errs := make([]float64, len(items)), make([]error, len(items))
	for i, it := range items {
		if it.Prompt == "down" {
			return nil, errors.New("out of order")
		}
		scores[i] = float64(len(it.Response))
		if it.Response == "?" || !it.Ended {
			errs[i] = errors.New("unclear")
		}
	}
	return partial(scores, errs)
}

func TestBradleyTerry(t *testing.T) {
	p := BradleyTerry{byLength{}}
	got, err := p.Prefer(context.Background(), []Pair{{A: "long", B: "lo"}, {A: "?", B: "no"}, {A: "no", B: "?"}, {A: "x", B: "y"}})
	var some *PartialError
	if !errors.As(err, &some) || some.Failed() != 2 || some.Errors[0] != nil || some.Errors[3] != nil {
		t.Fatalf("got %v, %v", got, err)
	}
	if got[0] != sigmoid(2) || !math.IsNaN(got[1]) || !math.IsNaN(got[2]) || got[3] != 0.5 {
		t.Errorf("got %v", got)
	}
	if got, err := p.Prefer(context.Background(), []Pair{{Prompt: "down"}}); got != nil || err == nil || errors.As(err, &some) {
		t.Errorf("of a scorer that fails: %v, %v", got, err)
	}
	if got, err := p.Prefer(context.Background(), nil); len(got) != 0 || err != nil {
		t.Errorf("of nothing: %v, %v", got, err)
	}
}

func TestPartialError(t *testing.T) {
	scores, err := partial([]float64{1, 2, math.Inf(1), 4, 5, 6, 7}, []error{nil, ErrTooLong, nil, ErrTooLong, nil, errors.New("b"), errors.New("c")})
	if !math.IsNaN(scores[1]) || !math.IsNaN(scores[2]) || scores[0] != 1 || scores[4] != 5 || !errors.Is(err, ErrTooLong) {
		t.Fatalf("got %v, %v", scores, err)
	}
	want := "reward: 5 of 7 items have no score: item 1: too long; item 2: the model's output is +Inf; item 5: b; …"
	if err.Error() != want || strings.Contains(err.Error(), "\n") {
		t.Errorf("got  %v\nwant %v", err, want)
	}
	if scores, err := partial([]float64{1}, []error{nil}); err != nil || scores[0] != 1 {
		t.Errorf("got %v, %v", scores, err)
	}
}
