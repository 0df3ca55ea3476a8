package train

import (
	"math"
	"math/rand/v2"
	"testing"

	"expo/internal/kernel"
	"expo/lm/model"
)

// tinyConfigs cover what configurations differ in.
func tinyConfigs() map[string]*model.Config {
	base := model.Config{
		ModelType: "llama", HiddenSize: 12, IntermediateSize: 20, NumHiddenLayers: 2,
		NumAttentionHeads: 4, NumKeyValueHeads: 2, HeadDim: 4, VocabSize: 23, MaxPositionEmbeddings: 128,
		RMSNormEps: 1e-5, Rope: model.Rope{Theta: 1e4, Type: "default", Factor: 1}, BOSTokenID: 1, EOSTokenIDs: []int{2}, PadTokenID: -1,
	}
	tied, biased, window, wide := base, base, base, base
	tied.TieWordEmbeddings = true
	biased.ModelType, biased.QKVBias, biased.OutBias, biased.MLPBias, biased.HeadDim = "qwen2", true, true, true, 6
	window.ModelType, window.SlidingWindow, window.Sliding, window.NumKeyValueHeads = "mistral", 3, []bool{true, false}, 4
	wide.HiddenSize, wide.IntermediateSize, wide.HeadDim, wide.VocabSize, wide.TieWordEmbeddings = 64, 80, 16, 100, true
	return map[string]*model.Config{"untied": &base, "tied": &tied, "biased": &biased, "window": &window, "wide": &wide}
}

// randomWeights are large enough for every nonlinearity to bend.
func randomWeights(l *layout, seed uint64) []float32 {
	w := make([]float32, l.total)
	l.initialize(w, 0.3, seed, nil)
	rng := rand.New(rand.NewPCG(seed, 99))
	for _, p := range l.list {
		if p.kind != matrix {
			for i := range p.n {
				w[p.at+i] += float32(0.3 * rng.NormFloat64())
			}
		}
	}
	return w
}

func widened(w []float32) []float64 {
	x := make([]float64, len(w))
	for i, v := range w {
		x[i] = float64(v)
	}
	return x
}

// sequencesFor are of several lengths, one longer than a block of queries.
func sequencesFor(cfg *model.Config, lengths ...int) (s [][]int) {
	rng := rand.New(rand.NewPCG(7, 7))
	for _, n := range lengths {
		t := make([]int, n)
		for i := range t {
			t[i] = rng.IntN(cfg.VocabSize)
		}
		s = append(s, t)
	}
	return s
}

// every position but the last of each sequence predicts the next token, with
// coefficients that differ.
func targetsFor(s [][]int) (inputs [][]int, targets []target, coef []float32) {
	row := 0
	for _, t := range s {
		inputs = append(inputs, t[:len(t)-1])
		for i := range t[:len(t)-1] {
			if (i+row)%3 != 1 {
				targets = append(targets, target{row + i, t[i+1]})
				coef = append(coef, float32(math.Sin(float64(row+i))-0.2))
			}
		}
		row += len(t) - 1
	}
	return inputs, targets, coef
}

// checkGradient compares g with central differences of loss in float64 at some
// elements of every tensor.
func checkGradient(t *testing.T, l *layout, w []float64, g []float32, samples int, loss func() float64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(8, 8))
	for _, p := range l.list {
		var worst, scale float64
		for range min(p.n, samples) {
			i := p.at + rng.IntN(p.n)
			const h = 1e-5
			kept := w[i]
			w[i] = kept + h
			up := loss()
			w[i] = kept - h
			down := loss()
			w[i] = kept
			want := (up - down) / (2 * h)
			worst = max(worst, math.Abs(float64(g[i])-want))
			scale = max(scale, math.Abs(want))
		}
		if worst > 2e-4*scale+2e-5 {
			t.Errorf("%s: gradient is off by %.3g where the largest is %.3g", p.name, worst, scale)
		}
	}
}

func TestGradient(t *testing.T) {
	for name, cfg := range tinyConfigs() {
		t.Run(name, func(t *testing.T) {
			l := newLayout(cfg, 0)
			w := randomWeights(l, 1)
			g := make([]float32, l.total)
			team := newTeam(2)
			defer team.end()
			n := newNetwork(cfg, 0, l, w, g, 128, kernel.F32, team)
			s, samples := sequencesFor(cfg, 9, 2, 5), 12
			if name == "window" {
				samples = 4
				s = sequencesFor(cfg, 99, 3)
			}
			inputs, targets, coef := targetsFor(s)
			logp := make([]float64, len(targets))
			n.forward(inputs)
			n.logProbs(targets, logp, coef)
			n.backward()

			m := &twin{cfg: cfg, layout: l, w: widened(w)}
			each := func() (out []float64) {
				row, next := 0, 0
				for _, in := range inputs {
					states := m.states(in)
					for ; next < len(targets) && targets[next].row < row+len(in); next++ {
						out = append(out, m.logProb(states[targets[next].row-row], targets[next].token))
					}
					row += len(in)
				}
				return out
			}
			for i, want := range each() {
				if math.Abs(logp[i]-want) > 2e-5*(1+math.Abs(want)) {
					t.Fatalf("target %d: log-probability %v, want %v", i, logp[i], want)
				}
			}
			checkGradient(t, l, m.w, g, samples, func() (sum float64) {
				for i, v := range each() {
					sum += float64(coef[i]) * v
				}
				return sum
			})
		})
	}
}

func TestScoreGradient(t *testing.T) {
	cfg := tinyConfigs()["tied"]
	l := newLayout(cfg, 1)
	w := randomWeights(l, 2)
	g := make([]float32, l.total)
	team := newTeam(1)
	defer team.end()
	n := newNetwork(cfg, 1, l, w, g, 64, kernel.F32, team)
	s := sequencesFor(cfg, 7, 4, 9)
	targets := []target{{6, 0}, {9, 0}, {19, 0}} // the second one before its last token
	coef := []float32{0.7, -1.1, 0.4}
	got := make([]float64, 3)
	n.forward(s)
	n.scores(targets, got)
	n.scoresBack(targets, coef)
	n.backward()
	m := &twin{cfg: cfg, labels: 1, layout: l, w: widened(w)}
	each := func() []float64 {
		return []float64{m.score(m.states(s[0])[6]), m.score(m.states(s[1])[2]), m.score(m.states(s[2])[8])}
	}
	for i, want := range each() {
		if math.Abs(got[i]-want) > 1e-5*(1+math.Abs(want)) {
			t.Errorf("score %d is %v, want %v", i, got[i], want)
		}
	}
	checkGradient(t, l, m.w, g, 12, func() (sum float64) {
		for i, v := range each() {
			sum += float64(coef[i]) * v
		}
		return sum
	})
}
