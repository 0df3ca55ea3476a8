package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"expo"
	"expo/align/search"
	"expo/eval"
	"expo/lm/chat"
	"expo/lm/generate"
)

type searchFlags struct {
	pairFlags
	policies policyFlags
	rounding string
	dtype    string
	quantize string
	jobs     int
	maxBatch int
	template string

	alphas     string
	widen      int
	golden     int
	confidence float64

	reward rewardFlags
	gates  search.Gates
	tasks  []string // METRIC:FILE

	prompts, system string
	raw             bool
	limit           int
	preset          string
	request         generate.Request
	seed            uint64
	seeds           int

	pairs   string
	confirm int
	beta    float64

	endpoints []string // ALPHA=URL
	fleet     fleetFlags

	output                string
	plots, dryRun, forced bool
}

func (a *app) search() *cobra.Command {
	f := searchFlags{fleet: fleetFlags{dialect: "auto"}}
	cmd := &cobra.Command{
		Use:   "search --sft MODEL --aligned MODEL --alphas GRID --reward MODEL --prompts FILE",
		Short: "Find α: answer, score, compare; no checkpoint is written",
		Long: `Measure the reward of a pair's models along the line, and print the best α.

Every α answers the same prompts with the same random numbers, so that differences
are paired; α = −1 (the SFT model) and α = 0 (the aligned one) are always measured.
A grid is numbers and ranges LOW:HIGH:STEP with commas between them; it is widened
while the best α lies at its edge. Of α that cannot be told apart from the highest
the one nearest to the aligned model is chosen. The gates (--max-length-growth,
--min-finished, --max-repetition, --no-worse) are limits that the choice must keep.

--prompts is JSONL with {"prompt"} or {"messages"}; an answer at the end of a
conversation is left out. --pairs FILE, {"prompt", "chosen", "rejected"}, scans the
line first, without generating, and only the promising α are confirmed. Without
--reward and --prompts it is all that is done.

--no-worse METRIC:FILE is a task of which an α must not lose more than one standard
error. METRIC is acc or acc_norm (rows {"prompt", "choices", "answer"}, by
log-likelihood), loglikelihood ({"prompt", "continuation"}), or exact_match,
contains, last_number ({"prompt", "answer"}, by greedy answers).

--endpoint ALPHA=URL asks servers instead of mixing here; --reward-url scores there.

Samples go to samples.jsonl in -o as they are made, and the same command goes on
where it was stopped. search.json and report.html are written there too. A search that
is there can be given more α, more rows, other gates, or a stage that it lacked
(--prompts after --pairs); one with other settings is refused without --force.
` + exitHelp,
		Example: `  expo search --sft SFT --aligned DPO --alphas 0.1:0.5:0.1 --reward RM --prompts test_gen.jsonl
  expo search --sft SFT --aligned DPO --alphas 1,2,5 --pairs pairs.jsonl --raw
  expo search --endpoint 0=http://a:8000/v1 --endpoint 0.3=http://b:8000/v1 --reward-url http://rm:8000 --prompts p.jsonl`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runSearch(cmd, &f) },
	}
	f.add(cmd)
	return cmd
}

