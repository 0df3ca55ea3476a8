package cli

import (
	"context"
	"fmt"
	"math"
	"runtime"

	"golang.org/x/sync/errgroup"

	"expo/eval/alpacaeval"
	"expo/eval/judge"
)

// paperCheck counts published figures that raw data gave again.
type paperCheck struct {
	What   string   `json:"what"`
	Judge  string   `json:"judge"`
	Rows   int      `json:"rows"`
	Differ int      `json:"differ"` // by more than a printed digit would show
	Max    *float64 `json:"max_deviation"`
	How    string   `json:"how"`
}

// A deviation below these, in points, is that of rounding in the files (win
// rates) or of the fit's arithmetic (length control); one above is a
// difference.
const (
	rateTolerance = 1e-6
	lcTolerance   = 0.02
)

// checks computes again every published row that has raw judgments in the
// directory, the paper's or not, and reads every recorded reply of a judge
// again.
func (d *paperData) checks(ctx context.Context) ([]paperCheck, error) {
	type found struct {
		rate, lc float64 // deviations; lc is NaN if there is none
		given    bool    // the strength of the fit was
	}
	results := make([]*found, len(d.sets))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, s := range d.sets {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			row, rate, ok := d.rowOf(s)
			if !ok {
				return nil
			}
			results[i] = &found{rate: rate, lc: math.NaN(), given: row.c > 0}
			if math.IsNaN(row.LC) || d.gamed == nil || len(s.Rows) > len(d.gamed.Difficulty) {
				return nil
			}
			own := *s
			own.Rows = append([]alpacaeval.Comparison(nil), s.Rows...)
			fit, err := d.fit(&own, row.c)
			if err != nil {
				return err
			}
			results[i].lc = math.Abs(fit.WinRate - row.LC)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var out []paperCheck
	add := func(what, judge, how string, deviation, tolerance float64) {
		at := -1
		for i := range out {
			if out[i].What == what && out[i].Judge == judge && out[i].How == how {
				at = i
			}
		}
		if at < 0 {
			at = len(out)
			out = append(out, paperCheck{What: what, Judge: judge, How: how, Max: new(0.0)})
		}
		out[at].Rows++
		*out[at].Max = max(*out[at].Max, deviation)
		if deviation > tolerance {
			out[at].Differ++
		}
	}
	for i, s := range d.sets {
		r := results[i]
		if r == nil {
			continue
		}
		add("win rate, points", s.Judge, "the mean of the judgments", r.rate, rateTolerance)
		if math.IsNaN(r.lc) {
			continue
		}
		how := "fitted again, C as published"
		if !r.given {
			how = "fitted again, C by cross-validation"
		}
		if d.gamed.Surrogate {
			how += ", surrogate gamed rows"
		}
		add("LC win rate, points", s.Judge, how, r.lc, lcTolerance)
	}
	return append(out, d.ratingChecks()...), nil
}

// rowOf is the published row that a set of judgments was made for: that of its
// name with its win rate. Its deviation is given too.
func (d *paperData) rowOf(s *alpacaeval.Judged) (publishedRow, float64, bool) {
	rate := alpacaeval.NewWinRate(s.Preferences()).WinRate
	best, least := publishedRow{}, math.Inf(1)
	for _, r := range d.rows {
		if r.Model != s.Model || r.judge != "" && s.Judge != "" && r.judge != s.Judge {
			continue
		}
		x := math.Abs(r.WinRate.WinRate - rate)
		if x < least-1e-9 || x < least+1e-9 && best.c == 0 {
			best, least = r, x
		}
	}
	// Another judge's row, or another run's, is off by much more.
	return best, least, least < 0.005
}

// ratingChecks read MT-Bench's replies again.
func (d *paperData) ratingChecks() []paperCheck {
	at := map[string]int{}
	var out []paperCheck
	for _, j := range d.singles {
		name := ""
		if len(j.Judge) > 0 {
			name = j.Judge[0]
		}
		i, ok := at[name]
		if !ok {
			i = len(out)
			at[name] = i
			out = append(out, paperCheck{What: "MT-Bench ratings", Judge: name, How: "each reply read again, against the recorded rating"})
		}
		out[i].Rows++
		recorded, err := j.Score.Float64()
		read, err2 := judge.ParseRating(j.Judgment).Float64()
		if err != nil || err2 != nil || recorded != read {
			out[i].Differ++
		}
	}
	models := map[string]bool{}
	for _, j := range d.singles {
		models[j.Model] = true
	}
	for i := range out {
		out[i].How = fmt.Sprintf("%s; %d models in all", out[i].How, len(models))
	}
	return out
}
