package mtbench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"expo/eval"
	"expo/eval/judge"
	"expo/lm/generate"
)

// JudgeMaxTokens is the length of a judgment that FastChat allows.
const JudgeMaxTokens = 2048

// Judge rates answers, or compares them, by the prompts of FastChat.
type Judge struct {
	Name      string // for files
	Generator generate.Generator
	Identity  any // what replies depend on besides the request, as in Answerer
	Templates map[string]judge.Template
	// References are the answers that the judge is shown for reasoning, math
	// and coding, by question.
	References map[int]Answer
	// Request is how the judge is asked: MaxTokens (JudgeMaxTokens if 0) and
	// sampling, greedy if that is zero.
	Request  generate.Request
	Tries    int // for a reply that cannot be read; 2 if 0
	Jobs     int // judgments at once; 16 if 0
	Progress func(done, total int)
}

// Run counts what was done for a set of judgments.
type Run struct {
	Open     []Failure // what could not be asked
	Unparsed int       // replies without a rating or verdict, after all tries
	Asked    int       // requests made
}

// singlePrompt is the name of the prompt for a rating.
func singlePrompt(category string, turn int) string {
	name := "single-v1"
	if needsReference(category) {
		name = "single-math-v1"
	}
	if turn == 2 {
		name += "-multi-turn"
	}
	return name
}

// pairPrompt is the name of the prompt for a comparison.
func pairPrompt(category string, turn int) string {
	name := "pair-v2"
	if needsReference(category) {
		name = "pair-math-v1"
	}
	if turn == 2 {
		name += "-multi-turn"
	}
	return name
}

// Prompt is the request by which an answer is rated in a turn, and the name of
// its template.
func (j *Judge) Prompt(q Question, a Answer, turn int) (generate.Request, string, error) {
	values, err := j.shown(q, turn)
	if err != nil {
		return generate.Request{}, "", err
	}
	turns := a.turns()
	if len(turns) < turn {
		return generate.Request{}, "", fmt.Errorf("mtbench: question %d: no answer to turn %d", q.ID, turn)
	}
	if turn == 1 {
		values["answer"] = turns[0]
	} else {
		values["answer_1"], values["answer_2"] = turns[0], turns[1]
	}
	name := singlePrompt(q.Category, turn)
	r, err := j.fill(name, values)
	return r, name, err
}

// PairPrompt is the request by which two answers are compared.
func (j *Judge) PairPrompt(q Question, a, b Answer, turn int) (generate.Request, string, error) {
	values, err := j.shown(q, turn)
	if err != nil {
		return generate.Request{}, "", err
	}
	for side, answer := range map[string]Answer{"a": a, "b": b} {
		turns := answer.turns()
		if len(turns) < turn {
			return generate.Request{}, "", fmt.Errorf("mtbench: question %d: no answer to turn %d", q.ID, turn)
		}
		if turn == 1 {
			values["answer_"+side] = turns[0]
		} else {
			values["answer_"+side+"_1"], values["answer_"+side+"_2"] = turns[0], turns[1]
		}
	}
	name := pairPrompt(q.Category, turn)
	r, err := j.fill(name, values)
	return r, name, err
}

// shown is what is the same for every model: questions and references.
func (j *Judge) shown(q Question, turn int) (map[string]string, error) {
	values := map[string]string{}
	if len(q.Turns) < turn {
		return nil, fmt.Errorf("mtbench: question %d has no turn %d", q.ID, turn)
	}
	if turn == 1 {
		values["question"] = q.Turns[0]
	} else {
		values["question_1"], values["question_2"] = q.Turns[0], q.Turns[1]
	}
	if !needsReference(q.Category) {
		return values, nil
	}
	ref, ok := j.References[q.ID]
	turns := ref.turns()
	if !ok || len(turns) < turn {
		return nil, fmt.Errorf("mtbench: question %d (%s) needs a reference answer to turn %d, and there is none", q.ID, q.Category, turn)
	}
	values["ref_answer_1"] = turns[0]
	if turn == 2 {
		values["ref_answer_2"] = turns[1]
	}
	return values, nil
}

func (j *Judge) fill(name string, values map[string]string) (generate.Request, error) {
	r := j.Request
	t, ok := j.Templates[name]
	if !ok {
		return r, fmt.Errorf("mtbench: the judge's prompts lack %s", name)
	}
	var err error
	if r.Messages, err = t.Messages(values); err != nil {
		return r, err
	}
	if r.MaxTokens == 0 {
		r.MaxTokens = JudgeMaxTokens
	}
	return r, nil
}