func (f *searchFlags) add(cmd *cobra.Command) {
	f.pairFlags.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.alphas, "alphas", "0.1:0.5:0.1", "the `GRID`: numbers, and ranges LOW:HIGH:STEP")
	fl.IntVar(&f.widen, "widen", 5, "add at most so many α while the best is at an edge")
	fl.IntVar(&f.golden, "golden", 0, "then add at most so many α by golden section")
	fl.Float64Var(&f.confidence, "confidence", 0.95, "of intervals, and of telling two α apart")
	f.reward.add(cmd)
	fl.Float64Var(&f.gates.MaxLengthGrowth, "max-length-growth", 0, "gate: the mean length is at most this many times the aligned model's, such as 1.2")
	fl.Float64Var(&f.gates.MinFinished, "min-finished", 0, "gate: at least this share of answers ends by itself, such as 0.95")
	fl.Float64Var(&f.gates.MaxRepetition, "max-repetition", 0, "gate: at most this share of an answer repeats itself, in the mean")
	fl.StringArrayVar(&f.tasks, "no-worse", nil, "gate: no worse than the aligned model at `METRIC:FILE`; repeatable")
	fl.StringVar(&f.prompts, "prompts", "", "the prompts, a JSONL `FILE`")
	fl.IntVar(&f.limit, "limit", 0, "use the first n prompts, pairs and items of tasks only")
	fl.BoolVar(&f.raw, "raw", false, "use no chat template, neither the models' nor the reward model's")
	fl.StringVar(&f.system, "system", "", "a system message")
	fl.StringVar(&f.preset, "preset", "paper", "sampling where flags do not say otherwise: `paper|none`; paper is T 0.7, top-k 50, top-p 0.9, penalties 0.1, 2048 tokens; none is greedy")
	r := &f.request
	fl.IntVar(&r.MaxTokens, "max-tokens", 0, "tokens of an answer at most")
	fl.Float64Var(&r.Temperature, "temperature", 0, "of sampling")
	fl.Float64Var(&r.TopP, "top-p", 1, "keep the fewest tokens with this much probability")
	fl.IntVar(&r.TopK, "top-k", 0, "keep the k likeliest tokens; 0 keeps all")
	fl.Float64Var(&r.PresencePenalty, "presence-penalty", 0, "subtract from the logits of tokens in the answer")
	fl.Float64Var(&r.FrequencyPenalty, "frequency-penalty", 0, "subtract for each time a token is in the answer")
	fl.StringArrayVar(&r.Stop, "stop", nil, "end answers before this `TEXT`; repeatable")
	fl.Uint64Var(&f.seed, "seed", 42, "of all random numbers; each prompt and sample has its own, which are the same for every α")
	fl.IntVar(&f.seeds, "seeds", 1, "answers to each prompt")
	fl.StringVar(&f.pairs, "pairs", "", "scan the line first with the preference pairs of this `FILE`")
	fl.IntVar(&f.confirm, "confirm", 3, "with --pairs: generate for so many α, those that the scan finds promising")
	fl.Float64Var(&f.beta, "beta", 0.1, "with --pairs: of the DPO loss")
	fl.StringArrayVar(&f.endpoints, "endpoint", nil, "`ALPHA=URL` of an OpenAI-compatible server that runs the model of this α; repeatable")
	fl.StringVar(&f.fleet.model, "model", "", "with --endpoint: the `NAME` that the servers know the model by")
	fl.StringVar(&f.fleet.apiKeyFile, "api-key-file", "", "with --endpoint: the key is in this `FILE` (default: OPENAI_API_KEY)")
	fl.StringVar(&f.fleet.dialect, "dialect", "auto", "with --endpoint: fields that the servers know: `auto|openai|vllm|sglang|llama.cpp|ollama`")
	fl.DurationVar(&f.fleet.timeout, "timeout", 10*time.Minute, "with --endpoint: give a request up, and try again, after this time")
	fl.StringVar(&f.rounding, "rounding", "once", "`once|per-op|stochastic`, as in extrapolate")
	fl.StringVar(&f.dtype, "dtype", "", "`bf16|f16|f32` of the mixed weights (default: the aligned model's; bf16 with --rounding per-op)")
	f.policies.add(cmd)
	fl.StringVar(&f.quantize, "quantize", "", "turn matrices into `q8_0` while mixing")
	fl.IntVarP(&f.jobs, "jobs", "j", 0, "threads, or requests at once with --endpoint (default: the number of cores, or 16)")
	fl.IntVar(&f.maxBatch, "max-batch", 0, "answers computed at once (default 16)")
	fl.StringVar(&f.template, "chat-template", "", "a `FILE`, or one of "+strings.Join(chat.Names(), ", ")+", in place of the models' own")
	fl.StringVarP(&f.output, "output", "o", "expo-search", "samples and results go to this `DIR`")
	fl.BoolVar(&f.plots, "plots", false, "also write the plots as PNG and SVG files")
	fl.BoolVar(&f.dryRun, "dry-run", false, "say what would be done")
	fl.BoolVar(&f.forced, "force", false, "use a directory that holds other files, or a search with other settings")
}

// paper is the sampling of the ExPO paper's authors
// (https://github.com/chujiezheng/LLM-Extrapolation).
var paper = generate.Request{MaxTokens: 2048, Sampling: generate.Sampling{
	Temperature: 0.7, TopK: 50, TopP: 0.9, PresencePenalty: 0.1, FrequencyPenalty: 0.1,
}}

