package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"expo/eval"
	"expo/eval/alpacaeval"
	"expo/eval/judge"
	"expo/lm/generate"
	"expo/lm/generate/openai"
)

// alpacaRunFlags say how answers and judgments are made.
type alpacaRunFlags struct {
	engine    engineFlags
	fleet     fleetFlags
	spend     spendFlags
	request   generate.Request
	raw       bool
	strip     bool
	outputs   string
	reference string
	limit     int
	plan      bool // and do nothing
	answers   bool // and no judge

	judgeModel    string
	judgeFleet    fleetFlags
	judgeID       string
	judgeTemplate string
	judgeReading  string
	judgeSamples  int
	judgeTries    int
	judgeRequest  generate.Request
	swap          string
	compat        bool
	keep          string

	changed func(flag string) bool
}

func (f *alpacaRunFlags) add(cmd *cobra.Command) {
	f.engine.add(cmd)
	f.fleet.add(cmd, "", "the model")
	f.spend.add(cmd)
	fl := cmd.Flags()
	r := &f.request
	fl.IntVar(&r.MaxTokens, "max-tokens", 2048, "tokens of an answer at most")
	fl.Float64Var(&r.Temperature, "temperature", 0.7, "0 takes the likeliest token; this and the following are what published rows of ExPO were made with")
	fl.Float64Var(&r.TopP, "top-p", 0.9, "keep the fewest tokens with this much probability")
	fl.IntVar(&r.TopK, "top-k", 50, "keep the k likeliest tokens; 0 keeps all")
	fl.Float64Var(&r.PresencePenalty, "presence-penalty", 0.1, "subtract from the logits of tokens in the answer")
	fl.Float64Var(&r.FrequencyPenalty, "frequency-penalty", 0.1, "subtract for each time a token is in the answer")
	fl.Float64Var(&r.RepetitionPenalty, "repetition-penalty", 1, "divide the logits of tokens in prompt or answer")
	fl.Uint64Var(&r.Seed, "sampling-seed", 42, "of the answers' random numbers")
	fl.StringArrayVar(&r.Stop, "stop", nil, "end an answer before this `TEXT`; repeatable")
	fl.IntSliceVar(&r.StopTokenIDs, "stop-token-ids", nil, "end an answer at these tokens too, as 92542 for InternLM2")
	fl.BoolVar(&r.Truncate, "truncate", false, "drop the beginning of an instruction that is too long")
	fl.BoolVar(&f.raw, "raw", false, "use no chat template")
	fl.BoolVar(&f.strip, "strip", false, "take white space off both ends of answers, which their length depends on")
	fl.StringVar(&f.outputs, "outputs", "", "judge the answers in this `FILE`, alpaca_eval's model_outputs.json; a MODEL answers only what it lacks")
	fl.StringVar(&f.reference, "reference", "", "the baseline's answers, a `FILE` like that of --outputs (default: gpt4_1106_preview's, fetched)")
	fl.IntVar(&f.limit, "limit", 0, "the first `N` instructions only")
	fl.BoolVarP(&f.plan, "dry-run", "n", false, "say how many requests there would be, and what they may cost")
	fl.BoolVar(&f.answers, "answers-only", false, "stop before judging")

	fl.StringVar(&f.judgeModel, "judge", "", "the judge is this `MODEL`, in this process")
	f.judgeFleet.add(cmd, "judge-", "the judge")
	fl.StringVar(&f.judgeID, "judge-id", "", "the `NAME` under which judgments are filed; one of alpaca_eval's chooses its prompt and reading")
	fl.StringVar(&f.judgeTemplate, "judge-template", "", "the judge's prompt, a `FILE` in alpaca_eval's form (default: alpaca_eval's own, fetched)")
	fl.StringVar(&f.judgeReading, "judge-reading", "", "how the verdict is read: `first-token|last-token|ranking|votes`; votes for judges without log-probabilities")
	fl.IntVar(&f.judgeSamples, "judge-samples", 5, "replies for --judge-reading votes")
	fl.IntVar(&f.judgeTries, "judge-tries", 2, "how often a reply is asked for that cannot be read")
	j := &f.judgeRequest
	fl.IntVar(&j.MaxTokens, "judge-max-tokens", 0, "tokens of a reply at most (default: the judge's)")
	fl.Float64Var(&j.Temperature, "judge-temperature", 1, "of the judge (default: the judge's)")
	fl.IntVar(&j.TopLogprobs, "judge-top-logprobs", 5, "look for the verdict among this many tokens; up to 20")
	fl.Uint64Var(&j.Seed, "judge-seed", 0, "of the judge's random numbers")
	fl.StringVar(&f.swap, "swap", "one", "`one|both` orders of the outputs; both is another judge")
	fl.BoolVar(&f.compat, "judge-compat", false, "fill the prompt as alpaca_eval does, so that outputs can break it")
	fl.StringVar(&f.keep, "keep-annotations", "", "take over judgments from this annotations.json, a `FILE`")
	f.changed = func(flag string) bool { return cmd.Flags().Changed(flag) }
}

