// Package local answers requests in this process, many at once.
//
// Start at [Open], or at [New] with a model, a tokenizer and a chat template
// from elsewhere. An [Engine] is a generate.Streamer and a generate.Scorer; its
// methods may be called from any number of goroutines, and what they ask for at
// the same time is computed together: prompts in pieces, answers token by
// token, a prefix that several requests share only once.
//
// Keys and values stay within [Options.Memory], which engines can share: answers
// wait for it in the order in which they were asked for, and one that has to give
// it up is computed again. An answer that is to have a form
// (generate.Request.Grammar) ends where the form is complete.
//
// The text of an answer is what the text of prompt and answer has more than that
// of the prompt, its first space included; an answer to messages is a text of its
// own.
//
// What comes out depends on the request alone, bit for bit, as package model
// and generate.Sampler promise. Nothing runs in the background: whoever waits
// for an answer computes, for everyone who waits.
//
// Scores follow the boundary rule of EleutherAI's lm-evaluation-harness
// (https://github.com/EleutherAI/lm-evaluation-harness, api/model.py), except
// that log-probabilities are float64 sums over the logits.
package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"expo/lm/chat"
	"expo/lm/generate"
	"expo/lm/generate/grammar"
	"expo/lm/model"
	"expo/lm/tokenizer"
	"expo/weights/checkpoint"
)

var (
	_ generate.Streamer = (*Engine)(nil)
	_ generate.Scorer   = (*Engine)(nil)
)

// Options are limits; each has a default for 0.
type Options struct {
	// MaxBatch is how many answers are computed at once, 16 by default.
	MaxBatch int
	// StepTokens is how many tokens are computed before every answer gets its
	// next one, 512 by default. It bounds how long a long prompt holds up
	// others.
	StepTokens int
	// KeepTokens is for how many tokens of finished sequences keys and values
	// are kept, in case another begins like them: 4096 by default, −1 for none.
	KeepTokens int
	// ContextLength is the most tokens of prompt and answer together; by
	// default what the model says.
	ContextLength int
	// Memory bounds the keys and values of this engine, or of several that
	// share it; nil: no bound. A request that would not fit into it alone is an
	// error, see [ErrMemory]; an answer without MaxTokens is cut where it ends.
	Memory *Memory
	// EOS are token IDs that end an answer besides those of the model's
	// configuration.
	EOS []int
}

// Engine is a model that answers.
type Engine struct {
	model *model.Model
	tok   *tokenizer.Tokenizer
	tmpl  *chat.Template // nil: none
	opt   Options
	eos   map[int]bool
	bos   string

	bytesOf func(id int) []byte // of tokens
	indexed sync.Once
	index   *grammar.Vocabulary // made when it is needed

	memory  *Memory
	turn    chan struct{} // holds an element while someone computes
	drivers atomic.Int64  // who wait, and so compute

	mu      sync.Mutex
	arrived []*sequence // asked for since the last step

	// What follows belongs to whoever has the turn, and is in the order in
	// which sequences were asked for.
	waiting []*sequence
	running []*sequence
}

// New makes an engine. tmpl may be nil, then requests cannot have messages.
// The engine does not close the model.
func New(m *model.Model, tok *tokenizer.Tokenizer, tmpl *chat.Template, opt Options) *Engine {
	if opt.MaxBatch <= 0 {
		opt.MaxBatch = 16
	}
	if opt.StepTokens <= 0 {
		opt.StepTokens = 512
	}
	// One prompt token at least goes with every step.
	opt.StepTokens = max(opt.StepTokens, opt.MaxBatch+1)
	if opt.KeepTokens == 0 {
		opt.KeepTokens = 4096
	}
	if opt.ContextLength <= 0 {
		opt.ContextLength = m.Config().MaxPositionEmbeddings
	}
	if opt.Memory == nil {
		opt.Memory = newMemory(m.KVMemory())
	}
	m.SetKVMemory(opt.Memory.kv)
	e := &Engine{model: m, tok: tok, tmpl: tmpl, opt: opt, eos: map[int]bool{}, memory: opt.Memory, turn: make(chan struct{}, 1)}
	for _, ids := range [][]int{m.Config().EOSTokenIDs, opt.EOS} {
		for _, id := range ids {
			e.eos[id] = true
		}
	}
	e.bos, _ = tok.Token(tok.BOS())
	e.bytesOf = tokenBytes(tok)
	return e
}

// WithTemplate is an engine with the same model, tokenizer and options, end tokens
// included, and another chat template. It shares nothing else with e.
func (e *Engine) WithTemplate(tmpl *chat.Template) *Engine {
	return New(e.model, e.tok, tmpl, e.opt)
}

