package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"expo/eval"
	"expo/eval/judge"
	"expo/eval/mtbench"
	"expo/lm/generate"
	"expo/lm/generate/local"
)

// mtbenchRun is one run of the whole path.
type mtbenchRun struct {
	*app
	f         *mtbenchFlags
	dir       string
	log       *eval.Log
	questions []mtbench.Question
	config    map[string]string

	model    *speaker
	answerer *mtbench.Answerer
	judging  *speaker
	judge    *mtbench.Judge
	models   []mtbench.Answers // from files, and then the model's
	failed   []mtbench.Failure
	warnings []string

	unanswered int // turns that files of answers lack
}

// mtbenchPath answers, judges and scores.
func (a *app) mtbenchPath(ctx context.Context, f *mtbenchFlags, args []string) error {
	if f.output == "" {
		return usagef("needs -o DIR for answers, judgments and results")
	}
	if f.judge != "" && f.judgeFleet.given() {
		return usagef("--judge is a model in this process: leave --judge-base-url and --judge-model out")
	}
	if !f.answersOnly && f.judge == "" && !f.judgeFleet.given() {
		return usagef("needs a judge: --judge-model NAME (with --judge-base-url URL, if it is not OpenAI's), or --judge MODEL; --answers-only does without")
	}
	for _, r := range []generate.Request{f.request, f.judgeRequest, {Sampling: generate.Sampling{Temperature: f.temperature}}} {
		if err := r.Check(); err != nil {
			return usageError{err}
		}
	}
	r := &mtbenchRun{app: a, f: f, dir: filepath.Clean(f.output), config: map[string]string{}}
	if err := r.readFiles(ctx); err != nil {
		return err
	}
	close, err := r.openDir()
	if err != nil {
		return err
	}
	defer close()
	if err := r.open(ctx, args); err != nil {
		return err
	}
	defer r.close()
	if !f.force && !f.plan {
		if err := r.unlike(); err != nil {
			return err
		}
	}
	stages, err := r.stages()
	if err != nil {
		return err
	}
	if f.plan {
		return r.printStages(stages)
	}
	if err := r.agree(&f.spend, stages...); err != nil {
		return err
	}
	if err := r.answer(ctx); err != nil {
		return err
	}
	if f.answersOnly {
		return r.finishAnswers()
	}
	r.countUnanswered()
	single, pairs, err := r.judgments(ctx)
	if err != nil {
		return err
	}
	out := &mtbenchResult{f: f, dir: r.dir, questions: r.questions, config: r.config, configs: map[string]map[string]string{}, checked: true,
		warnings: r.warnings, failed: len(r.failed) + r.unanswered, models: r.models}
	r.describe(out)
	return a.mtbenchFinish(out, single, pairs)
}

// readFiles reads what does not depend on a model, before anything is spent.
func (r *mtbenchRun) readFiles(ctx context.Context) error {
	questions, prompts, references := mtbench.Sources()
	file := func(given, flag string, s mtbench.Source) (string, error) {
		path := given
		if path == "" {
			var err error
			if path, err = r.fetch(ctx, pinned{s.Name, s.URL, s.SHA256, flag}); err != nil {
				return "", err
			}
		}
		sum, err := digestOf(path)
		r.config[strings.ReplaceAll(flag, "-", "_")+"_sha256"] = sum
		return path, err
	}
	path, err := file(r.f.questions, "questions", questions)
	if err != nil {
		return err
	}
	if r.questions, err = readWith(path, mtbench.ReadQuestions); err != nil {
		return err
	}
	if n := r.f.limit; n > 0 && n < len(r.questions) {
		r.questions = r.questions[:n]
	}
	if r.models, err = readAnswerFiles(r.f.answers); err != nil {
		return err
	}
	if r.f.answersOnly {
		return nil
	}
	r.judge = &mtbench.Judge{References: map[int]mtbench.Answer{}, Request: r.f.judgeRequest, Tries: r.f.judgeTries}
	if path, err = file(r.f.prompts, "judge-prompts", prompts); err != nil {
		return err
	}
	if r.judge.Templates, err = readWith(path, judge.ReadTemplates); err != nil {
		return err
	}
	if path, err = file(r.f.references, "reference-answers", references); err != nil {
		return err
	}
	refs, err := readWith(path, mtbench.ReadAnswers)
	for _, a := range refs {
		r.judge.References[a.QuestionID] = a
	}
	return err
}