// given tells whether there is anything to run.
func (f *alpacaRunFlags) given(args []string) bool { return f.outputs != "" || f.answering(args) }

// answering tells whether a model is to answer.
func (f *alpacaRunFlags) answering(args []string) bool {
	return len(args) > 0 || f.engine.sft != "" || f.engine.aligned != "" || f.fleet.given()
}

// alpacaRun is one run of the whole path.
type alpacaRun struct {
	*app
	*alpacaFlags
	dir      string
	log      *eval.Log
	baseline []alpacaeval.Output // of the instructions of this run
	all      []string            // instructions of the whole set
	config   map[string]string
	offers   []alpacaOfferJSON
}

// alpacaOfferJSON is what a stage would ask for.
type alpacaOfferJSON struct {
	Stage      string          `json:"stage"`
	Model      string          `json:"model"`
	Estimate   openai.Estimate `json:"estimate"`
	PriceKnown bool            `json:"price_known"`
}

// alpacaPath answers, judges and scores.
func (a *app) alpacaPath(ctx context.Context, f *alpacaFlags, args []string) error {
	if f.output == "" {
		return usagef("needs -o DIR for answers, judgments and results")
	}
	switch f.swap {
	case "one", "both":
	default:
		return usagef("--swap %s: use one or both", f.swap)
	}
	if !f.answers && f.judgeModel == "" && !f.judgeFleet.given() {
		return usagef("needs a judge: --judge-model NAME (with --judge-base-url URL, if it is not OpenAI's), or --judge MODEL; --answers-only does without")
	}
	f.request.TopK = max(f.request.TopK, 0)
	if err := f.request.Check(); err != nil {
		return usageError{err}
	}
	r := &alpacaRun{app: a, alpacaFlags: f, dir: filepath.Clean(f.output), config: map[string]string{}}
	if err := r.readReference(ctx); err != nil {
		return err
	}
	if !f.answers { // what will be missing in the end is better said now
		if _, _, err := a.alpacaInputs(ctx, &f.alpacaScoreFlags, r.all, true); err != nil {
			return err
		}
	}
	logDir := r.dir
	if _, err := os.Stat(filepath.Join(r.dir, "log.jsonl")); f.plan && err != nil { // leave nothing behind
		if logDir, err = os.MkdirTemp("", "expo"); err != nil {
			return err
		}
		defer os.RemoveAll(logDir)
	}
	if err := os.MkdirAll(logDir, 0o777); err != nil {
		return err
	}
	var err error
	if r.log, err = a.openLog(filepath.Join(logDir, "log.jsonl")); err != nil {
		return err
	}
	defer r.log.Close()
	outputs, failed, err := r.answer(ctx, args)
	if err != nil {
		return err
	}
	if f.answers {
		if f.plan {
			return r.printOffers()
		}
		if a.json {
			err = a.printJSON(map[string]any{"outputs": filepath.Join(r.dir, "model_outputs.json"), "n": len(outputs), "failed": len(failed)})
		} else {
			_, err = fmt.Fprintln(a.out, filepath.Join(r.dir, "model_outputs.json"))
		}
		if err == nil && len(failed) > 0 {
			err = &incomplete{len(failed), len(r.baseline), "instructions have no answer", "the same command tries them again"}
		}
		return err
	}
	return r.judge(ctx, outputs, failed)
}

