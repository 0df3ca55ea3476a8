package train

import (
	"slices"
	"testing"

	"expo/lm/model"
)

// fifteenMillion is the shape of https://github.com/karpathy/llama2.c's
// stories15M.
func fifteenMillion() *model.Config {
	return &model.Config{
		ModelType: "llama", HiddenSize: 288, IntermediateSize: 768, NumHiddenLayers: 6,
		NumAttentionHeads: 6, NumKeyValueHeads: 6, HeadDim: 48, VocabSize: 32000, MaxPositionEmbeddings: 256,
		RMSNormEps: 1e-5, Rope: model.Rope{Theta: 1e4, Type: "default", Factor: 1}, TieWordEmbeddings: true,
		BOSTokenID: 1, EOSTokenIDs: []int{2}, PadTokenID: -1,
	}
}

// demoSize is the shape of stories260K.
func demoSize() *model.Config {
	c := fifteenMillion()
	c.HiddenSize, c.IntermediateSize, c.NumHiddenLayers, c.VocabSize = 64, 172, 5, 512
	c.NumAttentionHeads, c.NumKeyValueHeads, c.HeadDim = 8, 4, 8
	return c
}

// BenchmarkSFTStep is one step, optimizer included, on 8 sequences of 256 tokens
// that all count, or 64 of 32.
func BenchmarkSFTStep(b *testing.B) {
	for name, cfg := range map[string]*model.Config{"15M": fifteenMillion(), "260K": demoSize(), "260K-short": demoSize()} {
		for _, c := range []Compute{F32, BF16} {
			b.Run(name+"/"+string(c), func(b *testing.B) {
				l := newLayout(cfg, 0)
				m := &Model{cfg: cfg, layout: l, w: make([]float32, l.total)}
				l.initialize(m.w, 0.02, 1, nil)
				g := make([]float32, l.total)
				o, err := Options{Compute: c}.defaults(1e-4, cfg)
				if err != nil {
					b.Fatal(err)
				}
				team := newTeam(o.Jobs)
				defer team.end()
				n := newNetwork(cfg, 0, l, m.w, g, 256, c.format(), team)
				s := &state{m: m, o: &o, m1: make([]float32, l.total), m2: make([]float32, l.total)}
				var batch batch
				count, length := 8, 256
				if name == "260K-short" {
					count, length = 64, 32
				}
				for _, t := range sequencesFor(cfg, slices.Repeat([]int{length + 1}, count)...) {
					batch.add(sequence{tokens: t, from: 1})
				}
				for range batch.targets {
					batch.coef = append(batch.coef, -1/float32(len(batch.targets)))
				}
				for b.Loop() {
					clear(g)
					n.forward(batch.inputs)
					n.logProbs(batch.targets, batch.room(), batch.coef)
					n.backward()
					n.update(s, g, n.sumSquares(g), 1e-4)
					s.step++
				}
				b.ReportMetric(float64(len(n.tokens)*b.N)/b.Elapsed().Seconds(), "tokens/s")
			})
		}
	}
}
