package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"expo/eval"
	"expo/eval/alpacaeval"
	"expo/eval/judge"
	"expo/lm/generate"
	"expo/lm/generate/openai"
)

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
	notes    []string // warnings for the result

	answerConfig, judgeConfig map[string]string // parts of config

	judging *speaker // its Generator is nil until a model in this process is needed
	judgeBy *judge.Pairwise
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
	if f.fleet.jobs = f.engine.jobs; f.judgeFleet.jobs == 0 {
		f.judgeFleet.jobs = f.engine.jobs
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
	if !f.answers {
		if err := r.openJudge(ctx, false); err != nil {
			return err
		}
		defer func() { r.judging.close() }()
	}
	outputs, failed, err := r.answer(ctx, args)
	if err != nil {
		return err
	}
	if f.answers {
		for _, w := range r.notes {
			r.warn("%s", w)
		}
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
		r.config["limit"] = strconv.Itoa(r.limit)
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
	r.answerConfig = maps.Clone(r.config)
	for k := range r.judgeConfig {
		delete(r.answerConfig, k)
	}
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
		if o.PriceKnown && o.Estimate.Cost == 0 {
			cost = "for free"
		} else if o.PriceKnown {
			cost = fmt.Sprintf("at most about %.2f", o.Estimate.Cost)
		}
		e := o.Estimate
		if _, err := fmt.Fprintf(r.out, "%s: %d requests to %s, about %d tokens in, at most %d out, %s\n", o.Stage, e.Requests, o.Model, e.PromptTokens, e.CompletionTokens, cost); err != nil {
			return err
		}
	}
	return nil
}

// answersMade is the key under which the log has what the answers in the
// directory were made with.
func answersMade() string { return eval.Key("alpacaeval settings") }

// made records what the answers were made with.
func (r *alpacaRun) made(model string) error {
	now := eval.Result{Suite: "alpacaeval", Model: model, Config: r.answerConfig}
	var old eval.Result
	if ok, err := r.log.Get(answersMade(), &old); err != nil || ok && old.Model == model && maps.Equal(old.Config, now.Config) {
		return err
	}
	return r.log.Append(answersMade(), now)
}

// unlike tells what the results in the directory, or the answers if there are
// only those, were made with otherwise; they are not mixed with others unless
// that is asked for. More instructions than before are no other run.
func (r *alpacaRun) unlike(model string) error {
	if r.force {
		return nil
	}
	var old eval.Result
	b, err := os.ReadFile(filepath.Join(r.dir, "result.json"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if ok, err := r.log.Get(answersMade(), &old); !ok || err != nil {
			return err
		}
	case err != nil:
		return err
	case json.Unmarshal(b, &old) != nil:
		return fmt.Errorf("%s holds a result.json that is of no run; choose another -o, or --force", r.dir)
	}
	var other []string
	if old.Model != model {
		other = append(other, fmt.Sprintf("model %s, now %s", old.Model, model))
	}
	for k, v := range r.config {
		was, ok := old.Config[k]
		if k == "limit" {
			if n, err := strconv.Atoi(was); err == nil && n <= r.limit {
				continue
			}
			if !ok {
				was = "none"
			}
		} else if !ok && old.Metrics == nil {
			continue // of the judge, and there are only answers
		}
		if was != v {
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
