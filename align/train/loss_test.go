package train

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"expo/internal/kernel"
)

// TestPairLosses checks values against the formulas as TRL's DPOTrainer and the
// SPPO authors' trainer state them, and derivatives against differences.
func TestPairLosses(t *testing.T) {
	logSigmoid := func(x float64) float64 { return math.Log(1 / (1 + math.Exp(-x))) }
	for name, c := range map[string]struct {
		opt  DPOOptions
		want func(h float64) float64
	}{
		"sigmoid": {DPOOptions{Beta: 0.3, Loss: "sigmoid"}, func(h float64) float64 { return -logSigmoid(0.3 * h) }},
		"smooth": {DPOOptions{Beta: 0.3, Loss: "sigmoid", LabelSmoothing: 0.2}, func(h float64) float64 {
			return -0.8*logSigmoid(0.3*h) - 0.2*logSigmoid(-0.3*h)
		}},
		"hinge": {DPOOptions{Beta: 0.3, Loss: "hinge"}, func(h float64) float64 { return max(0, 1-0.3*h) }},
		"ipo":   {DPOOptions{Beta: 0.3, Loss: "ipo"}, func(h float64) float64 { return math.Pow(h-1/0.6, 2) }},
	} {
		loss := c.opt.loss()
		for _, dw := range []float64{-30, -2, 0, 0.5, 7} {
			for _, dl := range []float64{-5, 0, 1.5, 20} {
				got, gw, gl := loss(0, dw, dl)
				if want := c.want(dw - dl); math.Abs(got-want) > 1e-12*(1+math.Abs(want)) {
					t.Errorf("%s at %v, %v: loss %v, want %v", name, dw, dl, got, want)
				}
				const h = 1e-5
				up, _, _ := loss(0, dw+h, dl)
				down, _, _ := loss(0, dw-h, dl)
				if want := (up - down) / (2 * h); math.Abs(gw-want) > 1e-5*(1+math.Abs(want)) {
					t.Errorf("%s at %v, %v: derivative by chosen %v, want %v", name, dw, dl, gw, want)
				}
				up, _, _ = loss(0, dw, dl+h)
				down, _, _ = loss(0, dw, dl-h)
				if want := (up - down) / (2 * h); math.Abs(gl-want) > 1e-5*(1+math.Abs(want)) {
					t.Errorf("%s at %v, %v: derivative by rejected %v, want %v", name, dw, dl, gl, want)
				}
			}
		}
	}
	// Far out nothing overflows.
	if l, _, _ := (&DPOOptions{Beta: 1, Loss: "sigmoid"}).loss()(0, -2000, 0); l != 2000 {
		t.Errorf("loss of a margin of −2000 is %v", l)
	}
	if got := softplus(-800); got != 0 {
		t.Errorf("softplus(−800) = %v", got)
	}
}

// The first step of DPO is at the reference: loss ln 2, and no rewards.
func TestDPOBegins(t *testing.T) {
	for loss, want := range map[string]float64{"sigmoid": math.Ln2, "hinge": 1, "ipo": 25} {
		var first *Step
		o := quick()
		o.Log = func(s Step) {
			if s.Step == 1 {
				first = &s
			}
		}
		if _, err := DPO(context.Background(), tiny(t), somePairs(20), DPOOptions{Options: o, Loss: loss, Beta: 0.1}); err != nil {
			t.Fatal(err)
		}
		if math.Abs(first.Loss-want) > 1e-9 || first.Chosen != 0 || first.Margin != 0 || first.Accuracy != 0 {
			t.Errorf("%s begins with %+v %+v, want loss %v and rewards 0", loss, first, first.PreferenceStep, want)
		}
	}
}

