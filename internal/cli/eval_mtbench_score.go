package cli

import (
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"expo/eval"
	"expo/eval/judge"
	"expo/eval/mtbench"
)

// mtbenchResult is judgments on their way to figures.
type mtbenchResult struct {
	f         *mtbenchFlags
	dir       string // "": print only
	questions []mtbench.Question
	config    map[string]string
	configs   map[string]map[string]string // by model; config's for those that it lacks
	checked   bool                         // that nothing of another run is replaced
	warnings  []string
	failed    int // turns without an answer or a judgment
	models    []mtbench.Answers

	scores []mtbench.Scores
	games  []mtbench.PairScores
	bias   mtbench.Bias
	single []mtbench.Judgment
	pairs  []mtbench.PairJudgment
}

// mtbenchJSON is the document of expo eval mtbench.
type mtbenchJSON struct {
	Suite       string                      `json:"suite"`
	Version     string                      `json:"version"`
	Judges      []string                    `json:"judges"`
	Models      map[string]mtbenchModelJSON `json:"models"`
	Comparisons []mtbenchDifferenceJSON     `json:"comparisons,omitempty"`
	Pairs       *mtbenchPairsJSON           `json:"pairs,omitempty"`
	Config      map[string]string           `json:"config,omitempty"`
	Warnings    []string                    `json:"warnings,omitempty"`
}

type mtbenchModelJSON struct {
	Turn1         *float64            `json:"turn1"`
	Turn2         *float64            `json:"turn2"`
	All           *float64            `json:"all"`
	N             int                 `json:"n"`
	Unparsed      int                 `json:"unparsed"`
	Categories    map[string]*float64 `json:"categories"`
	Complete      bool                `json:"complete"`
	OutOfRange    int                 `json:"out_of_range"`
	Duplicates    int                 `json:"duplicates"`
	StandardError *float64            `json:"standard_error"`
	Interval      *eval.Interval      `json:"interval,omitempty"`
	Turn1Error    *float64            `json:"turn1_standard_error"`
	Turn2Error    *float64            `json:"turn2_standard_error"`
	Judge         string              `json:"judge"`
}

type mtbenchDifferenceJSON struct {
	Model         string         `json:"model"`
	Than          string         `json:"than"`
	Difference    *float64       `json:"difference"`
	N             int            `json:"n"`
	StandardError *float64       `json:"standard_error"`
	Interval      *eval.Interval `json:"interval,omitempty"`
	Higher        int            `json:"higher"`
	Lower         int            `json:"lower"`
	Tie           int            `json:"tie"`
	P             *float64       `json:"p"`
}

type mtbenchPairsJSON struct {
	Games             int                         `json:"games"`
	Dropped           int                         `json:"dropped"`
	Inconsistent      int                         `json:"inconsistent"`
	InconsistencyRate *float64                    `json:"inconsistency_rate"`
	FirstTwice        int                         `json:"first_twice"`
	SecondTwice       int                         `json:"second_twice"`
	Models            map[string]mtbenchGamesJSON `json:"models"`
}

type mtbenchGamesJSON struct {
	Games           int            `json:"games"`
	Wins            int            `json:"wins"`
	Losses          int            `json:"losses"`
	Ties            int            `json:"ties"`
	WinRate         *float64       `json:"win_rate"`
	LossRate        *float64       `json:"loss_rate"`
	WinRateAdjusted *float64       `json:"win_rate_adjusted"`
	StandardError   *float64       `json:"win_rate_adjusted_standard_error"`
	Interval        *eval.Interval `json:"win_rate_adjusted_interval,omitempty"`
}

// mtbenchFinish computes the figures, writes them, prints them, and tells what
// is missing.
func (a *app) mtbenchFinish(r *mtbenchResult, single []mtbench.Judgment, pairs []mtbench.PairJudgment) error {
	r.single, r.pairs = single, pairs
	r.scores = mtbench.Score(single, mtbench.ScoreOptions{Questions: r.questions, Strict: r.f.strict, Draws: r.f.draws})
	if len(pairs) > 0 {
		r.games, r.bias = mtbench.ScorePairs(pairs, r.f.draws)
	}
	if n := r.f.limit; n > 0 && n == len(r.questions) {
		r.warnings = append(r.warnings, fmt.Sprintf("--limit %d: a part of the questions only", n))
	}
	for _, s := range r.scores {
		r.warnings = append(r.warnings, s.Warnings()...)
	}
	if judges := r.judges(); len(judges) > 1 {
		r.warnings = append(r.warnings, "ratings of different judges cannot be compared: "+strings.Join(judges, ", "))
	}
	if r.dir == "" && r.f.output != "" {
		r.dir = filepath.Clean(r.f.output)
	}
	doc := r.document()
	if r.dir != "" {
		if err := r.write(); err != nil {
			return err
		}
	}
	if err := a.printMTBench(r, doc); err != nil {
		return err
	}
	missing := r.failed
	total := len(single) + 2*len(pairs) + r.failed
	for _, s := range r.scores {
		missing += s.Unparsed
	}
	for _, p := range pairs {
		for _, w := range []string{p.G1Winner, p.G2Winner} {
			if w == "error" {
				missing++
			}
		}
	}
	if missing > 0 && len(r.f.judgments) == 0 {
		return &incomplete{missing, total, "turns have no answer or no judgment that can be read", "the same command tries again what failed, and with a greater --judge-tries what cannot be read"}
	}
	if missing > 0 {
		return &incomplete{missing, total, "judgments cannot be read", "they are left out of the figures"}
	}
	return nil
}

