package cli

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"expo/eval"
	"expo/eval/mtbench"
	"expo/internal/report"
)

// ratingFormat is that of mean ratings, as they are published.
const ratingFormat = "%.2f"

// table is the figures of all models, a row each.
func (r *mtbenchResult) table() *report.Table {
	t := &report.Table{Columns: []report.Column{{Name: "model", Text: true}, {Name: "turn 1", Format: ratingFormat}, {Name: "turn 2", Format: ratingFormat},
		{Name: "all ± SE", Key: "all", Format: ratingFormat}, {Name: "95 % interval", Key: "interval", Text: true}, {Name: "n"}, {Name: "unparsed"}}}
	for _, s := range r.scores {
		t.Rows = append(t.Rows, []any{mtbench.Label(r.scores, s), s.Turn1.Value, s.Turn2.Value, report.Value{X: s.All.Value, SE: s.All.StdErr},
			interval(s.All.CI), s.All.N, s.Unparsed})
	}
	return t
}

// categoryTable is the models' figures by category.
func (r *mtbenchResult) categoryTable() *report.Table {
	t := &report.Table{Columns: []report.Column{{Name: "model", Text: true}}}
	names := r.categories()
	for _, c := range names {
		t.Columns = append(t.Columns, report.Column{Name: c, Format: ratingFormat})
	}
	for _, s := range r.scores {
		row := []any{mtbench.Label(r.scores, s)}
		for _, c := range names {
			m, ok := category(s, c)
			if !ok {
				row = append(row, nil)
				continue
			}
			row = append(row, report.Value{X: m.Value, SE: m.StdErr})
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// categories are those that any model has ratings of.
func (r *mtbenchResult) categories() []string {
	var out []string
	seen := map[string]bool{}
	for _, s := range r.scores {
		for _, c := range s.Categories {
			if !seen[c.Name] {
				seen[c.Name] = true
				out = append(out, c.Name)
			}
		}
	}
	return out
}

func category(s mtbench.Scores, name string) (eval.Metric, bool) {
	for _, c := range s.Categories {
		if c.Name == name {
			return c, true
		}
	}
	return eval.Metric{}, false
}

func interval(ci *eval.Interval) string {
	if ci == nil {
		return "–"
	}
	return strings.ReplaceAll(fmt.Sprintf("%.2f to %.2f", ci.Low, ci.High), "-", "−")
}

// differenceTable is the models' differences, question by question.
func (r *mtbenchResult) differenceTable() *report.Table {
	t := &report.Table{Columns: []report.Column{{Name: "model", Text: true}, {Name: "than", Text: true}, {Name: "difference ± SE", Key: "difference", Format: "%+.2f"},
		{Name: "95 % interval", Key: "interval", Text: true}, {Name: "p", Format: "%.3f"}, {Name: "higher"}, {Name: "lower"}, {Name: "equal"}, {Name: "n"}}}
	for _, d := range r.differences() {
		t.Rows = append(t.Rows, []any{d.Model, d.Than, report.Value{X: d.Mean.Value, SE: d.Mean.StdErr}, interval(d.Mean.CI), d.P, d.Higher, d.Lower, d.Tie, d.Mean.N})
	}
	return t
}

// gameTable is the figures of the games.
func (r *mtbenchResult) gameTable() *report.Table {
	t := &report.Table{Columns: []report.Column{{Name: "model", Text: true}, {Name: "wins"}, {Name: "losses"}, {Name: "ties"}, {Name: "win rate", Format: "%.3f"},
		{Name: "adjusted ± SE", Key: "win_rate_adjusted", Format: "%.3f"}, {Name: "95 % interval", Key: "interval", Text: true}, {Name: "games"}}}
	for _, g := range r.games {
		t.Rows = append(t.Rows, []any{g.Model, g.Wins, g.Losses, g.Ties, g.WinRate.Value, report.Value{X: g.WinRateAdjusted.Value, SE: g.WinRateAdjusted.StdErr},
			interval(g.WinRateAdjusted.CI), g.Games})
	}
	b := r.bias
	if b.Games > 0 {
		t.Notes = []string{fmt.Sprintf("The order decided in %d of %d games (%.1f %%): the first answer won both times in %d, the second in %d. %d games have no verdict.",
			b.Inconsistent, b.Games, 100*b.InconsistencyRate(), b.First, b.Second, b.Dropped)}
	}
	return t
}

// page is the report as HTML.
func (r *mtbenchResult) page(doc mtbenchJSON) *report.Page {
	p := &report.Page{Title: "MT-Bench", Footer: "Definition: " + mtbench.Version + ". Standard errors and intervals are over questions."}
	p.Lead = append(p.Lead, "80 questions of two turns each, each answer rated from 1 to 10 by "+strings.Join(doc.Judges, ", ")+".")
	p.Lead = append(p.Lead, r.warnings...)
	if len(r.scores) > 0 {
		for _, s := range r.scores {
			if len(r.scores) > 3 { // the table shows more at a glance
				break
			}
			p.Facts = append(p.Facts, report.Fact{Name: mtbench.Label(r.scores, s), Value: fmt.Sprintf("%.2f", s.All.Value), Note: fmt.Sprintf("%d ratings, %s", s.All.N, interval(s.All.CI))})
		}
		p.Sections = append(p.Sections, report.Section{Heading: "Scores", Plots: []report.Plot{r.bars()}, Tables: []*report.Table{r.table()}})
		categories := report.Section{Heading: "Categories", Tables: []*report.Table{r.categoryTable()}}
		if len(r.categories()) >= 3 {
			categories.Plots = []report.Plot{r.radar()}
		}
		p.Sections = append(p.Sections, categories)
	}
	if len(doc.Comparisons) > 0 {
		p.Sections = append(p.Sections, report.Section{Heading: "Differences", Text: []string{"Each question is compared with itself. p is that of a permutation test that flips signs."},
			Tables: []*report.Table{r.differenceTable()}})
	}
	if len(r.games) > 0 {
		p.Sections = append(p.Sections, report.Section{Heading: "Games", Tables: []*report.Table{r.gameTable()}})
	}
	if len(r.config) > 0 {
		p.Sections = append(p.Sections, report.Section{Heading: "Configuration", Tables: []*report.Table{r.configTable()}})
	}
	return p
}

// radar shows the categories of up to six models.
func (r *mtbenchResult) radar() *report.Radar {
	names := r.categories()
	out := &report.Radar{Title: "Mean rating by category", Axes: names, Min: 0, Max: 10}
	for i, s := range r.scores {
		if i == 6 {
			break
		}
		b := report.BarSeries{Name: mtbench.Label(r.scores, s), Color: i}
		for _, c := range names {
			m, ok := category(s, c)
			if !ok {
				m.Value = math.NaN()
			}
			b.Values = append(b.Values, m.Value)
		}
		out.Series = append(out.Series, b)
	}
	return out
}

// bars shows both turns of every model.
func (r *mtbenchResult) bars() *report.Bars {
	out := &report.Bars{Title: "Mean rating, with 95 % intervals", YLabel: "rating"}
	turns := []report.BarSeries{{Name: "turn 1", Color: 0}, {Name: "turn 2", Color: 1}}
	for _, s := range r.scores {
		out.Categories = append(out.Categories, mtbench.Label(r.scores, s))
		for i, m := range []eval.Metric{s.Turn1, s.Turn2} {
			turns[i].Values = append(turns[i].Values, m.Value)
			turns[i].Errs = append(turns[i].Errs, halfWidth(m))
		}
	}
	out.Series = turns
	return out
}

// configTable is what the figures depend on.
func (r *mtbenchResult) configTable() *report.Table {
	t := &report.Table{Columns: []report.Column{{Name: "setting", Text: true}, {Name: "value", Text: true}}}
	for _, k := range slices.Sorted(maps.Keys(r.config)) {
		t.Rows = append(t.Rows, []any{k, r.config[k]})
	}
	return t
}
