package train

import (
	"math"

	"expo/lm/model"
)

// A twin is the network written down plainly, in float64, for one sequence at a
// time. It knows nothing of packages kernel and of what network does to be fast.
type twin struct {
	cfg    *model.Config
	labels int
	layout *layout
	w      []float64
}

func (m *twin) tensor(name string) []float64 {
	for _, p := range m.layout.list {
		if p.name == name {
			return m.w[p.at : p.at+p.n]
		}
	}
	return nil
}

func (m *twin) linear(x []float64, name string, rows int) []float64 {
	w, b := m.tensor(name+".weight"), m.tensor(name+".bias")
	y := make([]float64, rows)
	for r := range y {
		for k, v := range x {
			y[r] += w[r*len(x)+k] * v
		}
		if b != nil {
			y[r] += b[r]
		}
	}
	return y
}

func (m *twin) rms(x []float64, name string) []float64 {
	w := m.tensor(name)
	var sum float64
	for _, v := range x {
		sum += v * v
	}
	s := 1 / math.Sqrt(sum/float64(len(x))+m.cfg.RMSNormEps)
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = v * s * w[i]
	}
	return y
}

func (m *twin) turn(x []float64, at int) {
	d := m.cfg.HeadDim
	for ; len(x) > 0; x = x[d:] {
		for i := range d / 2 {
			angle := float64(at) * math.Pow(m.cfg.Rope.Theta, -2*float64(i)/float64(d))
			s, c := math.Sincos(angle)
			a, b := x[i], x[i+d/2]
			x[i], x[i+d/2] = a*c-b*s, b*c+a*s
		}
	}
}

// states are the normalized last hidden states of a sequence.
func (m *twin) states(tokens []int) [][]float64 {
	cfg := m.cfg
	h, d := cfg.HiddenSize, cfg.HeadDim
	x := make([][]float64, len(tokens))
	for i, id := range tokens {
		x[i] = append([]float64(nil), m.tensor("model.embed_tokens.weight")[id*h:(id+1)*h]...)
	}
	for l := range cfg.NumHiddenLayers {
		at := "model.layers." + string(rune('0'+l)) + "."
		var q, k, v [][]float64
		for i := range x {
			n := m.rms(x[i], at+"input_layernorm.weight")
			q = append(q, m.linear(n, at+"self_attn.q_proj", cfg.NumAttentionHeads*d))
			k = append(k, m.linear(n, at+"self_attn.k_proj", cfg.NumKeyValueHeads*d))
			v = append(v, m.linear(n, at+"self_attn.v_proj", cfg.NumKeyValueHeads*d))
			m.turn(q[i], i)
			m.turn(k[i], i)
		}
		for i := range x {
			mix := make([]float64, cfg.NumAttentionHeads*d)
			for head := range cfg.NumAttentionHeads {
				kv := head * cfg.NumKeyValueHeads / cfg.NumAttentionHeads
				first := 0
				if cfg.Sliding != nil && cfg.Sliding[l] {
					first = max(0, i+1-cfg.SlidingWindow)
				}
				var p []float64
				var sum float64
				for j := first; j <= i; j++ {
					var s float64
					for e := range d {
						s += q[i][head*d+e] * k[j][kv*d+e]
					}
					p = append(p, math.Exp(s/math.Sqrt(float64(d))))
					sum += p[len(p)-1]
				}
				for j, pv := range p {
					for e := range d {
						mix[head*d+e] += pv / sum * v[first+j][kv*d+e]
					}
				}
			}
			for e, o := range m.linear(mix, at+"self_attn.o_proj", h) {
				x[i][e] += o
			}
		}
		for i := range x {
			n := m.rms(x[i], at+"post_attention_layernorm.weight")
			g := m.linear(n, at+"mlp.gate_proj", cfg.IntermediateSize)
			u := m.linear(n, at+"mlp.up_proj", cfg.IntermediateSize)
			for e := range g {
				g[e] = g[e] / (1 + math.Exp(-g[e])) * u[e]
			}
			for e, o := range m.linear(g, at+"mlp.down_proj", h) {
				x[i][e] += o
			}
		}
	}
	for i := range x {
		x[i] = m.rms(x[i], "model.norm.weight")
	}
	return x
}

// logProb is log π of token after state.
func (m *twin) logProb(state []float64, token int) float64 {
	name := "lm_head"
	if m.cfg.TieWordEmbeddings {
		name = "model.embed_tokens"
	}
	logits := m.linear(state, name, m.cfg.VocabSize)
	var sum float64
	for _, v := range logits {
		sum += math.Exp(v)
	}
	return logits[token] - math.Log(sum)
}

// score is the output of a classifier with one label.
func (m *twin) score(state []float64) float64 { return m.linear(state, "score", 1)[0] }