// apply sets what the preset says and no flag does.
func (f *searchFlags) apply(cmd *cobra.Command) error {
	r := &f.request
	switch f.preset {
	case "none":
		return nil
	case "paper":
	default:
		return usagef("--preset %s: use paper or none", f.preset)
	}
	for name, set := range map[string]func(){
		"max-tokens":        func() { r.MaxTokens = paper.MaxTokens },
		"temperature":       func() { r.Temperature = paper.Temperature },
		"top-p":             func() { r.TopP = paper.TopP },
		"top-k":             func() { r.TopK = paper.TopK },
		"presence-penalty":  func() { r.PresencePenalty = paper.PresencePenalty },
		"frequency-penalty": func() { r.FrequencyPenalty = paper.FrequencyPenalty },
	} {
		if !cmd.Flags().Changed(name) {
			set()
		}
	}
	return nil
}

// check finds what is wrong with the flags, all of it.
func (f *searchFlags) check(cmd *cobra.Command) (alphas []float64, err error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(f.endpoints) == 0 {
		if f.sft == "" || f.aligned == "" {
			bad("both ends of the line are needed: --sft MODEL --aligned MODEL")
		}
		if alphas, err = search.ParseAlphas(f.alphas); err != nil {
			bad("--alphas: %w", err)
		}
	} else if f.sft != "" || f.aligned != "" || cmd.Flags().Changed("alphas") {
		bad("--endpoint says what answers and at which α: leave out --sft, --aligned and --alphas")
	} else if _, alphas, err = f.parseEndpoints(); err != nil {
		errs = append(errs, err)
	} else if f.pairs != "" && !slices.Contains(alphas, search.SFT) {
		bad("--pairs compares with the SFT model: add --endpoint -1=URL")
	}
	rewarded := f.reward.given()
	switch {
	case rewarded && f.prompts == "":
		bad("a reward needs answers: add --prompts FILE")
	case !rewarded && f.prompts != "":
		bad("what scores the answers? add --reward MODEL or --reward-url URL")
	case !rewarded && f.pairs == "":
		bad("what is to be measured? add --reward MODEL and --prompts FILE, or --pairs FILE")
	}
	if f.reward.model != "" && f.reward.url != "" {
		bad("--reward and --reward-url contradict each other")
	}
	if f.raw && f.system != "" {
		bad("--system needs a chat template, --raw uses none")
	}
	for _, n := range []struct {
		name      string
		value, lo int
	}{{"seeds", f.seeds, 1}, {"limit", f.limit, 0}, {"widen", f.widen, 0}, {"golden", f.golden, 0}, {"confirm", f.confirm, 1}} {
		if n.value < n.lo {
			bad("--%s is %d, want at least %d", n.name, n.value, n.lo)
		}
	}
	if !(f.confidence > 0 && f.confidence < 1) {
		bad("--confidence is %v, want a share such as 0.95", f.confidence)
	}
	if g := f.gates.MaxLengthGrowth; !(g >= 0 && g <= math.MaxFloat64) {
		bad("--max-length-growth is %v, want a ratio such as 1.2", g)
	}
	if g := f.gates.MinFinished; !(g >= 0 && g <= 1) {
		bad("--min-finished is %v, want a share from 0 to 1", g)
	}
	if g := f.gates.MaxRepetition; !(g >= 0 && g <= 1) {
		bad("--max-repetition is %v, want a share from 0 to 1", g)
	}
	if !(f.beta > 0 && f.beta <= math.MaxFloat64) {
		bad("--beta is %v, want a number above 0", f.beta)
	}
	if err := f.request.Check(); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, usageError{errors.Join(errs...)}
	}
	return alphas, nil
}

