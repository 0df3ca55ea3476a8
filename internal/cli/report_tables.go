package cli

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"expo/eval"
	"expo/internal/report"
)

// Marks in tables, which notes explain.
const (
	noInterval = "[–]"
	notPaired  = "†"
	fromFit    = "‡"
	quotedMark = "§"
)

// signed is a number with a true minus, and none before what is rounded to 0.
func signed(format string, x float64) string {
	s := fmt.Sprintf(format, x)
	if digits, ok := strings.CutPrefix(s, "-"); ok {
		if strings.Trim(digits, "0.") == "" {
			return strings.Replace(fmt.Sprintf(format, 0.0), "+", "±", 1)
		}
		return "−" + strings.ReplaceAll(digits, "e-", "e−")
	}
	return s
}

func bracket(format string, ci *eval.Interval) string {
	if ci == nil {
		return noInterval
	}
	format = strings.ReplaceAll(format, "+", "")
	return "[" + signed(format, ci.Low) + ", " + signed(format, ci.High) + "]"
}

// figureCell is a metric with its interval.
func (g *reportGroup) figureCell(m *measured, x measure) any {
	if m == nil {
		return nil
	}
	v, ok := m.metric(x.name)
	if !ok {
		return nil
	}
	s := signed(x.format, v.Value) + " " + bracket(x.format, intervalOf(v))
	switch m.origin[x.name].Status {
	case "quoted":
		s += g.quotedMark(m.origin[x.name].Source)
	case "weights":
		s += fromFit
	}
	return s
}

// quotedSources are where figures of the group's tables are quoted from.
func (g *reportGroup) quotedSources() []string {
	var out []string
	for _, r := range g.rows {
		for _, m := range []*measured{r.base, r.with} {
			if m == nil {
				continue
			}
			for _, x := range g.measures {
				if o := m.origin[x.name]; o.Status == "quoted" && !slices.Contains(out, o.Source) {
					out = append(out, o.Source)
				}
			}
		}
	}
	return out
}

// quotedMark tells the sources apart if there are several.
func (g *reportGroup) quotedMark(source string) string {
	all := g.quotedSources()
	if len(all) < 2 {
		return quotedMark
	}
	return quotedMark + strconv.Itoa(1+slices.Index(all, source))
}

// differenceOf is the comparison of a row in a metric.
func (g *reportGroup) differenceOf(r reportRow, metric string) (comparison, bool) {
	if r.base == nil || r.with == nil {
		return comparison{}, false
	}
	for _, c := range g.comparisons {
		if c.with == r.with && c.base == r.base && c.metric == metric {
			return c, true
		}
	}
	return comparison{}, false
}

func (c comparison) cell() string {
	format := "%+" + c.format[1:]
	s := signed(format, c.value) + " " + bracket(format, c.ci)
	if c.tested() && !c.paired {
		s += notPaired
	}
	return s
}

// samples is the number of samples of a row's figures, as "805", or "805 / 804"
// where the two differ.
func (r reportRow) samples(measures ...measure) string {
	count := func(m *measured) string {
		n := 0
		if m != nil {
			for _, x := range measures {
				v, _ := m.metric(x.name)
				n = max(n, v.N)
			}
		}
		if n == 0 {
			return "–"
		}
		return fmt.Sprint(n)
	}
	b, w := count(r.base), count(r.with)
	switch {
	case r.base == nil || b == w:
		return w
	case r.with == nil:
		return b
	}
	return b + " / " + w
}

// long is the table with a row for each model and figure.
func (g *reportGroup) long() *report.Table {
	t := &report.Table{Title: g.title(), Columns: []report.Column{{Name: "model", Text: true}, {Name: "figure", Text: true}}}
	both := g.extrapolated()
	if both {
		t.Columns = append(t.Columns, report.Column{Name: "original", Text: true}, report.Column{Name: "+ ExPO", Text: true},
			report.Column{Name: "difference", Text: true}, report.Column{Name: "p"})
	} else {
		t.Columns = append(t.Columns, report.Column{Name: "value", Text: true})
	}
	t.Columns = append(t.Columns, report.Column{Name: "n"})
	for _, r := range g.rows {
		name := r.name
		for _, x := range g.measures {
			of, with := g.figureCell(r.base, x), g.figureCell(r.with, x)
			if of == nil && with == nil {
				continue
			}
			row := []any{name, x.title, of}
			if both {
				row = append(row, with, nil, nil)
				if c, ok := g.differenceOf(r, x.name); ok {
					row[4], row[5] = c.cell(), pText(c.p)
				}
			}
			t.Rows = append(t.Rows, append(row, r.samples(x)))
			name = ""
		}
	}
	t.Notes = g.notes()
	return t
}

func pText(p float64) any {
	switch {
	case math.IsNaN(p):
		return nil
	case p < 0.001:
		return "< 0.001"
	}
	return fmt.Sprintf("%.3f", p)
}

