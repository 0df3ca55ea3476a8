package search

import (
	"context"
	"fmt"
	"math"
	"slices"
)

// PairLogprobs are the log-likelihoods of the two answers of a preference pair
// given its prompt, summed over the tokens of the answer.
type PairLogprobs struct {
	Chosen, Rejected             float64
	ChosenTokens, RejectedTokens int
}

// Likelihoods gives the log-likelihoods of the same pairs, in the same order,
// at one α.
type Likelihoods func(ctx context.Context, alpha float64) ([]PairLogprobs, error)

// ScanOptions are for Scan.
type ScanOptions struct {
	Alphas []float64 // besides the ends of the line
	Beta   float64   // of the DPO loss; 0 means 0.1
	// Keep is how many α, apart from the ends of the line, are marked as
	// promising; 0 means 3.
	Keep int
	// Measured, if not nil, is called after each α.
	Measured func(ScanRow)
}

// ScanRow is what log-likelihoods say about one α. With h = log-ratio of chosen
// to rejected at α less the same at the SFT model:
type ScanRow struct {
	Alpha    float64 `json:"alpha"`
	Margin   Number  `json:"margin"` // mean h, nats
	MarginSE Number  `json:"margin_se"`
	Accuracy Number  `json:"accuracy"` // share of pairs with h > 0; NaN at the SFT model
	// Loss is the mean DPO loss −log σ(βh). It falls while h grows, and rises
	// again when the pairs that α gets wrong go far wrong.
	Loss   Number `json:"loss"`
	LossSE Number `json:"loss_se"`
	// ChosenLogprob and RejectedLogprob are per token. Where the first falls, a
	// model moves away even from what is preferred.
	ChosenLogprob   Number `json:"chosen_logprob"`
	RejectedLogprob Number `json:"rejected_logprob"`
	Promising       bool   `json:"promising"`
}

// Scanned is a scan.
type Scanned struct {
	Beta  float64 `json:"beta"`
	Pairs int     `json:"pairs"`
	// BestAlpha has the highest log-likelihood of the chosen answers' advantage,
	// that is the lowest loss.
	BestAlpha Number    `json:"best_alpha"`
	Rows      []ScanRow `json:"rows"`
}

// Scan looks along the line without generating anything: forward passes over
// preference pairs at each α. Which α is best by reward it cannot say, since
// margins grow with α for as long as the model is anything like linear in it;
// it says from where on the line is worth looking at, and where it breaks down.
func Scan(ctx context.Context, likelihoods Likelihoods, opt ScanOptions) (*Scanned, error) {
	if opt.Beta == 0 {
		opt.Beta = 0.1
	}
	if opt.Keep == 0 {
		opt.Keep = 3
	}
	base, err := likelihoods(ctx, SFT)
	if err != nil {
		return nil, err
	}
	alphas := append([]float64{SFT, Aligned}, opt.Alphas...)
	slices.Sort(alphas)
	alphas = slices.Compact(alphas)
	r := &Scanned{Beta: opt.Beta, Pairs: len(base)}
	for _, a := range alphas {
		at := base
		if a != SFT {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if at, err = likelihoods(ctx, a); err != nil {
				return nil, err
			}
		}
		if len(at) != len(base) {
			return nil, fmt.Errorf("search: α %g has %d pairs, the SFT model %d", a, len(at), len(base))
		}
		row := scanRow(a, at, base, opt.Beta)
		r.Rows = append(r.Rows, row)
		if opt.Measured != nil {
			opt.Measured(row)
		}
	}
	promise(r, opt.Keep)
	return r, nil
}

func scanRow(alpha float64, at, base []PairLogprobs, beta float64) ScanRow {
	var h, right, loss, chosen, rejected []float64
	for i, p := range at {
		m := (p.Chosen - p.Rejected) - (base[i].Chosen - base[i].Rejected)
		h = append(h, m)
		loss = append(loss, softplus(-beta*m))
		switch {
		case math.IsNaN(m) || alpha == SFT:
			right = append(right, math.NaN())
		case m > 0:
			right = append(right, 1)
		default:
			right = append(right, 0)
		}
		chosen = append(chosen, p.Chosen/float64(p.ChosenTokens))
		rejected = append(rejected, p.Rejected/float64(p.RejectedTokens))
	}
	m, l := mean(known(h)), mean(known(loss))
	return ScanRow{
		Alpha: alpha, Margin: Number(m.Mean), MarginSE: Number(m.SE),
		Accuracy: Number(mean(known(right)).Mean), Loss: Number(l.Mean), LossSE: Number(l.SE),
		ChosenLogprob:   Number(mean(known(chosen)).Mean),
		RejectedLogprob: Number(mean(known(rejected)).Mean),
	}
}