func TestMethodsLearn(t *testing.T) {
	ctx := context.Background()
	o := Options{Steps: 60, BatchSize: 8, LearningRate: 1e-2, Seed: 1}
	m := tiny(t)
	r, err := SFT(ctx, m, someExamples(40), o)
	if err != nil {
		t.Fatal(err)
	}
	if start := math.Log(40); r.Loss > 0.7*start {
		t.Errorf("SFT ends with loss %v, and chance is %v", r.Loss, start)
	}
	pairs := somePairs(40)
	o.LearningRate = 3e-3
	d, err := DPO(ctx, m.Clone(), pairs, DPOOptions{Options: o})
	if err != nil {
		t.Fatal(err)
	}
	if d.Last.Accuracy < 0.99 || d.Last.Margin < 0.5 || d.Loss > 0.5 {
		t.Errorf("DPO ends with %+v %+v", d.Last, d.Last.PreferenceStep)
	}
	w, err := Reward(ctx, m, pairs, RewardOptions{Options: o})
	if err != nil {
		t.Fatal(err)
	}
	if w.Last.Accuracy < 0.99 || w.Loss > 0.3 {
		t.Errorf("the reward model ends with %+v %+v", w.Last, w.Last.PreferenceStep)
	}
	if c := m.Config(); c.NumLabels != 1 || c.PadTokenID != 0 {
		t.Errorf("the reward model has %d labels and padding token %d, want 1 and 0 (<unk>)", c.NumLabels, c.PadTokenID)
	}
	// A classifier can be trained further, but is no language model any more.
	if _, err := Reward(ctx, m, pairs, RewardOptions{Options: o}); err != nil {
		t.Error(err)
	}
	if _, err := SFT(ctx, m, someExamples(3), o); err == nil || !strings.Contains(err.Error(), "language model") {
		t.Errorf("SFT of a classifier: error is %v", err)
	}
}

func TestBF16Gradient(t *testing.T) {
	cfg := tinyConfigs()["wide"]
	l := newLayout(cfg, 0)
	w := randomWeights(l, 4)
	for i := range w {
		w[i] *= 0.4 // activations as trained models have them
	}
	inputs, targets, coef := targetsFor(sequencesFor(cfg, 60, 31))
	team := newTeam(2)
	defer team.end()
	gradient := func(f kernel.Format) ([]float32, []float64) {
		g := make([]float32, l.total)
		n := newNetwork(cfg, 0, l, w, g, 64, f, team)
		logp := make([]float64, len(targets))
		n.forward(inputs)
		n.logProbs(targets, logp, coef)
		n.backward()
		return g, logp
	}
	a, pa := gradient(kernel.F32)
	b, pb := gradient(kernel.BF16)
	for i := range pa {
		if math.Abs(pa[i]-pb[i]) > 0.05*(1+math.Abs(pa[i])) {
			t.Errorf("target %d: log-probability %v in bf16, %v in f32", i, pb[i], pa[i])
		}
	}
	for _, p := range l.list {
		var aa, bb, ab float64
		for i := p.at; i < p.at+p.n; i++ {
			x, y := float64(a[i]), float64(b[i])
			aa, bb, ab = aa+x*x, bb+y*y, ab+x*y
		}
		if cos := ab / math.Sqrt(aa*bb); cos < 0.99 {
			t.Errorf("%s: gradients in bf16 and f32 have a cosine of %v", p.name, cos)
		}
		if sameFloats(a[p.at:p.at+p.n], b[p.at:p.at+p.n]) {
			t.Errorf("%s: bf16 changes nothing", p.name)
		}
	}
}

func TestExtremes(t *testing.T) {
	for _, c := range []struct {
		scores      []float64
		best, worst int
		win, lose   float64
	}{
		{[]float64{0, 0}, 0, 0, 0.5, 0.5},
		{[]float64{1, 3, 2}, 1, 0, (0.5 + sigmoid(2) + sigmoid(1)) / 3, (0.5 + sigmoid(-2) + sigmoid(-1)) / 3},
		{[]float64{5, -1, 5, -1}, 0, 1, (2*0.5 + 2*sigmoid(6)) / 4, (2*0.5 + 2*sigmoid(-6)) / 4},
	} {
		best, worst, win, lose := extremes(c.scores)
		if best != c.best || worst != c.worst || math.Abs(win-c.win) > 1e-15 || math.Abs(lose-c.lose) > 1e-15 {
			t.Errorf("extremes(%v) = %d, %d, %v, %v, want %d, %d, %v, %v", c.scores, best, worst, win, lose, c.best, c.worst, c.win, c.lose)
		}
	}
}

