package cli

import (
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"

	"expo/eval"
	"expo/eval/alpacaeval"
	"expo/eval/mtbench"
)

// measured is what one source says about one model on one suite.
type measured struct {
	suite, version  string
	judge, baseline string // "" where the source does not say
	model, source   string
	metrics         []eval.Metric // N is 0 where the source gives none
	categories      []eval.Metric // of MT-Bench
	length          float64       // mean code points of an answer; 0 if unknown
	warnings        []string

	// What the figures were made from, where the source holds it.
	judged  *alpacaeval.Judged
	counted bool // judged's rows have their places by position
	scores  *mtbench.Scores
	fit     *lcFit

	// origin says of a metric, by name, where its value comes from, for tables
	// in which it is not the same for all.
	origin map[string]origin
}

// origin is where a figure of a published table comes from.
type origin struct {
	Status string `json:"status"` // recomputed, weights, quoted
	Source string `json:"source"`
	// Published is the figure that a recomputed one is to equal.
	Published *float64 `json:"published,omitempty"`
}

// lcFit is how a length-controlled win rate was computed.
type lcFit struct {
	glm         alpacaeval.GLM
	c           float64
	tanh        float64   // the weight of length; NaN if it is not known
	predictions []float64 // at equal length, by row of judged; nil if unknown
}

func (m *measured) metric(name string) (eval.Metric, bool) {
	for _, x := range m.metrics {
		if x.Name == name && !math.IsNaN(x.Value) {
			return x, true
		}
	}
	return eval.Metric{Name: name, Value: math.NaN(), StdErr: math.NaN()}, false
}

// z95 is the 97.5 % quantile of the normal distribution.
const z95 = 1.959963984540054

// intervalOf is a metric's interval, made of its standard error if there is no
// better one. That of a length-controlled win rate is the spread of predictions
// and tells nothing about how well the rate is known.
func intervalOf(m eval.Metric) *eval.Interval {
	if m.CI != nil {
		return m.CI
	}
	if !(m.StdErr >= 0) || math.IsInf(m.StdErr, 0) || math.IsNaN(m.Value) || m.Name == lcMetric {
		return nil
	}
	return &eval.Interval{Level: 0.95, Low: m.Value - z95*m.StdErr, High: m.Value + z95*m.StdErr, Method: "normal, 1.96 standard errors"}
}

// measure is a figure that tables show.
type measure struct{ name, title, format string }

// Names of metrics, as suites have them in their results.
const (
	wrMetric = "win_rate"
	lcMetric = "length_controlled_winrate"
)

// measuresOf are a suite's figures; nil stands for all that there are.
func measuresOf(suite string) []measure {
	switch suite {
	case "alpacaeval":
		return []measure{{wrMetric, "win rate %", "%.1f"}, {lcMetric, "LC win rate %", "%.1f"}}
	case "mtbench":
		return []measure{{"turn1", "turn 1", ratingFormat}, {"turn2", "turn 2", ratingFormat}, {"all", "average", ratingFormat}}
	case suitePairs:
		return []measure{{"win_rate_adjusted", "win rate, ties half", "%.3f"}, {"win_rate", "win rate", "%.3f"}, {"loss_rate", "loss rate", "%.3f"}}
	}
	return nil
}

// suitePairs are MT-Bench's games, which are not comparable with its ratings.
const suitePairs = "mtbench-pairs"

// reportRow is a model and its ExPO; one of them may be missing.
type reportRow struct {
	name       string
	base, with *measured
}

// reportGroup is what may be compared: one suite, one judge, one baseline.
type reportGroup struct {
	suite, version, judge, baseline string
	measures                        []measure
	rows                            []reportRow
	comparisons                     []comparison
}

func (g *reportGroup) title() string {
	var t string
	switch g.suite {
	case "alpacaeval":
		t = "AlpacaEval"
		if g.version != "" {
			t += " " + g.version
		}
	case "mtbench":
		t = "MT-Bench"
	case suitePairs:
		t = "MT-Bench, pairwise"
	default:
		return strings.TrimSpace(g.suite + " " + g.version)
	}
	if g.judge == "" {
		t += " (the source does not name the judge"
	} else {
		t += " (judge " + g.judge
	}
	if g.baseline != "" {
		t += ", against " + g.baseline
	}
	return t + ")"
}

// extrapolated tells whether there is any model with ExPO.
func (g *reportGroup) extrapolated() bool {
	return slices.ContainsFunc(g.rows, func(r reportRow) bool { return r.with != nil })
}

// comparison is the difference of two models in one metric.
type comparison struct {
	with, base                         *measured
	model, than, metric, title, format string
	value, stdErr, p                   float64
	apart                              float64 // the difference of the two figures as they stand
	n                                  int     // samples of both; 0 if it is not of samples
	ci                                 *eval.Interval
	paired                             bool
	method                             string
}

// tested tells whether there is more than the difference itself.
func (c comparison) tested() bool { return c.ci != nil }

// comparedResults is a report.
type comparedResults struct {
	title    string
	groups   []*reportGroup
	warnings []string
	checks   []paperCheck   // of --paper
	origins  map[string]int // of --paper: figures by where they come from
}