// judges are the names of all judges, in the order in which they occur.
func (r *mtbenchResult) judges() []string {
	out := []string{}
	add := func(names []string) {
		if len(names) > 0 && !slices.Contains(out, names[0]) {
			out = append(out, names[0])
		}
	}
	for _, j := range r.single {
		add(j.Judge)
	}
	for _, p := range r.pairs {
		add(p.Judge)
	}
	return out
}

// differences compare each model with the one whose name its own is made of, as
// X-ExPO with X, two models with each other, all with --baseline, and ratings of
// the same model by two judges, which tells by how much the judges differ.
func (r *mtbenchResult) differences() []mtbench.Difference {
	var out []mtbench.Difference
	for i, s := range r.scores {
		for k, base := range r.scores {
			compared := false
			switch {
			case base.Model == s.Model:
				compared = k < i
			case base.Judge != s.Judge:
			case r.f.baseline != "":
				compared = base.Model == r.f.baseline
			default:
				compared = strings.HasPrefix(s.Model, base.Model+"-ExPO") || len(r.scores) == 2 && k < i
			}
			if compared {
				d := mtbench.Compare(s, base, r.f.draws)
				d.Model, d.Than = mtbench.Label(r.scores, s), mtbench.Label(r.scores, base)
				out = append(out, d)
			}
		}
	}
	return out
}

func (r *mtbenchResult) document() mtbenchJSON {
	doc := mtbenchJSON{Suite: "mtbench", Version: mtbench.Version, Judges: r.judges(), Models: map[string]mtbenchModelJSON{}, Config: r.config, Warnings: r.warnings}
	for _, s := range r.scores {
		m := mtbenchModelJSON{
			Turn1: eval.Finite(s.Turn1.Value), Turn2: eval.Finite(s.Turn2.Value), All: eval.Finite(s.All.Value), N: s.All.N, Unparsed: s.Unparsed,
			Categories: map[string]*float64{}, Complete: s.Complete(), OutOfRange: s.OutOfRange, Duplicates: s.Duplicates,
			StandardError: eval.Finite(s.All.StdErr), Interval: s.All.CI, Turn1Error: eval.Finite(s.Turn1.StdErr), Turn2Error: eval.Finite(s.Turn2.StdErr), Judge: s.Judge,
		}
		for _, c := range s.Categories {
			m.Categories[c.Name] = eval.Finite(c.Value)
		}
		doc.Models[mtbench.Label(r.scores, s)] = m
	}
	for _, d := range r.differences() {
		doc.Comparisons = append(doc.Comparisons, mtbenchDifferenceJSON{d.Model, d.Than, eval.Finite(d.Mean.Value), d.Mean.N, eval.Finite(d.Mean.StdErr), d.Mean.CI, d.Higher, d.Lower, d.Tie, eval.Finite(d.P)})
	}
	if len(r.pairs) > 0 {
		b := r.bias
		doc.Pairs = &mtbenchPairsJSON{b.Games, b.Dropped, b.Inconsistent, eval.Finite(b.InconsistencyRate()), b.First, b.Second, map[string]mtbenchGamesJSON{}}
		for _, g := range r.games {
			doc.Pairs.Models[g.Model] = mtbenchGamesJSON{g.Games, g.Wins, g.Losses, g.Ties, eval.Finite(g.WinRate.Value), eval.Finite(g.LossRate.Value),
				eval.Finite(g.WinRateAdjusted.Value), eval.Finite(g.WinRateAdjusted.StdErr), g.WinRateAdjusted.CI}
		}
	}
	return doc
}

// results are the ratings as other suites have their figures, one of each model
// and judge.
func (r *mtbenchResult) results() []eval.Result {
	var out []eval.Result
	for _, s := range r.scores {
		metrics := []eval.Metric{s.Turn1, s.Turn2, s.All}
		for _, c := range s.Categories {
			c.Name = "category/" + c.Name
			metrics = append(metrics, c)
		}
		out = r.addMetrics(out, s.Model, s.Judge, metrics...)
	}
	return out
}