// The first step of SPPO has Δ = 0: its loss is η²·mean of the squares, and η
// multiplies.
func TestSPPOBegins(t *testing.T) {
	const eta = 30
	var first []Step
	o := quick()
	o.LearningRate = 1e-6
	o.Log = func(s Step) {
		if s.Step == 1 {
			first = append(first, s)
		}
	}
	scores := []float64{0, 2, -1}
	opt := SPPOOptions{Options: o, Eta: eta, Samples: 3, Iterations: 2, Sample: fakeSample,
		Score: func(_ context.Context, prompts []Pair, _ [][]string) (out [][]float64, err error) {
			for range prompts {
				out = append(out, scores)
			}
			return out, nil
		}}
	reports, err := SPPO(context.Background(), tiny(t), somePairs(16), opt)
	if err != nil {
		t.Fatal(err)
	}
	_, _, win, lose := extremes(scores)
	want := eta * eta * ((win-0.5)*(win-0.5) + (lose-0.5)*(lose-0.5)) / 2
	if len(first) != 2 || len(reports) != 2 {
		t.Fatalf("%d iterations were logged and %d reported, want 2", len(first), len(reports))
	}
	for i, s := range first {
		if got, want := reports[i].Score, 1.0/3; math.Abs(got-want) > 1e-12 {
			t.Errorf("iteration %d has the mean score %v, want %v", i+1, got, want)
		}
		if s.Iteration != i+1 || math.Abs(s.Loss-want) > 1e-6*want {
			t.Errorf("iteration %d begins as %d with loss %v, want %v", i+1, s.Iteration, s.Loss, want)
		}
	}
}

func TestSPPOFaults(t *testing.T) {
	ctx := context.Background()
	good := SPPOOptions{Options: quick(), Samples: 3, Iterations: 1, Sample: fakeSample, Score: fakeScore}
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		change func(*SPPOOptions)
		want   string
	}{
		"no sampler": {func(o *SPPOOptions) { o.Sample = nil }, "how to sample"},
		"one sample": {func(o *SPPOOptions) { o.Samples = 1 }, "cannot be compared"},
		"iterations": {func(o *SPPOOptions) { o.Iterations = 9 }, "need as many prompts"},
		"eta":        {func(o *SPPOOptions) { o.Eta = -1 }, "eta"},
		"score fails": {func(o *SPPOOptions) {
			o.Score = func(context.Context, []Pair, [][]string) ([][]float64, error) { return nil, broken }
		}, "broken"},
		"too few answers": {func(o *SPPOOptions) {
			o.Sample = func(context.Context, SampleRequest) ([][]string, error) { return [][]string{{"a"}}, nil }
		}, "were answered"},
		"not a number": {func(o *SPPOOptions) {
			o.Score = func(_ context.Context, p []Pair, _ [][]string) (out [][]float64, err error) {
				for range p {
					out = append(out, []float64{1, math.NaN(), 2})
				}
				return out, nil
			}
		}, "has score NaN"},
		"all equal": {func(o *SPPOOptions) {
			o.Score = func(_ context.Context, p []Pair, _ [][]string) (out [][]float64, err error) {
				for range p {
					out = append(out, []float64{1, 1, 1})
				}
				return out, nil
			}
		}, "equally good"},
	} {
		o := good
		c.change(&o)
		if _, err := SPPO(ctx, tiny(t), somePairs(4), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q in it", name, err, c.want)
		}
	}
}
