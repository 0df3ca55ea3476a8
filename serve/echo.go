package serve

import (
	"context"
	"errors"

	"expo/lm/generate"
	"expo/lm/generate/local"
)

// echo makes the first piece of an answer that begins with its prompt. With
// log-probabilities the prompt is read once, here, for all its positions; an
// answer of no token or one, which is how evaluation harnesses ask for
// likelihoods, is then finished as well.
func (s *Server) echo(ctx context.Context, e *local.Engine, q *question) (piece, bool, error) {
	r := &q.request
	var p piece
	ended := func(tokens []int, text string, reason generate.FinishReason) {
		p.delta.Tokens, p.delta.Text = tokens, text
		p.delta.Response = &generate.Response{Text: text, Tokens: tokens, FinishReason: reason, Logprobs: p.delta.Logprobs,
			Usage: generate.Usage{PromptTokens: len(r.Tokens), CompletionTokens: len(tokens)}}
	}
	if !r.Logprobs {
		if q.none {
			ended(nil, "", generate.Length)
		}
		return p, q.none, nil
	}
	sp := speller{e}
	p.prompt = make([]generate.TokenLogprob, len(r.Tokens))
	var last []float32
	err := e.Logits(ctx, r.Tokens, func(i int, logits []float32) {
		if i == len(r.Tokens)-1 {
			last = append([]float32(nil), logits...)
			return
		}
		p.prompt[i+1] = logprobOf(sp, logits, r.Tokens[i+1], r.TopLogprobs)
	})
	if err != nil {
		return p, false, err
	}
	p.prompt[0] = generate.TokenLogprob{ID: r.Tokens[0], Token: sp.text(r.Tokens[0])}
	switch {
	case q.none:
		ended(nil, "", generate.Length)
	case r.MaxTokens == 1 && len(r.Stop) == 0 && r.Grammar == nil:
		raw := append([]float32(nil), last...)
		id := generate.NewSampler(r.Sampling, r.Tokens).Next(raw)
		if id < 0 {
			return p, false, errors.New("a logit is NaN")
		}
		p.delta.Logprobs = []generate.TokenLogprob{logprobOf(sp, last, id, r.TopLogprobs)}
		// Whether it ends the answer or the limit does, nothing follows.
		ended([]int{id}, e.AnswerPieces(r.Tokens, []int{id})[0], generate.Length)
	default:
		return p, false, nil
	}
	return p, true, nil
}

// logprobOf is log softmax of the logits at id, and at the best top of them.
func logprobOf(sp speller, logits []float32, id, top int) generate.TokenLogprob {
	all := generate.LogSumExp(logits)
	at := func(id int) generate.TokenLogprob {
		return generate.TokenLogprob{ID: id, Token: sp.text(id), Logprob: float64(logits[id]) - all}
	}
	out := at(id)
	for _, id := range generate.Top(logits, top) {
		out.Top = append(out.Top, at(id))
	}
	return out
}