// task is one question to the judge.
type task struct {
	model    string
	match    Match // of a game
	question Question
	turn     int
	request  generate.Request
	prompt   string // its name
	ok       func(text string) bool

	reply  judge.Reply
	tstamp float64
	fail   error
}

// user is the text that files record as the prompt.
func (t *task) user() string { return t.request.Messages[len(t.request.Messages)-1].Content }

func (j *Judge) key(r generate.Request, try int) string {
	return eval.Key("mtbench judgment", j.Identity, want(r), try)
}

// Grade has every turn of every answer rated. Judgments are ordered by model,
// turn and question. A request that is at fault leaves its judgment open; any
// other error ends the run, and what had been judged is in the log.
func (j *Judge) Grade(ctx context.Context, log *eval.Log, questions []Question, models []Answers) ([]Judgment, Run, error) {
	tasks, err := j.gradeTasks(questions, models)
	if err != nil {
		return nil, Run{}, err
	}
	run, err := j.run(ctx, log, tasks)
	if err != nil {
		return nil, run, err
	}
	var out []Judgment
	for _, t := range tasks {
		if t.fail != nil {
			continue
		}
		out = append(out, Judgment{
			QuestionID: t.question.ID, Model: t.model, Judge: []string{j.Name, t.prompt}, UserPrompt: t.user(),
			Judgment: t.reply.Text, Score: judge.ParseRating(t.reply.Text), Turn: t.turn, Tstamp: t.tstamp,
		})
	}
	return out, run, nil
}

func (j *Judge) gradeTasks(questions []Question, models []Answers) ([]*task, error) {
	var tasks []*task
	for _, m := range models {
		for turn := 1; turn <= 2; turn++ {
			for _, q := range questions {
				a := m.find(q.ID)
				if a == nil || len(q.Turns) < turn {
					continue
				}
				r, name, err := j.Prompt(q, *a, turn)
				if err != nil {
					return nil, fmt.Errorf("%w (%s)", err, m.Model)
				}
				tasks = append(tasks, &task{model: m.Model, question: q, turn: turn, request: r, prompt: name,
					ok: func(text string) bool { return judge.ParseRating(text) != judge.Unrated }})
			}
		}
	}
	return tasks, nil
}

func (a *Answers) find(id int) *Answer {
	i := slices.IndexFunc(a.Answers, func(x Answer) bool { return x.QuestionID == id })
	if i < 0 {
		return nil
	}
	return &a.Answers[i]
}

// Match names two models to be compared.
type Match struct{ Model1, Model2 string }

// Compare has the answers of models compared, each game in both orders.
func (j *Judge) Compare(ctx context.Context, log *eval.Log, questions []Question, models []Answers, matches []Match) ([]PairJudgment, Run, error) {
	tasks, err := j.compareTasks(questions, models, matches)
	if err != nil {
		return nil, Run{}, err
	}
	run, err := j.run(ctx, log, tasks)
	if err != nil {
		return nil, run, err
	}
	var out []PairJudgment
	for i := 0; i < len(tasks); i += 2 {
		g1, g2 := tasks[i], tasks[i+1]
		if g1.fail != nil || g2.fail != nil {
			continue
		}
		format := j.Templates[g1.prompt].OutputFormat
		out = append(out, PairJudgment{
			QuestionID: g1.question.ID, Model1: g1.match.Model1, Model2: g1.match.Model2,
			G1Winner: winner(judge.ParseWinner(g1.reply.Text, format), "model_1", "model_2"),
			G2Winner: winner(judge.ParseWinner(g2.reply.Text, format), "model_2", "model_1"),
			Judge:    []string{j.Name, g1.prompt}, G1UserPrompt: g1.user(), G1Judgment: g1.reply.Text,
			G2UserPrompt: g2.user(), G2Judgment: g2.reply.Text, Turn: g1.turn, Tstamp: max(g1.tstamp, g2.tstamp),
		})
	}
	return out, run, nil
}

// compareTasks are two for each game, in both orders.
func (j *Judge) compareTasks(questions []Question, models []Answers, matches []Match) ([]*task, error) {
	var tasks []*task
	for _, m := range matches {
		a, b := byName(models, m.Model1), byName(models, m.Model2)
		if a == nil || b == nil || m.Model1 == m.Model2 {
			return nil, fmt.Errorf("mtbench: %s cannot be compared with %s: answers of both are needed, and they must differ", m.Model1, m.Model2)
		}
		for turn := 1; turn <= 2; turn++ {
			for _, q := range questions {
				x, y := a.find(q.ID), b.find(q.ID)
				if x == nil || y == nil || len(q.Turns) < turn {
					continue
				}
				for range 2 {
					r, name, err := j.PairPrompt(q, *x, *y, turn)
					if err != nil {
						return nil, fmt.Errorf("%w (%s, %s)", err, m.Model1, m.Model2)
					}
					format := j.Templates[name].OutputFormat
					tasks = append(tasks, &task{model: m.Model1 + " and " + m.Model2, match: m, question: q, turn: turn, request: r, prompt: name,
						ok: func(text string) bool { return judge.ParseWinner(text, format) != judge.NoWinner }})
					x, y = y, x
				}
			}
		}
	}
	return tasks, nil
}