// Open loads model, tokenizer and chat template of a checkpoint. The end
// tokens of generation_config.json count as well as those of config.json.
func Open(ctx context.Context, c *checkpoint.Checkpoint, load model.LoadOptions, opt Options) (*Engine, error) {
	tmpl, err := chat.Load(c.Files())
	if err != nil && !errors.Is(err, chat.ErrNoTemplate) {
		return nil, fmt.Errorf("%s: %w", c.Name(), err)
	}
	opt.EOS = append(opt.EOS[:len(opt.EOS):len(opt.EOS)], generationEOS(c.Files())...)
	// A large vocabulary takes as long as the weights of a small model.
	var tok *tokenizer.Tokenizer
	var m *model.Model
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if tok, err = tokenizer.Load(c.Files()); err != nil {
			err = fmt.Errorf("%s: %w", c.Name(), err)
		}
		return err
	})
	g.Go(func() (err error) {
		m, err = model.Load(gctx, c, load)
		return err
	})
	if err := g.Wait(); err != nil {
		if m != nil {
			m.Close()
		}
		return nil, err
	}
	return New(m, tok, tmpl, opt), nil
}

// generationEOS reads eos_token_id of generation_config.json, an ID or a list.
// A file that says nothing usable adds nothing.
func generationEOS(files fs.FS) []int {
	b, err := fs.ReadFile(files, "generation_config.json")
	if err != nil {
		return nil
	}
	var g struct {
		EOS json.RawMessage `json:"eos_token_id"`
	}
	if json.Unmarshal(b, &g) != nil {
		return nil
	}
	var one int
	if json.Unmarshal(g.EOS, &one) == nil {
		return []int{one}
	}
	var many []int
	if json.Unmarshal(g.EOS, &many) == nil {
		return many
	}
	return nil
}

// Model, Tokenizer and Template are what the engine was made of.
func (e *Engine) Model() *model.Model             { return e.model }
func (e *Engine) Tokenizer() *tokenizer.Tokenizer { return e.tok }
func (e *Engine) Template() *chat.Template        { return e.tmpl }

// ContextLength is the most tokens of prompt and answer together.
func (e *Engine) ContextLength() int { return e.opt.ContextLength }

// Update changes the weights, as model.Update does, between two steps. Answers
// under way go on with the new ones; what was kept of finished ones is
// dropped.
func (e *Engine) Update(ctx context.Context, c *checkpoint.Checkpoint) error {
	e.turn <- struct{}{}
	defer func() { <-e.turn }()
	e.memory.dropOf(e)
	return e.model.Update(ctx, c)
}

// Generate answers a request.
func (e *Engine) Generate(ctx context.Context, r generate.Request) (generate.Response, error) {
	s, err := e.start(ctx, r)
	if err != nil {
		return generate.Response{}, err
	}
	if err := e.wait(ctx, s, s.finished); err != nil {
		return generate.Response{}, err
	}
	return s.response, nil
}

// Stream answers a request piece by piece.
func (e *Engine) Stream(ctx context.Context, r generate.Request) iter.Seq2[generate.Delta, error] {
	return func(yield func(generate.Delta, error) bool) {
		s, err := e.start(ctx, r)
		if err != nil {
			yield(generate.Delta{}, err)
			return
		}
		for {
			if err := e.wait(ctx, s, s.ready); err != nil {
				yield(generate.Delta{}, err)
				return
			}
			for _, d := range s.take() {
				if !yield(d, nil) {
					e.abandon(s)
					return
				}
				if d.Response != nil {
					return
				}
			}
		}
	}
}

// wait computes until cond holds, or watches someone else do it.
func (e *Engine) wait(ctx context.Context, s *sequence, cond func() bool) error {
	e.drivers.Add(1)
	defer func() {
		if e.drivers.Add(-1) == 0 {
			e.memory.undriven(e)
		}
	}()
	for !cond() {
		select {
		case <-s.news:
		case <-ctx.Done():
			e.abandon(s)
			return ctx.Err()
		case e.turn <- struct{}{}:
			freed, worked := e.memory.changes(), true
			if !cond() {
				worked = e.step(context.WithoutCancel(ctx))
			}
			<-e.turn
			if worked {
				e.memory.stepped()
				continue
			}
			select {
			case <-freed:
			case <-s.news:
			case <-ctx.Done():
			}
		}
	}
	return s.failure()
}

// abandon gives up a sequence that nobody waits for.
func (e *Engine) abandon(s *sequence) {
	e.turn <- struct{}{}
	defer func() { <-e.turn }()
	e.collect()
	e.remove(s)
}
