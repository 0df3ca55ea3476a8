package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"expo"
	"expo/lm/chat"
	"expo/lm/generate/local"
	"expo/lm/model"
	"expo/serve"
	"expo/weights/checkpoint"
)

// openServed loads the model or the pair that is served.
func (f *serveFlags) openServed(ctx context.Context, opt *serve.Options, args []string) (done func(), err error) {
	if f.sft != "" || f.aligned != "" {
		if len(args) > 0 {
			return nil, usagef("a MODEL and --sft, --aligned contradict each other")
		}
		return f.openDial(ctx, opt)
	}
	if len(f.alphas) > 0 {
		return nil, usagef("--alpha needs --sft and --aligned")
	}
	if len(args) == 0 {
		return nil, usagef("needs a MODEL, or --sft and --aligned")
	}
	opt.Name = strings.TrimSuffix(filepath.Base(strings.TrimRight(args[0], "/")), ".gguf")
	e, _, err := f.open(ctx, args)
	if err != nil {
		return nil, err
	}
	opt.Engine = e.Engine
	return func() { e.Model().Close(); e.close() }, nil
}

// unknownMemory is the memory for keys and values where nothing is known of the
// machine.
const unknownMemory = 4e9

// leastMemory is what they get at least.
const leastMemory = 256e6

// limitMemory bounds the keys and values, once the models are loaded: by
// --kv-memory, or by half of the memory that was free before less what the
// weights take of it. It returns a line that says so.
func (f *serveFlags) limitMemory(opt *serve.Options, free int64) (string, error) {
	var e *local.Engine
	var why string
	limit := f.kvBytes
	weights := int64(0)
	if e = opt.Engine; e != nil {
		weights = e.Model().Bytes()
	} else {
		e = opt.Pair.Aligned
		weights = opt.Pair.SFT.Model().Bytes() + e.Model().Bytes() + max(e.Model().Bytes(), opt.Pair.CacheBytes/e.Model().Bytes()*e.Model().Bytes())
	}
	switch {
	case limit > 0:
	case free == 0:
		limit, why = unknownMemory, "; --kv-memory changes that"
	case (free-weights)/2 < leastMemory:
		limit, why = leastMemory, ", the least; --kv-memory changes that"
	default:
		limit, why = (free-weights)/2, ", half of what is free beside the weights; --kv-memory changes that"
	}
	f.memory.SetLimit(limit)
	tokens := e.Capacity() - 1
	if tokens <= 0 {
		return "", usagef("--kv-memory %s is less than %d tokens need, %s", formatSize(limit), model.PageLen, formatSize(int64(e.Model().PageBytes())))
	}
	return fmt.Sprintf("memory for keys and values: %s, %d tokens%s", formatSize(limit), tokens, why), nil
}

// openDial loads both ends of a pair, and says how to make the models between
// and beyond them.
func (f *serveFlags) openDial(ctx context.Context, opt *serve.Options) (done func(), err error) {
	load, err := f.loadOptions()
	if err != nil {
		return nil, err
	}
	if err := f.complete(); err != nil {
		return nil, err
	}
	if len(f.alphas) == 0 {
		f.alphas = []string{servedAlpha}
	}
	at, err := f.options()
	if err != nil {
		return nil, err
	}
	cache, err := parseSize(f.cacheSize)
	if err != nil {
		return nil, usagef("--cache-size: %w", err)
	}
	p, err := openPair(f.sft, f.aligned)
	if err != nil {
		return nil, err
	}
	var engines []*local.Engine
	done = func() {
		for _, e := range engines {
			e.Model().Close()
		}
		p.Close()
	}
	defer func() {
		if err != nil {
			done()
			done = nil
		}
	}()
	// What cannot be extrapolated is told before anything is loaded.
	view, err := expo.Extrapolate(p.Pair, at)
	if err != nil {
		return
	}
	source, err := f.template(p)
	if err != nil {
		return
	}
	open := func(ctx context.Context, c *checkpoint.Checkpoint) (*local.Engine, error) {
		c, err := dressed(c, source)
		if err != nil {
			return nil, err
		}
		return local.Open(ctx, c, load, local.Options{MaxBatch: f.maxBatch, Memory: f.memory})
	}
	for _, c := range []*checkpoint.Checkpoint{p.SFT, p.Aligned} {
		var e *local.Engine
		if e, err = open(ctx, c); err != nil {
			return
		}
		engines = append(engines, e)
	}
	opt.Pair = &serve.Pair{
		SFT: engines[0], Aligned: engines[1], Alpha: at.Alpha, CacheBytes: cache,
		Mix: func(ctx context.Context, alpha float64, into *local.Engine) (*local.Engine, error) {
			o, c := at, view
			if alpha != at.Alpha {
				var err error
				o.Alpha = alpha
				if c, err = expo.Extrapolate(p.Pair, o); err != nil {
					return nil, err
				}
			}
			if into != nil {
				return into, into.Update(ctx, c)
			}
			return open(ctx, c)
		},
	}
	return
}

// template is the chat template of both ends where it is not each one's own:
// that of --chat-template, or the one that the other end has.
func (f *serveFlags) template(p *pair) (string, error) {
	if f.chatTemplate != "" {
		t, err := chatTemplate(f.chatTemplate, nil)
		if err != nil {
			return "", err
		}
		return t.Source(), nil
	}
	sft, err := chat.Load(p.SFT.Files())
	if err == nil {
		if _, err = chat.Load(p.Aligned.Files()); err == nil {
			return "", nil // each has one
		}
		return sft.Source(), nil
	}
	if aligned, err := chat.Load(p.Aligned.Files()); err == nil {
		return aligned.Source(), nil
	}
	return "", nil
}

// dressed is a checkpoint with a chat template in place of its own.
func dressed(c *checkpoint.Checkpoint, source string) (*checkpoint.Checkpoint, error) {
	if source == "" {
		return c, nil
	}
	files := checkpoint.Overlay(c.Files(), map[string][]byte{"chat_template.jinja": []byte(source)})
	return checkpoint.New(c.Name(), c.Shards(), files)
}
