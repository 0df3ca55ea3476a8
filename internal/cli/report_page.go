package cli

import (
	"fmt"
	"math"
	"slices"

	"expo/eval"
	"expo/internal/report"
)

// mostPlots is how many pairs have a plot of their own.
const mostPlots = 6

// page is the report as HTML.
func (r *comparedResults) page() *report.Page {
	p := &report.Page{Title: r.title, Lead: r.warnings, Footer: "Made by expo report."}
	for _, g := range r.groups {
		for _, x := range g.rows {
			if len(g.rows) > 3 || len(g.measures) == 0 || x.with == nil || x.base == nil {
				continue
			}
			of := g.measures[len(g.measures)-1]
			if c, ok := g.differenceOf(x, of.name); ok {
				note := "no interval is known"
				if c.ci != nil {
					note = bracket("%+"+of.format[1:], c.ci)
				}
				p.Facts = append(p.Facts, report.Fact{Name: x.name + " + ExPO, " + of.title, Value: signed("%+"+of.format[1:], c.value), Note: note})
			}
		}
		t := g.wide()
		if len(g.measures) > 1 { // the other is too wide for a page
			t = g.long()
		}
		s := report.Section{Heading: t.Title, Tables: []*report.Table{t}}
		t.Title = ""
		switch g.suite {
		case "alpacaeval":
			s.Plots = append(s.Plots, g.lengthChart())
			if w := g.winBars(); w != nil {
				s.Plots = append(s.Plots, w)
			}
			s.Plots = append(s.Plots, g.instructionCharts()...)
		case "mtbench":
			s.Plots = append(s.Plots, g.ratingBars())
			s.Plots = append(s.Plots, g.radars()...)
		}
		p.Sections = append(p.Sections, s)
		if len(g.comparisons) > 0 {
			d := g.differences()
			d.Title = ""
			p.Sections = append(p.Sections, report.Section{Heading: "Differences", Tables: []*report.Table{d}})
		}
		if b := g.betweenTable(); b != nil {
			heading := b.Title
			b.Title = ""
			p.Sections = append(p.Sections, report.Section{Heading: heading, Tables: []*report.Table{b}})
		}
	}
	if len(r.checks) > 0 {
		t := r.checkTable()
		p.Sections = append(p.Sections, report.Section{Heading: t.Title, Tables: []*report.Table{{Columns: t.Columns, Rows: t.Rows, Notes: t.Notes}}})
	}
	return p
}

// lengthChart shows win rates against the length of answers and, of up to three
// models, what the fit of length control says that they would have at other
// lengths.
func (g *reportGroup) lengthChart() *report.Chart {
	c := &report.Chart{Title: "Win rate against length", XLabel: "mean code points of an answer", YLabel: "win rate, %"}
	point := func(m *measured) report.Point {
		if m == nil {
			return report.Point{X: math.NaN(), Y: math.NaN()}
		}
		x, _ := m.metric(wrMetric)
		length := m.length
		if length == 0 {
			length = math.NaN()
		}
		p := report.Point{X: length, Y: x.Value, YErr: halfWidth(eval.Metric{CI: intervalOf(x)}), Label: m.model}
		p.Tip = fmt.Sprintf("%s: %.1f %% at %.0f code points", m.model, x.Value, length)
		if lc, ok := m.metric(lcMetric); ok {
			p.Tip += fmt.Sprintf("; LC %.1f %%", lc.Value)
		}
		return p
	}
	base := report.Series{Name: "original", Color: 0}
	with := report.Series{Name: "+ ExPO", Color: 1}
	for _, r := range g.rows {
		b, w := point(r.base), point(r.with)
		base.Points, with.Points = append(base.Points, b), append(with.Points, w)
	}
	few := len(g.rows) <= 3
	for _, r := range g.rows {
		if !few {
			break
		}
		for _, m := range []*measured{r.base, r.with} {
			if line := lcLine(m); line != nil {
				c.Series = append(c.Series, report.Series{Name: m.model + " by its LC fit", Points: line, Line: true, Plain: true, Color: 2 + len(c.Series)%4})
				c.Rules = []report.Rule{{Vertical: true, At: baselineLength(m), Label: "the baseline's length"}}
			}
		}
	}
	c.Series = append(c.Series, base)
	if slices.ContainsFunc(with.Points, func(p report.Point) bool { return !math.IsNaN(p.Y) }) {
		c.Series = append(c.Series, with)
	}
	return c
}

func baselineLength(m *measured) float64 {
	sum := 0.0
	for _, r := range m.judged.Rows {
		sum += float64(r.LenBaseline)
	}
	return sum / float64(len(m.judged.Rows))
}

