package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"expo"
	"expo/lm/chat"
	"expo/lm/generate/local"
	"expo/lm/model"
	"expo/lm/tokenizer"
	"expo/weights/checkpoint"
	"expo/weights/gguf"
)

// engineFlags say which model is run, and how it is loaded.
type engineFlags struct {
	pairFlags
	methodFlags
	quantize     string
	jobs         int
	maxBatch     int
	chatTemplate string
	noMap        bool
	memory       *local.Memory // of keys and values; nil: no bound
}

func (f *engineFlags) add(cmd *cobra.Command) {
	f.pairFlags.add(cmd)
	f.methodFlags.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.quantize, "quantize", "", "turn matrices into `q8_0` while loading")
	fl.IntVarP(&f.jobs, "jobs", "j", 0, "threads (default: the number of cores)")
	fl.IntVar(&f.maxBatch, "max-batch", 0, "answers computed at once (default 16)")
	fl.BoolVar(&f.noMap, "no-mmap", false, "read weights into memory even where the file can be used as it lies")
	fl.StringVar(&f.chatTemplate, "chat-template", "", "a `FILE`, or one of "+strings.Join(chat.Names(), ", ")+", in place of the model's own")
}

// loaded is a model that runs.
type loaded struct {
	*local.Engine
	seconds float64
	close   func()
}

// open loads the model that the flags or the first argument name; rest are
// the arguments that remain.
func (f *engineFlags) open(ctx context.Context, args []string) (e *loaded, rest []string, err error) {
	start := time.Now()
	load, err := f.loadOptions()
	if err != nil {
		return nil, nil, err
	}
	pairGiven := f.sft != "" || f.aligned != ""
	if !pairGiven && len(args) == 0 {
		return nil, nil, usagef("needs a MODEL, or --sft, --aligned and --alpha")
	}
	if !pairGiven && len(f.alphas) > 0 {
		return nil, nil, usagef("--alpha needs --sft and --aligned")
	}
	opt := local.Options{MaxBatch: f.maxBatch, Memory: f.memory}
	e = &loaded{}
	switch {
	case pairGiven:
		rest = args
		e.Engine, e.close, err = f.openView(ctx, load, opt)
	case strings.HasSuffix(args[0], ".gguf"):
		rest = args[1:]
		e.Engine, e.close, err = openGGUF(ctx, args[0], load, opt)
	default:
		rest = args[1:]
		var c *checkpoint.Checkpoint
		if c, _, e.close, err = openAdapted(args[0]); err != nil {
			return nil, nil, err
		}
		e.Engine, err = local.Open(ctx, c, load, opt)
	}
	if err != nil {
		if e.close != nil {
			e.close()
		}
		return nil, nil, err
	}
	if f.chatTemplate != "" {
		t, err := chatTemplate(f.chatTemplate, nil)
		if err != nil {
			e.close()
			return nil, nil, err
		}
		e.Engine = e.WithTemplate(t)
	}
	e.seconds = time.Since(start).Seconds()
	return e, rest, nil
}

// loadOptions are what the flags say about loading.
func (f *engineFlags) loadOptions() (model.LoadOptions, error) {
	load := model.LoadOptions{Jobs: f.jobs, NoMap: f.noMap}
	switch strings.ToLower(f.quantize) {
	case "":
	case "q8_0":
		load.Quantize = model.Q8_0
	default:
		return load, usagef("--quantize %s: use q8_0", f.quantize)
	}
	return load, nil
}

// openView loads the model on the line through a pair; nothing is written.
func (f *engineFlags) openView(ctx context.Context, load model.LoadOptions, opt local.Options) (*local.Engine, func(), error) {
	if err := f.complete(); err != nil {
		return nil, nil, err
	}
	options, err := f.options()
	if err != nil {
		return nil, nil, err
	}
	p, err := openPair(f.sft, f.aligned)
	if err != nil {
		return nil, nil, err
	}
	view, err := expo.Extrapolate(p.Pair, options)
	if err != nil {
		return nil, p.Close, err
	}
	e, err := local.Open(ctx, view, load, opt)
	return e, p.Close, err
}

// openGGUF loads model, tokenizer and template of one GGUF file.
func openGGUF(ctx context.Context, path string, load model.LoadOptions, opt local.Options) (*local.Engine, func(), error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	e, err := engineOfGGUF(ctx, file, load, opt)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return e, func() { file.Close() }, err
}

func engineOfGGUF(ctx context.Context, file *os.File, load model.LoadOptions, opt local.Options) (*local.Engine, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	r, err := gguf.NewReader(file, info.Size())
	if err != nil {
		return nil, err
	}
	m, err := model.LoadGGUF(ctx, r, load)
	if err != nil {
		return nil, err
	}
	tok, err := tokenizer.FromGGUF(vocabOf(r.Metadata()))
	if err != nil {
		return nil, err
	}
	tmpl, err := ggufTemplate(r.Metadata())
	if err != nil && !errors.Is(err, chat.ErrNoTemplate) {
		return nil, err
	}
	for _, key := range []string{"eot_token_id", "eom_token_id"} {
		if id, ok := r.Metadata().Int("tokenizer.ggml." + key); ok {
			opt.EOS = append(opt.EOS, int(id))
		}
	}
	return local.New(m, tok, tmpl, opt), nil
}

func ggufTemplate(md *gguf.Metadata) (*chat.Template, error) {
	source, ok := md.String("tokenizer.chat_template")
	if !ok {
		return nil, chat.ErrNoTemplate
	}
	return chat.Parse(source)
}

func vocabOf(md *gguf.Metadata) tokenizer.GGUFVocab {
	const k = "tokenizer.ggml."
	var v tokenizer.GGUFVocab
	v.Name, _ = md.String("general.name")
	v.Model, _ = md.String(k + "model")
	v.Pre, _ = md.String(k + "pre")
	v.Tokens, _ = md.Strings(k + "tokens")
	v.Merges, _ = md.Strings(k + "merges")
	scores, _ := md.Floats(k + "scores")
	for _, s := range scores {
		v.Scores = append(v.Scores, float32(s))
	}
	types, _ := md.Ints(k + "token_type")
	for _, t := range types {
		v.Types = append(v.Types, int32(t))
	}
	id := func(key string) int {
		if n, ok := md.Int(k + key); ok && n < int64(len(v.Tokens)) {
			return int(n)
		}
		return -1
	}
	v.BOS, v.EOS, v.UNK, v.PAD = id("bos_token_id"), id("eos_token_id"), id("unknown_token_id"), id("padding_token_id")
	flag := func(key string) *bool {
		if b, ok := md.Bool(k + key); ok {
			return &b
		}
		return nil
	}
	v.AddBOS, v.AddEOS = flag("add_bos_token"), flag("add_eos_token")
	v.AddSpacePrefix, v.RemoveExtraWhitespaces = flag("add_space_prefix"), flag("remove_extra_whitespaces")
	if ints, ok := md.Ints(k + "precompiled_charsmap"); ok {
		for _, b := range ints {
			v.CharsMap = append(v.CharsMap, byte(b))
		}
	}
	return v
}
