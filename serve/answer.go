package serve

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"sync"
	"time"

	"expo/lm/generate"
	"expo/lm/generate/local"
)

// A question is a prompt of a request, ready to be computed.
type question struct {
	request generate.Request // has Tokens
	text    string           // what the tokens stand for
	echo    bool             // the prompt is part of the answer
	none    bool             // there is nothing but the prompt: max_tokens is 0
}

// A piece is what has been added to an answer.
type piece struct {
	index int // sample index, question by question
	delta generate.Delta
	// prompt are the prompt's tokens, in the first piece of an answer that
	// echoes them with log-probabilities.
	prompt []generate.TokenLogprob
}

// begin reads a request for answers, notes it in the log, and prepares what parse
// makes of its body.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, parse func(*body) ([]generate.Request, error)) (b *body, name modelName, qs []question, err error) {
	if b, err = readBody(r); err != nil {
		return nil, name, nil, err
	}
	e := entryOf(w)
	e.noteBody(b)
	rs, err := parse(b)
	if err != nil {
		return nil, name, nil, err
	}
	if name, err = s.parseName(b.Model); err != nil {
		return nil, name, nil, err
	}
	e.model = name
	qs, err = s.prepare(r.Context(), b, name, rs)
	return b, name, qs, err
}

// prepare turns requests into questions: text into tokens, and limits applied.
func (s *Server) prepare(ctx context.Context, b *body, name modelName, rs []generate.Request) ([]question, error) {
	ref := s.reference(name)
	limit := s.context(ref)
	vocabulary := ref.Model().Config().VocabSize
	out := make([]question, len(rs))
	for i, r := range rs {
		ids, text, err := ref.Prompt(ctx, r)
		if err != nil {
			return nil, err
		}
		if b.TruncatePrompt != nil {
			n := *b.TruncatePrompt
			if n == -1 {
				n = limit - max(1, r.MaxTokens)
			}
			if n < 1 {
				return nil, badField("truncate_prompt_tokens", "truncate_prompt_tokens is %d, want -1 or at least 1", *b.TruncatePrompt)
			}
			ids = ids[max(0, len(ids)-n):]
		}
		for _, id := range ids {
			if id < 0 || id >= vocabulary {
				return nil, badField("prompt", "token id %d is not among the model's %d", id, vocabulary)
			}
		}
		param := "prompt"
		if r.Messages != nil {
			param = "messages"
		}
		none := b.Echo && r.MaxTokens == 0 && (b.MaxTokens != nil || b.MaxCompletionTokens != nil)
		switch {
		case len(ids) == 0:
			return nil, badField("prompt", "the prompt is empty")
		case len(ids) > limit || len(ids) == limit && !none:
			return nil, &apiError{status: 400, code: "context_length_exceeded", param: param,
				message: fmt.Sprintf("the prompt has %d tokens, which leaves no room for an answer in a context of %d", len(ids), limit)}
		}
		r.NewText = r.Messages != nil && !r.ContinueFinal
		r.Messages, r.Prompt, r.Tokens, r.ContinueFinal, r.Tools, r.TemplateVars = nil, "", ids, false, nil, nil
		room := limit - len(ids)
		if c := ref.Capacity(); c > 0 && r.MaxTokens == 0 {
			room = max(0, min(room, c-len(ids)))
		}
		if r.MaxTokens == 0 || r.MaxTokens > room {
			r.MaxTokens = room
		}
		if err := ref.Fits(len(ids), max(r.MaxTokens, 1)); err != nil {
			return nil, err
		}
		out[i] = question{request: r, text: text, echo: b.Echo, none: none}
	}
	return out, nil
}

// answer computes n answers to each question and gives their pieces as they
// come; whole answers, a piece each, unless stream is set. After an error there
// is nothing more.
func (s *Server) answer(ctx context.Context, e *entry, name modelName, qs []question, n int, stream bool) iter.Seq2[piece, error] {
	return func(yield func(piece, error) bool) {
		if most := s.limits.Queue + s.limits.Concurrent; n*len(qs) > most {
			yield(piece{}, badField("n", "%d answers in one request, and this server takes %d at a time", n*len(qs), most))
			return
		}
		tickets, err := s.scheduler.enqueue(e.client, name, n*len(qs))
		if err != nil {
			yield(piece{}, err)
			return
		}
		request := ctx
		ctx, cancel := context.WithCancel(ctx)
		// Of a request that has been ended, why it was.
		cause := func(err error) error {
			if why := context.Cause(request); why != nil {
				return why
			}
			return err
		}
		type result struct {
			p   piece
			err error
			end bool
		}
		results := make(chan result)
		send := func(r result) bool {
			select {
			case results <- r:
				return true
			case <-ctx.Done():
				return false
			}
		}
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		for i, t := range tickets {
			wg.Go(func() {
				defer s.scheduler.release(t)
				q := qs[i/n]
				q.request.Sample = i % n
				for p, err := range s.one(ctx, t, q, stream) {
					p.index = i
					if !send(result{p: p, err: err}) {
						return
					}
				}
				send(result{end: true})
			})
		}
		for left := len(tickets); left > 0; {
			select {
			case r := <-results:
				switch {
				case r.end:
					left--
				case r.err != nil:
					yield(piece{}, cause(r.err))
					return
				case !yield(r.p, nil):
					return
				}
			case <-ctx.Done():
				yield(piece{}, cause(ctx.Err()))
				return
			}
		}
	}
}

// one computes one answer.
func (s *Server) one(ctx context.Context, t *ticket, q question, stream bool) iter.Seq2[piece, error] {
	return func(yield func(piece, error) bool) {
		engine, err := s.scheduler.wait(ctx, t)
		if err != nil {
			yield(piece{}, err)
			return
		}
		s.metrics.queued.observe(t.waited.Seconds())
		s.scheduler.charge(t, len(q.request.Tokens), 0)
		started := time.Now()
		if q.echo {
			first, done, err := s.echo(ctx, engine, &q)
			if err != nil {
				yield(piece{}, err)
				return
			}
			if done {
				s.metrics.first.observe(time.Since(started).Seconds())
			}
			if !yield(first, nil) || done {
				return
			}
		}
		for d, err := range pieces(ctx, engine, q.request, stream) {
			if err != nil {
				yield(piece{}, err)
				return
			}
			if len(d.Tokens) > 0 && !started.IsZero() {
				wait := time.Since(started)
				if d.Response != nil {
					wait = time.Duration(d.Response.Timings.PromptSeconds * float64(time.Second))
				}
				s.metrics.first.observe((t.waited + wait).Seconds())
				started = time.Time{}
			}
			s.scheduler.charge(t, 0, len(d.Tokens))
			if !yield(piece{delta: d}, nil) {
				return
			}
		}
	}
}

// pieces is what the engine gives, or all at once.
func pieces(ctx context.Context, e *local.Engine, r generate.Request, stream bool) iter.Seq2[generate.Delta, error] {
	if stream {
		return e.Stream(ctx, r)
	}
	return func(yield func(generate.Delta, error) bool) {
		resp, err := e.Generate(ctx, r)
		if err != nil {
			yield(generate.Delta{}, err)
			return
		}
		yield(generate.Delta{Text: resp.Text, Tokens: resp.Tokens, Logprobs: resp.Logprobs, Response: &resp}, nil)
	}
}
