package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"golang.org/x/sync/errgroup"

	"expo/align/reward"
	"expo/align/search"
	"expo/eval"
	"expo/lm/generate"
)

// A searchRun is a search under way.
type searchRun struct {
	a       *app
	flags   *searchFlags
	alphas  []float64
	prompts []searchPrompt
	pairs   []searchPair
	tasks   []searchTask
	request generate.Request // what is asked of every prompt
	seeds   int              // answers to each prompt
	seed    uint64

	line  searchLine
	judge *searchJudge // nil: nothing is scored
	log   *eval.Log
	now   *searchSettings
	same  bool // samples.jsonl has these settings already
	raw   bool // prompts go to the models as they stand

	// rules are other measures of an answer, by name.
	rules map[string]func(prompt, answer string) float64

	current float64    // the α that is being measured
	aligned []answered // answers at α = 0
	answers map[float64][]answered
	missing int // samples without an answer or a reward
	wanted  int
	failed  error // why the first of those is missing
}

// answered is one sample: what samples.jsonl holds of it.
type answered struct {
	Type         string  `json:"type"` // "sample"
	Alpha        float64 `json:"alpha"`
	Prompt       int     `json:"prompt"`
	Sample       int     `json:"sample"`
	Seed         uint64  `json:"seed"`
	Text         any     `json:"content"` // the prompt's text, or its messages
	Response     string  `json:"response"`
	FinishReason string  `json:"finish_reason"`
	reward.Companions

	key    string
	made   bool
	reward float64
}

// rewarded is a reward in samples.jsonl. It has a line of its own, so that other
// rewards can be given to the same samples.
type rewarded struct {
	Type   string  `json:"type"` // "reward"
	Alpha  float64 `json:"alpha"`
	Prompt int     `json:"prompt"`
	Sample int     `json:"sample"`
	Of     string  `json:"of"` // the sample's key
	Reward float64 `json:"reward"`
}

// open opens the models.
func (s *searchRun) open(ctx context.Context) error {
	f := s.flags
	s.answers = map[float64][]answered{}
	if len(f.endpoints) > 0 {
		line, err := f.openEndpoints(ctx, s.a)
		if err != nil {
			return err
		}
		s.line = line
	} else {
		line, err := f.openLine(ctx)
		if err != nil {
			return err
		}
		s.line = line
	}
	if s.raw = f.raw; !s.raw && !s.line.templated() {
		if err := s.withoutTemplate(); err != nil {
			s.line.close()
			return err
		}
	}
	if f.reward.given() {
		judge, err := f.reward.open(ctx, s.a, f.jobs)
		if err != nil {
			s.line.close()
			return err
		}
		s.judge = judge
	}
	return nil
}

// withoutTemplate goes over to prompts as they stand, if that can be done.
func (s *searchRun) withoutTemplate() error {
	const remedy = "the aligned model has no chat template; name one with --chat-template"
	if s.flags.system != "" {
		return errors.New(remedy)
	}
	prompts := append([]searchPrompt(nil), s.prompts...)
	for _, p := range s.pairs {
		prompts = append(prompts, p.prompt)
	}
	for _, t := range s.tasks {
		for _, it := range t.items {
			prompts = append(prompts, it.prompt)
		}
	}
	for _, p := range prompts {
		if p.messages != nil {
			return errors.New(remedy + ", or give prompts in place of messages")
		}
	}
	s.raw = true
	s.a.say("%s; prompts are used as they stand", remedy)
	return nil
}

func (s *searchRun) close() {
	s.line.close()
	if s.judge != nil {
		s.judge.close()
	}
}

// measured says how it goes.
func (s *searchRun) measured(r *search.Result) {
	row, _ := r.Row(s.current)
	what := fmt.Sprintf("α %g: reward %.3f ± %.2g, %.0f characters, %.0f %% finished", row.Alpha, float64(row.Reward), float64(row.RewardSE), float64(row.Length), 100*float64(row.Finished))
	if row.Gate != "" {
		what += "; " + row.Gate
	}
	s.a.say("%s", what)
}

// ask is the request for one answer.
func (s *searchRun) ask(p *searchPrompt) generate.Request {
	r := s.request
	if s.raw {
		r.Prompt = p.text
		return r
	}
	r.Messages = p.asMessages(s.flags.system)
	return r
}

// measure is the objective of the search.
func (s *searchRun) measure(ctx context.Context, alpha float64) (search.Score, error) {
	s.current = alpha
	answers, err := s.answer(ctx, alpha)
	if err != nil {
		return search.Score{}, err
	}
	if alpha == search.Aligned {
		s.aligned = answers
	}
	if err := s.reward(ctx, alpha, answers); err != nil {
		return search.Score{}, err
	}
	s.answers[alpha] = answers
	score := search.Score{Tasks: map[string][]float64{}}
	known := 0
	for i, x := range answers {
		p := &s.prompts[x.Prompt]
		sample := search.Sample{Prompt: p.group, Reward: x.reward, Length: math.NaN(), Repetition: math.NaN()}
		if x.made {
			sample.Length, sample.Finished, sample.Repetition = float64(x.Characters), x.Finished, x.Repetition
		}
		s.wanted++
		if math.IsNaN(x.reward) {
			s.missing++
		} else {
			known++
		}
		score.Samples = append(score.Samples, sample)
		for name, rule := range s.rules {
			if score.Tasks[name] == nil {
				score.Tasks[name] = unknown(len(answers))
			}
			if x.made {
				score.Tasks[name][i] = rule(p.text, x.Response)
			}
		}
	}
	if known == 0 {
		return score, fmt.Errorf("α %g: none of %d samples has a reward: %w", alpha, len(answers), s.failed)
	}
	for i := range s.tasks {
		t := &s.tasks[i]
		if score.Tasks[t.name], err = s.task(ctx, alpha, t); err != nil {
			return search.Score{}, err
		}
	}
	return score, nil
}