// wide is the table with a row for each model.
func (g *reportGroup) wide() *report.Table {
	if len(g.measures) > 3 {
		return g.long()
	}
	t := &report.Table{Title: g.title(), Columns: []report.Column{{Name: "model", Text: true}}}
	both := g.extrapolated()
	for _, x := range g.measures {
		t.Columns = append(t.Columns, report.Column{Name: x.title, Text: true})
		if both {
			t.Columns = append(t.Columns, report.Column{Name: "+ ExPO", Text: true}, report.Column{Name: "difference", Text: true})
		}
	}
	t.Columns = append(t.Columns, report.Column{Name: "n"})
	for _, r := range g.rows {
		row := []any{r.name}
		for _, x := range g.measures {
			row = append(row, g.figureCell(r.base, x))
			if !both {
				continue
			}
			row = append(row, g.figureCell(r.with, x))
			if c, ok := g.differenceOf(r, x.name); ok {
				row = append(row, c.cell())
			} else {
				row = append(row, nil)
			}
		}
		t.Rows = append(t.Rows, append(row, r.samples(g.measures...)))
	}
	t.Notes = g.notes()
	return t
}

// differences is the table of all comparisons and how they were made.
func (g *reportGroup) differences() *report.Table {
	t := &report.Table{Title: "Differences", Columns: []report.Column{{Name: "model", Text: true}, {Name: "than", Text: true}, {Name: "figure", Text: true},
		{Name: "difference", Text: true}, {Name: "p"}, {Name: "n"}, {Name: "how", Text: true}}}
	for _, c := range g.comparisons {
		var n any
		if c.n > 0 {
			n = c.n
		}
		t.Rows = append(t.Rows, []any{c.model, c.than, c.title, c.cell(), pText(c.p), n, c.method})
	}
	return t
}

// loose tells whether there are comparisons that are in no row.
func (g *reportGroup) loose() bool {
	for _, c := range g.comparisons {
		for _, r := range g.rows {
			if c.with == r.with && c.base == r.base {
				return false
			}
		}
	}
	return len(g.comparisons) > 0
}

// notes explain the marks that a table of the group has.
func (g *reportGroup) notes() []string {
	out := []string{"Brackets hold 95 % intervals, over " + g.unit() + "."}
	none, lc, unpaired, fit := false, false, false, false
	for _, r := range g.rows {
		for _, m := range []*measured{r.base, r.with} {
			if m == nil {
				continue
			}
			for _, x := range g.measures {
				v, ok := m.metric(x.name)
				if ok && intervalOf(v) == nil {
					if x.name == lcMetric {
						lc = true
					} else {
						none = true
					}
				}
				fit = fit || m.origin[x.name].Status == "weights"
			}
		}
	}
	partial := false
	for _, c := range g.comparisons {
		partial = partial || fmt.Sprintf(c.format, c.value) != fmt.Sprintf(c.format, c.apart)
		unpaired = unpaired || c.tested() && !c.paired
		none = none || !c.tested()
	}
	if none || lc {
		out = append(out, noInterval+": the source gives no interval, and nothing to compute one from.")
	}
	if lc {
		out = append(out, "The standard error that alpaca_eval gives of an LC win rate is the spread of predictions over instructions, and not made an interval of.")
	}
	if partial {
		out = append(out, "A paired difference that is not that of the two figures is over what both models have samples of.")
	}
	if unpaired {
		out = append(out, notPaired+" not paired: the sources hold no samples of both models, and errors are added as if they were independent, which usually makes the interval too wide.")
	}
	if fit {
		out = append(out, fromFit+" computed from the published weights of the fit, not from judgments.")
	}
	for _, s := range g.quotedSources() {
		out = append(out, g.quotedMark(s)+" quoted from "+s+".")
	}
	return out
}

func (g *reportGroup) unit() string {
	switch g.suite {
	case "alpacaeval":
		return "instructions"
	case "mtbench":
		return "questions"
	case suitePairs:
		return "games"
	}
	return "samples"
}

// write writes the report in a format.
func (r *comparedResults) write(w io.Writer, format string) error {
	switch format {
	case "json":
		return writeJSON(w, r.document())
	case "html":
		return r.page().WriteHTML(w)
	}
	first := true
	write := func(t *report.Table) error {
		if !first {
			fmt.Fprintln(w)
		}
		first = false
		switch format {
		case "text":
			return t.WriteText(w)
		case "latex":
			return t.WriteLaTeX(w)
		}
		return t.WriteMarkdown(w)
	}
	for _, g := range r.groups {
		t := g.wide()
		if format == "text" {
			t = g.long()
		}
		if err := write(t); err != nil {
			return err
		}
		if t := g.betweenTable(); t != nil {
			if err := write(t); err != nil {
				return err
			}
		}
		if len(g.comparisons) > 0 && (format == "md" || g.loose()) {
			if err := write(g.differences()); err != nil {
				return err
			}
		}
	}
	if len(r.checks) > 0 {
		return write(r.checkTable())
	}
	return nil
}