// readReference reads the baseline's outputs, which are also the instructions.
func (r *alpacaRun) readReference(ctx context.Context) error {
	path := r.reference
	if path == "" && r.questions != "" && r.answers {
		path = r.questions
	}
	if path == "" {
		version := "2.0"
		if r.judgeID == "alpaca_eval_gpt4" {
			version = "1"
		}
		var err error
		if path, err = r.fetch(ctx, referenceFile(version)); err != nil {
			return fmt.Errorf("the baseline's answers: %w", err)
		}
	}
	var err error
	if r.baseline, err = readQuestions(path); err != nil {
		return err
	}
	if r.config["reference_sha256"], err = digestOf(path); err != nil {
		return err
	}
	if r.questions != "" && path != r.questions {
		q, err := readQuestions(r.questions)
		if err != nil {
			return err
		}
		if r.baseline, err = selectOutputs(r.baseline, q); err != nil {
			return err
		}
	}
	r.all = instructionsOf(r.baseline)
	if r.limit > 0 && r.limit < len(r.baseline) {
		r.baseline = r.baseline[:r.limit]
	}
	return nil
}

// selectOutputs takes the baseline's answers to the questions, in their order.
func selectOutputs(baseline, questions []alpacaeval.Output) ([]alpacaeval.Output, error) {
	at := map[string]alpacaeval.Output{}
	for _, b := range baseline {
		at[b.Instruction] = b
	}
	var out []alpacaeval.Output
	lacks := 0
	for _, q := range questions {
		b, ok := at[q.Instruction]
		if !ok {
			lacks++
			continue
		}
		out = append(out, b)
	}
	if lacks > 0 {
		return nil, fmt.Errorf("the baseline has no answer to %d of %d questions; give its answers with --reference FILE", lacks, len(questions))
	}
	return out, nil
}

// answer gives the model's outputs: those of --outputs, and what a model
// answers.
func (r *alpacaRun) answer(ctx context.Context, args []string) ([]alpacaeval.Output, []alpacaeval.Failure, error) {
	var have []alpacaeval.Output
	if r.outputs != "" {
		var err error
		if have, err = readQuestions(r.outputs); err != nil {
			return nil, nil, err
		}
		if !r.answering(args) {
			return r.rename(have), nil, nil
		}
	}
	known := map[string]alpacaeval.Output{}
	for _, o := range have {
		known[o.Instruction] = o
	}
	speak := speakerFlags{engine: &r.engine, fleet: &r.fleet, name: r.name}
	r.fleet.jobs = r.engine.jobs
	s, err := speak.open(ctx, r.app, &r.spend, 0, args, r.log)
	if err != nil {
		return nil, nil, err
	}
	defer s.close()
	if s.raw && !r.raw {
		r.warn("%s has no chat template: instructions are given as they stand", s.name)
	}
	raw := r.raw || s.raw
	progress := r.progress("answering")
	ans := alpacaeval.Answering{
		Worker: alpacaeval.Worker{Generator: s, Identity: s.identity, Jobs: r.atOnce(s), Fatal: hopeless, Progress: progress.update},
		Model:  s.name, Request: r.request, Raw: raw, Strip: r.strip,
	}
	var ask []alpacaeval.Output
	for _, q := range r.baseline {
		if _, ok := known[q.Instruction]; !ok {
			ask = append(ask, alpacaeval.Output{Dataset: q.Dataset, Datasplit: q.Datasplit, Instruction: q.Instruction})
		}
	}
	r.configure(s, raw)
	if err := r.unlike(s.name); err != nil && !r.plan {
		return nil, nil, err
	}
	pending := ans.Pending(r.log, ask)
	if err := r.offer(s, "answers", pending); err != nil {
		return nil, nil, err
	}
	if r.plan {
		stand := make([]alpacaeval.Output, len(r.baseline)) // of the baseline's length
		for i, b := range r.baseline {
			stand[i] = b
			stand[i].Generator = s.name
			stand[i].Output += " "
		}
		return stand, nil, nil
	}
	if n := len(ask) - len(pending); n > 0 {
		r.say("%d of %d answers are in the log", n, len(ask))
	}
	fresh, failed, err := ans.Run(ctx, r.log, ask)
	progress.stop()
	if err != nil {
		return nil, nil, r.stopped(err, "answers", len(ask)-len(ans.Pending(r.log, ask)), len(ask))
	}
	for _, o := range fresh {
		known[o.Instruction] = o
	}
	var outputs []alpacaeval.Output
	empty := 0
	for _, q := range r.baseline {
		if o, ok := known[q.Instruction]; ok {
			if outputs = append(outputs, o); strings.TrimSpace(o.Output) == "" {
				empty++
			}
		}
	}
	if empty > 0 {
		r.warn("%d answers are empty; they are kept and judged", empty)
	}
	r.warnFailed("answered", failed)
	outputs = r.rename(outputs)
	path := filepath.Join(r.dir, "model_outputs.json")
	return outputs, failed, eval.WriteFile(path, func(w io.Writer) error { return alpacaeval.WriteOutputs(w, outputs) })
}

