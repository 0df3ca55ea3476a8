package train

import (
	"context"
	"fmt"
	"math"
)

// pairs are encoded pairs, chosen and rejected.
type pairs struct {
	chosen, rejected   []sequence
	rows               []int
	skipped, truncated int
}

// encodePairs leaves out pairs of which nothing would be learned. With scored
// they are what a reward model reads.
func (m *Model) encodePairs(ctx context.Context, data []Pair, o *Options, scored bool) (*pairs, error) {
	e, err := m.newEncoder(o.Raw, o.MaxLength)
	if err != nil {
		return nil, err
	}
	encode := e.sequence
	if scored {
		encode = e.scored
	}
	p := &pairs{}
	for i, x := range data {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c, err := encode(ctx, x.Prompt, x.Messages, x.Chosen)
		if err != nil {
			return nil, fmt.Errorf("train: row %d: %w", i+1, err)
		}
		r, err := encode(ctx, x.Prompt, x.Messages, x.Rejected)
		if err != nil {
			return nil, fmt.Errorf("train: row %d: %w", i+1, err)
		}
		if c.learned() == 0 || r.learned() == 0 {
			p.skipped++
			continue
		}
		p.chosen, p.rejected, p.rows = append(p.chosen, c), append(p.rejected, r), append(p.rows, i)
	}
	p.truncated = e.truncated
	if len(p.rows) == 0 {
		return nil, fmt.Errorf("train: no pair has responses within %d tokens", o.MaxLength)
	}
	return p, nil
}

func (p *pairs) digest(d *digest) {
	d.sequences(p.chosen)
	d.sequences(p.rejected)
}

// A pairLoss is a loss of the changes of both responses' log-probabilities
// against the reference, with its derivatives by them. i is the pair.
type pairLoss func(i int, chosen, rejected float64) (loss, byChosen, byRejected float64)

// against is the task of training on pairs against the model that training begins
// with, whose log-probabilities are computed once. beta scales logged rewards.
func (p *pairs) against(method string, beta float64, note func(string), loss pairLoss) *task {
	var b batch
	reference := make([][2]float64, len(p.rows))
	add := func(rows []int) {
		b.reset()
		for _, i := range rows {
			b.add(p.chosen[i])
			b.add(p.rejected[i])
		}
	}
	t := &task{method: method, rows: p.rows, pairs: true, reference: reference}
	t.weight = func(rows []int) float64 { return float64(len(rows)) }
	t.before = func(ctx context.Context, n *network, rows []int) error {
		if note != nil {
			note(fmt.Sprintf("log-probabilities of the reference for %d pairs", len(rows)))
		}
		const together = 8
		for lo := 0; lo < len(rows); lo += together {
			if err := ctx.Err(); err != nil {
				return err
			}
			part := rows[lo:min(lo+together, len(rows))]
			add(part)
			n.forward(b.inputs)
			n.logProbs(b.targets, b.room(), nil)
			for j, i := range part {
				s := b.sums()
				reference[i] = [2]float64{s[2*j], s[2*j+1]}
			}
		}
		return nil
	}
	t.batch = func(n *network, rows []int, weight float64) (r result) {
		add(rows)
		n.forward(b.inputs)
		n.logProbs(b.targets, b.room(), nil)
		sums := b.sums()
		coef := make([]float64, len(sums))
		for j, i := range rows {
			dw, dl := sums[2*j]-reference[i][0], sums[2*j+1]-reference[i][1]
			l, gw, gl := loss(i, dw, dl)
			r.loss += l
			coef[2*j], coef[2*j+1] = gw/weight, gl/weight
			r.stats.pair(beta*dw, beta*dl)
		}
		b.spread(coef)
		n.logProbs(b.targets, b.logp, b.coef)
		n.backward()
		r.loss /= weight
		r.tokens = len(n.tokens)
		return r
	}
	return t
}

// pair adds the rewards of a pair.
func (s *PreferenceStep) pair(chosen, rejected float64) {
	s.Chosen += chosen
	s.Rejected += rejected
	s.Margin += chosen - rejected
	if chosen > rejected {
		s.Accuracy++
	}
}

// softplus is log(1 + e^x).
func softplus(x float64) float64 { return max(0, x) + math.Log1p(math.Exp(-math.Abs(x))) }

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
