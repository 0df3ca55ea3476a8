package alpacaeval

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

// TestLengthControlled: a model that wins by its length alone wins half at
// equal length, and one that wins by quality keeps its rate.
func TestLengthControlled(t *testing.T) {
	j, ref, gamed := synthetic(805, 7)
	delta, sd := lengthDifferences(j.Rows)
	for i := range j.Rows {
		j.Rows[i].Preference = 1 + sigmoid(-3*standardized(delta[i], sd))
	}
	for i, tanh := range gamed.Tanh {
		gamed.Preference[i] = sigmoid(-3 * tanh)
	}
	for _, glm := range []GLM{V1, NoReg, Minimal} {
		lc, err := LengthControlled(j, ref, LCOptions{GLM: glm, Gamed: gamed})
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(lc.WinRate-50) > 1 || math.Abs(lc.Weights.Tanh+3) > 0.2 {
			t.Errorf("%s: LC = %v with %v, want about 50 with −3", glm, lc.WinRate, lc.Weights)
		}
		if lc.Folds != Introsort || len(lc.Neighbours) == 0 || len(lc.Predictions) != 805 || lc.GLM != glm {
			t.Errorf("%s: %v %v, %d predictions", glm, lc.Folds, lc.Neighbours, len(lc.Predictions))
		}
	}
	for i, d := range ref.Difficulty {
		j.Rows[i].Preference = 1 + sigmoid(1+0.5*d)
	}
	for i, d := range gamed.Difficulty {
		gamed.Preference[i] = sigmoid(0.5 * d)
	}
	lc, err := LengthControlled(j, ref, LCOptions{Gamed: gamed})
	if err != nil {
		t.Fatal(err)
	}
	if wr := NewWinRate(j.Preferences()).WinRate; math.Abs(lc.WinRate-wr) > 0.5 || math.Abs(lc.Weights.Difficulty-0.5) > 0.05 || math.Abs(lc.Weights.Intercept-1) > 0.05 {
		t.Errorf("LC = %v, win rate %v, weights %v", lc.WinRate, wr, lc.Weights)
	}
	rate, _, err := lc.Weights.Against(Weights{}, ref.Difficulty)
	if err != nil || math.Abs(rate-lc.WinRate) > 1e-12 {
		t.Errorf("from weights %v (%v), from the fit %v", rate, err, lc.WinRate)
	}
	other := Weights{0, 0.1, -0.5}
	a, _, _ := lc.Weights.Against(other, ref.Difficulty)
	b, _, _ := other.Against(lc.Weights, ref.Difficulty)
	if math.Abs(a+b-100) > 1e-10 {
		t.Errorf("both directions add up to %v", a+b)
	}
}

// TestLCRows: rows without a judgment are predicted but not fitted, and count
// for the spread of lengths.
func TestLCRows(t *testing.T) {
	j, ref, gamed := synthetic(100, 3)
	opt := LCOptions{C: 21.5, Gamed: gamed}
	j.Rows[10].Preference, j.Rows[20].Preference = math.NaN(), -1
	a, err := LengthControlled(j, ref, opt)
	if err != nil || len(a.Predictions) != 100 {
		t.Fatal(err, len(a.Predictions))
	}
	j.Rows[10].Preference, j.Rows[20].Preference = math.NaN(), math.NaN()
	if b, _ := LengthControlled(j, ref, opt); a.WinRate != b.WinRate {
		t.Errorf("−1 gives %v, null %v", a.WinRate, b.WinRate)
	}
	j.Rows[10].LenModel += 5000
	if b, _ := LengthControlled(j, ref, opt); a.WinRate == b.WinRate {
		t.Error("the length of a row without a judgment does not count")
	}
	j.Rows[10].Preference = 0
	c, _ := LengthControlled(j, ref, opt)
	j.Rows[10].Preference = 1.5
	if d, _ := LengthControlled(j, ref, opt); c.WinRate != d.WinRate {
		t.Errorf("a draw of 0 gives %v, of 1.5 %v", c.WinRate, d.WinRate)
	}
	for i := range j.Rows {
		j.Rows[i].LenModel = j.Rows[i].LenBaseline
	}
	if e, err := LengthControlled(j, ref, opt); err != nil || e.Weights.Tanh == 0 || math.IsNaN(e.WinRate) {
		t.Errorf("without any difference in length: %v %v", e.WinRate, err)
	}
	for i := range j.Rows {
		j.Rows[i].Preference = 1.5
	}
	if e, err := LengthControlled(j, ref, opt); err != nil || e.WinRate != 50 || e.StandardError != 0 || e.Weights != (Weights{}) {
		t.Errorf("a model against itself: %v ± %v, %v (%v)", e.WinRate, e.StandardError, e.Weights, err)
	}
}

