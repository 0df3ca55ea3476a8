package cli

import (
	"expo/eval"
)

// reportJSON is the document of expo report.
type reportJSON struct {
	Suites   []reportSuiteJSON `json:"suites"`
	Origins  map[string]int    `json:"origins,omitempty"` // of --paper: figures by status
	Checks   []paperCheck      `json:"checks,omitempty"`
	Warnings []string          `json:"warnings,omitempty"`
}

type reportSuiteJSON struct {
	Suite       string                 `json:"suite"`
	Version     string                 `json:"version,omitempty"`
	Judge       *string                `json:"judge"` // null where the source does not say
	Baseline    string                 `json:"baseline,omitempty"`
	Models      []reportModelJSON      `json:"models"`
	Comparisons []reportComparisonJSON `json:"comparisons"`
	Between     []lcBetween            `json:"lc_between,omitempty"`
}

type reportModelJSON struct {
	Model    string              `json:"model"`
	Original *reportFigureSet    `json:"original"`
	ExPO     *reportFigureSet    `json:"expo"`
	Diff     map[string]*float64 `json:"difference,omitempty"`
	Wins     *wins               `json:"wins,omitempty"`
}

type reportFigureSet struct {
	Model      string                      `json:"model"`
	Source     string                      `json:"source"`
	Length     *float64                    `json:"avg_length,omitempty"`
	Metrics    map[string]reportFigureJSON `json:"metrics"`
	Categories map[string]reportFigureJSON `json:"categories,omitempty"`
}

type reportFigureJSON struct {
	Value    *float64       `json:"value"`
	N        *int           `json:"n"` // null where the source does not say
	StdErr   *float64       `json:"standard_error"`
	Interval *eval.Interval `json:"interval"` // null where there is none
	Origin   *origin        `json:"origin,omitempty"`
}

type reportComparisonJSON struct {
	Model    string         `json:"model"`
	Than     string         `json:"than"`
	Metric   string         `json:"metric"`
	Value    *float64       `json:"difference"`
	N        *int           `json:"n"`
	StdErr   *float64       `json:"standard_error"`
	Interval *eval.Interval `json:"interval"`
	P        *float64       `json:"p"`
	Paired   bool           `json:"paired"`
	Method   string         `json:"method"`
}

func (r *comparedResults) document() reportJSON {
	doc := reportJSON{Suites: []reportSuiteJSON{}, Origins: r.origins, Checks: r.checks, Warnings: r.warnings}
	for _, g := range r.groups {
		s := reportSuiteJSON{Suite: g.suite, Version: g.version, Baseline: g.baseline, Models: []reportModelJSON{}, Comparisons: []reportComparisonJSON{}}
		if g.judge != "" && g.judge != "–" {
			s.Judge = &g.judge
		}
		for _, row := range g.rows {
			m := reportModelJSON{Model: row.name, Original: figureSet(row.base), ExPO: figureSet(row.with)}
			for _, x := range g.measures {
				if c, ok := g.differenceOf(row, x.name); ok {
					if m.Diff == nil {
						m.Diff = map[string]*float64{}
					}
					m.Diff[x.name] = eval.Finite(c.value)
				}
			}
			if rows := pairedRows(row.base, row.with); rows != nil {
				w := winsOf(rows)
				m.Wins = &w
			}
			s.Models = append(s.Models, m)
		}
		for _, c := range g.comparisons {
			s.Comparisons = append(s.Comparisons, reportComparisonJSON{c.model, c.than, c.metric, eval.Finite(c.value), sampleCount(c.n), eval.Finite(c.stdErr), c.ci, eval.Finite(c.p), c.paired, c.method})
		}
		s.Between = g.between()
		doc.Suites = append(doc.Suites, s)
	}
	return doc
}

// sampleCount is a number of samples for JSON, null for none that is known.
func sampleCount(n int) *int {
	if n <= 0 {
		return nil
	}
	return &n
}

func figureSet(m *measured) *reportFigureSet {
	if m == nil {
		return nil
	}
	set := &reportFigureSet{Model: m.model, Source: m.source, Metrics: map[string]reportFigureJSON{}}
	if m.length > 0 {
		set.Length = &m.length
	}
	of := func(x eval.Metric) reportFigureJSON {
		f := reportFigureJSON{Value: eval.Finite(x.Value), N: sampleCount(x.N), StdErr: eval.Finite(x.StdErr), Interval: intervalOf(x)}
		if o, ok := m.origin[x.Name]; ok {
			f.Origin = &o
		}
		return f
	}
	for _, x := range m.metrics {
		set.Metrics[x.Name] = of(x)
	}
	for _, x := range m.categories {
		if set.Categories == nil {
			set.Categories = map[string]reportFigureJSON{}
		}
		set.Categories[x.Name] = of(x)
	}
	return set
}
