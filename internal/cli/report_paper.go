package cli

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"expo/eval"
	"expo/eval/alpacaeval"
	"expo/eval/mtbench"
	"expo/internal/report"
)

// The judges of the paper's tables.
const (
	paperPairJudge   = "weighted_alpaca_eval_gpt4_turbo"
	paperBaseline    = "gpt4_1106_preview"
	paperSingleJudge = "gpt-4"
)

// paperData is what a directory of published data holds.
type paperData struct {
	dir        string
	sets       []*alpacaeval.Judged
	rows       []publishedRow
	weights    []publishedFit
	singles    []mtbench.Judgment
	judgedIn   map[string]string // where a model's judgments are
	difficulty *alpacaeval.Reference
	gamed      *alpacaeval.Gamed
	passedOver []string // files that could not be read, and why
	others     []string // models with judgments that are not the paper's
}

// publishedRow is a model's line in a leaderboard, with its judge and the
// strength of its fit if the table has them.
type publishedRow struct {
	alpacaeval.Row
	source, judge string
	c             float64 // 0: not known
}

type publishedFit struct {
	alpacaeval.Fitted
	source string
}

// paperResults makes the paper's tables from what is in a directory.
func paperResults(ctx context.Context, f *reportFlags) (*comparedResults, error) {
	d := &paperData{dir: f.paper, judgedIn: map[string]string{}}
	if err := d.read(ctx); err != nil {
		return nil, err
	}
	var all []*measured
	var extra []string
	for _, p := range paperFigures() {
		for _, of := range []struct {
			name   string
			figure paperFigure
		}{{p.model, p.original}, {p.model + "-ExPO", p.expo}} {
			m, err := d.alpaca(ctx, f, of.name, of.figure)
			if err != nil {
				return nil, err
			}
			extra = append(extra, m.warnings...)
			m.warnings = nil // told after what matters more
			all = append(all, m, d.mtbench(of.name, of.figure))
		}
	}
	slices.SortStableFunc(all, func(a, b *measured) int { return strings.Compare(a.suite, b.suite) })
	out, err := compareMeasured(ctx, f, all, &lcTest{draws: f.draws, gamed: d.gamed, ref: d.reference(), name: "gamed rows of the directory"})
	if err != nil {
		return nil, err
	}
	out.title = "The tables of the ExPO paper"
	out.origins = map[string]int{}
	total := 0
	for _, m := range all {
		for _, o := range m.origin {
			out.origins[o.Status]++
			total++
		}
	}
	out.warn("%d of %d figures are computed from raw judgments, %d from published weights of the length-control fit, and %d are quoted because no raw data of them are in %s",
		out.origins["recomputed"], total, out.origins["weights"], out.origins["quoted"], f.paper)
	for _, w := range d.passedOver {
		out.warn("passed over: %s", w)
	}
	if d.others != nil {
		out.warn("judgments of %s are there, but of other answers or by another judge; they are not used", strings.Join(d.others, ", "))
	}
	for _, w := range extra {
		out.warn("%s", w)
	}
	if out.checks, err = d.checks(ctx); err != nil {
		return nil, err
	}
	return out, nil
}

// read goes through the directory. Files of other kinds are passed over.
func (d *paperData) read(ctx context.Context) error {
	found := 0
	root, err := filepath.EvalSymlinks(d.dir)
	if err != nil {
		return err
	}
	d.dir = root
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.IsDir() && strings.HasPrefix(e.Name(), ".") && path != d.dir {
			return fs.SkipDir
		}
		switch filepath.Ext(strings.TrimSuffix(e.Name(), ".gz")) {
		case ".csv", ".json", ".jsonl":
		default:
			return nil
		}
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return nil // a link to nowhere, a pipe
		}
		kind, err := readWith(path, kindOf)
		if err != nil || kind == "" { // empty, or compressed otherwise
			return nil
		}
		if err := d.readFile(path, kind); err != nil {
			d.passedOver = append(d.passedOver, message(err))
			return nil
		}
		found++
		return nil
	})
	if err == nil && found == 0 && d.passedOver != nil {
		return fmt.Errorf("%s holds nothing that can be read: %s", d.dir, strings.Join(d.passedOver, "; "))
	}
	if err == nil && found == 0 {
		err = fmt.Errorf("%s holds no annotations, leaderboards, weights or judgments", d.dir)
	}
	return err
}