func TestLCErrors(t *testing.T) {
	j, ref, gamed := synthetic(20, 3)
	none := *j
	none.Rows = slices.Clone(j.Rows)
	for i := range none.Rows {
		none.Rows[i].Preference = math.NaN()
	}
	lost := *j
	lost.Rows = slices.Clone(j.Rows)
	lost.Rows[3].Index = -1
	for _, c := range []struct {
		name string
		j    *Judged
		ref  *Reference
		opt  LCOptions
		want string
	}{
		{"no gamed rows", j, ref, LCOptions{}, "gamed rows"},
		{"no difficulties", j, nil, LCOptions{Gamed: gamed}, "difficulties"},
		{"another model", j, ref, LCOptions{GLM: "v2", Gamed: gamed}, `"v2"`},
		{"negative C", j, ref, LCOptions{C: -1, Gamed: gamed}, "C is −1"},
		{"no judgment", &none, ref, LCOptions{Gamed: gamed}, "no comparison"},
		{"no place", &lost, ref, LCOptions{Gamed: gamed}, "row 3 has no place"},
		{"one row", &Judged{Rows: j.Rows[:1]}, ref, LCOptions{Gamed: gamed}, "at least 2"},
	} {
		_, err := LengthControlled(c.j, c.ref, c.opt)
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "-1", "−1"), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, _, err := (Weights{}).Against(Weights{}, nil); err == nil {
		t.Error("no difficulties pass")
	}
}

func TestGrid(t *testing.T) {
	want := []float64{0.0001, 0.000774263682681127, 0.005994842503189409, 0.046415888336127774, 0.35938136638046259, 2.7825594022071258, 21.544346900318821, 166.81005372000593, 1291.5496650148827, 10000}
	for k, c := range Grid() {
		if math.Abs(c/want[k]-1) > 1e-14 {
			t.Errorf("%d: %v, want %v", k, c, want[k])
		}
	}
	if got := neighbours(want[5]); len(got) != 2 || got[0] != Grid()[4] || got[1] != Grid()[6] {
		t.Errorf("neighbours of %v: %v", want[5], got)
	}
	if got := neighbours(3); len(got) != 2 || got[0] != Grid()[5] || got[1] != Grid()[6] {
		t.Errorf("neighbours of 3: %v", got)
	}
	if got := neighbours(1e4); len(got) != 1 || got[0] != Grid()[8] {
		t.Errorf("neighbours of the largest: %v", got)
	}
}

func TestBootstrap(t *testing.T) {
	j, ref, gamed := synthetic(300, 5)
	opt := LCOptions{C: 2.7825594022071258, Gamed: gamed}
	lc, err := LengthControlled(j, ref, opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	b := Bootstrap{Draws: 400, Seed: 3}
	one, err := b.LCInterval(ctx, j, ref, opt, lc)
	if err != nil {
		t.Fatal(err)
	}
	b.Jobs = 3
	three, err := b.LCInterval(ctx, j, ref, opt, lc)
	if err != nil || *one != *three {
		t.Errorf("with 1 job %v, with 3 %v (%v)", one, three, err)
	}
	if one.Low >= lc.WinRate || one.High <= lc.WinRate || one.Level != 0.95 || !strings.Contains(one.Method, "400 draws, seed 3") {
		t.Errorf("%v does not hold %v", one, lc.WinRate)
	}
	w := NewWinRate(j.Preferences())
	ci := b.WinRateInterval(j.Preferences())
	// The interval of a mean is about two standard errors on both sides.
	if half := (ci.High - ci.Low) / 2 / 1.96; math.Abs(half/w.StandardError-1) > 0.15 {
		t.Errorf("half of the interval is %v, the standard error %v", half, w.StandardError)
	}
	if (one.High-one.Low)/2/1.96 < lc.StandardError {
		t.Errorf("the interval %v is no wider than what predictions alone give, ± %v", one, lc.StandardError)
	}
	if b.WinRateInterval([]float64{math.NaN()}) != nil {
		t.Error("an interval of nothing")
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := b.LCInterval(done, j, ref, opt, lc); !errors.Is(err, context.Canceled) {
		t.Errorf("when canceled: %v", err)
	}
}

func TestQuantile(t *testing.T) {
	x := []float64{1, 2, 4}
	for q, want := range map[float64]float64{0: 1, 0.25: 1.5, 0.5: 2, 0.75: 3, 1: 4} {
		if got := quantile(x, q); got != want {
			t.Errorf("%v: %v, want %v", q, got, want)
		}
	}
	if got := quantile([]float64{7}, 0.3); got != 7 {
		t.Errorf("of one: %v", got)
	}
}
