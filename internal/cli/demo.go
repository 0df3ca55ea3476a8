package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"expo"
	"expo/align/reward"
	"expo/align/search"
	"expo/demo"
	"expo/demo/notes"
)

type demoFlags struct {
	output string
	seeds  int
	limit  int
	alphas string
	pair   string
	seed   uint64
	jobs   int
	force  bool
}

// demoAlphas is how far the grid goes beyond each model. The first is for the one
// that the demo is about; of the other ones less needs to be seen.
const (
	demoAlphas   = "-0.5,0.5,1,1.5,2,2.5,3,4,6,8,12"
	beyondAlphas = "-0.5,0.5,1,2"
)

func (a *app) demo() *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it happen: search α on a pair of models that this program holds",
		Long: `Search α on a bundled pair of small models, which write notes to neighbours: the SFT
model (α = −1) imitates notes of all qualities, the aligned one (α = 0) had a short
DPO. Beyond it reward rises, without training, and falls when α is too large.

Answers are scored by a reward model, which learned from what readers like, and
beside it by the rule that preferences were made by: whether a note names the right
person and thing, is kind, takes its leave, and makes sense. Where reward rises and
the rule falls, the reward model is being fooled. Gates keep the choice from where
that is worst: notes must end, and not repeat themselves more than prose does. The
rule has no say in it. A second pair, trained to the end, shows where extrapolation
does not help.

-o gets the extrapolated model, both ends of the line, the reward model, prompts and
preference pairs to go on with, search.json and report.html. The same command gives
the same figures on the same kind of processor.
` + exitHelp,
		Example: `  expo demo
  expo demo --pair sppo --seeds 1 -o sppo-demo
  expo demo --json --limit 50 --alphas 1:4:1 --force`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runDemo(cmd.Context(), &f) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.output, "output", "o", "expo-demo", "models and results go to this `DIR`")
	fl.IntVar(&f.seeds, "seeds", 3, "answers to each prompt, each with random numbers of its own")
	fl.IntVar(&f.limit, "limit", 200, "use so many of the prompts that no model has seen, 384 at most")
	fl.StringVar(&f.alphas, "alphas", demoAlphas, "the `GRID`: numbers, and ranges LOW:HIGH:STEP")
	fl.StringVar(&f.pair, "pair", "aligned", "the aligned end: `aligned|trained|sppo`; a short DPO, a long one, or SPPO")
	fl.Uint64Var(&f.seed, "seed", 42, "of all random numbers")
	fl.IntVarP(&f.jobs, "jobs", "j", 0, "threads (default: the number of cores)")
	fl.BoolVar(&f.force, "force", false, "replace the output of an earlier demo")
	return cmd
}

// A demoRun is a demo under way.
type demoRun struct {
	a       *app
	flags   *demoFlags
	prompts []notes.Prompt
	judge   reward.Model
	doc     demoDocument
	answers map[float64][]demo.Answer // of the first line
	paired  bool                      // pairs.jsonl is written
}

// demoDocument is what search.json holds and --json prints.
type demoDocument struct {
	demoLine
	Second      *demoLine      `json:"second,omitempty"`
	Side        []demoAnswers  `json:"answers"`
	Prompts     int            `json:"prompts"`
	Seeds       int            `json:"seeds"`
	Sampling    map[string]any `json:"sampling"`
	Output      string         `json:"output"`
	Checkpoint  string         `json:"checkpoint"`
	Seconds     float64        `json:"seconds"`
	ExpoVersion string         `json:"expo_version"`
}

// demoLine is what was found on one line.
type demoLine struct {
	Pair string `json:"pair"`
	*search.Result
	Rows []demoRow `json:"rows"` // in place of the result's
}

// demoRow is a row with what the rule says, a mean like the others.
type demoRow struct {
	search.Row
	Rule             search.Number `json:"rule"`
	RuleSE           search.Number `json:"rule_se"`
	RuleDifference   search.Number `json:"rule_difference"`
	RuleDifferenceSE search.Number `json:"rule_difference_se"`
	Tasks            *struct{}     `json:"tasks,omitempty"` // the rule alone, which has fields of its own
}

// demoAnswers are answers to one prompt along the line.
type demoAnswers struct {
	Prompt  string     `json:"prompt"`
	SFT     demoAnswer `json:"sft"`
	Aligned demoAnswer `json:"aligned"`
	ExPO    demoAnswer `json:"expo"`
}

type demoAnswer struct {
	Alpha  float64 `json:"alpha"`
	Text   string  `json:"text"`
	Reward float64 `json:"reward"`
	Rule   float64 `json:"rule"`
}

func (a *app) runDemo(ctx context.Context, f *demoFlags) error {
	start := time.Now()
	d := &demoRun{a: a, flags: f, answers: map[float64][]demo.Answer{}}
	alphas, err := d.check()
	if err != nil {
		return err
	}
	if err := f.free(); err != nil {
		return err
	}
	c, err := demo.Open("reward")
	if err != nil {
		return err
	}
	if d.judge, err = reward.Open(ctx, c, reward.Options{Jobs: f.jobs, Truncate: true}); err != nil {
		return err
	}
	defer d.judge.Close()
	a.say("%d prompts × %d answers at each α; the pair is %s", len(d.prompts), f.seeds, f.pair)
	first, err := d.search(ctx, f.pair, alphas, d.answers)
	if err != nil {
		return err
	}
	other := "trained"
	if f.pair == other {
		other = "aligned"
	}
	beyond, err := search.ParseAlphas(beyondAlphas)
	if err != nil {
		return err
	}
	a.say("for comparison, the pair %s", other)
	second, err := d.search(ctx, other, beyond, nil)
	if err != nil {
		return err
	}
	how := demo.Sampling()
	d.doc = demoDocument{
		demoLine: *first, Second: second, Side: d.side(float64(first.BestAlpha)), Prompts: len(d.prompts), Seeds: f.seeds,
		Sampling: map[string]any{
			"temperature": how.Temperature, "top_p": how.TopP, "top_k": how.TopK, "max_tokens": notes.MaxTokens,
			"presence_penalty": how.PresencePenalty, "frequency_penalty": how.FrequencyPenalty, "seed": f.seed,
		},
		Output: f.output, Checkpoint: filepath.Join(f.output, "model"), ExpoVersion: Version,
	}
	d.doc.Seconds = time.Since(start).Seconds()
	if err := d.write(ctx); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(d.doc)
	}
	return d.print()
}

