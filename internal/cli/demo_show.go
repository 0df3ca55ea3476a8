package cli

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"expo/align/search"
	"expo/internal/report"
)

// print is what a person sees: table, chart, answers, the second pair, and what
// to do next.
func (d *demoRun) print() error {
	w := d.a.out
	l := &d.doc.demoLine
	fmt.Fprintf(w, "θ = %s + α(%s − sft), %d prompts × %d answers\n\n", l.Pair, l.Pair, d.doc.Prompts, d.doc.Seeds)
	if err := l.table().WriteText(w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := l.chart().WriteText(w, 78, 14); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, s := range l.says() {
		fmt.Fprintln(w, wrap(s, 78))
	}
	for _, x := range d.doc.Side {
		fmt.Fprintf(w, "\n%s\n", x.Prompt)
		if err := d.beside(x); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "\nThe pair sft and %s, for comparison:\n\n", d.doc.Second.Pair)
	if err := d.doc.Second.table().WriteText(w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, s := range d.doc.Second.says() {
		fmt.Fprintln(w, wrap(s, 78))
	}
	fmt.Fprintf(w, "\n%.0f s. The model at α = %s is in %s, figures and plots in %s.\n\nNext:\n",
		d.doc.Seconds, shortNumber(l.BestAlpha), d.doc.Checkpoint, filepath.Join(d.doc.Output, "report.html"))
	for _, s := range d.next() {
		fmt.Fprintln(w, "  "+s)
	}
	return nil
}

// next are commands that go on from here.
func (d *demoRun) next() []string {
	in := func(name string) string { return filepath.Join(d.doc.Output, name) }
	ends := "--sft " + in("sft") + " --aligned " + in(d.flags.pair)
	pairs := ""
	if d.paired {
		pairs = " --pairs " + in("pairs.jsonl")
	}
	return []string{
		"expo generate " + in("model") + " '" + d.prompts[0].Text + "'",
		"expo serve " + ends,
		"expo diff " + ends,
		"expo search " + ends + " --reward " + in("reward") + " --prompts " + in("prompts.jsonl") + pairs + " --alphas 0.5:4:0.5",
		"expo search --sft YOURS --aligned YOURS --reward MODEL --prompts FILE",
	}
}

// table has a row for each α.
func (l *demoLine) table() *report.Table {
	t := &report.Table{Columns: []report.Column{
		{Name: "α", Key: "alpha", Format: "%g"},
		{Name: "reward", Format: "%.3f"},
		{Name: "− aligned", Key: "difference", Format: "%+.3f"},
		{Name: "rule", Format: "%.2f"},
		{Name: "length", Format: "%.0f"},
		{Name: "repetition", Format: "%.3f"},
		{Name: "finished", Format: "%.3f"},
		{Name: "", Key: "note", Text: true},
	}}
	for i, row := range l.Rows {
		if row.Alpha == float64(l.BestAlpha) {
			t.Strong = append(t.Strong, i)
		}
		cells := []any{
			row.Alpha, value(row.Reward, row.RewardSE), value(row.Difference, row.DifferenceSE), value(row.Rule, row.RuleSE),
			float64(row.Length), float64(row.Repetition), float64(row.Finished), l.note(row),
		}
		if row.Alpha == search.Aligned {
			cells[2] = nil
		}
		t.Rows = append(t.Rows, cells)
	}
	return t
}

// note says what a row is, in the last column.
func (l *demoLine) note(row demoRow) string {
	switch {
	case row.Alpha == search.SFT:
		return "SFT"
	case row.Alpha == search.Aligned && row.Alpha == float64(l.BestAlpha):
		return l.Pair + ", best"
	case row.Alpha == search.Aligned:
		return l.Pair
	case row.Alpha < 0:
		return ""
	}
	return rowNote(l.Result, row.Row)
}

// chart shows the reward by α.
func (l *demoLine) chart() *report.Chart {
	c := rewardChart(l.Result)
	c.Title = "Reward against α: sft −1, " + l.Pair + " 0"
	c.Series = c.Series[len(c.Series)-1:] // lengths are a matter for expo search
	return c
}

// ruleChart shows what the rule says by α.
func (l *demoLine) ruleChart() *report.Chart {
	s := report.Series{Name: "rule", Line: true, Color: 2}
	for _, row := range l.Rows {
		s.Points = append(s.Points, report.Point{
			X: row.Alpha, Y: float64(row.Rule), YErr: float64(row.RuleSE), Strong: row.Alpha == float64(l.BestAlpha),
			Tip: fmt.Sprintf("%s: rule %.3g ± %.2g", alphaLabel(row.Alpha), float64(row.Rule), float64(row.RuleSE)),
		})
	}
	return &report.Chart{Title: "Rule against α", XLabel: "α", YLabel: "mean points ± SE", Series: []report.Series{s}}
}

// says are the result in sentences.
func (l *demoLine) says() []string {
	var out []string
	sft, aligned, best := l.at(search.SFT), l.at(search.Aligned), l.at(float64(l.BestAlpha))
	if best == nil {
		return l.Notes
	}
	beyond, fall := 0, true // α > 0, and whether all have less for certain
	for _, row := range l.Rows {
		if row.Alpha > 0 {
			beyond++
			fall = fall && row.Difference < -2*row.DifferenceSE
		}
	}
	switch {
	case best.Alpha > 0:
		sign := func(lower bool) string {
			if lower {
				return "<"
			}
			return "≥"
		}
		out = append(out, fmt.Sprintf("SFT %.2f %s %s %.2f %s ExPO %.2f ± %.2f at α = %g: %+.2f ± %.2f over %s, paired, for no training at all.",
			float64(sft.Reward), sign(sft.Reward < aligned.Reward), l.Pair, float64(aligned.Reward), sign(aligned.Reward < best.Reward),
			float64(best.Reward), float64(best.RewardSE), best.Alpha, float64(best.Difference), float64(best.DifferenceSE), l.Pair))
	case beyond > 0 && fall:
		out = append(out, fmt.Sprintf("Beyond %s there is only less reward: it was trained as far as it goes, and extrapolation costs.", l.Pair))
	case beyond > 0:
		out = append(out, fmt.Sprintf("No α beyond %s that passes the gates has a reward that can be told from its own.", l.Pair))
	}
	top, gated := &l.Rows[0], best
	for i := range l.Rows {
		row := &l.Rows[i]
		if row.Rule > top.Rule {
			top = row
		}
		if row.Alpha > best.Alpha && row.Gate != "" && row.Reward > gated.Reward {
			gated = row
		}
	}
	if gated != best {
		out = append(out, fmt.Sprintf("Reward is higher still at α = %g, %.2f, but a gate is closed there: %s. The rule gives %.2f.", gated.Alpha, float64(gated.Reward), gated.Gate, float64(gated.Rule)))
	}
	last := l.Rows[len(l.Rows)-1]
	switch {
	case top.Alpha < best.Alpha && float64(top.Rule-best.Rule) > 2*math.Hypot(float64(top.RuleSE), float64(best.RuleSE)):
		out = append(out, fmt.Sprintf("The rule, which the reward model never saw, is highest at α = %g, %.2f: beyond that the reward model is being fooled.", top.Alpha, float64(top.Rule)))
	case best.Alpha > 0:
		verb := "does not agree"
		if sft.Rule < aligned.Rule && aligned.Rule < best.Rule {
			verb = "agrees"
		}
		out = append(out, fmt.Sprintf("The rule, which the reward model never saw, %s: %.2f, %.2f, %.2f.", verb, float64(sft.Rule), float64(aligned.Rule), float64(best.Rule)))
	}
	if last.Alpha > best.Alpha && last.Rule < best.Rule-1 {
		out = append(out, fmt.Sprintf("Too far is too far: at α = %g the rule gives %.2f, and %.0f %% of the notes come to an end.", last.Alpha, float64(last.Rule), 100*float64(last.Finished)))
	}
	return out
}

func (l *demoLine) at(alpha float64) *demoRow {
	for i := range l.Rows {
		if l.Rows[i].Alpha == alpha {
			return &l.Rows[i]
		}
	}
	return nil
}

// beside prints three answers in columns.
func (d *demoRun) beside(x demoAnswers) error {
	t := d.a.newTable()
	head := func(name string, a demoAnswer) string {
		return fmt.Sprintf("%s (reward %.2f, rule %g)", name, a.Reward, a.Rule)
	}
	t.AppendHeader(table.Row{head("SFT", x.SFT), head(d.flags.pair, x.Aligned), head(fmt.Sprintf("ExPO α %g", x.ExPO.Alpha), x.ExPO)})
	row := table.Row{}
	var config []table.ColumnConfig
	for i, a := range []demoAnswer{x.SFT, x.Aligned, x.ExPO} {
		config = append(config, table.ColumnConfig{Number: i + 1, WidthMin: 32, WidthMax: 32, WidthMaxEnforcer: text.WrapSoft})
		row = append(row, printable(a.Text))
	}
	t.SetColumnConfigs(config)
	t.AppendRow(row)
	t.SuppressTrailingSpaces()
	t.Render()
	return nil
}

// printable is a model's text without anything that would steer a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '�'
	}, s)
}

