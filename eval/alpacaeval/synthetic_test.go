package alpacaeval

import (
	"math"
	"math/rand/v2"
)

// synthetic makes n comparisons of a model that wins by a known law, and the
// gamed rows and difficulties to go with them.
func synthetic(n int, seed uint64) (*Judged, *Reference, *Gamed) {
	r := rand.New(rand.NewPCG(seed, 2))
	ref := &Reference{Difficulty: make([]float64, n)}
	j := &Judged{Judge: "judge", Baseline: "base", Model: "model", Rows: make([]Comparison, n)}
	for i := range n {
		ref.Difficulty[i] = r.NormFloat64() * 1.5
		j.Rows[i] = Comparison{Index: i, LenBaseline: 500 + r.IntN(3000), LenModel: 500 + r.IntN(2500)}
	}
	ref.Difficulty[0] = 0
	delta, sd := lengthDifferences(j.Rows)
	for i := range j.Rows {
		p := sigmoid(-0.9*standardized(delta[i], sd) + 0.5*ref.Difficulty[i] - 1)
		// A judge is mostly sure of itself.
		noise := sigmoid(math.Log(p/(1-p)) + 3*r.NormFloat64())
		j.Rows[i].Preference = 1 + noise
	}
	g := &Gamed{}
	for k := range gamedModels {
		for i := range n {
			tanh := math.Tanh(1.5 - 3*float64(k) + r.NormFloat64()*0.5)
			g.Tanh = append(g.Tanh, tanh)
			g.Difficulty = append(g.Difficulty, ref.Difficulty[i])
			g.Preference = append(g.Preference, sigmoid(-0.9*tanh+0.5*ref.Difficulty[i]+r.NormFloat64()))
		}
	}
	return j, ref, g
}
