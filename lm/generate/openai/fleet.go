// Package openai lets servers answer that speak OpenAI's API: vLLM, SGLang,
// llama.cpp, Ollama, expo itself, OpenAI and its likes, one or several of them
// with the same model.
//
// Start at [New] and [Fleet]; a fleet is a generate.Streamer and a
// generate.Scorer. It promises that a request is answered once or fails with
// an error that says why: it bounds how much is asked at a time, balances
// servers by outstanding work, sets aside one that fails, waits as long as a
// server asks, tries again what can succeed another time, asks one no more that
// refuses the key as long as there is another, and stops before it spends more
// than allowed. A key that it is given appears in no error.
//
// The API is https://platform.openai.com/docs/api-reference; the fields beyond
// it are those of vLLM
// (https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html) and
// of llama.cpp's server, see [Dialect].
//
// It is built on net/http and not on OpenAI's client: a second try goes to
// another server than the first, which that client's own loop cannot do, and
// most of what the servers have in common beyond OpenAI's API is in no type of
// it.
package openai

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"expo/lm/generate"
)

var (
	_ generate.Streamer = (*Fleet)(nil)
	_ generate.Scorer   = (*Fleet)(nil)
)

// Options are what a fleet is made of. BaseURLs is needed; each of the others
// has a default for its zero value.
type Options struct {
	// BaseURLs are servers of the same model, such as http://localhost:8000/v1.
	// One without a path gets /v1.
	BaseURLs []string
	// Model is the name that the servers know the model by; empty if each
	// has a single one.
	Model string
	// APIKey goes to every server, in the header Authorization.
	APIKey string
	// Dialect says which fields the servers understand; Detect by default.
	Dialect Dialect
	// Omit are names of fields that are never sent, for models that refuse
	// them, Extra are fields that always are.
	Omit  []string
	Extra map[string]any

	// Jobs is how many requests are under way at once, 16 by default.
	Jobs int
	// Attempts is how often a request is sent before it fails, 8 by default.
	Attempts int
	// Timeout bounds an attempt from its first byte to its last, 10 minutes by
	// default; of a stream, the time between two of its pieces.
	Timeout time.Duration
	// Patience is how long a request waits in all for servers that are set
	// aside, 10 minutes by default.
	Patience time.Duration
	// Backoff is the wait after the first failure, a second by default. It
	// doubles with each further one, up to 64 times as long, and is shortened
	// at random by up to a half.
	Backoff time.Duration

	// Price is what tokens cost; the zero value is free. Budget, which several
	// fleets may share, bounds what is spent; nil is no limit.
	Price  Price
	Budget *Budget

	// Encode is the model's tokenizer, for Score: the IDs of a text, with the
	// special tokens that belong at its beginning if special is true. Without
	// it Score has the servers count tokens, at one more request a context.
	Encode func(text string, special bool) []int

	// OnRetry, if not nil, is told of every failure after which a request is
	// tried again. It may be called from many goroutines.
	OnRetry func(err error, wait time.Duration)
	// OnGiveUp, if not nil, is told of every server that is asked no more, and
	// why: a refused key, say. The last server is never given up. It may be
	// called from many goroutines.
	OnGiveUp func(err *Error)
	// Transport is http.DefaultTransport, with as many idle connections to a
	// server as there are Jobs, by default.
	Transport http.RoundTripper
}

// Fleet is servers that answer. Its methods may be called from any number of
// goroutines.
type Fleet struct {
	opt    Options
	client *http.Client
	jobs   chan struct{} // holds an element for each request under way

	mu      sync.Mutex
	servers []*server
	changed chan struct{} // closed and replaced when a server becomes free
	models  map[string]int
	stats   Stats
}

// New makes a fleet. It sends nothing yet.
func New(opt Options) (*Fleet, error) {
	if opt.Jobs <= 0 {
		opt.Jobs = 16
	}
	if opt.Attempts <= 0 {
		opt.Attempts = 8
	}
	setDefault(&opt.Timeout, 10*time.Minute)
	setDefault(&opt.Patience, 10*time.Minute)
	setDefault(&opt.Backoff, time.Second)
	if opt.Transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = opt.Jobs
		opt.Transport = t
	}
	f := &Fleet{
		opt:     opt,
		client:  &http.Client{Transport: opt.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		jobs:    make(chan struct{}, opt.Jobs),
		changed: make(chan struct{}),
		models:  map[string]int{},
	}
	var errs []error
	if len(opt.BaseURLs) == 0 {
		errs = append(errs, errors.New("no base URL"))
	}
	for _, s := range opt.BaseURLs {
		u, err := baseURL(s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		f.servers = append(f.servers, &server{url: u, dialect: opt.Dialect, model: opt.Model})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("openai: %w", err)
	}
	return f, nil
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

// baseURL reads a server's address. The query is kept, for gateways that want
// one with every request.
func baseURL(s string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil {
		// The error would quote what may hold a password.
		return nil, errors.New("a base URL cannot be read; want one like http://localhost:8000/v1")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("base URL %s: want one like http://localhost:8000/v1", u.Redacted())
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.Path = strings.TrimSuffix(u.Path, "/chat/completions")
	if u.Path == "" {
		u.Path = "/v1"
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// Generate has a request answered. Where the servers gave no log-probabilities
// although asked, Logprobs is nil; where they gave no token IDs, which only
// some do, Tokens is nil and the IDs of Logprobs are −1. An error that the
// request itself is to blame for wraps generate.ErrRequest.
func (f *Fleet) Generate(ctx context.Context, r generate.Request) (generate.Response, error) {
	var resp generate.Response
	if err := checkRequest(&r); err != nil {
		return resp, err
	}
	start := time.Now()
	err := f.do(ctx, &r, func(ctx context.Context, s *server) (generate.Usage, error) {
		b, err := f.body(s, &r, false)
		if err != nil {
			return generate.Usage{}, err
		}
		var reply reply
		if err := f.post(ctx, s, endpoint(&r), b, &reply); err != nil {
			return generate.Usage{}, err
		}
		if resp, err = reply.response(&r); err != nil {
			return resp.Usage, &Error{Server: s.name(), Err: err, retryAfter: -1, answered: true, again: true}
		}
		f.served(reply.Model)
		return resp.Usage, nil
	})
	if err != nil {
		return generate.Response{}, err
	}
	resp.Timings.CompletionSeconds = time.Since(start).Seconds()
	return resp, nil
}

func endpoint(r *generate.Request) string {
	if r.Messages != nil {
		return "chat/completions"
	}
	return "completions"
}

// Stats are counts of what a fleet has done.
type Stats struct {
	Requests int // that were answered
	Attempts int // HTTP requests for them, and for those that failed
	Retries  int // failed attempts that were tried again

	PromptTokens     int
	CompletionTokens int
	Cost             float64 // by Options.Price, the estimate where a server did not count
}

// Stats gives the counts up to now.
func (f *Fleet) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

// ReportedModels are the names that the servers gave in their answers to the
// model that answered, sorted: dated versions of what was asked for, say.
func (f *Fleet) ReportedModels() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.models))
}

func (f *Fleet) served(model string) {
	if model == "" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.models) < 100 { // a server may invent them
		f.models[model]++
	}
}
