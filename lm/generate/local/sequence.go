package local

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"time"

	"expo/lm/generate"
	"expo/lm/model"
	"expo/lm/tokenizer"
)

// A sequence is a request on its way, or a text to be scored.
type sequence struct {
	tokens []int // prompt and answer; cache holds the first of them
	prompt int   // how many are the prompt's
	cache  *model.Cache
	cached int // tokens that came with the cache
	begun  time.Time
	first  time.Time

	// For an answer:
	request  generate.Request
	engine   *Engine
	text     string // the prompt's
	limit    int    // of tokens
	sampler  *generate.Sampler
	stops    stopper
	ends     map[int]bool
	stream   *tokenizer.Stream
	answer   strings.Builder
	next     int // what the last step sampled, -1 before
	logprob  generate.TokenLogprob
	logprobs []generate.TokenLogprob
	dropped  int

	// For a score: what is asked after each token, by its index.
	targets map[int][]target

	news     chan struct{}
	mu       sync.Mutex
	deltas   []generate.Delta
	done     bool
	err      error
	response generate.Response
}

// errNaN is a model's fault, as model.NonFiniteError is.
var errNaN = errors.New("local: a logit is NaN")

// start makes a sequence of a request and queues it.
func (e *Engine) start(ctx context.Context, r generate.Request) (*sequence, error) {
	ids, text, err := e.Prompt(ctx, r)
	if err != nil {
		return nil, err
	}
	ids, dropped, err := e.fit(ids, r)
	if err != nil {
		return nil, err
	}
	s := &sequence{
		tokens: append([]int(nil), ids...), prompt: len(ids),
		request: r, engine: e, text: text, dropped: dropped,
		limit:   e.opt.ContextLength - len(ids),
		sampler: generate.NewSampler(r.Sampling, ids),
		stops:   stopper{stops: r.Stop},
		ends:    map[int]bool{},
		stream:  e.tok.NewStream(true),
		next:    -1,
		news:    make(chan struct{}, 1),
	}
	if r.MaxTokens > 0 {
		s.limit = min(s.limit, r.MaxTokens)
	}
	if !r.IgnoreEOS {
		for id := range e.eos {
			s.ends[id] = true
		}
	}
	for _, id := range r.StopTokenIDs {
		s.ends[id] = true
	}
	e.queue(s)
	return s, nil
}

func (e *Engine) queue(ss ...*sequence) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.arrived = append(e.arrived, ss...)
}

// scoring tells the two kinds apart.
func (s *sequence) scoring() bool { return s.targets != nil }

// pending is how many tokens the cache lacks.
func (s *sequence) pending() int { return len(s.tokens) - s.held() }

func (s *sequence) held() int {
	if s.cache == nil {
		return 0
	}
	return s.cache.Len()
}

// sharable is how many of the first tokens may come from another's cache: those
// after which no logits are wanted.
func (s *sequence) sharable() int {
	n := len(s.tokens) - 1
	for i := range s.targets {
		n = min(n, i)
	}
	return n
}

// step is what is to be computed next, of at most n tokens.
func (s *sequence) step(n int) model.Step {
	from := s.held()
	st := model.Step{Cache: s.cache, Tokens: s.tokens[from : from+n]}
	if s.scoring() {
		for i := range n {
			if s.targets[from+i] != nil {
				st.Want = append(st.Want, i)
			}
		}
		st.Logits = func(i int, logits []float32) { score(s.targets[from+i], logits) }
		return st
	}
	if from+n == len(s.tokens) {
		st.Want = []int{n - 1}
		st.Logits = func(_ int, logits []float32) { s.sample(logits) }
	}
	return st
}

