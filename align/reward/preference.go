package reward

import (
	"context"
	"math"
)

// Rewards turns the logits of all ordered pairs of K responses into a reward
// for each, s_i = mean over all j of (m[i][j] − m[j][i]): above 0 for one that
// wins more than it loses. m is (K, K); its diagonal does not matter. This is
// what LLM-Blender's rank returns as scores.
func Rewards(m [][]float64) []float64 {
	s := make([]float64, len(m))
	for i := range m {
		for j := range m {
			if i != j {
				s[i] += m[i][j] - m[j][i]
			}
		}
		s[i] /= float64(len(m))
	}
	return s
}

// WinProbabilities is P(y_i ≻ y_j) = σ(s_i − s_j) for rewards s of K responses to
// one prompt, (K, K), and for each response its mean over all j, itself among
// them (with ½): the probability that it beats a response that the same model
// draws, as SPPO estimates it.
func WinProbabilities(s []float64) (p [][]float64, mean []float64) {
	p, mean = make([][]float64, len(s)), make([]float64, len(s))
	for i := range s {
		p[i] = make([]float64, len(s))
		for j := range s {
			p[i][j] = sigmoid(s[i] - s[j])
			mean[i] += p[i][j]
		}
		mean[i] /= float64(len(s))
	}
	return p, mean
}

// BradleyTerry is the preference that belongs to a reward:
// P(A ≻ B) = σ(reward of A − reward of B), for a Scorer that was trained on such
// pairs.
type BradleyTerry struct {
	Scorer Scorer
}

// Prefer scores both sides of each pair. Responses count as ended.
func (b BradleyTerry) Prefer(ctx context.Context, pairs []Pair) ([]float64, error) {
	items := make([]Item, 0, 2*len(pairs))
	for _, p := range pairs {
		items = append(items,
			Item{Messages: p.Messages, Prompt: p.Prompt, Response: p.A, Ended: true, Reference: p.B},
			Item{Messages: p.Messages, Prompt: p.Prompt, Response: p.B, Ended: true, Reference: p.A})
	}
	r, err := b.Scorer.Score(ctx, items)
	if r == nil {
		return nil, err
	}
	out, errs := make([]float64, len(pairs)), make([]error, len(pairs))
	some, _ := err.(*PartialError)
	for i := range pairs {
		out[i] = sigmoid(r[2*i] - r[2*i+1])
		if some != nil {
			errs[i] = some.Errors[2*i]
			if errs[i] == nil {
				errs[i] = some.Errors[2*i+1]
			}
		}
	}
	if err != nil && some == nil {
		return nil, err
	}
	return partial(out, errs)
}

func sigmoid(x float64) float64 {
	if x < 0 {
		e := math.Exp(x)
		return e / (1 + e)
	}
	return 1 / (1 + math.Exp(-x))
}
