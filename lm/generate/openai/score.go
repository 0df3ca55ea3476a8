package openai

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/sync/errgroup"

	"expo/lm/generate"
)

// Score computes log-likelihoods by having the completions endpoint repeat the
// prompt, which vLLM, SGLang and llama-cpp-python do; others give an error that
// wraps ErrUnsupported.
//
// Where a continuation begins follows EleutherAI's lm-evaluation-harness
// (https://github.com/EleutherAI/lm-evaluation-harness, api/model.py): white
// space at the end of the context belongs to it, and its tokens are those of
// the whole beyond as many as the context alone has. Without Options.Encode
// the server is asked how many that are, once for each context, and an empty
// context is possible only where the server puts a token before the text.
func (f *Fleet) Score(ctx context.Context, cs []generate.Continuation) ([]generate.Likelihood, error) {
	out := make([]generate.Likelihood, len(cs))
	lengths := &lengths{known: map[string]*length{}}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(f.opt.Jobs)
	for i, c := range cs {
		g.Go(func() error {
			l, err := f.scoreOne(ctx, c, lengths)
			if err != nil {
				return fmt.Errorf("continuation %d: %w", i, err)
			}
			out[i] = l
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}

// lengths are the numbers of tokens of contexts.
type lengths struct {
	mu    sync.Mutex
	known map[string]*length
}

type length struct {
	once sync.Once
	n    int
	err  error
}

func (l *lengths) of(text string, count func() (int, error)) (int, error) {
	l.mu.Lock()
	e := l.known[text]
	if e == nil {
		e = &length{}
		l.known[text] = e
	}
	l.mu.Unlock()
	e.once.Do(func() { e.n, e.err = count() })
	return e.n, e.err
}

func (f *Fleet) scoreOne(ctx context.Context, c generate.Continuation, lengths *lengths) (generate.Likelihood, error) {
	before, ids, err := f.split(c)
	if err != nil {
		return generate.Likelihood{}, err
	}
	if ids != nil {
		whole := slices.Concat(before, ids)
		e, err := f.echo(ctx, generate.Request{Tokens: whole})
		if err != nil {
			return generate.Likelihood{}, err
		}
		if e.prompt != len(whole) {
			return generate.Likelihood{}, fmt.Errorf("openai: the server counts %d tokens of a prompt of %d ids: %w", e.prompt, len(whole), ErrUnsupported)
		}
		l, err := e.likelihood(len(before))
		l.TokenIDs = ids
		return l, err
	}
	prefix := strings.TrimRightFunc(c.Context, pythonSpace)
	text := c.Context[len(prefix):] + c.Text
	if text == "" {
		return generate.Likelihood{}, bad("an empty continuation")
	}
	e, err := f.echo(ctx, generate.Request{Prompt: prefix + text})
	if err != nil {
		return generate.Likelihood{}, err
	}
	if prefix == "" {
		if !e.prefixed() {
			return generate.Likelihood{}, bad("the first token of a text has no probability; give a context")
		}
		return e.likelihood(1)
	}
	n, err := lengths.of(prefix, func() (int, error) {
		e, err := f.echo(ctx, generate.Request{Prompt: prefix})
		return e.prompt, err
	})
	if err != nil {
		return generate.Likelihood{}, err
	}
	return e.likelihood(n)
}

// split gives the token IDs where they are known; nil if not.
func (f *Fleet) split(c generate.Continuation) (before, ids []int, err error) {
	encode := f.opt.Encode
	switch {
	case c.ContextTokens != nil && c.Tokens != nil:
		before, ids = c.ContextTokens, c.Tokens
	case encode == nil && c.ContextTokens == nil && c.Tokens == nil:
		return nil, nil, nil
	case encode == nil:
		return nil, nil, bad("a text and token ids cannot be joined without a tokenizer")
	case c.Tokens != nil:
		before, ids = encode(c.Context, true), c.Tokens
	case c.ContextTokens != nil:
		before, ids = c.ContextTokens, encode(c.Text, false)
	default:
		prefix := strings.TrimRightFunc(c.Context, pythonSpace)
		text := c.Context[len(prefix):] + c.Text
		before = encode(prefix, true)
		if prefix == "" {
			ids = encode(text, false)
		} else if whole := encode(prefix+text, true); len(whole) > len(before) {
			ids = whole[len(before):]
		}
	}
	switch {
	case len(ids) == 0:
		return nil, nil, bad("an empty continuation")
	case len(before) == 0:
		return nil, nil, bad("the first token of a text has no probability; give a context")
	}
	return before, ids, nil
}

// pythonSpace is what Python's str.rstrip takes off.
func pythonSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1C && r <= 0x1F }

// echoed is a prompt as a server read it. prompt is its number of tokens.
type echoed struct {
	prompt   int
	tokens   []string
	ids      []int
	logprobs []*float64
	tops     []map[string]json.RawMessage
}

// echo has a prompt repeated, with one token more, which not all servers can
// be kept from making.
func (f *Fleet) echo(ctx context.Context, r generate.Request) (echoed, error) {
	var out echoed
	r.MaxTokens, r.Logprobs = 1, true
	err := f.do(ctx, &r, func(ctx context.Context, s *server) (generate.Usage, error) {
		w, err := newWire(s, &r)
		if err != nil {
			return generate.Usage{}, err
		}
		w.Echo = true
		b, err := f.encode(w)
		if err != nil {
			return generate.Usage{}, err
		}
		var got struct {
			reply
			Choices []struct {
				Text           string        `json:"text"`
				Logprobs       *logprobsJSON `json:"logprobs"`
				PromptTokenIDs []int         `json:"prompt_token_ids"`
			} `json:"choices"`
		}
		if err := f.post(ctx, s, "completions", b, &got); err != nil {
			return generate.Usage{}, err
		}
		used := got.Usage.usage()
		unsupported := func(why string) error {
			return &Error{Server: s.name(), retryAfter: -1, answered: true, Err: fmt.Errorf("%s: %w", why, ErrUnsupported)}
		}
		if len(got.Choices) == 0 || got.Choices[0].Logprobs == nil {
			return used, unsupported("no log-probabilities of the prompt")
		}
		l := got.Choices[0].Logprobs
		out = echoed{tokens: l.Tokens, logprobs: l.TokenLogprobs, tops: l.TopLogprobs, ids: got.Choices[0].PromptTokenIDs}
		n := len(l.Tokens)
		if n != len(l.TokenLogprobs) || l.TopLogprobs != nil && n != len(l.TopLogprobs) {
			return used, unsupported(fmt.Sprintf("log-probabilities for %d of %d tokens", len(l.TokenLogprobs), n))
		}
		if out.prompt = n - 1; got.Usage != nil {
			out.prompt = n - used.CompletionTokens
		}
		switch missing := used.PromptTokens - out.prompt; {
		case got.Usage != nil && missing != 0 && missing != 1, out.prompt < 1: // one is a BOS that is not repeated
			return used, unsupported(fmt.Sprintf("log-probabilities for %d tokens of a prompt of %d", out.prompt, used.PromptTokens))
		case s.dialect == LlamaCPP && strings.TrimSpace(strings.Join(l.Tokens, "")) != strings.TrimSpace(got.Choices[0].Text):
			// It counts rows of logits from the first token that it repeats, so
			// all are a place too late, and one is missing, unless there was a
			// BOS token, which it does not repeat.
			return used, unsupported("llama-cpp-python gives each token the probability of the place behind it if the model has no BOS token")
		}
		return used, nil
	})
	return out, err
}

// prefixed reports whether the first token stands before the text, as BOS does.
func (e *echoed) prefixed() bool {
	if e.prompt < 2 || e.logprobs[0] != nil {
		return false
	}
	t := e.tokens[0]
	return t == "" || strings.HasPrefix(t, "<") && strings.HasSuffix(t, ">")
}

// likelihood is that of the tokens from begin to the end of the prompt.
func (e *echoed) likelihood(begin int) (generate.Likelihood, error) {
	l := generate.Likelihood{IsGreedy: true}
	if begin >= e.prompt {
		return l, bad("an empty continuation")
	}
	for i := begin; i < e.prompt; i++ {
		p := e.logprobs[i]
		if p == nil {
			return l, fmt.Errorf("openai: token %d of a prompt has no log-probability: %w", i, ErrUnsupported)
		}
		id := -1
		if i < len(e.ids) {
			id = e.ids[i]
		}
		l.Logprob += *p
		l.TokenLogprobs = append(l.TokenLogprobs, *p)
		l.TokenIDs = append(l.TokenIDs, id)
		if e.tops == nil {
			return l, fmt.Errorf("openai: which token is the likeliest is not told: %w", ErrUnsupported)
		}
		for _, t := range best(e.tops[i]) {
			l.IsGreedy = l.IsGreedy && t.Logprob <= *p
		}
	}
	return l, nil
}