// sample chooses the next token. The log-probabilities are of the logits as
// they come. In a step that is repeated, since it failed for another sequence,
// the first choice stands.
func (s *sequence) sample(logits []float32) {
	if s.next >= 0 {
		return
	}
	r := &s.request
	if !r.Logprobs && r.TopLogprobs == 0 {
		s.next = s.sampler.Next(logits)
		return
	}
	all := generate.LogSumExp(logits)
	entry := func(id int) generate.TokenLogprob {
		return generate.TokenLogprob{ID: id, Token: s.engine.tok.Decode([]int{id}, false), Logprob: float64(logits[id]) - all}
	}
	var top []generate.TokenLogprob
	for _, id := range generate.Top(logits, r.TopLogprobs) {
		top = append(top, entry(id))
	}
	raw := append([]float32(nil), logits...)
	s.next = s.sampler.Next(raw)
	if s.next >= 0 {
		s.logprob = entry(s.next)
		s.logprob.Top = top
	}
}

// advance takes the token that a step has sampled, and reports whether the
// answer has ended.
func (s *sequence) advance(now time.Time) bool {
	id := s.next
	s.next = -1
	if s.first.IsZero() {
		s.first = now
	}
	s.tokens = append(s.tokens, id)
	d := generate.Delta{Tokens: []int{id}}
	if s.request.Logprobs || s.request.TopLogprobs > 0 {
		d.Logprobs = []generate.TokenLogprob{s.logprob}
		s.logprobs = append(s.logprobs, s.logprob)
	}
	reason := generate.FinishReason("")
	if s.ends[id] {
		reason = generate.Stop
		d.Text = s.flush(&reason)
	} else {
		var found bool
		if d.Text, found = s.stops.add(s.stream.Push(id)); found {
			reason = generate.Stop
		} else if len(s.tokens)-s.prompt >= s.limit {
			reason = generate.Length
			d.Text += s.flush(&reason)
		}
	}
	s.answer.WriteString(d.Text)
	if reason != "" {
		d.Response = s.finish(reason, now)
	}
	s.mu.Lock()
	s.deltas = append(s.deltas, d)
	s.done = s.done || reason != ""
	s.mu.Unlock()
	s.tell()
	return reason != ""
}

// flush gives the text that was held back; the bytes of an unfinished
// character in it may complete a stop string.
func (s *sequence) flush(reason *generate.FinishReason) string {
	text, found := s.stops.add(s.stream.Flush())
	if found {
		*reason = generate.Stop
		return text
	}
	return text + s.stops.rest()
}

func (s *sequence) finish(reason generate.FinishReason, now time.Time) *generate.Response {
	s.response = generate.Response{
		Text: s.answer.String(), Tokens: append([]int(nil), s.tokens[s.prompt:]...),
		FinishReason: reason, Logprobs: s.logprobs, Prompt: s.text,
		Usage: generate.Usage{
			PromptTokens: s.prompt, CompletionTokens: len(s.tokens) - s.prompt,
			CachedTokens: s.cached, TruncatedTokens: s.dropped,
		},
		Timings: generate.Timings{
			PromptSeconds: s.first.Sub(s.begun).Seconds(), CompletionSeconds: now.Sub(s.first).Seconds(),
		},
	}
	return &s.response
}

// end closes a sequence, with an error or as a score that is complete.
func (s *sequence) end(err error) {
	s.mu.Lock()
	s.done, s.err = true, err
	s.mu.Unlock()
	s.tell()
}

// tell wakes whoever waits.
func (s *sequence) tell() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

func (s *sequence) finished() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done
}

func (s *sequence) ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done || len(s.deltas) > 0
}

func (s *sequence) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *sequence) take() []generate.Delta {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.deltas
	s.deltas = nil
	return d
}

// A target is a token whose log-probability after some prefix is asked for.
type target struct {
	id  int
	out *float64
	top *bool // set to false unless the token is the likeliest
}

func score(ts []target, logits []float32) {
	all := generate.LogSumExp(logits)
	best := 0
	for i, v := range logits {
		if v > logits[best] {
			best = i
		}
	}
	for _, t := range ts {
		*t.out = math.NaN()
		if t.id < len(logits) {
			*t.out = float64(logits[t.id]) - all
		}
		if t.id != best {
			*t.top = false
		}
	}
}
