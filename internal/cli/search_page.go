package cli

import (
	"fmt"
	"math"
	"slices"

	"expo/align/search"
	"expo/internal/report"
)

// namedPlot is a plot and the name of its file.
type namedPlot struct {
	name string
	plot *report.Chart
}

// searchPlots are the plots of a search that has been made.
func searchPlots(doc *searchDocument) []namedPlot {
	var out []namedPlot
	if r := doc.Result; r != nil {
		out = append(out, namedPlot{"reward", rewardChart(r)}, namedPlot{"length", lengthChart(r)},
			namedPlot{"reward-length", rewardLengthChart(r)}, namedPlot{"answers", answersChart(r)})
	}
	if r := doc.Scan; r != nil {
		out = append(out, namedPlot{"scan", scanChart(r)})
	}
	return out
}

func alphaLabel(a float64) string {
	switch a {
	case search.SFT:
		return "SFT"
	case search.Aligned:
		return "aligned"
	}
	return "α " + shortFloat(a)
}

// rowPoints are a point for each row.
func rowPoints(r *search.Result, f func(search.Row) report.Point) []report.Point {
	var out []report.Point
	for _, row := range r.Rows {
		p := f(row)
		p.Hollow = row.Gate != ""
		p.Strong = row.Alpha == float64(r.BestAlpha)
		out = append(out, p)
	}
	return out
}

func rewardChart(r *search.Result) *report.Chart {
	points := rowPoints(r, func(row search.Row) report.Point {
		tip := fmt.Sprintf("%s: %.4g ± %.2g", alphaLabel(row.Alpha), float64(row.Reward), float64(row.RewardSE))
		if row.Gate != "" {
			tip += "; " + row.Gate
		}
		return report.Point{X: row.Alpha, Y: float64(row.Reward), YErr: float64(row.RewardSE), Tip: tip}
	})
	for i := range points {
		if points[i].Strong {
			points[i].Label = "best: " + alphaLabel(points[i].X)
		}
	}
	adjusted := rowPoints(r, func(row search.Row) report.Point {
		return report.Point{X: row.Alpha, Y: float64(row.AdjustedReward), Tip: fmt.Sprintf("%s, length taken out: %.4g", alphaLabel(row.Alpha), float64(row.AdjustedReward))}
	})
	for i := range adjusted {
		adjusted[i].Hollow, adjusted[i].Strong = false, false
	}
	c := &report.Chart{
		Title: "Reward against α", XLabel: "α", YLabel: "mean reward ± SE",
		Series: []report.Series{
			{Name: "effect of length taken out", Points: adjusted, Line: true, Color: 5},
			{Name: "reward", Points: points, Line: true},
		},
		Band: [2]float64{float64(r.IntervalLow), float64(r.IntervalHigh)}, BandLabel: fmt.Sprintf("%.0f %% interval of the highest", 100*r.Confidence),
	}
	if math.IsNaN(c.Band[0]) || math.IsNaN(c.Band[1]) {
		c.Band = [2]float64{}
	}
	if row, ok := r.Row(search.Aligned); ok {
		c.Rules = []report.Rule{{At: float64(row.Reward), Label: "aligned"}}
	}
	return c
}

func lengthChart(r *search.Result) *report.Chart {
	c := &report.Chart{Title: "Length against α", XLabel: "α", YLabel: "mean characters ± SE", Series: []report.Series{{
		Name: "length", Line: true, Color: 2, Points: rowPoints(r, func(row search.Row) report.Point {
			return report.Point{X: row.Alpha, Y: float64(row.Length), YErr: float64(row.LengthSE), Tip: fmt.Sprintf("%s: %.0f characters, %.2f × aligned", alphaLabel(row.Alpha), float64(row.Length), float64(row.LengthGrowth))}
		}),
	}}}
	if row, ok := r.Row(search.Aligned); ok {
		c.Rules = append(c.Rules, report.Rule{At: float64(row.Length), Label: "aligned"})
		if g := r.Gates.MaxLengthGrowth; g > 0 {
			c.Rules = append(c.Rules, report.Rule{At: g * float64(row.Length), Label: fmt.Sprintf("gate: %g × aligned", g)})
		}
	}
	return c
}