// answer gives the samples at an α, from the log as far as they are there.
func (s *searchRun) answer(ctx context.Context, alpha float64) ([]answered, error) {
	list := make([]answered, len(s.prompts)*s.seeds)
	var todo []int
	for i := range list {
		x := &list[i]
		p, k := i/s.seeds, i%s.seeds
		*x = answered{Type: "sample", Alpha: alpha, Prompt: p, Sample: k, Seed: s.prompts[p].seedOf(s.seed, k), Text: s.prompts[p].content(), reward: math.NaN()}
		r := s.ask(&s.prompts[p])
		x.key = eval.Key("sample", s.line.identity(alpha), r.Messages, r.Prompt, r.MaxTokens, r.Sampling, r.Stop, x.Seed, s.prompts[p].repeat, k)
		found, err := s.recall(x)
		if err != nil {
			return nil, err
		}
		if !found {
			todo = append(todo, i)
		}
	}
	if len(todo) == 0 {
		return list, nil
	}
	g, err := s.line.at(ctx, alpha)
	if err != nil {
		return nil, err
	}
	bar := s.a.progress(fmt.Sprintf("α %g", alpha))
	defer bar.stop()
	var mu sync.Mutex
	done := 0
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(s.line.width())
	var writes errgroup.Group
	writes.SetLimit(writesAtOnce)
	for _, i := range todo {
		if gctx.Err() != nil {
			break
		}
		group.Go(func() error {
			x := &list[i]
			r := s.ask(&s.prompts[x.Prompt])
			r.Seed = x.Seed
			resp, err := g.Generate(gctx, r)
			if gctx.Err() != nil {
				return gctx.Err()
			}
			mu.Lock()
			done++
			n := done
			if err != nil && s.failed == nil {
				s.failed = err
				s.a.warn("α %g, prompt %d: %s", alpha, x.Prompt+1, message(err))
			}
			mu.Unlock()
			bar.update(int64(n), int64(len(todo)))
			if err != nil {
				return nil // counted as missing, tried again by the next run
			}
			x.Response, x.FinishReason, x.Companions, x.made = resp.Text, string(resp.FinishReason), reward.Measure(resp), true
			writes.Go(func() error { return s.log.Append(x.key, x) })
			return nil
		})
	}
	return list, errors.Join(group.Wait(), writes.Wait(), ctx.Err())
}

// writesAtOnce bounds the appends that are under way: those that wait at the
// same time share a sync, and nobody waits for them who has something to
// compute.
const writesAtOnce = 256

// recall looks a sample up in the log.
func (s *searchRun) recall(x *answered) (bool, error) {
	var old answered
	found, err := s.log.Get(x.key, &old)
	if !found || err != nil {
		return false, err
	}
	x.Response, x.FinishReason, x.Companions, x.made = old.Response, old.FinishReason, old.Companions, true
	return true, nil
}

// reward scores samples, as far as the log has no rewards of them.
func (s *searchRun) reward(ctx context.Context, alpha float64, list []answered) error {
	if s.judge == nil {
		return errors.New("there is no reward")
	}
	keyOf := func(i int) string {
		parts := []any{"reward", s.judge.identity, list[i].key, s.raw}
		if s.judge.compares {
			parts = append(parts, s.aligned[i].key)
		}
		return eval.Key(parts...)
	}
	var todo []int
	for i := range list {
		if !list[i].made || s.judge.compares && !s.aligned[i].made {
			continue
		}
		var old rewarded
		found, err := s.log.Get(keyOf(i), &old)
		if err != nil {
			return err
		}
		if list[i].reward = old.Reward; !found {
			list[i].reward = math.NaN()
			todo = append(todo, i)
		}
	}
	bar := s.a.progress(fmt.Sprintf("α %g: scoring", alpha))
	defer bar.stop()
	var writes errgroup.Group
	writes.SetLimit(writesAtOnce)
	for from := 0; from < len(todo); from += s.judge.batch {
		batch := todo[from:min(from+s.judge.batch, len(todo))]
		items := make([]reward.Item, len(batch))
		for k, i := range batch {
			items[k] = s.item(&list[i])
			if s.judge.compares {
				items[k].Reference = s.aligned[i].Response
			}
		}
		scores, why, err := s.judge.score(ctx, items)
		if err != nil {
			return errors.Join(err, writes.Wait())
		}
		if why != nil && s.failed == nil {
			s.failed = why
			s.a.warn("α %g: %s", alpha, message(why))
		}
		for k, i := range batch {
			list[i].reward = scores[k]
			if math.IsNaN(scores[k]) {
				continue
			}
			writes.Go(func() error {
				x := &list[i]
				return s.log.Append(keyOf(i), rewarded{"reward", alpha, x.Prompt, x.Sample, x.key, x.reward})
			})
		}
		bar.update(int64(from+len(batch)), int64(len(todo)))
	}
	return writes.Wait()
}

// item is a sample as the reward model is given it.
func (s *searchRun) item(x *answered) reward.Item {
	p := &s.prompts[x.Prompt]
	it := reward.Item{Response: x.Response, Ended: x.Finished}
	if s.raw {
		it.Prompt = p.text
	} else {
		it.Messages = p.asMessages(s.flags.system)
	}
	return it
}
