package demo

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"expo"
	"expo/align/reward"
	"expo/align/search"
	"expo/demo/notes"
	"expo/lm/chat"
	"expo/lm/generate"
	"expo/lm/generate/local"
	"expo/lm/model"
)

// Sampling is how models answer here: as in the ExPO paper, temperature 0.7,
// top-k 50, top-p 0.9, penalties 0.1 (https://arxiv.org/abs/2404.16792).
func Sampling() generate.Sampling {
	return generate.Sampling{Temperature: 0.7, TopK: 50, TopP: 0.9, PresencePenalty: 0.1, FrequencyPenalty: 0.1}
}

// A Line is the models θ_aligned + α(θ_aligned − θ_sft) of one pair, the prompts
// they answer, and who judges the answers.
type Line struct {
	opt    LineOptions
	pair   expo.Pair
	judge  reward.Model
	engine *local.Engine
	alpha  float64
}

// LineOptions say what is asked.
type LineOptions struct {
	Prompts []notes.Prompt
	// Samples is how many answers each prompt gets (0: 1), and Seed the seed of
	// their random numbers, which are the same for every α.
	Samples int
	Seed    uint64
	// Jobs is the number of threads (0: one for each that Go runs).
	Jobs int
	// Progress, if not nil, is told how many answers of how many are there, from
	// several goroutines at once.
	Progress func(done, total int)
}

// An Answer is a note and what is to be said about it.
type Answer struct {
	Prompt   int // index of LineOptions.Prompts
	Sample   int
	Response generate.Response
	reward.Companions
	Reward float64 // of the reward model
	Rule   float64 // notes.Score
}

// NewLine loads a pair at its aligned end, and the reward model. The checkpoints
// must stay open as long as the line is in use.
func NewLine(ctx context.Context, p expo.Pair, judge reward.Model, opt LineOptions) (*Line, error) {
	if opt.Samples == 0 {
		opt.Samples = 1
	}
	engine, err := local.Open(ctx, p.Aligned, model.LoadOptions{Jobs: opt.Jobs, NoMap: true}, local.Options{MaxBatch: batch})
	if err != nil {
		return nil, err
	}
	return &Line{opt: opt, pair: p, judge: judge, engine: engine}, nil
}

// batch is how many notes are written at once.
const batch = 64

// Close gives the memory of the models back. The judge stays open.
func (l *Line) Close() { l.engine.Model().Close() }

// Answer gives all answers at α, prompt by prompt.
func (l *Line) Answer(ctx context.Context, alpha float64) ([]Answer, error) {
	if alpha != l.alpha {
		view, err := expo.Extrapolate(l.pair, expo.Options{Alpha: alpha})
		if err != nil {
			return nil, err
		}
		if err := l.engine.Update(ctx, view); err != nil {
			return nil, err
		}
		l.alpha = alpha
	}
	list := make([]Answer, len(l.opt.Prompts)*l.opt.Samples)
	items := make([]reward.Item, len(list))
	done := make(chan struct{}, len(list))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(2 * batch)
	for i := range list {
		group.Go(func() error {
			x := &list[i]
			x.Prompt, x.Sample = i/l.opt.Samples, i%l.opt.Samples
			p := l.opt.Prompts[x.Prompt]
			messages := []chat.Message{{Role: "user", Content: p.Text}}
			r := generate.Request{Messages: messages, MaxTokens: notes.MaxTokens, Sampling: Sampling()}
			r.Seed, r.Sample = l.opt.Seed, i
			var err error
			if x.Response, err = l.engine.Generate(gctx, r); err != nil {
				return fmt.Errorf("demo: α %g, prompt %d: %w", alpha, x.Prompt+1, err)
			}
			x.Companions = reward.Measure(x.Response)
			x.Rule = notes.Score(p, x.Response.Text)
			items[i] = reward.Item{Messages: messages, Response: x.Response.Text, Ended: x.Finished}
			if done <- struct{}{}; l.opt.Progress != nil {
				l.opt.Progress(len(done), len(list))
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if l.judge == nil {
		return list, nil
	}
	scores, err := l.judge.Score(ctx, items)
	if err != nil {
		return nil, err
	}
	for i, s := range scores {
		list[i].Reward = s
	}
	return list, nil
}

// Score is what a search wants to know of the answers at an α: the reward, and
// beside it, as the task "rule", what the rule says.
func Score(list []Answer) search.Score {
	s := search.Score{Tasks: map[string][]float64{}}
	for _, x := range list {
		s.Samples = append(s.Samples, search.Sample{
			Prompt: x.Prompt, Reward: x.Reward, Length: float64(x.Characters), Finished: x.Finished, Repetition: x.Repetition,
		})
		s.Tasks["rule"] = append(s.Tasks["rule"], x.Rule)
	}
	return s
}