func rewardLengthChart(r *search.Result) *report.Chart {
	return &report.Chart{Title: "Reward against length", XLabel: "mean characters", YLabel: "mean reward ± SE", Series: []report.Series{{
		Name: "α", Line: true, Points: rowPoints(r, func(row search.Row) report.Point {
			return report.Point{X: float64(row.Length), Y: float64(row.Reward), XErr: float64(row.LengthSE), YErr: float64(row.RewardSE), Label: alphaLabel(row.Alpha)}
		}),
	}}}
}

func answersChart(r *search.Result) *report.Chart {
	series := func(name string, color int, f func(search.Row) search.Number) report.Series {
		s := report.Series{Name: name, Line: true, Color: color}
		for _, row := range r.Rows {
			s.Points = append(s.Points, report.Point{X: row.Alpha, Y: 100 * float64(f(row)), Tip: fmt.Sprintf("%s: %s %.1f %%", alphaLabel(row.Alpha), name, 100*float64(f(row)))})
		}
		return s
	}
	c := &report.Chart{Title: "What becomes of answers", XLabel: "α", YLabel: "%", Series: []report.Series{
		series("ended by themselves", 2, func(row search.Row) search.Number { return row.Finished }),
		series("repetition", 1, func(row search.Row) search.Number { return row.Repetition }),
	}}
	if g := r.Gates.MinFinished; g > 0 {
		c.Rules = append(c.Rules, report.Rule{At: 100 * g, Label: "gate: finished"})
	}
	if g := r.Gates.MaxRepetition; g > 0 {
		c.Rules = append(c.Rules, report.Rule{At: 100 * g, Label: "gate: repetition"})
	}
	return c
}

func scanChart(r *search.Scanned) *report.Chart {
	s := report.Series{Name: "loss", Line: true, Color: 3}
	for _, row := range r.Rows {
		s.Points = append(s.Points, report.Point{X: row.Alpha, Y: float64(row.Loss), YErr: float64(row.LossSE), Strong: row.Promising,
			Tip: fmt.Sprintf("%s: loss %.4f, margin %.2f, accuracy %.3f", alphaLabel(row.Alpha), float64(row.Loss), float64(row.Margin), float64(row.Accuracy))})
	}
	return &report.Chart{Title: "Scan: DPO loss on preference pairs", XLabel: "α", YLabel: "mean loss ± SE; ringed: promising", Series: []report.Series{s}}
}

// page is report.html.
func (s *searchRun) page(doc *searchDocument) *report.Page {
	p := &report.Page{Title: "α search", Footer: fmt.Sprintf("Made by expo %s; the samples are in samples.jsonl, the figures in search.json.", doc.Version)}
	if doc.Aligned != "" {
		p.Lead = append(p.Lead, fmt.Sprintf("θ = θ_aligned + α(θ_aligned − θ_sft), with %s as the SFT model and %s as the aligned one.", doc.SFT, doc.Aligned))
	}
	if doc.Result != nil {
		s.resultSections(p, doc)
	}
	if doc.Scan != nil {
		sec := report.Section{Heading: "Scan without generation", Plots: []report.Plot{scanChart(doc.Scan)}, Tables: []*report.Table{scanTable(doc.Scan)},
			Text: []string{"Log-likelihoods of preference pairs under each mix. Margins grow with α on their own; the loss is lowest where more would lose more on the pairs that go wrong than it gains on the others."}}
		if c := doc.Correlation; c != nil && c.N > 2 {
			sec.Text = append(sec.Text, fmt.Sprintf("Correlation with the reward over %d α (Pearson, Spearman): margin %.2f, %.2f; accuracy %.2f, %.2f; negative loss %.2f, %.2f.", c.N,
				float64(c.Margin), float64(c.MarginRank), float64(c.Accuracy), float64(c.AccuracyRank), float64(c.Loss), float64(c.LossRank)))
		}
		p.Sections = append(p.Sections, sec)
	}
	return p
}

