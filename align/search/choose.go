package search

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// result draws the conclusions of what has been measured.
func (s *searcher) result() *Result {
	nan := Number(math.NaN())
	r := &Result{
		BestAlpha: nan, HighestAlpha: nan, IntervalLow: nan, IntervalHigh: nan, LengthEffect: nan,
		Confidence: s.opt.Confidence, Gates: s.opt.Gates, Notes: []string{}, Rows: []Row{},
	}
	if _, ok := s.scores[Aligned]; !ok {
		return r
	}
	r.Rows = s.rows()
	s.adjust(r)
	top := highest(r.Rows)
	if top < 0 {
		r.Notes = append(r.Notes, "no α passes the gates")
		return r
	}
	r.HighestAlpha = Number(r.Rows[top].Alpha)
	best := s.choose(r.Rows, top)
	r.BestAlpha = Number(r.Rows[best].Alpha)
	s.bootstrap(r)
	s.notes(r, best, top)
	return r
}

// adjust takes the effect of length out. Its slope is estimated from the rows
// that no gate stops, if there are any: what a model that has collapsed writes is no guide to the
// reward's taste.
func (s *searcher) adjust(r *Result) {
	var use [][]Sample
	for _, row := range r.Rows {
		if row.Gate == "" {
			use = append(use, s.scores[row.Alpha].Samples)
		}
	}
	if use == nil {
		for _, row := range r.Rows {
			use = append(use, s.scores[row.Alpha].Samples)
		}
	}
	slope := lengthEffect(use)
	r.LengthEffect = Number(slope)
	base := s.scores[Aligned].Samples
	for i := range r.Rows {
		row := &r.Rows[i]
		d := paired(s.scores[row.Alpha].Samples, base, func(s Sample) float64 { return s.Reward - slope*s.Length })
		row.AdjustedDifference, row.AdjustedDifferenceSE = Number(d.Mean), Number(d.SE)
		row.AdjustedReward = r.Rows[slices.Index(s.alphas, Aligned)].Reward + row.AdjustedDifference
	}
}

// choose marks what cannot be told from the highest row and takes the one
// nearest to the aligned model, between it and the highest.
func (s *searcher) choose(rows []Row, top int) int {
	best := top
	a := rows[top].Alpha
	for i := range rows {
		row := &rows[i]
		if row.Gate != "" || math.IsNaN(float64(row.Reward)) {
			continue
		}
		d := Paired(s.scores[a].Samples, s.scores[row.Alpha].Samples)
		row.Tied = d.N > 0 && !d.Differs(s.opt.Confidence)
		between := row.Alpha*a >= 0 && math.Abs(row.Alpha) < math.Abs(rows[best].Alpha)
		if row.Tied && between {
			best = i
		}
	}
	return best
}

// bootstrap resamples prompts, the same ones for every α, and looks where the
// highest reward lies.
func (s *searcher) bootstrap(r *Result) {
	n := s.opt.Resamples
	if n <= 0 {
		n = 2000
	}
	g := groups(s.scores[Aligned].Samples)
	if len(g) < 2 {
		return
	}
	var rows []int
	var values [][]float64 // of each row, by prompt
	for i, row := range r.Rows {
		if row.Gate == "" && !math.IsNaN(float64(row.Reward)) {
			samples := s.scores[row.Alpha].Samples
			rows = append(rows, i)
			values = append(values, groupMeans(g, func(i int) float64 { return samples[i].Reward }))
		}
	}
	rnd := rand.New(rand.NewPCG(s.opt.Seed, 0x5eed))
	weight := make([]float64, len(g))
	wins := make([]int, len(rows))
	for range n {
		clear(weight)
		for range g {
			weight[rnd.IntN(len(g))]++
		}
		best, high := -1, 0.0
		for k, v := range values {
			sum, count := 0.0, 0.0
			for i, x := range v {
				if w := weight[i]; w > 0 && !math.IsNaN(x) {
					sum += w * x
					count += w
				}
			}
			m := sum / count
			closer := best >= 0 && m == high && math.Abs(r.Rows[rows[k]].Alpha) < math.Abs(r.Rows[rows[best]].Alpha)
			if count > 0 && (best < 0 || m > high || closer) {
				best, high = k, m
			}
		}
		if best >= 0 {
			wins[best]++
		}
	}
	tail := (1 - s.opt.Confidence) / 2
	below := 0
	for k, w := range wins {
		row := &r.Rows[rows[k]]
		row.BestShare = float64(w) / float64(n)
		if float64(below) <= tail*float64(n) && float64(below+w) > tail*float64(n) {
			r.IntervalLow = Number(row.Alpha)
		}
		if float64(below) < (1-tail)*float64(n) && float64(below+w) >= (1-tail)*float64(n) {
			r.IntervalHigh = Number(row.Alpha)
		}
		below += w
	}
}

// notes says what was found.
func (s *searcher) notes(r *Result, best, top int) {
	say := func(format string, args ...any) { r.Notes = append(r.Notes, fmt.Sprintf(format, args...)) }
	b, t := r.Rows[best], r.Rows[top]
	if best != top {
		d := Paired(s.scores[t.Alpha].Samples, s.scores[b.Alpha].Samples)
		what := fmt.Sprintf("α %g", b.Alpha)
		if b.Alpha == Aligned {
			what = "the aligned model"
		}
		say("α %g has the highest reward, but %s cannot be told from it (%.3g ± %.2g lower), so the nearer to the aligned model is chosen", t.Alpha, what, d.Mean, d.SE)
	}
	switch {
	case b.Alpha == Aligned && best == top:
		say("no α beats the aligned model")
	case b.Alpha == SFT:
		say("the SFT model has the highest reward: this preference training did harm by this measure")
	case b.Alpha != Aligned:
		d := Estimate{float64(b.Difference), float64(b.DifferenceSE), b.Prompts}
		word := "differs from"
		if !d.Differs(s.opt.Confidence) {
			word = "cannot be told from"
		}
		say("α %g %s the aligned model by %+.3g ± %.2g in reward", b.Alpha, word, d.Mean, d.SE)
		say("answers are %.0f %% as long as the aligned model's; with the effect of length taken out the gain is %+.3g ± %.2g",
			100*float64(b.LengthGrowth), float64(b.AdjustedDifference), float64(b.AdjustedDifferenceSE))
	}
	if s.edge(r.Rows) != 0 && t.Alpha != SFT {
		say("the highest reward lies at the edge of the grid: try α beyond %g", t.Alpha)
	}
	missing := 0
	for _, row := range r.Rows {
		missing += row.Missing
	}
	if missing > 0 {
		say("%d samples could not be made or judged and are left out", missing)
	}
}
