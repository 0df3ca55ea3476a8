package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"expo/lm/generate"
)

const (
	// maxReply bounds what is read of an answer. The longest real ones are
	// those with the log-probabilities of a long prompt.
	maxReply = 64 << 20
	// maxFailure bounds what is read of an answer that is an error.
	maxFailure = 64 << 10
	// greetTimeout bounds the wait for a list of models.
	greetTimeout = 30 * time.Second
)

var errTimeout = errors.New("no answer in time")

// do has a request answered by send, which may be called several times: it
// waits for its turn, keeps within the budget, and counts.
func (f *Fleet) do(ctx context.Context, r *generate.Request, send func(context.Context, *server) (generate.Usage, error)) error {
	select {
	case f.jobs <- struct{}{}:
		defer func() { <-f.jobs }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	estimate := f.opt.Price.Estimate(*r)
	if err := f.opt.Budget.reserve(ctx, estimate.Cost); err != nil {
		return err
	}
	var used generate.Usage
	lost := 0 // attempts that failed and may be charged all the same
	err := f.attempts(ctx, func(ctx context.Context, s *server) error {
		var err error
		used, err = send(ctx, s)
		var e *Error
		if errors.As(err, &e) && (e.answered || errors.Is(err, errTimeout)) {
			lost++
		}
		return err
	})
	cost := float64(lost) * estimate.Cost
	if err == nil || errors.Is(err, errStopped) {
		if used.PromptTokens+used.CompletionTokens > 0 {
			cost += f.opt.Price.Of(used.PromptTokens, used.CompletionTokens)
		} else {
			cost += estimate.Cost
		}
	}
	f.opt.Budget.settle(estimate.Cost, cost)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.Cost += cost
	if err == nil {
		f.stats.Requests++
		f.stats.PromptTokens += used.PromptTokens
		f.stats.CompletionTokens += used.CompletionTokens
	}
	return err
}

// attempts calls send with one server after another until it succeeds, fails
// for good, or has failed too often.
func (f *Fleet) attempts(ctx context.Context, send func(context.Context, *server) error) error {
	patience := f.opt.Patience
	var failed *server
	for n := 1; ; n++ {
		s, err := f.pick(ctx, failed, &patience)
		if err != nil {
			return err
		}
		started := time.Now()
		if err = f.greet(ctx, s); err == nil {
			err = send(ctx, s)
		}
		f.release(s, started, err)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var e *Error
		if !errors.As(err, &e) {
			return err
		}
		elsewhere := !e.again && f.giveUp(s, e)
		switch {
		case elsewhere:
			n-- // each server is given up once
		case !e.again:
			return err
		case n == f.opt.Attempts:
			return fmt.Errorf("%w; gave up after %d attempts", err, n)
		}
		failed = s
		wait := max(f.backoff(n), e.retryAfter)
		if elsewhere || e.atOnce || f.others(s) {
			wait = 0
		}
		if wait > max(patience, 0) {
			return fmt.Errorf("%w; it would be %v until the next attempt", err, wait.Round(time.Second))
		}
		patience -= wait
		f.mu.Lock()
		f.stats.Retries++
		f.mu.Unlock()
		if f.opt.OnRetry != nil {
			f.opt.OnRetry(err, wait)
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// post sends a body and decodes the answer.
func (f *Fleet) post(ctx context.Context, s *server, path string, body []byte, into any) error {
	return f.exchange(ctx, s, http.MethodPost, path, body, f.opt.Timeout, into)
}

func (f *Fleet) get(ctx context.Context, s *server, path string, into any) error {
	if err := f.aside(s); err != nil {
		return err // found out while this request waited for its turn to greet
	}
	return f.exchange(ctx, s, http.MethodGet, path, nil, min(greetTimeout, f.opt.Timeout), into)
}

func (f *Fleet) exchange(ctx context.Context, s *server, method, path string, body []byte, timeout time.Duration, into any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w (%v)", errTimeout, timeout))
	defer cancel()
	resp, err := f.send(ctx, s, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		return f.broken(ctx, s, resp, err)
	}
	if len(b) > maxReply {
		return &Error{Server: s.name(), Status: resp.StatusCode, Err: fmt.Errorf("an answer of more than %d MB", maxReply>>20), answered: true}
	}
	if err := json.Unmarshal(b, into); err != nil {
		e := f.broken(ctx, s, resp, fmt.Errorf("an answer that is no JSON: %w", err))
		if kind := mediaType(resp); kind != "application/json" {
			e.Err = fmt.Errorf("an answer of type %q, not JSON; is this the address of the API?", clip(kind, 80))
		}
		return e
	}
	// Gateways report failures of what is behind them in an answer of status 200.
	if r, ok := into.(*reply); ok && r.Error != nil && len(r.Choices) == 0 {
		return f.gatewayError(s, resp, b, r.Error)
	}
	return nil
}

// gatewayError is the error in an answer that claims to be none. Its code is
// often the status that it should have had.
func (f *Fleet) gatewayError(s *server, resp *http.Response, body []byte, r *errorReply) *Error {
	e := f.failure(s, resp, body)
	e.again = true
	if code, ok := r.Code.(float64); ok && code >= 400 && code < 600 {
		resp := *resp
		resp.StatusCode = int(code)
		e = f.failure(s, &resp, body)
	}
	e.again = e.again && !e.quota()
	return e
}

// send sends a request and returns an answer of status 200, whose body is the
// caller's to close.
func (f *Fleet) send(ctx context.Context, s *server, method, path string, body []byte) (*http.Response, error) {
	var rd io.Reader
	if body != nil {
		rd = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.url.JoinPath(path).String(), rd)
	if err != nil {
		return nil, fmt.Errorf("openai: %s: a request cannot be made for this address", s.name())
	}
	req.Header.Set("Accept", "application/json, text/event-stream;q=0.9")
	req.Header.Set("User-Agent", "expo")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if f.opt.APIKey != "" {
		req.Header.Set("Authorization", "Bearer "+f.opt.APIKey)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, f.broken(ctx, s, nil, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxFailure)) // the status is what matters
	e := f.failure(s, resp, b)
	if e.Status == 400 && strings.Contains(e.Message, "max_completion_tokens") && s.completionTokens.CompareAndSwap(false, true) {
		e.again, e.atOnce = true, true
	}
	return nil, e
}

// broken is the error of an attempt that did not come to its end.
func (f *Fleet) broken(ctx context.Context, s *server, resp *http.Response, err error) *Error {
	e := &Error{Server: s.name(), retryAfter: -1, again: true, answered: resp != nil}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // it would repeat the URL, with the query
	}
	if cause := context.Cause(ctx); errors.Is(cause, errTimeout) {
		err = cause
	}
	e.Err = err
	return e
}