func (d *paperData) readFile(path, kind string) error {
	rel, err := filepath.Rel(d.dir, path)
	if err != nil {
		rel = path
	}
	rel = filepath.ToSlash(rel)
	switch kind {
	case "annotations", "numbers":
		sets, err := readAnnotations([]string{path})
		if err != nil {
			return err
		}
		for _, s := range sets {
			if kind == "annotations" {
				s.Source = rel
				if folder := filepath.Base(filepath.Dir(path)); len(sets) == 1 && folder == s.Judge {
					s.Model = filepath.Base(filepath.Dir(filepath.Dir(path))) // alpaca_eval: results/MODEL/JUDGE
				} else if len(sets) == 1 {
					s.Model = folder // LLM-Extrapolation: results_alpaca/MODEL
				}
			} else {
				s.Source = strings.TrimPrefix(rel+": "+s.Source, ": ")
			}
		}
		d.sets = append(d.sets, sets...)
	case "leaderboard":
		rows, err := readWith(path, alpacaeval.ReadLeaderboard)
		if err != nil {
			return err
		}
		more, err := readWith(path, moreColumns)
		if err != nil {
			return err
		}
		for i, r := range rows {
			judge := more[i].judge
			if judge == "" {
				judge = boardJudge(path)
			}
			d.rows = append(d.rows, publishedRow{r, rel, judge, more[i].c})
		}
		if fits, err := readWith(path, alpacaeval.ReadWeights); err == nil {
			d.addWeights(fits, rel)
		}
	case "weights":
		fits, err := readWith(path, alpacaeval.ReadWeights)
		if err != nil {
			return err
		}
		d.addWeights(fits, rel)
	case "gamed":
		if d.gamed, err = readWith(path, alpacaeval.ReadGamed); err != nil {
			return err
		}
	case "difficulty":
		if d.difficulty, err = readWith(path, alpacaeval.ReadDifficulty); err != nil {
			return err
		}
	case "judgments":
		single, err := readWith(path, func(r io.Reader) ([]mtbench.Judgment, error) {
			single, _, err := mtbench.ReadJudgments(r)
			return single, err
		})
		if err != nil {
			return err
		}
		d.singles = append(d.singles, single...)
		for _, j := range single {
			d.judgedIn[j.Model] = rel
		}
	}
	return nil
}

func (d *paperData) addWeights(fits []alpacaeval.Fitted, source string) {
	for _, w := range fits {
		d.weights = append(d.weights, publishedFit{w, source})
	}
}

// moreColumns reads what tables of published rows have besides a leaderboard's
// columns: annotator, and lc_C.
func moreColumns(r io.Reader) ([]publishedRow, error) {
	all, err := csv.NewReader(r).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("the file is empty")
	}
	out := make([]publishedRow, len(all)-1)
	c, judge := slices.Index(all[0], "lc_C"), slices.Index(all[0], "annotator")
	for i, row := range all[1:] {
		if judge >= 0 {
			out[i].judge = row[judge]
		}
		if c < 0 {
			continue
		}
		if x, err := strconv.ParseFloat(row[c], 64); err == nil && x > 0 && !math.IsInf(x, 0) {
			out[i].c = x
		}
	}
	return out, nil
}

// reference is the set of instructions that difficulties are known of.
func (d *paperData) reference() *alpacaeval.Reference {
	if d.gamed != nil {
		return d.gamed.Reference()
	}
	return d.difficulty
}

// equals tells whether a figure is the one that was printed with so many
// decimals. It tells runs apart that have models of the same name.
func equals(x, printed float64, decimals int) bool {
	return math.Abs(x-printed) <= 0.5*math.Pow10(-decimals)+1e-9
}

// row is the published line that a printed one was rounded from.
func (d *paperData) row(name string, printed paperFigure) (publishedRow, bool) {
	best, found := publishedRow{}, false
	for _, r := range d.rows {
		if r.Model == name && (r.judge == "" || r.judge == paperPairJudge) && equals(r.WinRate.WinRate, printed.winRate, 1) && equals(r.LC, printed.lc, 1) && (!found || best.c == 0 && r.c > 0) {
			best, found = r, true
		}
	}
	return best, found
}