func byName(models []Answers, name string) *Answers {
	i := slices.IndexFunc(models, func(a Answers) bool { return a.Model == name })
	if i < 0 {
		return nil
	}
	return &models[i]
}

// winner puts a verdict in the words of the file; a and b are the models in
// the order in which they were shown.
func winner(w judge.Winner, a, b string) string {
	switch w {
	case judge.WinnerA:
		return a
	case judge.WinnerB:
		return b
	}
	return string(w)
}

// run asks the judge for what the log does not have.
func (j *Judge) run(ctx context.Context, log *eval.Log, tasks []*task) (Run, error) {
	var run Run
	var mu sync.Mutex
	done := 0
	var flight singleflight.Group
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(jobs(j.Jobs))
	for _, t := range tasks {
		g.Go(func() error {
			// Models that give the same answer share its judgment.
			v, err, _ := flight.Do(j.key(t.request, 0), func() (any, error) {
				reply, stamp, asked, err := j.ask(ctx, log, t)
				mu.Lock()
				run.Asked += asked
				mu.Unlock()
				return task{reply: reply, tstamp: stamp}, err
			})
			switch {
			case errors.Is(err, generate.ErrRequest) && ctx.Err() == nil:
				t.fail = err
			case err != nil:
				return fmt.Errorf("mtbench: question %d, turn %d of %s: %w", t.question.ID, t.turn, t.model, err)
			default:
				t.reply, t.tstamp = v.(task).reply, v.(task).tstamp
			}
			mu.Lock()
			done++
			n := done
			mu.Unlock()
			if j.Progress != nil {
				j.Progress(n, len(tasks))
			}
			return nil
		})
	}
	err := g.Wait()
	for _, t := range tasks {
		switch {
		case t.fail != nil:
			run.Open = append(run.Open, Failure{t.model, t.question.ID, t.turn, t.fail})
		case err == nil && !t.reply.OK:
			run.Unparsed++
		}
	}
	return run, err
}

func (j *Judge) ask(ctx context.Context, log *eval.Log, t *task) (reply judge.Reply, tstamp float64, asked int, err error) {
	tries := j.Tries
	if tries == 0 {
		tries = 2
	}
	reply, err = judge.AskUntil(ctx, j.Generator, t.request, tries, t.ok,
		func(try int) (generate.Response, bool, error) {
			var l logged
			known, err := log.Get(j.key(t.request, try), &l)
			if known {
				tstamp = l.Tstamp
			}
			return generate.Response{Text: l.Text, FinishReason: l.FinishReason}, known, err
		},
		func(try int, resp generate.Response) error {
			asked++
			tstamp = now()
			return log.Append(j.key(t.request, try), logged{resp.Text, resp.FinishReason, resp.Usage.PromptTokens, resp.Usage.CompletionTokens, tstamp})
		})
	return reply, tstamp, asked, err
}

// PlanGrade is the requests that Grade would make, if every reply can be read.
func (j *Judge) PlanGrade(log *eval.Log, questions []Question, models []Answers) ([]generate.Request, error) {
	tasks, err := j.gradeTasks(questions, models)
	if err != nil {
		return nil, err
	}
	return j.plan(log, tasks)
}

// PlanCompare is the requests that Compare would make.
func (j *Judge) PlanCompare(log *eval.Log, questions []Question, models []Answers, matches []Match) ([]generate.Request, error) {
	tasks, err := j.compareTasks(questions, models, matches)
	if err != nil {
		return nil, err
	}
	return j.plan(log, tasks)
}

func (j *Judge) plan(log *eval.Log, tasks []*task) ([]generate.Request, error) {
	var out []generate.Request
	planned := map[string]bool{}
	for _, t := range tasks {
		key := j.key(t.request, 0)
		var l logged
		known, err := find(log, key, &l)
		if err != nil {
			return nil, err
		}
		if !known && !planned[key] {
			planned[key] = true
			out = append(out, t.request)
		}
	}
	return out, nil
}

// AllMatches are all pairs of models, in the order of their names given.
func AllMatches(names []string) []Match {
	var out []Match
	for i, a := range names {
		for _, b := range names[i+1:] {
			out = append(out, Match{a, b})
		}
	}
	return out
}