// openDir opens the log; that of a dry run leaves nothing behind.
func (r *mtbenchRun) openDir() (close func(), err error) {
	dir := r.dir
	close = func() {}
	if _, err := os.Stat(filepath.Join(dir, "log.jsonl")); err != nil {
		if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 && !r.f.force && !r.f.plan {
			return nil, fmt.Errorf("%s exists and is of no run; choose another -o, or --force", dir)
		}
		if r.f.plan {
			if dir, err = os.MkdirTemp("", "expo"); err != nil {
				return nil, err
			}
			close = func() { os.RemoveAll(dir) }
		}
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	if r.log, err = r.openLog(filepath.Join(dir, "log.jsonl")); err != nil {
		return nil, err
	}
	remove := close
	return func() { r.log.Close(); remove() }, nil
}

// open opens the model, if one is to answer, and the judge.
func (r *mtbenchRun) open(ctx context.Context, args []string) error {
	f := r.f
	if f.fleet.jobs = f.engine.jobs; f.judgeFleet.jobs == 0 {
		f.judgeFleet.jobs = f.engine.jobs
	}
	var err error
	if len(args) > 0 || f.engine.sft != "" || f.engine.aligned != "" || f.fleet.given() {
		who := speakerFlags{engine: &f.engine, fleet: &f.fleet, name: f.name}
		if r.model, err = who.open(ctx, r.app, &f.spend, args, r.log); err != nil {
			return err
		}
		if r.model.raw {
			return usagef("%s has no chat template; --chat-template gives it one", r.model.name)
		}
		r.answerer = &mtbench.Answerer{Model: fileName(r.model.name), Generator: tooLong{r.model.Generator}, Identity: r.model.identity,
			Request: f.request, System: f.system, Jobs: r.atOnce(r.model, f.fleet.jobs)}
		if f.forced {
			r.answerer.Temperature = &f.temperature
		}
		if slices.ContainsFunc(r.models, func(a mtbench.Answers) bool { return a.Model == r.answerer.Model }) {
			return usagef("--answers has answers of %s already; --name gives the model another name", r.answerer.Model)
		}
	}
	if f.answersOnly {
		if r.model == nil {
			return usagef("--answers-only needs a model that answers")
		}
		return nil
	}
	engine := engineFlags{jobs: f.engine.jobs, maxBatch: f.engine.maxBatch, quantize: f.engine.quantize, noMap: f.engine.noMap}
	engine.rounding = "once"
	var judgeArgs []string
	if f.judge != "" {
		judgeArgs = []string{f.judge}
	}
	who := speakerFlags{engine: &engine, fleet: &f.judgeFleet, name: f.judgeName}
	if r.judging, err = who.open(ctx, r.app, &f.spend, judgeArgs, r.log); err != nil {
		return err
	}
	if r.judging.raw {
		return usagef("the judge %s has no chat template; choose a model that has one", r.judging.name)
	}
	r.judge.Name, r.judge.Identity = fileName(r.judging.name), r.judging.identity
	r.judge.Generator, r.judge.Jobs = tooLong{r.judging.Generator}, r.atOnce(r.judging, f.judgeFleet.jobs)
	return nil
}

func (r *mtbenchRun) close() {
	for _, s := range []*speaker{r.model, r.judging} {
		if s != nil {
			s.close()
		}
	}
}

// atOnce is how many requests a speaker is given at a time. A fleet bounds
// them itself and balances better with some in wait.
func (r *mtbenchRun) atOnce(s *speaker, jobs int) int {
	if s.servers != nil {
		return 2 * max(jobs, 16)
	}
	return max(r.f.engine.maxBatch, 16)
}

// tooLong makes a prompt that does not fit an error of its request, so that
// the others are answered all the same.
type tooLong struct{ generate.Generator }

func (g tooLong) Generate(ctx context.Context, r generate.Request) (generate.Response, error) {
	resp, err := g.Generator.Generate(ctx, r)
	if errors.Is(err, local.ErrTooLong) {
		err = fmt.Errorf("%w (%w)", err, generate.ErrRequest)
	}
	return resp, err
}

// fileName is a model's name that can be a file's, as FastChat needs it.
func fileName(name string) string {
	if strings.HasSuffix(name, ".gguf") || filepath.IsAbs(name) {
		name = strings.TrimSuffix(filepath.Base(name), ".gguf")
	}
	name = strings.Map(func(c rune) rune {
		if strings.ContainsRune(`/\:`, c) {
			return '_'
		}
		return c
	}, name)
	return strings.TrimLeft(name, ".")
}

// answer has the model's questions answered and writes its file.
func (r *mtbenchRun) answer(ctx context.Context) error {
	if r.answerer == nil {
		return nil
	}
	progress := r.progress("answering")
	r.answerer.Progress = func(done, total int) { progress.update(int64(done), int64(total)) }
	answers, err := r.answerer.Answer(ctx, r.log, r.questions)
	progress.stop()
	if err != nil {
		return kept(err)
	}
	if err := r.fail("answered", answers.Open); err != nil && len(answers.Answers) == 0 {
		return err
	}
	if answers.Truncated > 0 {
		r.warnings = append(r.warnings, fmt.Sprintf("%s: %d of %d answers end at --max-tokens %d", answers.Model, answers.Truncated, 2*len(r.questions), r.f.request.MaxTokens))
	}
	r.models = append(r.models, *answers)
	if err := writeLines(r.answerFile(answers.Model), answers.Answers); err != nil {
		return err
	}
	return r.made()
}

// countUnanswered counts the turns that files of answers lack.
func (r *mtbenchRun) countUnanswered() {
	for _, m := range r.models {
		if r.answerer != nil && m.Model == r.answerer.Model {
			continue
		}
		turns := map[int]int{}
		for _, a := range m.Answers {
			turns[a.QuestionID] = len(a.Choices[0].Turns)
		}
		var lacking []int
		for _, q := range r.questions {
			if n := len(q.Turns) - turns[q.ID]; n > 0 {
				lacking = append(lacking, q.ID)
				r.unanswered += n
			}
		}
		if len(lacking) > 0 {
			r.warnings = append(r.warnings, fmt.Sprintf("%s: %d of %d questions have no answer: %s", m.Model, len(lacking), len(r.questions), numbers(lacking)))
		}
	}
}

// kept adds to an error what becomes of what has been done.
func kept(err error) error {
	return fmt.Errorf("what has arrived is kept, and the same command goes on from there: %w", err)
}

// fail warns of what has failed; the error is the first of them.
func (r *mtbenchRun) fail(what string, list []mtbench.Failure) error {
	const most = 5
	r.failed = append(r.failed, list...)
	for i, f := range list {
		if i == most && !r.verbose {
			r.warn("and %d more; -v lists them", len(list)-most)
			break
		}
		r.warn("could not be %s: %s", what, message(f))
	}
	if len(list) > 0 {
		return list[0]
	}
	return nil
}

func writeLines[T mtbench.Answer | mtbench.Judgment | mtbench.PairJudgment](path string, rows []T) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return eval.WriteFile(path, func(w io.Writer) error { return mtbench.Write(w, rows) })
}