// softplus is log(1 + eˣ) without overflow.
func softplus(x float64) float64 { return max(0, x) + math.Log1p(math.Exp(-math.Abs(x))) }

// promise marks the α of the lowest losses.
func promise(r *Scanned, keep int) {
	var order []int
	for i, row := range r.Rows {
		if !math.IsNaN(float64(row.Loss)) {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch la, lb := r.Rows[a].Loss, r.Rows[b].Loss; {
		case la < lb:
			return -1
		case la > lb:
			return 1
		}
		return 0
	})
	r.BestAlpha = Number(math.NaN())
	kept := 0
	for k, i := range order {
		if k == 0 {
			r.BestAlpha = Number(r.Rows[i].Alpha)
		}
		if a := r.Rows[i].Alpha; a != SFT && a != Aligned && kept < keep {
			r.Rows[i].Promising = true
			kept++
		}
	}
}

// Correlation compares what a scan found with the rewards of a search, over the
// α that both have.
type Correlation struct {
	N int `json:"n"`
	// Pearson's r and Spearman's ρ with the mean reward; NaN for fewer than
	// three α.
	Margin       Number `json:"margin"`
	MarginRank   Number `json:"margin_rank"`
	Accuracy     Number `json:"accuracy"`
	AccuracyRank Number `json:"accuracy_rank"`
	Loss         Number `json:"loss"` // of the negative loss
	LossRank     Number `json:"loss_rank"`
	Chosen       Number `json:"chosen_logprob"`
	ChosenRank   Number `json:"chosen_logprob_rank"`
}

// Correlate compares a scan with a search.
func Correlate(s *Scanned, r *Result) Correlation {
	var reward, margin, accuracy, loss, chosen []float64
	for _, row := range s.Rows {
		of, ok := r.Row(row.Alpha)
		if !ok || math.IsNaN(float64(of.Reward)) {
			continue
		}
		acc := float64(row.Accuracy)
		if row.Alpha == SFT {
			acc = 0.5 // h is 0 for every pair: neither right nor wrong
		}
		reward = append(reward, float64(of.Reward))
		margin = append(margin, float64(row.Margin))
		accuracy = append(accuracy, acc)
		loss = append(loss, -float64(row.Loss))
		chosen = append(chosen, float64(row.ChosenLogprob))
	}
	c := Correlation{N: len(reward)}
	for _, x := range []struct {
		v          []float64
		r, ranking *Number
	}{
		{margin, &c.Margin, &c.MarginRank},
		{accuracy, &c.Accuracy, &c.AccuracyRank},
		{loss, &c.Loss, &c.LossRank},
		{chosen, &c.Chosen, &c.ChosenRank},
	} {
		*x.r = Number(pearson(x.v, reward))
		*x.ranking = Number(pearson(ranks(x.v), ranks(reward)))
	}
	return c
}

func pearson(x, y []float64) float64 {
	if len(x) < 3 {
		return math.NaN()
	}
	mx, my := mean(x).Mean, mean(y).Mean
	xy, xx, yy := 0.0, 0.0, 0.0
	for i := range x {
		xy += (x[i] - mx) * (y[i] - my)
		xx += (x[i] - mx) * (x[i] - mx)
		yy += (y[i] - my) * (y[i] - my)
	}
	return xy / math.Sqrt(xx*yy)
}

// ranks from 1, the mean of them for equals.
func ranks(x []float64) []float64 {
	out := make([]float64, len(x))
	for i, a := range x {
		less, same := 0, 0
		for _, b := range x {
			if b < a {
				less++
			} else if b == a {
				same++
			}
		}
		out[i] = float64(less) + float64(same+1)/2
	}
	return out
}
