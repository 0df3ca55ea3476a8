package cli

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"expo/eval"
	"expo/eval/alpacaeval"
)

// alpacaScored is what was found out about one model.
type alpacaScored struct {
	*alpacaeval.Judged
	wr         alpacaeval.WinRate
	wrCI, lcCI *eval.Interval
	lc         *alpacaeval.LC // nil if it was left out
	absent     int            // instructions without a row
	undecided  int            // pairs to which the judge's reply could not be read
	total      int            // instructions there should be
	length     int
	versus     *alpacaVersusJSON
	warnings   []string
	config     map[string]string // of the run that made the judgments
}

func (s *alpacaScored) missing() int { return s.wr.Missing + s.absent }

// alpacaJSON is the document of one model.
type alpacaJSON struct {
	Suite    string `json:"suite"`
	Version  string `json:"version"`
	Model    string `json:"model"`
	Baseline string `json:"baseline,omitempty"`
	Judge    string `json:"annotator"`
	Source   string `json:"source,omitempty"`

	WinRate       *float64 `json:"win_rate"`
	StandardError *float64 `json:"standard_error"`
	Wins          int      `json:"n_wins"`
	WinsBase      int      `json:"n_wins_base"`
	Draws         int      `json:"n_draws"`
	Total         int      `json:"n_total"`
	Missing       int      `json:"n_missing"`
	Undecided     int      `json:"n_undecided,omitempty"`
	Contradicting int      `json:"n_contradicting,omitempty"`
	Discrete      *float64 `json:"discrete_win_rate"`
	AverageLength int      `json:"avg_length"`

	LC           *float64          `json:"length_controlled_winrate,omitempty"`
	LCError      *float64          `json:"lc_standard_error,omitempty"`
	LCC          *float64          `json:"lc_c,omitempty"`
	LCChosen     *bool             `json:"lc_c_chosen,omitempty"`
	LCFolds      string            `json:"lc_folds,omitempty"`
	LCGLM        string            `json:"lc_glm,omitempty"`
	LCAlign      string            `json:"lc_align,omitempty"`
	LCWeights    any               `json:"lc_weights,omitempty"`
	LCNeighbours []alpacaeval.AtC  `json:"lc_neighbours,omitempty"`
	WRInterval   *eval.Interval    `json:"win_rate_interval,omitempty"`
	LCInterval   *eval.Interval    `json:"length_controlled_winrate_interval,omitempty"`
	Versus       *alpacaVersusJSON `json:"versus,omitempty"`
	Config       map[string]string `json:"config,omitempty"`
	Warnings     []string          `json:"warnings,omitempty"`
}

// alpacaScore computes and prints the figures of annotation files.
func (a *app) alpacaScore(ctx context.Context, f *alpacaFlags, files []string) error {
	if f.changed("limit") {
		return usagef("--limit is for answers and judgments that are made; --annotations scores all that is there")
	}
	sets, err := readAnnotations(files)
	if err != nil {
		return err
	}
	length := -1
	if f.outputs != "" { // the length is that of all outputs, judged or not
		if len(sets) != 1 {
			return usagef("--outputs belong to one model; there are %d", len(sets))
		}
		if length, err = f.lengthOf(sets[0]); err != nil {
			return err
		}
	}
	if f.name != "" {
		if len(sets) != 1 {
			return usagef("--name names one model; there are %d", len(sets))
		}
		sets[0].Model = f.name
	}
	scored, err := a.scoreSets(ctx, &f.alpacaScoreFlags, sets, nil, nil)
	if err != nil {
		return err
	}
	if length >= 0 {
		scored[0].length = length
	}
	return a.alpacaFinish(&f.alpacaScoreFlags, scored)
}

// lengthOf is the mean length of --outputs, which have to be those of a set: by
// the same model, to all of its instructions.
func (f *alpacaFlags) lengthOf(set *alpacaeval.Judged) (int, error) {
	rows, err := readQuestions(f.outputs)
	if err != nil {
		return 0, err
	}
	there := map[string]bool{}
	for _, o := range rows {
		there[o.Instruction] = true
		if o.Generator != "" && o.Generator != set.Model && o.Generator != f.name {
			return 0, fmt.Errorf("%s has outputs of %s, and %s judgments of %s; give outputs of the same model, or --name %s if it is the same", f.outputs, o.Generator, set.Source, set.Model, o.Generator)
		}
	}
	lacks, first := 0, ""
	for _, r := range set.Rows {
		if r.Instruction != "" && !there[r.Instruction] {
			if lacks == 0 {
				first = r.Instruction
			}
			lacks++
		}
	}
	if lacks == 0 && len(there) >= len(set.Rows) {
		return alpacaeval.AverageLength(rows), nil
	}
	if lacks == 0 {
		return 0, fmt.Errorf("%s has outputs to %d instructions, and %s judgments of %d", f.outputs, len(there), set.Source, len(set.Rows))
	}
	return 0, fmt.Errorf("%s lacks outputs to %d of the %d instructions of %s, as %s; give the outputs that were judged", f.outputs, lacks, len(set.Rows), set.Source, excerpt(first))
}