// rename gives outputs the name that the command line wants.
func (r *alpacaRun) rename(rows []alpacaeval.Output) []alpacaeval.Output {
	if r.name != "" {
		for i := range rows {
			rows[i].Generator = r.name
		}
	}
	return rows
}

// atOnce is how many requests are made at once.
func (r *alpacaRun) atOnce(s *speaker) int {
	if s.servers != nil {
		return 2 * max(r.fleet.jobs, r.judgeFleet.jobs, 16) // the fleet itself bounds them
	}
	return max(r.engine.maxBatch, 16)
}

// configure records what the answers depend on.
func (r *alpacaRun) configure(s *speaker, raw bool) {
	q := r.request
	for k, v := range map[string]any{
		"temperature": q.Temperature, "top_p": q.TopP, "top_k": q.TopK, "presence_penalty": q.PresencePenalty, "frequency_penalty": q.FrequencyPenalty,
		"repetition_penalty": q.RepetitionPenalty, "max_tokens": q.MaxTokens, "seed": q.Seed, "strip": r.strip, "raw": raw,
	} {
		r.config[k] = fmt.Sprint(v)
	}
	r.config["model_identity"] = eval.Key(s.identity)
}

// offer says what a stage will ask for and cost, and asks whether it may.
func (r *alpacaRun) offer(s *speaker, what string, requests []generate.Request) error {
	if s.servers == nil {
		if r.plan {
			r.offers = append(r.offers, alpacaOfferJSON{what, s.name, openai.Price{}.Estimate(requests...), true})
		}
		return nil
	}
	e := s.estimate(what, requests)
	if r.plan {
		r.offers = append(r.offers, alpacaOfferJSON{what, s.model, e.Estimate, e.priced})
		return nil
	}
	return r.agree(&r.spend, e)
}

// printOffers is the result of a dry run.
func (r *alpacaRun) printOffers() error {
	if r.json {
		return r.printJSON(map[string]any{"stages": r.offers})
	}
	for _, o := range r.offers {
		cost := "at a price that is not known"
		if o.PriceKnown {
			cost = fmt.Sprintf("at most about %.2f", o.Estimate.Cost)
		}
		e := o.Estimate
		if _, err := fmt.Fprintf(r.out, "%s: %d requests to %s, about %d tokens in, at most %d out, %s\n", o.Stage, e.Requests, o.Model, e.PromptTokens, e.CompletionTokens, cost); err != nil {
			return err
		}
	}
	return nil
}

