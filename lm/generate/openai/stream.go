package openai

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"expo/lm/generate"
)

// errStopped says that whoever reads a stream wants no more of it.
var errStopped = errors.New("stopped")

// Stream has a request answered piece by piece. It is tried again only as long
// as nothing has come.
func (f *Fleet) Stream(ctx context.Context, r generate.Request) iter.Seq2[generate.Delta, error] {
	return func(yield func(generate.Delta, error) bool) {
		if err := checkRequest(&r); err != nil {
			yield(generate.Delta{}, err)
			return
		}
		err := f.do(ctx, &r, func(ctx context.Context, s *server) (generate.Usage, error) {
			return f.stream(ctx, s, &r, func(d generate.Delta) bool { return yield(d, nil) })
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(generate.Delta{}, err)
		}
	}
}

// stream is one attempt: server-sent events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html), each with
// a piece of the answer, and [DONE] at the end.
func (f *Fleet) stream(ctx context.Context, s *server, r *generate.Request, yield func(generate.Delta) bool) (generate.Usage, error) {
	body, err := f.body(s, r, true)
	if err != nil {
		return generate.Usage{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(f.opt.Timeout, func() { cancel(fmt.Errorf("%w (%v)", errTimeout, f.opt.Timeout)) })
	defer quiet.Stop()
	start := time.Now()
	resp, err := f.send(ctx, s, http.MethodPost, endpoint(r), body)
	if err != nil {
		return generate.Usage{}, err
	}
	defer resp.Body.Close()
	a := assembly{request: r, start: start}
	fail := func(err error) (generate.Usage, error) {
		e := f.broken(ctx, s, resp, err)
		e.again = !a.begun
		return a.usage, e
	}
	if kind := mediaType(resp); kind != "text/event-stream" {
		return fail(fmt.Errorf("an answer of type %q, not a stream of events", clip(kind, 80)))
	}
	in := bufio.NewReader(io.LimitReader(resp.Body, maxReply))
	for {
		data, err := nextEvent(in)
		if err != nil {
			if errors.Is(err, io.EOF) && a.finished {
				break // some servers leave [DONE] out
			}
			return fail(fmt.Errorf("the stream broke off: %w", err))
		}
		quiet.Reset(f.opt.Timeout)
		if string(data) == "[DONE]" {
			break
		}
		var piece reply
		if err := json.Unmarshal(data, &piece); err != nil {
			return fail(fmt.Errorf("a piece of the stream is no JSON: %w", err))
		}
		if piece.Error != nil {
			e := f.gatewayError(s, resp, data, piece.Error)
			e.again, e.answered = e.again && !a.begun, true
			return a.usage, e
		}
		f.served(piece.Model)
		d, err := a.add(&piece)
		if err != nil {
			return fail(err)
		}
		if (d.Text != "" || len(d.Logprobs) > 0) && !yield(d) {
			return a.usage, errStopped
		}
	}
	if !a.finished {
		return fail(errors.New("the stream ended in the middle of the answer"))
	}
	if whole := a.whole(); !yield(generate.Delta{Response: &whole}) {
		return a.usage, errStopped
	}
	return a.usage, nil
}

// nextEvent is the data of the next event.
func nextEvent(in *bufio.Reader) ([]byte, error) {
	var data []byte
	some := false
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) && len(line) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case len(line) == 0 && some:
			return data, nil
		case bytes.HasPrefix(line, []byte("data:")):
			if some {
				data = append(data, '\n')
			}
			data = append(data, bytes.TrimPrefix(line[len("data:"):], []byte(" "))...)
			some = true
		}
	}
}

// assembly puts an answer together.
type assembly struct {
	request  *generate.Request
	start    time.Time
	first    time.Time
	begun    bool // something has been handed on
	finished bool

	text     strings.Builder
	tokens   []int
	logprobs []generate.TokenLogprob
	reason   generate.FinishReason
	usage    generate.Usage
}

func (a *assembly) add(piece *reply) (generate.Delta, error) {
	var d generate.Delta
	if piece.Usage != nil {
		a.usage = piece.Usage.usage()
	}
	if len(piece.Choices) == 0 {
		return d, nil
	}
	c := piece.Choices[0]
	switch {
	case c.Delta != nil && c.Delta.Content != nil:
		d.Text = string(*c.Delta.Content)
	case c.Delta != nil && c.Delta.Refusal != nil:
		d.Text = *c.Delta.Refusal
	case c.Text != nil:
		d.Text = *c.Text
	}
	if a.request.Logprobs || a.request.TopLogprobs > 0 {
		list, err := parseLogprobs(c.Logprobs)
		if err != nil {
			return d, err
		}
		number(list, c.TokenIDs)
		d.Logprobs = list
	}
	d.Tokens = c.TokenIDs
	if d.Text != "" && a.first.IsZero() {
		a.first = time.Now()
	}
	a.begun = a.begun || d.Text != "" || len(d.Logprobs) > 0
	a.text.WriteString(d.Text)
	a.tokens = append(a.tokens, d.Tokens...)
	a.logprobs = append(a.logprobs, d.Logprobs...)
	if c.FinishReason != nil && *c.FinishReason != "" {
		a.reason, a.finished = finish(c.FinishReason), true
	}
	return d, nil
}

func (a *assembly) whole() generate.Response {
	end := time.Now()
	if a.first.IsZero() {
		a.first = end
	}
	return generate.Response{
		Text: a.text.String(), Tokens: a.tokens, FinishReason: a.reason, Logprobs: a.logprobs, Usage: a.usage, Prompt: a.request.Prompt,
		Timings: generate.Timings{PromptSeconds: a.first.Sub(a.start).Seconds(), CompletionSeconds: end.Sub(a.first).Seconds()},
	}
}