func (r *comparedResults) warn(format string, args ...any) {
	if w := fmt.Sprintf(format, args...); !slices.Contains(r.warnings, w) {
		r.warnings = append(r.warnings, w)
	}
}

// withExPO are names of extrapolated models: the model's own, and ExPO, perhaps
// with an α.
var withExPO = regexp.MustCompile(`(?i)^(.+?)[-_ ]expo([-_ ].*)?$`)

// baseName is the name of the model of which a model is the ExPO.
func (f *reportFlags) baseName(model string) (string, bool) {
	if base, ok := f.baseOf[model]; ok {
		return base, true
	}
	if m := withExPO.FindStringSubmatch(model); m != nil {
		return m[1], true
	}
	return "", false
}

// groupMeasured sorts by what may be compared, and pairs models with their
// ExPOs, in the order in which they come.
func groupMeasured(f *reportFlags, all []*measured, out *comparedResults) {
	type key struct{ suite, judge, baseline string }
	adoptBaselines(all)
	at := map[key]*reportGroup{}
	members := map[*reportGroup][]*measured{}
	for _, m := range all {
		k := key{m.suite, m.judge, m.baseline}
		g := at[k]
		if g == nil {
			g = &reportGroup{suite: m.suite, version: m.version, judge: m.judge, baseline: m.baseline, measures: measuresOf(m.suite)}
			at[k] = g
			out.groups = append(out.groups, g)
		}
		members[g] = append(members[g], m)
	}
	for _, g := range out.groups {
		pairMeasured(f, g, members[g], out)
		if g.measures == nil {
			g.measures = measuresIn(members[g])
		} else {
			g.measures = slices.DeleteFunc(g.measures, func(x measure) bool {
				return !slices.ContainsFunc(members[g], func(m *measured) bool { _, ok := m.metric(x.name); return ok })
			})
		}
	}
	out.groups = slices.DeleteFunc(out.groups, func(g *reportGroup) bool { return len(g.rows) == 0 })
}

// adoptBaselines takes the baseline of a source that does not name it to be that
// of the others by the same judge, if they have one and the same.
func adoptBaselines(all []*measured) {
	type key struct{ suite, judge string }
	named := map[key][]string{}
	for _, m := range all {
		if k := (key{m.suite, m.judge}); m.baseline != "" && m.judge != "" && !slices.Contains(named[k], m.baseline) {
			named[k] = append(named[k], m.baseline)
		}
	}
	for _, m := range all {
		if names := named[key{m.suite, m.judge}]; m.baseline == "" && len(names) == 1 {
			m.baseline = names[0]
		}
	}
}

// measuresIn are all metrics of models, in the order in which they come.
func measuresIn(ms []*measured) []measure {
	var out []measure
	for _, m := range ms {
		for _, x := range m.metrics {
			if !slices.ContainsFunc(out, func(o measure) bool { return o.name == x.Name }) {
				out = append(out, measure{x.Name, x.Name, "%.4g"})
			}
		}
	}
	return out
}

func pairMeasured(f *reportFlags, g *reportGroup, ms []*measured, out *comparedResults) {
	count := map[string]int{}
	for _, m := range ms {
		count[m.model]++
	}
	for _, m := range ms {
		if n := count[m.model]; n > 1 {
			out.warn("%s: %s is in %d sources, which may be of different answers; each has its own row", g.title(), m.model, n)
		}
	}
	label := func(m *measured) string {
		if count[m.model] > 1 {
			return m.model + " (" + m.source + ")"
		}
		return m.model
	}
	// find prefers the model of the same source, and a name with its owner to one
	// without (org/name).
	find := func(name, source string) *measured {
		var found *measured
		for _, same := range []func(string) bool{
			func(other string) bool { return other == name },
			func(other string) bool { return path.Base(other) == path.Base(name) },
		} {
			for _, m := range ms {
				if same(m.model) && (found == nil || m.source == source && found.source != source) {
					found = m
				}
			}
			if found != nil {
				break
			}
		}
		return found
	}
	withs := map[*measured][]*measured{}
	alone := map[*measured]bool{}
	for _, m := range ms {
		if base, ok := f.baseName(m.model); ok {
			if b := find(base, m.source); b != nil {
				withs[b] = append(withs[b], m)
			} else {
				alone[m] = true
			}
		}
	}
	for _, m := range ms {
		_, extrapolated := f.baseName(m.model)
		switch {
		case extrapolated && alone[m]:
			base, _ := f.baseName(m.model)
			if !f.pairedOnly {
				g.rows = append(g.rows, reportRow{name: base, with: m})
			}
		case extrapolated:
		case len(withs[m]) == 0:
			if !f.pairedOnly {
				g.rows = append(g.rows, reportRow{name: label(m), base: m})
			}
		default:
			for _, w := range withs[m] {
				name := label(m)
				if len(withs[m]) > 1 {
					name += " → " + label(w)
				}
				g.rows = append(g.rows, reportRow{name, m, w})
			}
		}
	}
}