// check finds what is wrong with the flags.
func (d *demoRun) check() ([]float64, error) {
	f := d.flags
	var errs []error
	alphas, err := search.ParseAlphas(f.alphas)
	if err != nil {
		errs = append(errs, fmt.Errorf("--alphas: %w", err))
	}
	if f.pair == "sft" || f.pair == "reward" || !slices.Contains(demo.Models(), f.pair) {
		errs = append(errs, fmt.Errorf("--pair %s: use aligned, trained or sppo", f.pair))
	}
	_, test := notes.Prompts(notes.Seed)
	if f.limit < 1 || f.limit > len(test) {
		errs = append(errs, fmt.Errorf("--limit is %d, want 1 to %d", f.limit, len(test)))
	}
	if f.seeds < 1 {
		errs = append(errs, fmt.Errorf("--seeds is %d, want at least 1", f.seeds))
	}
	if f.output == "" {
		errs = append(errs, errors.New("-o DIR is needed"))
	}
	if len(errs) > 0 {
		return nil, usageError{errors.Join(errs...)}
	}
	d.prompts = test[:f.limit]
	return alphas, nil
}

// free refuses an output that is there already, unless it may be replaced.
func (f *demoFlags) free() error {
	entries, err := os.ReadDir(f.output)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(entries) == 0:
		return nil
	}
	if !demoOutput(f.output) {
		return fmt.Errorf("%s exists and holds something else; choose another directory with -o", f.output)
	}
	if !f.force {
		return fmt.Errorf("%s holds the result of an earlier demo; look at %s, choose another directory with -o, or use --force to replace it",
			f.output, filepath.Join(f.output, "report.html"))
	}
	return nil
}

// demoOutput tells whether a directory is the output of a demo.
func demoOutput(dir string) bool {
	for _, name := range []string{"search.json", "report.html", filepath.Join("model", expo.RecordFile)} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// search measures the line from the SFT model through another one.
func (d *demoRun) search(ctx context.Context, end string, alphas []float64, keep map[float64][]demo.Answer) (*demoLine, error) {
	f := d.flags
	var p expo.Pair
	var err error
	if p.SFT, err = demo.Open("sft"); err != nil {
		return nil, err
	}
	if p.Aligned, err = demo.Open(end); err != nil {
		return nil, err
	}
	var bar *progress
	opt := demo.LineOptions{Prompts: d.prompts, Samples: f.seeds, Seed: f.seed, Jobs: f.jobs, Progress: func(done, total int) {
		bar.update(int64(done), int64(total))
	}}
	line, err := demo.NewLine(ctx, p, d.judge, opt)
	if err != nil {
		return nil, err
	}
	defer line.Close()
	// Prose repeats less than a twentieth of itself (reward.Repetition).
	gates := search.Gates{MinFinished: 0.95, MaxRepetition: 0.05}
	var current float64
	r, err := search.Run(ctx, func(ctx context.Context, alpha float64) (search.Score, error) {
		current = alpha
		bar = d.a.progress(fmt.Sprintf("α %g", alpha))
		defer bar.stop()
		list, err := line.Answer(ctx, alpha)
		if err != nil {
			return search.Score{}, err
		}
		if keep != nil {
			keep[alpha] = list
		}
		return demo.Score(list), nil
	}, search.Options{Alphas: alphas, Seed: f.seed, Gates: gates, Measured: func(r *search.Result) {
		row, _ := r.Row(current)
		rule := row.Tasks["rule"]
		d.a.say("α %g: reward %.3f ± %.2g, rule %.2f, %.0f characters, %.0f %% finished",
			row.Alpha, float64(row.Reward), float64(row.RewardSE), float64(rule.Mean), float64(row.Length), 100*float64(row.Finished))
	}})
	if err != nil {
		return nil, err
	}
	out := &demoLine{Pair: end, Result: r}
	for _, row := range r.Rows {
		t := row.Tasks["rule"]
		out.Rows = append(out.Rows, demoRow{Row: row, Rule: t.Mean, RuleSE: t.SE, RuleDifference: t.Difference, RuleDifferenceSE: t.DifferenceSE})
	}
	return out, nil
}

// side are the answers at three points of the line to three prompts: the first of
// each kind, as far as there are kinds.
func (d *demoRun) side(best float64) []demoAnswers {
	var out []demoAnswers
	shown := map[string]bool{}
	for i, p := range d.prompts {
		if len(out) == 3 {
			break
		}
		if shown[p.Topic()] {
			continue
		}
		shown[p.Topic()] = true
		at := func(alpha float64) demoAnswer {
			x := d.answers[alpha][i*d.flags.seeds]
			return demoAnswer{alpha, x.Response.Text, x.Reward, x.Rule}
		}
		out = append(out, demoAnswers{p.Text, at(search.SFT), at(search.Aligned), at(best)})
	}
	return out
}