// lcLine is the win rate that a model's fit predicts if each answer differed
// from the baseline's by the same length. A prediction at equal length is
// σ(difficulty's part + intercept), so that length's part is added to its
// logit.
func lcLine(m *measured) []report.Point {
	if m == nil || m.judged == nil || m.fit == nil || math.IsNaN(m.fit.tanh) || len(m.fit.predictions) != len(m.judged.Rows) {
		return nil
	}
	n := float64(len(m.judged.Rows))
	mean, squares := 0.0, 0.0
	for _, r := range m.judged.Rows {
		mean += float64(r.LenBaseline-r.LenModel) / n
	}
	for _, r := range m.judged.Rows {
		d := float64(r.LenBaseline-r.LenModel) - mean
		squares += d * d
	}
	sd := math.Sqrt(squares / (n - 1))
	if !(sd > 0) {
		return nil
	}
	at := baselineLength(m)
	reach := max(math.Abs(mean)*1.5, 0.5*at)
	var out []report.Point
	const steps = 40
	for i := 0; i <= steps; i++ {
		longer := reach * (2*float64(i)/steps - 1)
		sum := 0.0
		for _, p := range m.fit.predictions {
			if !(p > 0 && p < 1) {
				return nil
			}
			sum += 1 / (1 + math.Exp(-(math.Log(p/(1-p)) + m.fit.tanh*math.Tanh(-longer/sd))))
		}
		out = append(out, report.Point{X: at + longer, Y: 100 * sum / n})
	}
	return out
}

// winBars count instructions by which of the two models wins.
func (g *reportGroup) winBars() *report.Bars {
	out := &report.Bars{Title: "Instructions on which the baseline is beaten", YLabel: "instructions", Series: []report.BarSeries{
		{Name: "by both", Color: 2}, {Name: "by + ExPO only", Color: 1}, {Name: "by the original only", Color: 0}}} // the rest would dwarf them
	for _, r := range g.rows {
		rows := pairedRows(r.base, r.with)
		if rows == nil || len(out.Categories) == mostPlots {
			continue
		}
		w := winsOf(rows)
		out.Categories = append(out.Categories, fmt.Sprintf("%s, %d in all", r.name, w.N))
		for i, n := range []int{w.Both, w.ExPO, w.Base} {
			out.Series[i].Values = append(out.Series[i].Values, float64(n))
		}
	}
	if len(out.Categories) == 0 {
		return nil
	}
	return out
}

// instructionCharts show the difference on every instruction, in order.
func (g *reportGroup) instructionCharts() []report.Plot {
	var out []report.Plot
	for _, r := range g.rows {
		rows := pairedRows(r.base, r.with)
		if rows == nil || len(out) == mostPlots {
			continue
		}
		diffs := make([]float64, len(rows))
		for i, x := range rows {
			diffs[i] = x.with - x.base
		}
		slices.Sort(diffs)
		s := report.Series{Name: "difference", Line: true, Plain: true, Color: 1}
		for i, d := range diffs {
			s.Points = append(s.Points, report.Point{X: float64(i + 1), Y: d})
		}
		out = append(out, &report.Chart{Title: r.name + ": + ExPO − original on each instruction, sorted", XLabel: "instructions", YLabel: "probability of being preferred",
			Series: []report.Series{s}, Rules: []report.Rule{{At: 0}}})
	}
	return out
}

// ratingBars show average ratings with their intervals.
func (g *reportGroup) ratingBars() *report.Bars {
	out := &report.Bars{Title: "Average rating, with 95 % intervals where they are known", YLabel: "rating", Series: []report.BarSeries{{Name: "original", Color: 0}, {Name: "+ ExPO", Color: 1}}}
	for _, r := range g.rows {
		out.Categories = append(out.Categories, r.name)
		for i, m := range []*measured{r.base, r.with} {
			x := eval.Metric{Value: math.NaN()}
			if m != nil {
				x, _ = m.metric("all")
			}
			out.Series[i].Values = append(out.Series[i].Values, x.Value)
			out.Series[i].Errs = append(out.Series[i].Errs, halfWidth(eval.Metric{CI: intervalOf(x)}))
		}
	}
	return out
}

// radars show the categories: a pair on each or, where there is none, the first
// models on one.
func (g *reportGroup) radars() []report.Plot {
	var sets [][]*measured
	var titles []string
	for _, r := range g.rows {
		if r.base != nil && r.with != nil {
			sets, titles = append(sets, []*measured{r.base, r.with}), append(titles, r.name+": mean rating by category")
		}
	}
	if sets == nil {
		var all []*measured
		for _, r := range g.rows {
			for _, m := range []*measured{r.base, r.with} {
				if m != nil && len(m.categories) > 0 {
					all = append(all, m)
				}
			}
		}
		sets, titles = [][]*measured{all[:min(len(all), mostPlots)]}, []string{"Mean rating by category"}
	}
	var out []report.Plot
	for i, set := range sets {
		var names []string
		for _, m := range set {
			for _, c := range m.categories {
				if !slices.Contains(names, c.Name) {
					names = append(names, c.Name)
				}
			}
		}
		if len(names) < 3 || len(out) == mostPlots {
			continue
		}
		radar := &report.Radar{Title: titles[i], Axes: names, Max: 10}
		for k, m := range set {
			s := report.BarSeries{Name: m.model, Color: k}
			for _, name := range names {
				v := math.NaN()
				for _, c := range m.categories {
					if c.Name == name {
						v = c.Value
					}
				}
				s.Values = append(s.Values, v)
			}
			radar.Series = append(radar.Series, s)
		}
		out = append(out, radar)
	}
	return out
}
