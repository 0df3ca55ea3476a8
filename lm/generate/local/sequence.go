package local

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"time"

	"expo/lm/generate"
	"expo/lm/generate/grammar"
	"expo/lm/model"
)

// A sequence is a request on its way, or a text to be scored.
type sequence struct {
	tokens []int // prompt and answer; cache holds the first of them
	prompt int   // how many are the prompt's
	cache  *model.Cache
	cached int // tokens that came with the cache
	engine *Engine
	age    uint64 // its place in the order in which sequences were asked for
	limit  int    // tokens of an answer
	fixed  bool   // computed again it would be another: its memory stays its own
	pages  int    // what it has reserved; guarded by the Memory's mu
	begun  time.Time
	first  time.Time

	// For an answer:
	request  generate.Request
	text     string // the prompt's
	sampler  *generate.Sampler
	matcher  *grammar.Matcher // nil: the answer may have any form
	stops    stopper
	ends     map[int]bool
	decoder  *answerText
	answer   strings.Builder
	next     int  // what the last step sampled, -1 before
	stuck    bool // it could sample nothing
	logprob  generate.TokenLogprob
	logprobs []generate.TokenLogprob
	dropped  int

	// For a score: what is asked after each token, by its index.
	targets map[int][]target

	// For logits: who is given those after every token, and of how many it has
	// been.
	each func(i int, logits []float32)
	told int

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
		decoder: e.textOf(&r, ids),
		next:    -1,
		news:    make(chan struct{}, 1),
	}
	if r.MaxTokens > 0 {
		s.limit = min(s.limit, r.MaxTokens)
	} else if c := e.Capacity(); c > 0 {
		s.limit = max(1, min(s.limit, c-len(ids)))
	}
	if err := e.Fits(len(ids), s.limit); err != nil {
		return nil, err
	}
	if !r.IgnoreEOS {
		for id := range e.eos {
			s.ends[id] = true
		}
	}
	for _, id := range r.StopTokenIDs {
		s.ends[id] = true
	}
	if r.Grammar != nil {
		s.matcher = r.Grammar.Matcher(e.vocabulary())
	}
	e.queue(s)
	return s, nil
}

func (e *Engine) queue(ss ...*sequence) {
	for _, s := range ss {
		s.fixed = e.model.FeedWhole(s.most())
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.memory.asked(ss)
	e.arrived = append(e.arrived, ss...)
}

// most is how many tokens the cache may come to hold: what is sampled last is
// never read.
func (s *sequence) most() int {
	if s.scoring() {
		return len(s.tokens)
	}
	return s.prompt + s.limit - 1
}

// scoring tells what is only read from answers.
func (s *sequence) scoring() bool { return s.targets != nil || s.each != nil }

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
	if s.each != nil {
		return 0
	}
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
	if s.each != nil {
		for i := max(0, s.told-from); i < n; i++ {
			st.Want = append(st.Want, i)
		}
		st.Logits = func(i int, logits []float32) { s.each(from+i, logits) }
		return st
	}
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
	choose := func(logits []float32) {
		if s.matcher != nil && !s.constrain(logits) {
			s.stuck = true
			return
		}
		s.next = s.sampler.Next(logits)
	}
	if !r.Logprobs && r.TopLogprobs == 0 {
		choose(logits)
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
	choose(raw)
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
		if s.matcher != nil {
			s.matcher.Accept(id)
		}
		if d.Text, found = s.stops.add(s.decoder.push(id)); found {
			reason = generate.Stop
		} else if s.matcher != nil && s.matcher.Finished() {
			reason = generate.Stop // there is nothing that an end token would tell
			d.Text += s.flush(&reason)
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
	text, found := s.stops.add(s.decoder.flush())
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
