package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"strconv"
	"strings"

	"expo/eval"
	"expo/eval/alpacaeval"
	"expo/eval/judge"
)

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
			if filepath.IsAbs(model) { // what llama.cpp calls a model
				model = strings.TrimSuffix(filepath.Base(model), ".gguf")
			}
			p.ID = "weighted_alpaca_eval_" + strings.NewReplacer("/", "_", `\`, "_", " ", "_", ":", "_").Replace(model)
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

// openJudge finds out who judges, and how, before anything is asked. A model in
// this process is opened when it is needed: the one that answers may have to
// make room for it.
func (r *alpacaRun) openJudge(ctx context.Context, needed bool) error {
	if r.judging != nil && (r.judging.Generator != nil || !needed) {
		return nil
	}
	var args []string
	if r.judgeModel != "" {
		args = []string{r.judgeModel}
	}
	engine := engineFlags{jobs: r.engine.jobs, maxBatch: r.engine.maxBatch, quantize: r.engine.quantize, noMap: r.engine.noMap}
	engine.rounding = "once"
	speak := speakerFlags{engine: &engine, fleet: &r.judgeFleet}
	if !needed && !r.judgeFleet.given() {
		identity, err := engine.identity(ctx, args, r.log)
		if err != nil {
			return err
		}
		r.judging = &speaker{name: engine.modelName(args), identity: identity, close: func() {}}
	} else {
		s, err := speak.open(ctx, r.app, &r.spend, args, r.log)
		if err != nil {
			return err
		}
		r.judging = s
		if s.raw {
			return usagef("the judge %s has no chat template; choose a model that has one", s.name)
		}
	}
	if r.judgeBy != nil {
		return nil
	}
	var err error
	if r.judgeBy, err = r.pairwise(ctx, r.judging.name); err != nil {
		return err
	}
	r.configureJudge(r.judging, r.judgeBy)
	return nil
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
	if err := r.openJudge(ctx, true); err != nil {
		return err
	}
	s, p := r.judging, r.judgeBy
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
	c := map[string]string{"annotator": p.ID}
	c["judge_model"], c["judge_template_sha256"], c["judge_reading"] = s.name, p.Template.SHA256(), string(p.Reading)
	c["judge_temperature"], c["judge_max_tokens"], c["judge_seed"] = fmt.Sprint(p.Request.Temperature), fmt.Sprint(p.Request.MaxTokens), fmt.Sprint(p.Request.Seed)
	c["judge_identity"], c["swap"] = eval.Key(s.identity), r.swap
	if p.Reading == judge.Votes {
		c["judge_samples"] = strconv.Itoa(p.Samples)
	}
	maps.Copy(r.config, c)
	r.judgeConfig = c
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
	if r.limit > 0 && r.limit < len(r.all) {
		scored[0].warn("--limit %d: a part of the instructions only", r.limit)
	}
	for _, w := range r.notes {
		scored[0].warn("%s", w)
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
