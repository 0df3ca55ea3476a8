package train

import (
	"context"
	"errors"
	"fmt"
)

// DPOOptions say how to train by preferences.
type DPOOptions struct {
	Options
	// Beta is how much leaving the reference costs (0: 0.1).
	Beta float64
	// Loss is "sigmoid" (DPO, also the zero value), "hinge" (SLiC) or "ipo".
	Loss string
	// LabelSmoothing is the share of pairs whose preference is presumed to be
	// wrong: cDPO. It is for the sigmoid loss.
	LabelSmoothing float64
}

// DPO trains m by "Direct Preference Optimization"
// (https://arxiv.org/abs/2305.18290), with the model as it is now as reference.
// With Δ the change of a whole response's log-probability against the reference
// and h = Δ_chosen − Δ_rejected, the loss is the mean over the pairs of a step of
//
//	sigmoid   −(1−ε) log σ(βh) − ε log σ(−βh)
//	hinge     max(0, 1 − βh)
//	ipo       (h − 1/(2β))², h of log-probabilities averaged over tokens
//
// as TRL's DPOTrainer has it (https://huggingface.co/docs/trl/dpo_trainer).
// Logged rewards are βΔ.
func DPO(ctx context.Context, m *Model, data []Pair, opt DPOOptions) (*Report, error) {
	if err := m.languageModel("DPO"); err != nil {
		return nil, err
	}
	o, err := opt.Options.defaults(1e-6, m.cfg)
	if err != nil {
		return nil, err
	}
	if opt.Beta == 0 {
		opt.Beta = 0.1
	}
	if opt.Loss == "" {
		opt.Loss = "sigmoid"
	}
	if !(opt.Beta > 0) {
		return nil, fmt.Errorf("train: beta is %v, want more than 0", opt.Beta)
	}
	if !(opt.LabelSmoothing >= 0 && opt.LabelSmoothing < 0.5) || opt.LabelSmoothing > 0 && opt.Loss != "sigmoid" {
		return nil, errors.New("train: label smoothing is for the sigmoid loss, from 0 up to 0.5")
	}
	p, err := m.encodePairs(ctx, data, &o, false)
	if err != nil {
		return nil, err
	}
	loss := opt.loss()
	if loss == nil {
		return nil, fmt.Errorf("train: loss is %q, want sigmoid, hinge or ipo", opt.Loss)
	}
	if opt.Loss == "ipo" {
		whole := loss
		loss = func(i int, dw, dl float64) (float64, float64, float64) {
			nw, nl := float64(p.chosen[i].learned()), float64(p.rejected[i].learned())
			l, gw, gl := whole(i, dw/nw, dl/nl)
			return l, gw / nw, gl / nl
		}
	}
	t := p.against("dpo "+opt.Loss, opt.Beta, o.Note, loss)
	t.digest = func(d *digest) {
		d.float(opt.Beta)
		d.float(opt.LabelSmoothing)
		p.digest(d)
	}
	report, err := m.run(ctx, t, o)
	if report != nil {
		report.Skipped, report.Truncated = p.skipped, p.truncated
	}
	return report, err
}

// loss is the loss of the options, nil if there is none of that name.
func (opt *DPOOptions) loss() pairLoss {
	b, e := opt.Beta, opt.LabelSmoothing
	switch opt.Loss {
	case "sigmoid":
		return func(_ int, dw, dl float64) (float64, float64, float64) {
			z := b * (dw - dl)
			g := b * (-(1-e)*sigmoid(-z) + e*sigmoid(z))
			return (1-e)*softplus(-z) + e*softplus(z), g, -g
		}
	case "hinge":
		return func(_ int, dw, dl float64) (float64, float64, float64) {
			z := 1 - b*(dw-dl)
			if z <= 0 {
				return 0, 0, 0
			}
			return z, -b, b
		}
	case "ipo":
		return func(_ int, dw, dl float64) (float64, float64, float64) {
			d := dw - dl - 1/(2*b)
			return d * d, 2 * d, -2 * d
		}
	}
	return nil
}