func (s *searchRun) resultSections(p *report.Page, doc *searchDocument) {
	r := doc.Result
	p.Lead = append(p.Lead, fmt.Sprintf("Reward: %s. %d answers at each α, to %d prompts; every α had the same prompts and random numbers.", doc.Reward, doc.SamplesPerAlpha, doc.Prompts))
	p.Facts = []report.Fact{{Name: "best α", Value: shortNumber(r.BestAlpha)}}
	if row, ok := r.Row(float64(r.BestAlpha)); ok {
		p.Facts = append(p.Facts,
			report.Fact{Name: "gain over aligned", Value: fmt.Sprintf("%+.3g", float64(row.Difference)), Note: fmt.Sprintf("± %.2g, paired", float64(row.DifferenceSE))},
			report.Fact{Name: "with length taken out", Value: fmt.Sprintf("%+.3g", float64(row.AdjustedDifference)), Note: fmt.Sprintf("± %.2g", float64(row.AdjustedDifferenceSE))},
			report.Fact{Name: "length", Value: fmt.Sprintf("%.2f ×", float64(row.LengthGrowth)), Note: "the aligned model's"})
	}
	if !math.IsNaN(float64(r.IntervalLow)) {
		p.Facts = append(p.Facts, report.Fact{Name: fmt.Sprintf("%.0f %% interval", 100*r.Confidence), Value: shortNumber(r.IntervalLow) + " … " + shortNumber(r.IntervalHigh), Note: "of the α of highest reward"})
	}
	t := searchTable(r)
	t.Notes = []string{"Errors are standard errors over prompts; “− aligned” is the paired difference from α = 0, “at equal length” the same with the effect of length taken out, “best in” the share of bootstrap resamples in which an α has the highest reward."}
	p.Sections = append(p.Sections,
		report.Section{Heading: "Reward", Text: r.Notes, Plots: []report.Plot{rewardChart(r)}, Tables: []*report.Table{t}},
		report.Section{Heading: "Length", Text: []string{fmt.Sprintf("Among answers of one model to one prompt, 100 characters more are worth %+.3g in reward.", 100*float64(r.LengthEffect))},
			Plots: []report.Plot{lengthChart(r), rewardLengthChart(r)}},
		report.Section{Heading: "Answers", Plots: []report.Plot{answersChart(r)}, Cards: s.sideBySide(r, 3)})
}

// sideBySide are answers of the SFT, the aligned and the best model to the same
// prompts, spread over them.
func (s *searchRun) sideBySide(r *search.Result, n int) [][]report.Card {
	alphas := []float64{search.SFT, search.Aligned}
	if b := float64(r.BestAlpha); !math.IsNaN(b) && !slices.Contains(alphas, b) {
		alphas = append(alphas, b)
	} else if h := float64(r.HighestAlpha); !math.IsNaN(h) && !slices.Contains(alphas, h) {
		alphas = append(alphas, h)
	}
	var out [][]report.Card
	n = min(n, len(s.prompts))
	for k := range n {
		i := k * len(s.prompts) / n
		m := s.prompts[i].asMessages("")
		cards := []report.Card{{Title: "Prompt", Body: m[len(m)-1].Content}}
		for _, a := range alphas {
			list := s.answers[a]
			if i*s.seeds >= len(list) {
				continue
			}
			x := list[i*s.seeds]
			cards = append(cards, report.Card{Title: alphaLabel(a), Note: fmt.Sprintf("reward %.2f, %d characters", x.reward, x.Characters), Body: x.Response})
		}
		out = append(out, cards)
	}
	return out
}