func (a *app) runSearch(cmd *cobra.Command, f *searchFlags) error {
	ctx := cmd.Context()
	if err := f.apply(cmd); err != nil {
		return err
	}
	alphas, err := f.check(cmd)
	if err != nil {
		return err
	}
	s := &searchRun{a: a, flags: f, alphas: alphas, request: f.request, seeds: f.seeds, seed: f.seed}
	if err := s.readInputs(); err != nil {
		return err
	}
	if f.dryRun {
		return s.describe()
	}
	if err := s.prepare(); err != nil {
		return err
	}
	if s.log, err = eval.OpenLog(filepath.Join(f.output, "samples.jsonl")); err != nil {
		return err
	}
	defer s.log.Close()
	if err := s.begun(); err != nil {
		return err
	}
	if s.log.Len() > 0 {
		a.say("going on with what %s holds", filepath.Join(f.output, "samples.jsonl"))
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	defer s.close()
	if err := s.begin(); err != nil {
		return err
	}
	err = s.run(ctx)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("interrupted; the same command goes on where it was: %w", ctx.Err())
	}
	return err
}

// prepare makes the output directory and refuses one of other things.
func (s *searchRun) prepare() error {
	dir := s.flags.output
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "samples.jsonl")); len(entries) > 0 && err != nil && !s.flags.forced {
		return fmt.Errorf("%s exists and holds no search; choose another directory with -o, or use --force", dir)
	}
	return os.MkdirAll(dir, 0o777)
}

// describe is what --dry-run prints.
func (s *searchRun) describe() error {
	n := len(s.prompts) * s.seeds
	first := len(s.alphas) + 2
	doc := map[string]any{"alphas": s.alphas, "prompts": len(s.prompts), "samples_per_alpha": n, "pairs": len(s.pairs), "answers": n * first, "widen": s.flags.widen, "golden": s.flags.golden}
	if s.a.json {
		return s.a.printJSON(doc)
	}
	var list []string
	for _, x := range s.alphas {
		list = append(list, strconv.FormatFloat(x, 'g', -1, 64))
	}
	fmt.Fprintf(s.a.out, "α %s, and both ends of the line\n", strings.Join(list, ", "))
	if len(s.pairs) > 0 {
		fmt.Fprintf(s.a.out, "%d pairs are scored at each α, then %d α are confirmed\n", len(s.pairs), s.flags.confirm)
	}
	if n > 0 {
		fmt.Fprintf(s.a.out, "%d prompts × %d answers at each α; up to %d further α\n", len(s.prompts), s.seeds, s.flags.widen+s.flags.golden)
	}
	return nil
}

// mixing is how the weights of an α are made.
func (f *searchFlags) mixing() (expo.Options, error) {
	m := methodFlags{alphas: []string{"0"}, rounding: f.rounding, seed: f.seed, dtype: f.dtype, policies: f.policies}
	return m.options()
}

// run makes the scan and the search that the flags ask for.
func (s *searchRun) run(ctx context.Context) error {
	f := s.flags
	doc := s.document()
	if len(s.pairs) > 0 {
		scan, err := s.scan(ctx)
		if err != nil {
			return err
		}
		doc.Scan = scan
		if len(s.prompts) > 0 {
			s.alphas = nil
			for _, row := range scan.Rows {
				if row.Promising {
					s.alphas = append(s.alphas, row.Alpha)
				}
			}
		}
	}
	var failure error
	if len(s.prompts) > 0 {
		var err error
		opt := search.Options{
			Alphas: s.alphas, Widen: f.widen, Golden: f.golden, Gates: f.gates, Confidence: f.confidence, Seed: f.seed,
			SkipSFT: !s.line.has(search.SFT), Measured: s.measured,
		}
		if len(f.endpoints) > 0 || len(s.pairs) > 0 {
			opt.Widen, opt.Golden = 0, 0 // only these can be asked, or are worth it
		}
		for _, t := range s.tasks {
			opt.Gates.NoWorse = append(opt.Gates.NoWorse, t.name)
		}
		if doc.Result, err = search.Run(ctx, s.measure, opt); err != nil {
			if !errors.Is(err, search.ErrNoAlpha) {
				return err
			}
			failure = fmt.Errorf("%w; the rows say which gate stops each", err)
		}
		if doc.Scan != nil {
			c := search.Correlate(doc.Scan, doc.Result)
			doc.Correlation = &c
		}
	}
	if err := s.write(doc); err != nil {
		return err
	}
	if err := s.print(doc); err != nil {
		return err
	}
	if failure != nil {
		return failure
	}
	if s.missing > 0 {
		return &incomplete{s.missing, s.wanted, "samples could not be made or judged", fmt.Sprintf("run the same command again to try those alone (the first: %v)", s.failed)}
	}
	return nil
}
