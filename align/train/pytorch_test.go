package train

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"

	"expo/internal/kernel"
	"expo/lm/model"
)

// formula are the weights of testdata/gradients.py.
func formula(l *layout, shift float64) []float32 {
	w := make([]float32, l.total)
	for i, p := range l.list {
		for e := range p.n {
			x := math.Sin(1 + 0.37*float64(e) + 2.1*float64(i) + shift)
			if strings.Contains(p.name, "norm") {
				w[p.at+e] = float32(1 + 0.2*x)
			} else {
				w[p.at+e] = float32(0.3 * x)
			}
		}
	}
	return w
}

// goldenSequences are those of testdata/gradients.py.
var goldenSequences = []sequence{
	{[]int{1, 5, 9, 3, 14, 7, 2}, 3}, {[]int{1, 8, 8, 20, 2}, 2}, {[]int{1, 5, 9, 11, 2}, 3}, {[]int{1, 8, 8, 4, 17, 2}, 3},
}

type goldenCase struct {
	Loss      float64
	Losses    []float64
	Scores    []float64
	Gradients map[string][]float64
	Weights   map[string][]float64
}

// checkSummary compares norm, a weighted sum and the first elements of every
// tensor of x.
func checkSummary(t *testing.T, l *layout, x []float32, want map[string][]float64, tolerance float64) {
	t.Helper()
	if len(want) != len(l.list) {
		t.Fatalf("%d tensors, want %d", len(l.list), len(want))
	}
	for _, p := range l.list {
		v := x[p.at : p.at+p.n]
		var square, weighed float64
		for i, f := range v {
			square += float64(f) * float64(f)
			weighed += float64(f) * math.Cos(float64(i))
		}
		w := want[p.name]
		for i, got := range []float64{math.Sqrt(square), weighed, float64(v[0]), float64(v[1]), float64(v[2])} {
			if math.Abs(got-w[i]) > tolerance*(w[0]+1e-3) {
				t.Errorf("%s: figure %d is %v, want %v", p.name, i, got, w[i])
			}
		}
	}
}

func TestAgainstPyTorch(t *testing.T) {
	b, err := os.ReadFile("testdata/gradients.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct{ Cases map[string]goldenCase }
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	for _, name := range kernel.Implementations() {
		t.Run(name, func(t *testing.T) {
			restore, err := kernel.Use(name)
			if err != nil {
				t.Fatal(err)
			}
			defer restore()
			againstPyTorch(t, golden.Cases)
		})
	}
}

func againstPyTorch(t *testing.T, cases map[string]goldenCase) {
	llama := tinyConfigs()["tied"]
	qwen := *tinyConfigs()["untied"]
	qwen.ModelType, qwen.QKVBias, qwen.HiddenSize = "qwen2", true, 16
	narrow := *llama
	narrow.HiddenSize = 16
	setUp := func(cfg *model.Config, labels int) (*Model, *network, []float32) {
		m := &Model{cfg: cfg, labels: labels, layout: newLayout(cfg, labels)}
		m.w = formula(m.layout, 0)
		g := make([]float32, len(m.w))
		team := newTeam(1)
		t.Cleanup(team.end)
		return m, newNetwork(cfg, labels, m.layout, m.w, g, 64, kernel.F32, team), g
	}
	near := func(t *testing.T, what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-5*(1+math.Abs(want)) {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	imitate := func(n *network, g []float32) float64 {
		clear(g)
		var b batch
		total := 0
		for _, s := range goldenSequences {
			b.add(s)
			total += s.learned()
		}
		for range b.targets {
			b.coef = append(b.coef, -1/float32(total))
		}
		n.forward(b.inputs)
		n.logProbs(b.targets, b.room(), b.coef)
		n.backward()
		var sum float64
		for _, l := range b.logp {
			sum -= l
		}
		return sum / float64(total)
	}
	for name, cfg := range map[string]*model.Config{"sft": &narrow, "sft biased": &qwen} {
		t.Run(name, func(t *testing.T) {
			m, n, g := setUp(cfg, 0)
			want := cases[name]
			near(t, "loss", imitate(n, g), want.Loss)
			checkSummary(t, m.layout, g, want.Gradients, 2e-5)
		})
	}
	pairs := &pairs{
		chosen:   []sequence{goldenSequences[0], goldenSequences[2]},
		rejected: []sequence{goldenSequences[1], goldenSequences[3]}, rows: []int{0, 1},
	}
	t.Run("dpo", func(t *testing.T) {
		m, n, g := setUp(&narrow, 0)
		opt := DPOOptions{Beta: 0.3, Loss: "sigmoid"}
		task := pairs.against("dpo", opt.Beta, nil, opt.loss())
		copy(m.w, formula(m.layout, 0.05))
		if err := task.before(context.Background(), n, []int{0, 1}); err != nil {
			t.Fatal(err)
		}
		copy(m.w, formula(m.layout, 0))
		want := cases["dpo"]
		near(t, "loss", task.batch(n, []int{0, 1}, 2).loss, want.Loss)
		checkSummary(t, m.layout, g, want.Gradients, 5e-5)
	})
	t.Run("reward", func(t *testing.T) {
		cfg := narrow
		cfg.NumLabels, cfg.PadTokenID = 1, 0
		m, n, g := setUp(&cfg, 1)
		want := cases["reward"]
		task := rewardTask(m, pairs, 0)
		r := task.batch(n, []int{0, 1}, 2)
		near(t, "loss", r.loss, want.Loss)
		near(t, "mean chosen score", r.stats.Chosen/2, (want.Scores[0]+want.Scores[2])/2)
		near(t, "mean rejected score", r.stats.Rejected/2, (want.Scores[1]+want.Scores[3])/2)
		checkSummary(t, m.layout, g, want.Gradients, 5e-5)
	})
	t.Run("steps", func(t *testing.T) {
		m, n, g := setUp(&narrow, 0)
		o, err := Options{LearningRate: 0.01, WeightDecay: 0.1, Clip: 1}.defaults(1, &narrow)
		if err != nil {
			t.Fatal(err)
		}
		s := &state{m: m, o: &o, m1: make([]float32, len(g)), m2: make([]float32, len(g))}
		want := cases["steps"]
		for i, l := range want.Losses {
			near(t, "loss", imitate(n, g), l)
			n.update(s, g, math.Sqrt(n.sumSquares(g)), 0.01)
			s.step = i + 1
		}
		checkSummary(t, m.layout, m.w, want.Weights, 2e-4)
	})
}
