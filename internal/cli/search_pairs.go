package cli

import (
	"context"
	"errors"
	"fmt"

	"expo/align/search"
	"expo/eval"
	"expo/lm/generate"
)

// scan looks along the line with preference pairs.
func (s *searchRun) scan(ctx context.Context) (*search.Scanned, error) {
	alphas := s.alphas
	bar := s.a.progress("scanning")
	defer bar.stop()
	done := int64(0)
	return search.Scan(ctx, s.likelihoods, search.ScanOptions{Alphas: alphas, Beta: s.flags.beta, Keep: s.flags.confirm, Measured: func(search.ScanRow) {
		done++
		bar.update(done, int64(len(alphas)+2))
	}})
}

// scoredPairs are the log-likelihoods of all pairs at an α in samples.jsonl.
type scoredPairs struct {
	Type  string                `json:"type"` // "pairs"
	Alpha float64               `json:"alpha"`
	Pairs []search.PairLogprobs `json:"pairs"`
}

// likelihoods scores the pairs at an α.
func (s *searchRun) likelihoods(ctx context.Context, alpha float64) ([]search.PairLogprobs, error) {
	var content []any
	for _, p := range s.pairs {
		content = append(content, p.prompt.content(), p.chosen, p.rejected)
	}
	key := eval.Key("pairs", s.line.identity(alpha), s.raw, s.flags.system, content)
	var old scoredPairs
	if found, err := s.log.Get(key, &old); err != nil || found {
		return old.Pairs, err
	}
	who, err := s.line.at(ctx, alpha)
	if err != nil {
		return nil, err
	}
	var cs []generate.Continuation
	for i, p := range s.pairs {
		for _, answer := range []string{p.chosen, p.rejected} {
			c, err := s.continuation(ctx, &p.prompt, answer, true)
			if err != nil {
				return nil, fmt.Errorf("pair %d: %w", i+1, err)
			}
			cs = append(cs, c)
		}
	}
	ls, err := scoreWith(ctx, who, cs)
	if err != nil {
		return nil, err
	}
	out := make([]search.PairLogprobs, len(s.pairs))
	for i := range out {
		w, l := ls[2*i], ls[2*i+1]
		out[i] = search.PairLogprobs{Chosen: w.Logprob, Rejected: l.Logprob, ChosenTokens: len(w.TokenIDs), RejectedTokens: len(l.TokenIDs)}
	}
	return out, s.log.Append(key, scoredPairs{"pairs", alpha, out})
}

func scoreWith(ctx context.Context, who generate.Generator, cs []generate.Continuation) ([]generate.Likelihood, error) {
	scorer, ok := who.(generate.Scorer)
	if !ok {
		return nil, errors.New("these models give no log-likelihoods")
	}
	return scorer.Score(ctx, cs)
}

// continuation is an answer after its prompt. In this process its tokens are
// those that the whole text has beyond what it shares with the prompt, and with
// ended the token that ends an answer, which is part of what preference training
// counts; servers are given text.
func (s *searchRun) continuation(ctx context.Context, p *searchPrompt, answer string, ended bool) (generate.Continuation, error) {
	l, here := s.line.(*localLine)
	if !here {
		if !s.raw {
			return generate.Continuation{}, errors.New("servers give log-likelihoods of plain text only: add --raw")
		}
		return generate.Continuation{Context: p.text, Text: answer}, nil
	}
	before, text, err := l.Prompt(ctx, s.ask(p))
	if err != nil {
		return generate.Continuation{}, err
	}
	whole := generate.Request{Prompt: text + answer, NoSpecial: !s.raw}
	all, _, err := l.Prompt(ctx, whole)
	if err != nil {
		return generate.Continuation{}, err
	}
	n := 0
	for n < len(before) && n < len(all)-1 && before[n] == all[n] {
		n++
	}
	tokens := append([]int(nil), all[n:]...)
	if eos := l.Tokenizer().EOS(); ended && eos >= 0 {
		tokens = append(tokens, eos)
	}
	return generate.Continuation{ContextTokens: all[:n:n], Tokens: tokens}, nil
}