// unlike tells what the results in the directory were made with otherwise;
// they are not mixed with others unless that is asked for.
func (r *alpacaRun) unlike(model string) error {
	if r.force {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(r.dir, "result.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var old eval.Result
	if err := json.Unmarshal(b, &old); err != nil {
		return fmt.Errorf("%s holds a result.json that is of no run; choose another -o, or --force", r.dir)
	}
	var other []string
	if old.Model != model {
		other = append(other, fmt.Sprintf("model %s, now %s", old.Model, model))
	}
	for k, v := range r.config {
		if was := old.Config[k]; was != v {
			other = append(other, fmt.Sprintf("%s %q, now %q", k, was, v))
		}
	}
	if other == nil {
		return nil
	}
	sort.Strings(other)
	return fmt.Errorf("%s holds results of another run (%s); choose another -o, or --force", r.dir, strings.Join(other, ", "))
}

// stopped is the error of a stage that ended early.
func (r *alpacaRun) stopped(err error, what string, have, of int) error {
	return fmt.Errorf("%d of %d %s are kept, and the same command goes on from there: %w", have, of, what, err)
}

func (r *alpacaRun) warnFailed(what string, failed []alpacaeval.Failure) {
	const most = 5
	for i, f := range failed {
		if i == most && !r.verbose {
			r.warn("and %d more; -v lists them", len(failed)-most)
			break
		}
		r.warn("instruction %d could not be %s: %s", f.Index, what, message(f.Err))
	}
}

// pairwise makes the judge that the flags describe.
func (r *alpacaRun) pairwise(ctx context.Context, model string) (*judge.Pairwise, error) {
	configs := judge.PairwiseConfigs()
	config := configs[0]
	known := false
	for _, c := range configs {
		if c.ID == r.judgeID || r.judgeID == "" && c.Model == model && !known {
			config, known = c, true
		}
	}
	p := &judge.Pairwise{ID: r.judgeID, Reading: config.Reading, Request: config.Request, Tries: r.judgeTries, Literal: r.compat, Swap: r.swap == "both"}
	if p.ID == "" {
		if p.ID = config.ID; !known {
			p.ID = "weighted_alpaca_eval_" + strings.Map(func(c rune) rune {
				if strings.ContainsRune(`/\ :`, c) {
					return '_'
				}
				return c
			}, model)
		}
	}
	switch reading := judge.Reading(r.judgeReading); reading {
	case "":
	case judge.FirstToken, judge.LastToken, judge.Ranking:
		p.Reading = reading
	case judge.Votes:
		p.Reading, p.Samples = reading, r.judgeSamples
		p.Request.TopLogprobs = 0
		p.Request.MaxTokens = 8 // an identifier with quotes or a heading's end
		p.Request.Temperature = 1
		if r.judgeID == "" {
			p.ID += "+votes" + strconv.Itoa(r.judgeSamples)
		}
	default:
		return nil, usagef("--judge-reading %s: use first-token, last-token, ranking or votes", r.judgeReading)
	}
	if p.Swap && r.judgeID == "" {
		p.ID += "+swap"
	}
	for flag, set := range map[string]func(){
		"judge-max-tokens":   func() { p.Request.MaxTokens = r.judgeRequest.MaxTokens },
		"judge-temperature":  func() { p.Request.Temperature = r.judgeRequest.Temperature },
		"judge-top-logprobs": func() { p.Request.TopLogprobs = r.judgeRequest.TopLogprobs },
	} {
		if r.changed(flag) {
			set()
		}
	}
	p.Request.Seed = r.judgeRequest.Seed
	if err := p.Request.Check(); err != nil {
		return nil, usageError{err}
	}
	path := r.judgeTemplate
	if path == "" {
		name := filepath.Base(config.Template.Path)
		var err error
		if path, err = r.fetch(ctx, pinned{name, alpacaSource + config.Template.Path, config.Template.SHA256, "judge-template"}); err != nil {
			return nil, fmt.Errorf("the judge's prompt: %w", err)
		}
	}
	text, err := readAll(path)
	if err != nil {
		return nil, err
	}
	if p.Template, err = judge.ParsePairwiseTemplate(text); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if known && p.Template.SHA256() != config.Template.SHA256 {
		r.warn("%s is not the prompt of %s; --judge-id NAME files its judgments under a name of their own", path, config.ID)
	}
	return p, nil
}

// judge has the outputs judged and computes the figures.
func (r *alpacaRun) judge(ctx context.Context, outputs []alpacaeval.Output, unanswered []alpacaeval.Failure) error {
	pairs, unknown, absent, err := alpacaeval.Match(r.baseline, outputs)
	if err != nil {
		return err
	}
	if unknown > 0 && r.limit == 0 {
		r.warn("%d outputs answer instructions that the baseline does not", unknown)
	}
	if absent > 0 && len(unanswered) == 0 && !r.allowPartial {
		return fmt.Errorf("%d of %d instructions have no output: %w; --allow-partial judges what is there, a MODEL beside --outputs answers the rest", absent, len(r.baseline), alpacaeval.ErrPartial)
	}
	if len(pairs) == 0 {
		return errors.New("there is nothing to judge: no output answers an instruction of the baseline")
	}
	var args []string
	if r.judgeModel != "" {
		args = []string{r.judgeModel}
	}
	engine := engineFlags{jobs: r.engine.jobs, maxBatch: r.engine.maxBatch, quantize: r.engine.quantize, noMap: r.engine.noMap}
	engine.rounding = "once"
	speak := speakerFlags{engine: &engine, fleet: &r.judgeFleet}
	s, err := speak.open(ctx, r.app, &r.spend, 0, args, r.log)
	if err != nil {
		return err
	}
	defer s.close()
	p, err := r.pairwise(ctx, s.name)
	if err != nil {
		return err
	}
	if s.raw {
		return usagef("the judge %s has no chat template; choose a model that has one", s.name)
	}
	r.configureJudge(s, p)
	if err := r.unlike(pairs[0].Generator2); err != nil && !r.plan {
		return err
	}
	if r.keep != "" {
		earlier, err := readWith(r.keep, func(in io.Reader) ([]alpacaeval.Annotation, error) { return alpacaeval.ReadAnnotationRows(in, r.keep) })
		if err != nil {
			return err
		}
		r.say("%d of %d judgments are taken from %s", alpacaeval.Keep(pairs, earlier, p.ID), len(pairs), r.keep)
	}
	progress := r.progress("judging")
	j := alpacaeval.Judging{Worker: alpacaeval.Worker{Generator: s, Identity: s.identity, Jobs: r.atOnce(s), Fatal: hopeless, Progress: progress.update}, Judge: p}
	if s.servers != nil && s.priced {
		j.Price = func(in, out int) float64 { return (float64(in)*s.price.Input + float64(out)*s.price.Output) / 1e6 }
	}
	pending, err := j.Pending(ctx, r.log, pairs)
	if err != nil {
		return err
	}
	if err := r.offer(s, "judgments", pending); err != nil {
		return err
	}
	if r.plan {
		return r.printOffers()
	}
	rows, failed, undecided, err := j.Run(ctx, r.log, pairs)
	progress.stop()
	if err != nil {
		left, _ := j.Pending(context.WithoutCancel(ctx), r.log, pairs)
		return r.stopped(err, "judgments", max(len(pairs)-len(left), 0), len(pairs))
	}
	r.warnFailed("judged", failed)
	return r.finish(ctx, p, rows, undecided)
}

// configureJudge records what the judgments depend on.
func (r *alpacaRun) configureJudge(s *speaker, p *judge.Pairwise) {
	c := r.config
	c["judge_model"], c["judge_template_sha256"], c["judge_reading"] = s.name, p.Template.SHA256(), string(p.Reading)
	c["judge_temperature"], c["judge_max_tokens"], c["judge_seed"] = fmt.Sprint(p.Request.Temperature), fmt.Sprint(p.Request.MaxTokens), fmt.Sprint(p.Request.Seed)
	c["judge_identity"], c["swap"] = eval.Key(s.identity), r.swap
	if p.Reading == judge.Votes {
		c["judge_samples"] = strconv.Itoa(p.Samples)
	}
	if r.limit > 0 {
		c["limit"] = strconv.Itoa(r.limit)
	}
}

// finish writes the judgments and all that follows from them.
func (r *alpacaRun) finish(ctx context.Context, p *judge.Pairwise, rows []alpacaeval.Annotation, undecided int) error {
	set := alpacaeval.JudgedOf(rows, "", p.ID, rows[0].Generator1, rows[0].Generator2)
	f := &r.alpacaScoreFlags
	f.allowPartial = true // what is missing was said, and is counted
	f.expected = len(r.baseline)
	scored, err := r.scoreSets(ctx, f, []*alpacaeval.Judged{set}, r.all, r.config)
	if err != nil {
		return err
	}
	if sc := scored[0]; sc.lc != nil {
		for i := range rows {
			rows[i].GLMPreference = eval.Finite(sc.lc.Predictions[i])
		}
	}
	if undecided > 0 {
		scored[0].undecided = undecided
		scored[0].warn("the judge's reply to %d pairs could not be read after %d tries; they are in the log", undecided, max(r.judgeTries, 1))
	}
	path := filepath.Join(r.dir, "annotations.json")
	f.force = true // that the results there are of this run is known by now
	if err := eval.WriteFile(path, func(w io.Writer) error { return alpacaeval.WriteAnnotations(w, rows) }); err != nil {
		return err
	}
	return r.alpacaFinish(f, scored)
}
