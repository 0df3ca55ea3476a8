package search

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseAlphas(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []float64
		err  string
	}{
		{in: "0.1:0.5:0.1", want: []float64{0.1, 0.2, 0.3, 0.4, 0.5}},
		{in: "2,0.5, 1", want: []float64{0.5, 1, 2}},
		{in: "-0.5,0.1:0.3:0.1,0.2,5", want: []float64{-0.5, 0.1, 0.2, 0.3, 5}},
		{in: "-1:1:0.5", want: []float64{-1, -0.5, 0, 0.5, 1}},
		{in: "0:1:0.3", want: []float64{0, 0.3, 0.6, 0.9}},
		{in: "1e-2:3e-2:1e-2", want: []float64{0.01, 0.02, 0.03}},
		{in: "1:1:1", want: []float64{1}},
		{in: "", err: "no α given"},
		{in: "0.1:0.5", err: "needs a step"},
		{in: "0.1:0.5:0", err: "above 0"},
		{in: "0.5:0.1:0.1", err: "ends before"},
		{in: "0:1:1e-9", err: "more than 1000"},
		{in: "0:1e300:1e-300", err: "finite number"},
		{in: "nan,x", err: "\"x\" is not a finite number"},
		{in: "1e39", err: "finite"},
	} {
		got, err := ParseAlphas(tt.in)
		switch {
		case tt.err != "":
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: error %v, want one about %q", tt.in, err, tt.err)
			}
		case err != nil || !reflect.DeepEqual(got, tt.want):
			t.Errorf("%q: got %v, %v, want %v", tt.in, got, err, tt.want)
		}
	}
}

func FuzzParseAlphas(f *testing.F) {
	for _, s := range []string{"0.1:0.5:0.1", "-1,2", "::", "1e308:1e309:1", "0x1p-2", ",,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseAlphas(s)
		if err != nil {
			return
		}
		if len(got) == 0 || len(got) > maxAlphas || !slices.IsSorted(got) {
			t.Fatalf("%q: %v", s, got)
		}
	})
}

// world is a made-up pair: reward is a parabola of α with its top at best, and
// noise that samples of a prompt share.
type world struct {
	best, noise float64
	prompts     int
	seen        []float64
	change      func(alpha float64, s *Score)
}

func (w *world) measure(_ context.Context, alpha float64) (Score, error) {
	w.seen = append(w.seen, alpha)
	var s Score
	for p := range w.prompts {
		r := rand.New(rand.NewPCG(uint64(p), 7)) // the same numbers for every α
		own := rand.New(rand.NewPCG(uint64(p), math.Float64bits(alpha)))
		y := 3 - (alpha-w.best)*(alpha-w.best) + 2*r.NormFloat64() + w.noise*own.NormFloat64()
		s.Samples = append(s.Samples, Sample{Prompt: p, Reward: y, Length: 100 + 10*alpha + 5*r.NormFloat64(), Finished: true})
	}
	if w.change != nil {
		w.change(alpha, &s)
	}
	return s, nil
}