// readAnnotations reads files in parallel and keeps their order.
func readAnnotations(files []string) ([]*alpacaeval.Judged, error) {
	each := make([][]*alpacaeval.Judged, len(files))
	var g errgroup.Group
	jobs := runtime.GOMAXPROCS(0)
	g.SetLimit(jobs)
	readers := make(chan *alpacaeval.AnnotationReader, jobs)
	for range jobs {
		readers <- new(alpacaeval.AnnotationReader)
	}
	for i, path := range files {
		g.Go(func() error {
			reader := <-readers
			defer func() { readers <- reader }()
			var err error
			if strings.HasSuffix(strings.TrimSuffix(path, ".gz"), ".csv") {
				each[i], err = readWith(path, alpacaeval.ReadNumbers)
				return err
			}
			file, err := os.Open(path)
			if err != nil {
				return err
			}
			defer file.Close()
			each[i], err = reader.Read(file, path)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var sets []*alpacaeval.Judged
	for _, s := range each {
		sets = append(sets, s...)
	}
	return sets, nil
}

// scoreSets computes the figures of sets. questions are the instructions if
// they are known, config what the judgments were made with.
func (a *app) scoreSets(ctx context.Context, f *alpacaScoreFlags, sets []*alpacaeval.Judged, questions []string, config map[string]string) ([]*alpacaScored, error) {
	lookUp := false
	for _, s := range sets {
		for _, r := range s.Rows {
			lookUp = lookUp || r.Index < 0
		}
	}
	ref, gamed, err := a.alpacaInputs(ctx, f, questions, lookUp)
	if err != nil {
		return nil, err
	}
	scored := make([]*alpacaScored, len(sets))
	var refused []string
	for i, s := range sets {
		sc := &alpacaScored{Judged: s, config: config, total: len(s.Rows), length: s.AverageLength()}
		scored[i] = sc
		if ref != nil {
			if err := s.Place(f.alignment, ref); err != nil {
				return nil, err
			}
			absent := s.Missing(ref)
			sc.absent, sc.total = len(absent), len(ref.Difficulty)
			if f.expected > 0 {
				sc.absent, sc.total = max(f.expected-len(s.Rows), 0), f.expected
			}
			if len(absent) > 0 && f.alignment == alpacaeval.ByInstruction && !f.allowPartial {
				refused = append(refused, fmt.Sprintf("%s lacks %d of %d instructions (%s)", s.Model, len(absent), sc.total, numbers(absent)))
			}
		}
	}
	if refused != nil {
		return nil, fmt.Errorf("%s: %w; --allow-partial scores what is there", strings.Join(refused, "; "), alpacaeval.ErrPartial)
	}
	draws := f.draws
	if len(sets) > 10 && !f.drawsWereGiven {
		draws = 0
	}
	boot := alpacaeval.Bootstrap{Draws: draws, Seed: f.drawSeed}
	jobs := runtime.GOMAXPROCS(0)
	if len(sets) == 1 {
		boot.Jobs = jobs
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(jobs)
	for _, sc := range scored {
		g.Go(func() error { return sc.compute(ctx, f, ref, gamed, boot) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if f.baseline != "" {
		if err := addVersus(f, scored, ref); err != nil {
			return nil, err
		}
	}
	return scored, nil
}

func (s *alpacaScored) compute(ctx context.Context, f *alpacaScoreFlags, ref *alpacaeval.Reference, gamed *alpacaeval.Gamed, boot alpacaeval.Bootstrap) error {
	preferences := s.Preferences()
	s.wr = alpacaeval.NewWinRate(preferences)
	if boot.Draws > 0 {
		s.wrCI = boot.WinRateInterval(preferences)
	}
	if n := s.wr.Missing; n > 0 {
		s.warn("%d rows have no judgment and count in no rate", n)
	}
	if n := s.Contradicting; n > 0 {
		rows := "row contradicts"
		if n > 1 {
			rows = "rows contradict"
		}
		s.warn("%d %s an earlier judgment of the same outputs, which is kept; the first is of the instruction %s", n, rows, excerpt(s.Contradicted))
	}
	if s.absent > 0 {
		s.warn("%d of %d instructions have no row", s.absent, s.total)
	}
	if f.glm == "" {
		return nil
	}
	if s.wr.Total == 0 {
		s.warn("no judgment, so no length control")
		return nil
	}
	opt := alpacaeval.LCOptions{GLM: f.glm, C: f.c, Folds: f.folds, Gamed: gamed}
	lc, err := alpacaeval.LengthControlled(s.Judged, ref, opt)
	if err != nil {
		return err
	}
	s.lc = &lc
	if boot.Draws > 0 {
		if s.lcCI, err = boot.LCInterval(ctx, s.Judged, ref, opt, lc); err != nil {
			return err
		}
	}
	if lc.Unusual {
		s.warn("LC %.2f is unusually far from the win rate %.2f", lc.WinRate, s.wr.WinRate)
	}
	if f.alignment == alpacaeval.ByPosition && s.absent > 0 && f.glm != alpacaeval.Minimal {
		s.warn("aligned by position although rows are missing: those after a gap have another instruction's difficulty")
	}
	if f.glm == alpacaeval.V1 && f.gamedSurrogate && lc.Folds != "" {
		s.warn("C was chosen with surrogate labels of the gamed rows: it may differ from what the real ones give")
	}
	if f.glm != alpacaeval.Minimal && s.Judge != "" && s.Judge != "weighted_alpaca_eval_gpt4_turbo" {
		s.warn("difficulties and gamed rows come from gpt-4-1106-preview as the judge, not from %s", s.Judge)
	}
	return nil
}

// excerpt is the beginning of a text, quoted.
func excerpt(text string) string {
	const most = 60
	r := []rune(strings.ToValidUTF8(text, "�"))
	if len(r) > most {
		return strconv.Quote(string(r[:most])) + "…"
	}
	return strconv.Quote(string(r))
}

func (s *alpacaScored) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf(format, args...))
}

func numbers(list []int) string {
	const most = 5
	var b strings.Builder
	for i, n := range list {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(list)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.Itoa(n))
	}
	return b.String()
}

// version is that of AlpacaEval which a judge and a baseline belong to.
func (s *alpacaScored) version() string {
	if s.Baseline == "text_davinci_003" || s.Judge == "alpaca_eval_gpt4" {
		return "1"
	}
	return "2.0"
}

// document is the model's JSON.
func (s *alpacaScored) document(f *alpacaScoreFlags) alpacaJSON {
	d := alpacaJSON{
		Suite: "alpacaeval", Version: s.version(), Model: s.Model, Baseline: s.Baseline, Judge: s.Judge, Source: s.Source,
		WinRate: eval.Finite(s.wr.WinRate), StandardError: eval.Finite(s.wr.StandardError), Wins: s.wr.Wins, WinsBase: s.wr.WinsBase, Draws: s.wr.Draws,
		Total: s.wr.Total, Missing: s.missing(), Undecided: s.undecided, Contradicting: s.Contradicting, Discrete: eval.Finite(s.wr.DiscreteWinRate), AverageLength: s.length,
		WRInterval: s.wrCI, LCInterval: s.lcCI, Versus: s.versus, Config: s.configuration(f), Warnings: s.warnings,
	}
	if s.lc != nil {
		chosen := s.lc.Folds != ""
		d.LC, d.LCError, d.LCC = eval.Finite(s.lc.WinRate), eval.Finite(s.lc.StandardError), &s.lc.C
		d.LCChosen, d.LCFolds, d.LCGLM, d.LCAlign = &chosen, string(s.lc.Folds), string(s.lc.GLM), string(f.alignment)
		d.LCWeights, d.LCNeighbours = s.lc.Weights, s.lc.Neighbours
	}
	return d
}

func (s *alpacaScored) configuration(f *alpacaScoreFlags) map[string]string {
	c := map[string]string{"annotator": s.Judge, "baseline": s.Baseline}
	for k, v := range s.config {
		c[k] = v
	}
	if s.lc != nil {
		c["lc_glm"], c["lc_align"], c["lc_c"] = string(s.lc.GLM), string(f.alignment), strconv.FormatFloat(s.lc.C, 'g', -1, 64)
		c["lc_folds"] = string(s.lc.Folds)
		c["gamed_sha256"], c["difficulty_sha256"] = f.gamedSum, f.difficultySum
		if f.gamedSurrogate {
			c["gamed_labels"] = "surrogate"
		}
	}
	for k, v := range c {
		if v == "" {
			delete(c, k)
		}
	}
	return c
}

// result is the model's record.
func (s *alpacaScored) result(f *alpacaScoreFlags) eval.Result {
	count := func(name string, n int) eval.Metric {
		return eval.Metric{Name: name, Value: float64(n), N: s.wr.Total, StdErr: math.NaN()}
	}
	r := eval.Result{Suite: "alpacaeval", Version: s.version(), Model: s.Model, Config: s.configuration(f), Warnings: s.warnings, Metrics: []eval.Metric{
		{Name: "win_rate", Value: s.wr.WinRate, N: s.wr.Total, StdErr: s.wr.StandardError, CI: s.wrCI},
		{Name: "discrete_win_rate", Value: s.wr.DiscreteWinRate, N: s.wr.Total, StdErr: math.NaN()},
		count("n_wins", s.wr.Wins), count("n_wins_base", s.wr.WinsBase), count("n_draws", s.wr.Draws), count("n_missing", s.missing()), count("n_undecided", s.undecided),
		{Name: "avg_length", Value: float64(s.length), N: len(s.Rows), StdErr: math.NaN()},
	}}
	if n := s.Contradicting; n > 0 {
		r.Metrics = append(r.Metrics, count("n_contradicting", n))
	}
	if s.lc != nil {
		r.Metrics = append(r.Metrics,
			eval.Metric{Name: "length_controlled_winrate", Value: s.lc.WinRate, N: len(s.Rows), StdErr: s.lc.StandardError, CI: s.lcCI},
			eval.Metric{Name: "lc_c", Value: s.lc.C, N: len(s.Rows), StdErr: math.NaN()})
	}
	return r
}

// row is the model's line of a leaderboard.
func (s *alpacaScored) row() alpacaeval.Row {
	r := alpacaeval.Row{Model: s.Model, WinRate: s.wr, AverageLength: s.length, LC: math.NaN(), LCError: math.NaN(), Mode: "community"}
	if s.lc != nil {
		r.LC, r.LCError = s.lc.WinRate, s.lc.StandardError
	}
	return r
}

// alpacaFinish writes and prints the figures of all models.
func (a *app) alpacaFinish(f *alpacaScoreFlags, scored []*alpacaScored) error {
	if f.output != "" {
		if err := writeAlpaca(f, filepath.Clean(f.output), scored); err != nil {
			return err
		}
	}
	if err := a.alpacaPrint(f, scored); err != nil {
		return err
	}
	missing, total := 0, 0
	for _, s := range scored {
		missing, total = missing+s.missing(), total+s.total
	}
	if missing > 0 {
		return &incomplete{missing, total, "comparisons have no judgment", "they count in no rate; the command that judges tries them again"}
	}
	return nil
}

func (a *app) alpacaPrint(f *alpacaScoreFlags, scored []*alpacaScored) error {
	if a.json {
		docs := make([]alpacaJSON, len(scored))
		for i, s := range scored {
			docs[i] = s.document(f)
		}
		if len(docs) == 1 {
			return a.printJSON(docs[0])
		}
		return a.printJSON(map[string]any{"models": docs})
	}
	header := []any{"model", "judge", "LC %", "95 %", "win rate %", "± SE", "95 %", "n", "missing", "length", "C"}
	if f.baseline != "" {
		header = append(header, "LC against "+f.baseline, "win rate − its, paired")
	}
	t := a.newTable(header...)
	for _, s := range scored {
		lc, c := "", ""
		if s.lc != nil {
			lc, c = fmt.Sprintf("%.2f", s.lc.WinRate), fmt.Sprintf("%.4g", s.lc.C)
		}
		row := []any{s.Model, s.Judge, lc, span(s.lcCI), fmt.Sprintf("%.2f", s.wr.WinRate), fmt.Sprintf("%.2f", s.wr.StandardError), span(s.wrCI), s.wr.Total, s.missing(), s.length, c}
		if s.versus != nil {
			row = append(row, fmt.Sprintf("%.2f", *s.versus.LC))
			if v := s.versus; v.Difference != nil && v.DifferenceError != nil {
				row = append(row, fmt.Sprintf("%+.2f ± %.2f", *v.Difference, *v.DifferenceError))
			}
		}
		t.AppendRow(row)
	}
	t.Render()
	a.warnAll(scored)
	if len(scored) == 1 && scored[0].lc != nil {
		for _, n := range scored[0].lc.Neighbours {
			a.say("at C = %.4g LC would be %.2f", n.C, n.WinRate)
		}
	}
	if scored[0].lcCI != nil {
		a.say("LC's interval is over instructions, at the C that is shown; neither the judge's own noise nor the choice of C is in it")
	}
	return nil
}

// warnAll prints the warnings of all models, those of several once.
func (a *app) warnAll(scored []*alpacaScored) {
	models := map[string][]string{}
	var order []string
	for _, s := range scored {
		for _, w := range s.warnings {
			if models[w] == nil {
				order = append(order, w)
			}
			models[w] = append(models[w], s.Model)
		}
	}
	const most = 20
	for i, w := range order {
		if i == most && !a.verbose {
			a.warn("and %d more warnings; -v or --json has them all", len(order)-most)
			break
		}
		if n := len(models[w]); n > 1 {
			a.warn("%d models: %s", n, w)
		} else {
			a.warn("%s: %s", models[w][0], w)
		}
	}
}

func span(i *eval.Interval) string {
	if i == nil {
		return ""
	}
	return fmt.Sprintf("%.1f…%.1f", i.Low, i.High)
}
