package train

import (
	"context"
	"fmt"
)

// RewardOptions say how to train a reward model.
type RewardOptions struct {
	Options
	// Center weighs (r_chosen + r_rejected)², which draws rewards to a mean of 0
	// (https://arxiv.org/abs/2312.09244, section 3.1).
	Center float64
}

// Reward makes a reward model of m, by the Bradley–Terry loss −log σ(r_chosen −
// r_rejected), a mean over the pairs of a step. A language model becomes a
// sequence classifier with one label first (LlamaForSequenceClassification and
// its like), whose head is drawn with the seed; one that is a classifier already
// is trained further.
//
// The score is read where transformers reads it: at the last token that is not
// pad_token_id. The text is that of package reward's Classifier: of the chat
// template, or prompt, response and end token. pad_token_id becomes, if
// config.json has none, the tokenizer's padding token, or else the one for unknown
// text, or else the end token; then the token before the end is read.
//
// On an error m may be a classifier already.
func Reward(ctx context.Context, m *Model, data []Pair, opt RewardOptions) (*Report, error) {
	o, err := opt.Options.defaults(1e-4, m.cfg)
	if err != nil {
		return nil, err
	}
	if !(opt.Center >= 0) {
		return nil, fmt.Errorf("train: the weight of centring is %v, want 0 or more", opt.Center)
	}
	p, err := m.encodePairs(ctx, data, &o, true)
	if err != nil {
		return nil, err
	}
	if err := m.classifier(o.Seed); err != nil {
		return nil, err
	}
	report, err := m.run(ctx, rewardTask(m, p, opt.Center), o)
	if report != nil {
		report.Skipped, report.Truncated = p.skipped, p.truncated
	}
	return report, err
}

// rewardTask is the task of training on encoded pairs.
func rewardTask(m *Model, p *pairs, center float64) *task {
	t := &task{method: "reward", rows: p.rows, pairs: true}
	t.digest = func(d *digest) {
		d.float(center)
		d.number(uint64(m.cfg.PadTokenID))
		p.digest(d)
	}
	t.weight = func(rows []int) float64 { return float64(len(rows)) }
	t.batch = func(n *network, rows []int, weight float64) (r result) {
		var inputs [][]int
		var targets []target
		at := 0
		for _, i := range rows {
			for _, s := range [][]int{p.chosen[i].tokens, p.rejected[i].tokens} {
				inputs = append(inputs, s)
				targets = append(targets, target{row: at + lastRead(s, m.cfg.PadTokenID)})
				at += len(s)
			}
		}
		scores := make([]float64, len(targets))
		coef := make([]float32, len(targets))
		n.forward(inputs)
		n.scores(targets, scores)
		for j := range rows {
			w, l := scores[2*j], scores[2*j+1]
			g, c := sigmoid(l-w), 2*center*(w+l)
			r.loss += softplus(l-w) + center*(w+l)*(w+l)
			coef[2*j], coef[2*j+1] = float32((c-g)/weight), float32((c+g)/weight)
			r.stats.pair(w, l)
		}
		n.scoresBack(targets, coef)
		n.backward()
		r.loss /= weight
		r.tokens = len(n.tokens)
		return r
	}
	return t
}

// lastRead is the rightmost position that is not padding, or the last if all are.
func lastRead(tokens []int, pad int) int {
	for i := len(tokens) - 1; i >= 0; i-- {
		if tokens[i] != pad {
			return i
		}
	}
	return len(tokens) - 1
}