// wrap breaks a sentence into lines.
func wrap(s string, width int) string {
	lines := strings.Split(text.WrapSoft(s, width), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	return strings.Join(lines, "\n")
}

// page is report.html.
func (d *demoRun) page() *report.Page {
	l := &d.doc.demoLine
	best := l.at(float64(l.BestAlpha))
	p := &report.Page{
		Title: "ExPO on the bundled pair",
		Lead: []string{
			fmt.Sprintf("θ = θ_%s + α(θ_%s − θ_sft). The models write notes to neighbours. sft imitates notes of all qualities; %s had preference training; all else is arithmetic with their weights.", l.Pair, l.Pair, l.Pair),
			fmt.Sprintf("%d prompts that no model has seen, %d answers to each, with the same random numbers at every α. Reward is a reward model's, which learned from readers; the rule counts what makes a good note: the right name, the right thing, kindness, a polite leave, sense.", d.doc.Prompts, d.doc.Seeds),
		},
		Footer: fmt.Sprintf("Made by expo %s in %.0f s; the figures are in search.json.", Version, d.doc.Seconds),
	}
	p.Facts = []report.Fact{{Name: "best α", Value: shortNumber(l.BestAlpha)}}
	if best != nil {
		p.Facts = append(p.Facts,
			report.Fact{Name: "gain in reward", Value: fmt.Sprintf("%+.3g", float64(best.Difference)), Note: fmt.Sprintf("± %.2g over %s, paired", float64(best.DifferenceSE), l.Pair)},
			report.Fact{Name: "gain by the rule", Value: fmt.Sprintf("%+.3g", float64(best.RuleDifference)), Note: fmt.Sprintf("± %.2g", float64(best.RuleDifferenceSE))},
			report.Fact{Name: "length", Value: fmt.Sprintf("%.2f ×", float64(best.LengthGrowth)), Note: l.Pair + "’s"})
	}
	t := l.table()
	t.Notes = []string{"Errors are standard errors over prompts; “− aligned” is the paired difference from α = 0."}
	p.Sections = append(p.Sections,
		report.Section{Heading: "Reward and rule", Text: l.says(), Plots: []report.Plot{l.chart(), l.ruleChart()}, Tables: []*report.Table{t}},
		report.Section{Heading: "Length and form", Text: l.Notes, Plots: []report.Plot{lengthChart(l.Result), answersChart(l.Result)}})
	cards := report.Section{Heading: "Answers"}
	for _, x := range d.doc.Side {
		row := []report.Card{{Title: "Prompt", Body: x.Prompt}}
		for _, a := range []demoAnswer{x.SFT, x.Aligned, x.ExPO} {
			row = append(row, report.Card{Title: alphaLabel(a.Alpha), Note: fmt.Sprintf("reward %.2f, rule %g", a.Reward, a.Rule), Body: a.Text})
		}
		cards.Cards = append(cards.Cards, row)
	}
	s := d.doc.Second
	p.Sections = append(p.Sections, cards,
		report.Section{Heading: "Another end: " + s.Pair, Text: s.says(), Plots: []report.Plot{s.chart(), s.ruleChart()}, Tables: []*report.Table{s.table()}},
		report.Section{Heading: "Next", Cards: [][]report.Card{{{Title: "Commands", Body: strings.Join(d.next(), "\n")}}}})
	return p
}