// alpaca is a model's line of the AlpacaEval table.
func (d *paperData) alpaca(ctx context.Context, f *reportFlags, name string, printed paperFigure) (*measured, error) {
	m := &measured{suite: "alpacaeval", version: "2.0", judge: paperPairJudge, baseline: paperBaseline, model: name, source: paperSource, origin: map[string]origin{}}
	wr := eval.Metric{Name: wrMetric, Value: printed.winRate, StdErr: math.NaN()}
	lc := eval.Metric{Name: lcMetric, Value: printed.lc, StdErr: math.NaN()}
	m.origin[wrMetric] = origin{Status: "quoted", Source: paperSource}
	m.origin[lcMetric] = m.origin[wrMetric]
	row, published := d.row(name, printed)
	if published {
		m.source, m.length = row.source, float64(max(row.AverageLength, 0))
		n := max(row.Total, 0)
		wr.Value, wr.N, wr.StdErr = row.WinRate.WinRate, n, row.StandardError
		lc.Value, lc.N, lc.StdErr = row.LC, n, row.LCError
		m.origin[wrMetric] = origin{Status: "quoted", Source: row.source}
		m.origin[lcMetric] = m.origin[wrMetric]
	}
	for _, w := range d.weights {
		// The weights of another run of the same name may round to the same.
		if w.Model != name || d.reference() == nil || !published {
			continue
		}
		rate, stderr, err := w.Weights.Against(alpacaeval.Weights{}, d.reference().Difficulty)
		if err != nil {
			return nil, err
		}
		if math.Abs(rate-row.LC) <= rateTolerance {
			lc.Value, lc.StdErr, lc.N = rate, stderr, len(d.reference().Difficulty)
			m.origin[lcMetric] = origin{Status: "weights", Source: w.source, Published: eval.Finite(row.LC)}
			break
		}
	}
	others := 0
	for _, s := range d.sets {
		if s.Model != name {
			continue
		}
		x := measuredOf(s, f.draws)
		v, _ := x.metric(wrMetric)
		if !equals(v.Value, printed.winRate, 1) || s.Judge != paperPairJudge {
			others++
			continue
		}
		m.judged, m.source, m.length, wr, others = s, s.Source, x.length, v, 0
		m.warnings = x.warnings
		m.origin[wrMetric] = origin{Status: "recomputed", Source: s.Source}
		if published {
			m.origin[wrMetric] = origin{Status: "recomputed", Source: s.Source, Published: eval.Finite(row.WinRate.WinRate)}
		}
		if d.gamed == nil {
			m.warnings = append(m.warnings, name+": no gamed rows in the directory, so length control is not fitted to its judgments")
			break
		}
		fit, err := d.fit(s, row.c)
		if err != nil {
			return nil, err
		}
		lc = eval.Metric{Name: lcMetric, Value: fit.WinRate, N: len(s.Rows), StdErr: fit.StandardError}
		if f.draws > 0 {
			b := alpacaeval.Bootstrap{Draws: f.draws, Seed: 1, Jobs: runtime.GOMAXPROCS(0)}
			if lc.CI, err = b.LCInterval(ctx, s, d.reference(), d.options(fit.C), fit); err != nil {
				return nil, err
			}
		}
		m.fit = &lcFit{glm: fit.GLM, c: fit.C, tanh: fit.Weights.Tanh, predictions: fit.Predictions}
		m.origin[lcMetric] = origin{Status: "recomputed", Source: s.Source}
		if published {
			m.origin[lcMetric] = origin{Status: "recomputed", Source: s.Source, Published: eval.Finite(row.LC)}
		}
		break
	}
	if others > 0 {
		d.others = append(d.others, name)
	}
	m.metrics = []eval.Metric{wr, lc}
	return m, nil
}

func (d *paperData) options(c float64) alpacaeval.LCOptions {
	return alpacaeval.LCOptions{GLM: alpacaeval.V1, C: c, Gamed: d.gamed}
}

// fit is length control as it was published: rows are matched by position. With
// c = 0 cross-validation chooses.
func (d *paperData) fit(s *alpacaeval.Judged, c float64) (alpacaeval.LC, error) {
	if err := s.Place(alpacaeval.ByPosition, d.reference()); err != nil {
		return alpacaeval.LC{}, err
	}
	return alpacaeval.LengthControlled(s, d.reference(), d.options(c))
}

// mtbench is a model's line of the MT-Bench table.
func (d *paperData) mtbench(name string, printed paperFigure) *measured {
	m := &measured{suite: "mtbench", version: mtbench.Version, judge: paperSingleJudge, model: name, source: paperSource, origin: map[string]origin{"all": {Status: "quoted", Source: paperSource}},
		metrics: []eval.Metric{{Name: "all", Value: printed.mtbench, StdErr: math.NaN()}}}
	for _, s := range mtbench.Score(slices.DeleteFunc(slices.Clone(d.singles), func(j mtbench.Judgment) bool { return j.Model != name }), mtbench.ScoreOptions{}) {
		if s.Judge == paperSingleJudge && equals(s.All.Value, printed.mtbench, 2) {
			m.scores, m.source, m.categories = &s, d.judgedIn[name], s.Categories
			m.metrics = []eval.Metric{s.Turn1, s.Turn2, s.All}
			for _, x := range m.metrics {
				m.origin[x.Name] = origin{Status: "recomputed", Source: m.source, Published: map[bool]*float64{true: eval.Finite(printed.mtbench)}[x.Name == "all"]}
			}
		}
	}
	return m
}

// checkTable shows what else was computed from raw data and compared with what
// was published.
func (r *comparedResults) checkTable() *report.Table {
	t := &report.Table{Title: "Published figures computed again", Columns: []report.Column{{Name: "what", Text: true}, {Name: "judge", Text: true}, {Name: "rows"},
		{Name: "differ"}, {Name: "largest deviation", Key: "max_deviation", Format: "%.1e"}, {Name: "how", Text: true}}}
	for _, c := range r.checks {
		row := []any{c.What, c.Judge, c.Rows, c.Differ, nil, c.How}
		if c.Max != nil {
			row[4] = *c.Max
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}