// addMetrics adds metrics to the result of a model and a judge.
func (r *mtbenchResult) addMetrics(out []eval.Result, model, judge string, metrics ...eval.Metric) []eval.Result {
	for i := range out {
		if out[i].Model == model && out[i].Config["judge"] == judge {
			out[i].Metrics = append(out[i].Metrics, metrics...)
			return out
		}
	}
	config := maps.Clone(r.configs[model])
	if config == nil {
		config = maps.Clone(r.config)
	}
	if judge != "" {
		config["judge"] = judge
	}
	n := eval.Result{Suite: "mtbench", Version: mtbench.Version, Model: model, Config: config, Metrics: metrics}
	for _, w := range r.warnings {
		if of, _, ok := strings.Cut(w, ": "); !ok || of == model || !r.has(of) {
			n.Warnings = append(n.Warnings, w)
		}
	}
	return append(out, n)
}

// samples are the judgments, a line each.
func (r *mtbenchResult) samples() []eval.Sample {
	category := map[int]string{}
	for _, q := range r.questions {
		category[q.ID] = q.Category
	}
	of := func(id int) string {
		if c, ok := category[id]; ok {
			return c
		}
		return mtbench.CategoryOf(id)
	}
	var out []eval.Sample
	for _, j := range r.single {
		s := eval.Sample{ID: strconv.Itoa(j.QuestionID), Model: j.Model, Category: of(j.QuestionID), Turn: j.Turn,
			Details: map[string]any{"judge": j.Judge, "judgment": j.Judgment}}
		if x, err := j.Score.Float64(); err == nil && j.Score != judge.Unrated {
			s.Score = &x
		} else {
			s.Error = "no rating"
		}
		out = append(out, s)
	}
	for _, p := range r.pairs {
		s := eval.Sample{ID: strconv.Itoa(p.QuestionID), Model: p.Model2, Category: of(p.QuestionID), Turn: p.Turn,
			Details: map[string]any{"judge": p.Judge, "baseline": p.Model1, "g1_winner": p.G1Winner, "g2_winner": p.G2Winner}}
		switch {
		case p.G1Winner == "error" || p.G2Winner == "error":
			s.Error = "no verdict"
		case p.G1Winner != p.G2Winner || p.G1Winner == "tie":
			s.Score = new(0.5)
		default:
			s.Score = new(map[bool]float64{true: 1, false: 0}[p.G1Winner == "model_2"])
		}
		out = append(out, s)
	}
	return out
}

// write writes result.json, samples.jsonl and report.html, which are of all that
// the directory holds.
func (r *mtbenchResult) write() error {
	results, samples, err := r.whole()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.dir, 0o777); err != nil {
		return err
	}
	if err := eval.WriteFile(filepath.Join(r.dir, "samples.jsonl"), func(w io.Writer) error { return eval.WriteSamples(w, samples) }); err != nil {
		return err
	}
	page := r.of(samples, results)
	if err := eval.WriteFile(filepath.Join(r.dir, "report.html"), page.page(page.document()).WriteHTML); err != nil {
		return err
	}
	var v any = results
	if len(results) == 1 {
		v = results[0]
	}
	return eval.WriteFile(filepath.Join(r.dir, "result.json"), func(w io.Writer) error { return writeJSON(w, v) })
}

// of is the figures of all samples of a directory, this run's if there are no
// others.
func (r *mtbenchResult) of(samples []eval.Sample, results []eval.Result) *mtbenchResult {
	if len(samples) == len(r.samples()) {
		return r
	}
	single, questions := ratingsOf(samples)
	out := &mtbenchResult{f: r.f, questions: questions, config: map[string]string{}, single: single, pairs: gamesOf(samples)}
	out.scores = mtbench.Score(single, mtbench.ScoreOptions{Questions: questions, Strict: r.f.strict, Draws: r.f.draws})
	if len(out.pairs) > 0 {
		out.games, out.bias = mtbench.ScorePairs(out.pairs, r.f.draws)
	}
	for i, o := range results {
		if i == 0 {
			maps.Copy(out.config, o.Config)
		}
		maps.DeleteFunc(out.config, func(k, v string) bool { return o.Config[k] != v }) // what all have in common
		for _, w := range o.Warnings {
			if !slices.Contains(out.warnings, w) {
				out.warnings = append(out.warnings, w)
			}
		}
	}
	return out
}

// printMTBench prints the figures.
func (a *app) printMTBench(r *mtbenchResult, doc mtbenchJSON) error {
	if a.json {
		return a.printJSON(doc)
	}
	for _, w := range r.warnings {
		a.warn("%s", w)
	}
	if len(r.scores) > 0 {
		if err := r.table().WriteText(a.out); err != nil {
			return err
		}
	}
	if len(doc.Comparisons) > 0 {
		fmt.Fprintln(a.out)
		if err := r.differenceTable().WriteText(a.out); err != nil {
			return err
		}
	}
	if len(r.games) > 0 {
		if len(r.scores) > 0 {
			fmt.Fprintln(a.out)
		}
		if err := r.gameTable().WriteText(a.out); err != nil {
			return err
		}
	}
	return nil
}

// halfWidth of an interval, for error bars.
func halfWidth(m eval.Metric) float64 {
	if m.CI == nil {
		return math.NaN()
	}
	return (m.CI.High - m.CI.Low) / 2
}
