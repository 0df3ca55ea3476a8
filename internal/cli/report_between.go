package cli

import (
	"math"
	"slices"

	"expo/internal/report"
)

// lcBetween is the length-controlled win rate of one model against another, in
// percent, as their fits against a common baseline imply it.
type lcBetween struct {
	Model string  `json:"model"`
	Than  string  `json:"than"`
	Rate  float64 `json:"length_controlled_winrate"`
	N     int     `json:"n"`
}

// mostBetween is how many models have a table of all against all.
const mostBetween = 8

// fitted are the models of which predictions at equal length are known.
func (g *reportGroup) fitted() []*measured {
	var out []*measured
	for _, r := range g.rows {
		for _, m := range []*measured{r.base, r.with} {
			if m != nil && !slices.Contains(out, m) && m.judged != nil && m.fit != nil && len(m.fit.predictions) == len(m.judged.Rows) {
				out = append(out, m)
			}
		}
	}
	return out
}

// between are the rates of every fitted model against every other. A prediction
// is σ(w₂d + w₃), so the difference of two models' logits is what alpaca_eval
// computes from their weights.
func (g *reportGroup) between() []lcBetween {
	models := g.fitted()
	if len(models) < 2 || len(models) > mostBetween {
		return nil
	}
	var out []lcBetween
	for _, a := range models {
		for _, b := range models {
			if a == b {
				continue
			}
			x, y, ok := sharedJudgments(a, b)
			if !ok {
				continue
			}
			at := map[int]float64{}
			for i, r := range y.Rows {
				at[r.Index] = b.fit.predictions[i]
			}
			sum, n := 0.0, 0
			for i, r := range x.Rows {
				q, ok := at[r.Index]
				p := a.fit.predictions[i]
				if !ok || r.Index < 0 || !(p > 0 && p < 1 && q > 0 && q < 1) {
					continue
				}
				odds := p / (1 - p) * (1 - q) / q
				sum += odds / (1 + odds)
				n++
			}
			if n > 0 && !math.IsNaN(sum) {
				out = append(out, lcBetween{a.model, b.model, 100 * sum / float64(n), n})
			}
		}
	}
	return out
}

// betweenTable shows them, or is nil.
func (g *reportGroup) betweenTable() *report.Table {
	all := g.between()
	if all == nil {
		return nil
	}
	t := &report.Table{Title: "LC win rate of a model against another, %, from their fits", Columns: []report.Column{{Name: "model", Text: true}, {Name: "against", Text: true},
		{Name: "LC win rate %", Format: "%.1f"}, {Name: "n"}},
		Notes: []string{"No new judgments: both were compared with the same baseline. No interval is known of these; the test of a difference is above."}}
	for _, x := range all {
		t.Rows = append(t.Rows, []any{x.Model, x.Than, x.Rate, x.N})
	}
	return t
}