// finishAnswers ends a run without a judge.
func (r *mtbenchRun) finishAnswers() error {
	for _, w := range r.warnings {
		r.warn("%s", w)
	}
	path := r.answerFile(r.answerer.Model)
	n := len(r.models[len(r.models)-1].Answers)
	var err error
	if r.json {
		err = r.printJSON(map[string]any{"answers": path, "n": n, "open": len(r.failed), "warnings": r.warnings})
	} else {
		_, err = fmt.Fprintln(r.out, path)
	}
	if err == nil && len(r.failed) > 0 {
		err = &incomplete{len(r.failed), len(r.questions), "questions have no answer", "the same command tries them again"}
	}
	return err
}

// judgments has the answers judged and writes FastChat's files.
func (r *mtbenchRun) judgments(ctx context.Context) (single []mtbench.Judgment, pairs []mtbench.PairJudgment, err error) {
	progress := r.progress("judging")
	defer progress.stop()
	r.judge.Progress = func(done, total int) { progress.update(int64(done), int64(total)) }
	if r.f.mode != "pair" {
		js, run, err := r.judge.Grade(ctx, r.log, r.questions, r.models)
		if err != nil {
			return nil, nil, kept(err)
		}
		progress.stop()
		if err := r.fail("judged", run.Open); err != nil && len(js) == 0 {
			return nil, nil, err
		}
		old, _, err := r.earlier("single")
		if err != nil {
			return nil, nil, err
		}
		if err := writeLines(r.judgmentFile("single"), replaced(old, js, func(j mtbench.Judgment) string { return j.Model })); err != nil {
			return nil, nil, err
		}
		single = js
	}
	if r.f.mode != "single" {
		matches, err := r.matches(r.models)
		if err != nil {
			return nil, nil, err
		}
		ps, run, err := r.judge.Compare(ctx, r.log, r.questions, r.models, matches)
		if err != nil {
			return nil, nil, kept(err)
		}
		progress.stop()
		if err := r.fail("judged", run.Open); err != nil && len(ps) == 0 {
			return nil, nil, err
		}
		_, old, err := r.earlier("pair")
		if err != nil {
			return nil, nil, err
		}
		if err := writeLines(r.judgmentFile("pair"), replaced(old, ps, func(p mtbench.PairJudgment) string { return p.Model1 + "\x00" + p.Model2 })); err != nil {
			return nil, nil, err
		}
		pairs = ps
	}
	return single, pairs, nil
}

// describe records what the figures depend on.
func (r *mtbenchRun) describe(out *mtbenchResult) {
	reported := ""
	if s := r.judging.servers; s != nil {
		reported = strings.Join(r.reported(s), ", ")
	}
	for _, model := range r.names() {
		c := r.settings(model)
		if reported != "" {
			c["judge_reported"] = reported
		}
		out.configs[model] = c
		for k, v := range c { // the document's are those of the model that answered, and what all have in common
			if r.answerer != nil && r.answerer.Model == model || k != "answers_sha256" || len(r.models) == 1 {
				out.config[k] = v
			}
		}
	}
}

// reported are the names that the judge's servers gave it, in this run and in
// those that it goes on from.
func (r *mtbenchRun) reported(s *servers) []string {
	key := eval.Key("mtbench judge reported", r.judging.identity)
	var names []string
	if _, err := r.log.Get(key, &names); err != nil {
		names = nil
	}
	n := len(names)
	for _, name := range s.ReportedModels() {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) > n {
		if err := r.log.Append(key, names); err != nil {
			r.warn("%s", message(err))
		}
	}
	return names
}