func run(t *testing.T, w *world, opt Options) *Result {
	t.Helper()
	if w.prompts == 0 {
		w.prompts = 200
	}
	r, err := Run(context.Background(), w.measure, opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRunFindsTheTop(t *testing.T) {
	w := &world{best: 1, noise: 0.3}
	r := run(t, w, Options{Alphas: []float64{0.5, 1, 1.5, 2}})
	if r.BestAlpha != 1 || r.HighestAlpha != 1 {
		t.Errorf("best %v, highest %v, want 1", r.BestAlpha, r.HighestAlpha)
	}
	if want := []float64{0, -1, 0.5, 1, 1.5, 2}; !reflect.DeepEqual(w.seen, want) {
		t.Errorf("measured %v, want %v", w.seen, want)
	}
	if r.IntervalLow > 1 || r.IntervalHigh < 1 || r.IntervalLow < 0.5 || r.IntervalHigh > 1.5 {
		t.Errorf("interval %v … %v does not surround 1 closely", r.IntervalLow, r.IntervalHigh)
	}
	share := 0.0
	for _, row := range r.Rows {
		share += row.BestShare
		if row.N != 200 || row.Prompts != 200 || row.Missing != 0 {
			t.Errorf("α %v: n %d, prompts %d, missing %d", row.Alpha, row.N, row.Prompts, row.Missing)
		}
	}
	if math.Abs(share-1) > 1e-9 {
		t.Errorf("shares add up to %v", share)
	}
	// The paired error is that of the noise alone: prompts differ by 2.
	row, _ := r.Row(1)
	if want := 0.3 * math.Sqrt2 / math.Sqrt(200); math.Abs(float64(row.DifferenceSE)-want) > 0.2*want {
		t.Errorf("paired SE %v, want about %v", row.DifferenceSE, want)
	}
	if want := 2 / math.Sqrt(200); math.Abs(float64(row.RewardSE)-want) > 0.2*want {
		t.Errorf("SE %v, want about %v", row.RewardSE, want)
	}
}

func TestRunPrefersTheSmaller(t *testing.T) {
	// 1.5 is the top, but with this much noise 1 cannot be told from it.
	w := &world{best: 1.4, noise: 3}
	r := run(t, w, Options{Alphas: []float64{0.5, 1, 1.5, 2}})
	row, _ := r.Row(float64(r.BestAlpha))
	if r.BestAlpha >= r.HighestAlpha || !row.Tied {
		t.Fatalf("best %v, highest %v, want a smaller, tied one", r.BestAlpha, r.HighestAlpha)
	}
	if len(r.Notes) == 0 || !strings.Contains(r.Notes[0], "cannot be told") {
		t.Errorf("notes %q do not say so", r.Notes)
	}
	// Nothing at all: the aligned model, never the SFT model.
	w = &world{prompts: 50, change: func(a float64, s *Score) {
		for i := range s.Samples {
			s.Samples[i].Reward = rand.New(rand.NewPCG(uint64(i), math.Float64bits(a))).NormFloat64()
		}
	}}
	if r := run(t, w, Options{Alphas: []float64{1, 2}}); r.BestAlpha != 0 && r.HighestAlpha >= 0 {
		t.Errorf("noise alone gives %v, want the aligned model", r.BestAlpha)
	}
}

func TestWiden(t *testing.T) {
	w := &world{best: 3, noise: 0.1}
	r := run(t, w, Options{Alphas: []float64{0.1, 0.2, 0.3, 0.4, 0.5}, Widen: 9})
	if want := []float64{0, -1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.2, 2, 3.6, 6.8}; !reflect.DeepEqual(w.seen, want) {
		t.Errorf("measured %v, want %v", w.seen, want)
	}
	if r.HighestAlpha != 3.6 {
		t.Errorf("highest %v, want 3.6", r.HighestAlpha)
	}
	if row, _ := r.Row(3.6); row.Added != "widened" {
		t.Errorf("3.6 was added as %q", row.Added)
	}
	w = &world{best: 3, noise: 0.1}
	r = run(t, w, Options{Alphas: []float64{0.5, 1}, Widen: 1})
	if got := r.Notes[len(r.Notes)-1]; !strings.Contains(got, "edge of the grid") {
		t.Errorf("the last note is %q, want one about the edge", got)
	}
	// Below −1 only where the grid goes there.
	w = &world{best: -3, noise: 0.1}
	if r = run(t, w, Options{Alphas: []float64{1}, Widen: 5}); len(r.Rows) != 3 || r.BestAlpha != -1 {
		t.Errorf("best %v of %d rows, want −1 of 3", r.BestAlpha, len(r.Rows))
	}
	w = &world{best: -3, noise: 0.1}
	if r = run(t, w, Options{Alphas: []float64{-2}, Widen: 5}); r.BestAlpha != -3 {
		t.Errorf("best %v, want −3", r.BestAlpha)
	}
}

func TestGolden(t *testing.T) {
	w := &world{best: 1.3, noise: 0.02}
	r := run(t, w, Options{Alphas: []float64{1, 2}, Golden: 12})
	if math.Abs(float64(r.HighestAlpha)-1.3) > 0.1 {
		t.Errorf("highest %v, want about 1.3 (measured %v)", r.HighestAlpha, w.seen)
	}
	if n := len(w.seen) - 4; n > 12 || n < 3 {
		t.Errorf("%d α were added, want 3 to 12", n)
	}
	w = &world{best: 1.3, noise: 20}
	if run(t, w, Options{Alphas: []float64{1, 2}, Golden: 12}); len(w.seen) > 8 {
		t.Errorf("%d α measured although noise hides all differences", len(w.seen))
	}
}

func TestGates(t *testing.T) {
	longer := func(a float64, s *Score) {
		for i := range s.Samples {
			smp := &s.Samples[i]
			smp.Length *= 1 + 0.2*max(a, 0)
			smp.Finished = a < 1.5 || i%2 == 0
			smp.Repetition = 0.1 * max(a, 0)
		}
		right := make([]float64, 100)
		for i := range right {
			if a < 1.2 || i%10 > 0 {
				right[i] = 1
			}
		}
		s.Tasks = map[string][]float64{"acc": right}
	}
	grid := []float64{0.5, 1, 1.5, 2}
	for _, tt := range []struct {
		name  string
		gates Gates
		best  Number
		gate  string // of α 2
	}{
		{"none", Gates{}, 2, ""},
		{"length", Gates{MaxLengthGrowth: 1.25}, 0.5, "length"},
		{"finished", Gates{MinFinished: 0.95}, 1, "finished 0.5 < 0.95"},
		{"repetition", Gates{MaxRepetition: 0.16}, 1.5, "repetition 0.2 > 0.16"},
		{"task", Gates{NoWorse: []string{"acc"}}, 1, "acc 0.1 below aligned"},
		{"unknown task", Gates{NoWorse: []string{"x"}}, Number(math.NaN()), "x was not measured"},
	} {
		w := &world{best: 2, noise: 0.2, prompts: 200, change: longer}
		r, err := Run(context.Background(), w.measure, Options{Alphas: grid, Gates: tt.gates})
		if math.IsNaN(float64(r.LengthEffect)) {
			t.Errorf("%s: no effect of length", tt.name)
		}
		if math.IsNaN(float64(tt.best)) != errors.Is(err, ErrNoAlpha) {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if r.BestAlpha != tt.best && !math.IsNaN(float64(tt.best)) {
			t.Errorf("%s: best %v, want %v", tt.name, r.BestAlpha, tt.best)
		}
		if row, _ := r.Row(2); !strings.Contains(row.Gate, tt.gate) || (tt.gate == "") != (row.Gate == "") {
			t.Errorf("%s: α 2 has gate %q, want %q", tt.name, row.Gate, tt.gate)
		}
	}
	if _, err := Run(context.Background(), (&world{}).measure, Options{Gates: Gates{MinFinished: 95}}); err == nil {
		t.Error("a share of 95 is no error")
	}
	// A gate ends the way up: nothing beyond it is tried.
	w := &world{best: 9, noise: 0.1, prompts: 50, change: longer}
	r := run(t, w, Options{Alphas: grid, Gates: Gates{MaxRepetition: 0.16}, Widen: 5})
	if r.BestAlpha != 1.5 || len(r.Rows) != 6 {
		t.Errorf("best %v of %d rows, want 1.5 of 6", r.BestAlpha, len(r.Rows))
	}
}

func TestLengthEffect(t *testing.T) {
	// Reward is length alone; α makes answers longer.
	w := &world{prompts: 100, change: func(a float64, s *Score) {
		for i := range s.Samples {
			smp := &s.Samples[i]
			smp.Length = 100 + 40*a + 30*rand.New(rand.NewPCG(uint64(i), math.Float64bits(a))).NormFloat64()
			smp.Reward = 0.02*smp.Length + float64(i) // and the prompt
		}
	}}
	r := run(t, w, Options{Alphas: []float64{1, 2}})
	if math.Abs(float64(r.LengthEffect)-0.02) > 1e-9 {
		t.Errorf("effect %v, want 0.02", r.LengthEffect)
	}
	row, _ := r.Row(2)
	if row.Difference < 1.4 || math.Abs(float64(row.AdjustedDifference)) > 1e-9 {
		t.Errorf("raw %v, adjusted %v, want about 1.6 and 0", row.Difference, row.AdjustedDifference)
	}
}

func TestMissing(t *testing.T) {
	w := &world{best: 1, noise: 0.3, prompts: 60, change: func(a float64, s *Score) {
		if a == 1 {
			s.Samples[3].Reward = math.NaN()
			s.Samples[4] = Sample{Prompt: 4, Reward: math.NaN(), Length: math.NaN(), Repetition: math.NaN()}
		}
	}}
	r := run(t, w, Options{Alphas: []float64{1}})
	row, _ := r.Row(1)
	if row.Missing != 2 || row.N != 58 || r.BestAlpha != 1 || row.Finished != 1 {
		t.Errorf("row %+v, best %v", row, r.BestAlpha)
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if back.BestAlpha != r.BestAlpha || len(back.Rows) != len(r.Rows) {
		t.Errorf("%s does not come back", b)
	}
	// Different numbers of samples cannot be paired.
	w.change = func(a float64, s *Score) {
		if a == 1 {
			s.Samples = s.Samples[:3]
		}
	}
	if _, err := Run(context.Background(), w.measure, Options{Alphas: []float64{1}}); err == nil || !strings.Contains(err.Error(), "3 samples") {
		t.Errorf("error %v, want one about 3 samples", err)
	}
}

func TestOnePromptManySamples(t *testing.T) {
	w := &world{best: 1, noise: 0.3, prompts: 50, change: func(_ float64, s *Score) {
		for i := range s.Samples {
			s.Samples[i].Prompt = 0
		}
	}}
	r := run(t, w, Options{Alphas: []float64{1}})
	if row, _ := r.Row(1); math.IsNaN(float64(row.RewardSE)) || row.Prompts != 1 {
		t.Errorf("SE %v of %d prompts, want an error over samples of 1", row.RewardSE, row.Prompts)
	}
	w = &world{best: 1, prompts: 1}
	r = run(t, w, Options{Alphas: []float64{1}})
	b, err := json.Marshal(r.Rows[0])
	if err != nil || !strings.Contains(string(b), `"reward_se":null`) {
		t.Errorf("one sample: %s, %v", b, err)
	}
}

func TestSameSeedSameBits(t *testing.T) {
	a := run(t, &world{best: 1, noise: 1}, Options{Alphas: []float64{0.5, 1}, Seed: 3})
	b := run(t, &world{best: 1, noise: 1}, Options{Alphas: []float64{0.5, 1}, Seed: 3})
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	if string(x) != string(y) {
		t.Errorf("two runs differ:\n%s\n%s", x, y)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &world{best: 1, prompts: 20}
	r, err := Run(ctx, func(ctx context.Context, a float64) (Score, error) {
		if a == 1 {
			cancel()
		}
		return w.measure(ctx, a)
	}, Options{Alphas: []float64{1, 2}})
	if !errors.Is(err, context.Canceled) || r == nil || len(r.Rows) != 3 {
		t.Errorf("error %v, result %+v, want what there was", err, r)
	}
}

// The quantiles are those of scipy.stats.t.ppf(0.975, v), scipy 1.14.
func TestQuantile(t *testing.T) {
	for v, want := range map[int]float64{4: 2.7764, 9: 2.2622, 29: 2.0452, 199: 1.9720} {
		if got := quantile(0.95, v); math.Abs(got-want) > 0.01*want {
			t.Errorf("%d degrees of freedom: %v, want %v", v, got, want)
		}
	}
}
