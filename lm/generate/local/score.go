package local

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"expo/lm/generate"
)

// Score computes log-likelihoods. Continuations whose tokens are the same up to
// the last are computed once, as are contexts that begin alike.
func (e *Engine) Score(ctx context.Context, cs []generate.Continuation) ([]generate.Likelihood, error) {
	out := make([]generate.Likelihood, len(cs))
	tops := make([][]bool, len(cs))
	byFeed := make(map[string]*sequence)
	var all []*sequence
	for i, c := range cs {
		before, ids, err := e.split(c)
		if err != nil {
			return nil, fmt.Errorf("local: continuation %d: %w", i, err)
		}
		out[i] = generate.Likelihood{TokenIDs: ids, TokenLogprobs: make([]float64, len(ids))}
		tops[i] = make([]bool, len(ids))
		feed := append(append([]int(nil), before...), ids[:len(ids)-1]...)
		feed = feed[max(0, len(feed)-e.opt.ContextLength):]
		if err := e.Fits(len(feed), 0); err != nil {
			return nil, err
		}
		key := keyOf(feed)
		s := byFeed[key]
		if s == nil {
			s = &sequence{tokens: feed, prompt: len(feed), engine: e, targets: map[int][]target{}, news: make(chan struct{}, 1)}
			byFeed[key] = s
			all = append(all, s)
		}
		for k, id := range ids {
			tops[i][k] = true
			at := len(feed) - len(ids) + k
			s.targets[at] = append(s.targets[at], target{id, &out[i].TokenLogprobs[k], &tops[i][k]})
		}
	}
	// Neighbours in this order share the longest prefixes.
	slices.SortStableFunc(all, func(a, b *sequence) int { return slices.Compare(a.tokens, b.tokens) })
	e.queue(all...)
	for i, s := range all {
		if err := e.wait(ctx, s, s.finished); err != nil {
			for _, s := range all[i:] {
				e.abandon(s)
			}
			return nil, err
		}
	}
	for i := range out {
		l := &out[i]
		l.IsGreedy = true
		for k, lp := range l.TokenLogprobs {
			l.Logprob += lp
			l.IsGreedy = l.IsGreedy && tops[i][k]
		}
	}
	return out, nil
}

// Scorable says why Score would refuse a continuation for what it is, or nil.
func (e *Engine) Scorable(c generate.Continuation) error {
	_, _, err := e.split(c)
	if err != nil {
		return fmt.Errorf("local: %w", err)
	}
	return nil
}

// Logits computes the logits after every token of ids, (vocab_size) each, and
// gives them to f with the token's index: from several goroutines, in no order,
// valid until f returns, and again, the same, if a step has to be repeated.
// Nothing calls f once Logits has returned.
func (e *Engine) Logits(ctx context.Context, ids []int, f func(i int, logits []float32)) error {
	switch n := len(ids); {
	case n == 0:
		return fmt.Errorf("local: logits of nothing (%w)", generate.ErrRequest)
	case n > e.opt.ContextLength:
		return fmt.Errorf("local: the text has %d tokens, the context %d (%w)", n, e.opt.ContextLength, ErrTooLong)
	}
	if err := e.Fits(len(ids), 0); err != nil {
		return err
	}
	s := &sequence{tokens: slices.Clone(ids), prompt: len(ids), engine: e, each: f, next: -1, news: make(chan struct{}, 1)}
	e.queue(s)
	return e.wait(ctx, s, s.finished)
}

// split finds where the continuation begins: white space at the end of the
// context belongs to it, and its tokens are what the whole text has beyond as
// many as the context alone has.
func (e *Engine) split(c generate.Continuation) (before, ids []int, err error) {
	switch {
	case c.ContextTokens == nil && c.Tokens == nil:
		before, ids = e.splitText(c.Context, c.Text)
	default:
		if before = c.ContextTokens; before == nil && c.Context != "" {
			before = e.encode(c.Context, true)
		}
		if ids = c.Tokens; ids == nil {
			ids = e.tok.Encode(c.Text, false)
		}
	}
	if len(ids) == 0 {
		return nil, nil, errors.New("it has no tokens")
	}
	for _, list := range [][]int{before, ids} {
		for _, id := range list {
			if n := e.model.Config().VocabSize; id < 0 || id >= n {
				return nil, nil, fmt.Errorf("token id %d is not among the model's %d", id, n)
			}
		}
	}
	if len(ids) > e.opt.ContextLength {
		return nil, nil, fmt.Errorf("it has %d tokens, the context %d (%w)", len(ids), e.opt.ContextLength, ErrTooLong)
	}
	if len(before) > 0 {
		return before, ids, nil
	}
	// Something must come before the first token: what begins every text, or
	// the first token itself if it is that.
	prefix := e.tok.BOS()
	if prefix < 0 {
		prefix = e.tok.EOS()
	}
	switch {
	case prefix < 0:
		return nil, nil, errors.New("it needs a context: the tokenizer has neither a BOS nor an EOS token")
	case ids[0] == prefix && len(ids) > 1:
		return ids[:1], ids[1:], nil
	}
	return []int{prefix}, ids, nil
}

func (e *Engine) splitText(context, text string) (before, ids []int) {
	if context == "" {
		return nil, e.tok.Encode(text, false)
	}
	trimmed := strings.TrimRightFunc(context, pythonSpace)
	text = context[len(trimmed):] + text
	before = e.encode(trimmed, true)
	whole := e.encode(trimmed+text, true)
	if len(whole) <= len(before) {
		return before, nil
	}
	return before, whole[len(before):]
}

// pythonSpace is what Python's str.rstrip takes off.
func pythonSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1C && r <= 0x1F }

func keyOf(ids []int) string {
	b := make([]byte, 0, 4*len(ids))
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	return string(b)
}
