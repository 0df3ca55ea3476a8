package reward

import (
	"context"
	"errors"
	"fmt"

	"expo/lm/chat"
	"expo/lm/tokenizer"
	"expo/weights/checkpoint"
)

// A PairClassifier is DebertaV2ForSequenceClassification: it reads
// [CLS] prompt [SEP] response [SEP], and the reward is an output of the head on
// the first token's hidden state. OpenAssistant's reward-model-deberta-v3-large-v2
// is one. Special tokens written in the texts are spelled out.
//
// A conversation of several messages needs a chat template, which makes one
// text of prompt and response: [CLS] text [SEP].
type PairClassifier struct {
	enc                *encoder
	tok                *tokenizer.Tokenizer
	tmpl               *chat.Template
	pooler, classifier linear
	act                activation
	cls, sep           int
	label              int
	opt                Options
}

func openPairClassifier(ctx context.Context, c *checkpoint.Checkpoint, opt Options) (*PairClassifier, error) {
	cfg, err := parseDeberta(c.Config())
	if err != nil {
		return nil, err
	}
	r := &PairClassifier{opt: opt}
	if r.label, err = label(c.Config(), cfg.NumLabels, opt.Label); err != nil {
		return nil, err
	}
	if r.tok, err = loadTokenizer(c); err != nil {
		return nil, err
	}
	if r.cls, r.sep, err = frame(r.tok); err != nil {
		return nil, err
	}
	if r.tmpl, err = loadTemplate(c, opt.Template); err != nil {
		return nil, err
	}
	if r.opt.MaxTokens <= 0 {
		r.opt.MaxTokens = cfg.MaxPositionEmbeddings
	}
	r.act, _ = activations(cfg.PoolerHiddenAct)
	l := &loader{c: c, prefix: "deberta."}
	enc, finish, err := l.plan(cfg, workers(opt.Jobs))
	if err != nil {
		return nil, err
	}
	r.enc = enc
	l.prefix = ""
	l.matrix(&r.pooler, "pooler.dense", cfg.HiddenSize, cfg.HiddenSize, true)
	l.matrix(&r.classifier, "classifier", cfg.NumLabels, cfg.HiddenSize, true)
	if err := l.run(ctx, workers(opt.Jobs)); err != nil {
		return nil, err
	}
	return r, finish(ctx)
}

// frame are the IDs of the tokens around a text.
func frame(tok *tokenizer.Tokenizer) (cls, sep int, err error) {
	cls, ok := tok.ID("[CLS]")
	sep, ok2 := tok.ID("[SEP]")
	if !ok || !ok2 {
		cls, sep = tok.BOS(), tok.EOS()
	}
	if cls < 0 || sep < 0 {
		return 0, 0, errors.New("the tokenizer has no tokens [CLS] and [SEP]")
	}
	return cls, sep, nil
}

// Close gives the memory back.
func (r *PairClassifier) Close() { *r = PairClassifier{} }

// sequence is what the model reads of an item.
func (r *PairClassifier) sequence(ctx context.Context, it Item) (sequence, error) {
	s := sequence{want: []int{0}}
	limit := r.opt.MaxTokens
	if r.tmpl != nil && it.Messages != nil && it.Prompt == "" {
		text, err := render(ctx, r.tmpl, r.tok, it)
		if err != nil {
			return s, err
		}
		ids := r.tok.Encode(text, false)
		if over := len(ids) + 2 - limit; over > 0 {
			if !r.opt.Truncate {
				return s, fmt.Errorf("%w: %d tokens, and the reward model reads %d", ErrTooLong, len(ids)+2, limit)
			}
			ids = ids[min(over, len(ids)):]
		}
		s.ids = append(append([]int{r.cls}, ids...), r.sep)
		return s, nil
	}
	prompt, err := promptOf(it)
	if err != nil {
		return s, err
	}
	a, b := r.tok.EncodeOrdinary(prompt), r.tok.EncodeOrdinary(it.Response)
	if n := len(a) + len(b) + 3; n > limit {
		if !r.opt.Truncate {
			return s, fmt.Errorf("%w: %d tokens, and the reward model reads %d", ErrTooLong, n, limit)
		}
		na, nb := longestFirst(len(a), len(b), max(limit-3, 0))
		a, b = a[:na], b[:nb]
	}
	s.ids = append(append([]int{r.cls}, a...), r.sep)
	s.types = make([]int, len(s.ids), len(s.ids)+len(b)+1)
	s.ids = append(append(s.ids, b...), r.sep)
	for len(s.types) < len(s.ids) {
		s.types = append(s.types, 1)
	}
	return s, nil
}

// promptOf is the text that a response answers, for models that read no
// conversations.
func promptOf(it Item) (string, error) {
	switch {
	case it.Prompt != "" || len(it.Messages) == 0:
		return it.Prompt, nil
	case len(it.Messages) == 1:
		return it.Messages[0].Content, nil
	}
	return "", fmt.Errorf("this reward model reads one prompt, and the conversation has %d messages; give the prompt as one text", len(it.Messages))
}

// longestFirst shortens two texts of a and b tokens to limit tokens together,
// as the tokenizers library does by its strategy of this name.
func longestFirst(a, b, limit int) (int, int) {
	if a+b <= limit {
		return a, b
	}
	swapped := a > b
	if swapped {
		a, b = b, a
	}
	if a > limit {
		b = a
	} else {
		b = max(a, limit-a)
	}
	if a+b > limit {
		a = limit / 2
		b = a + limit%2
	}
	if swapped {
		a, b = b, a
	}
	return a, b
}

// Score gives the reward of each item.
func (r *PairClassifier) Score(ctx context.Context, items []Item) ([]float64, error) {
	scores, errs := make([]float64, len(items)), make([]error, len(items))
	var seqs []sequence
	var which []int
	for i, it := range items {
		s, err := r.sequence(ctx, it)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("reward: %w", ctx.Err())
		}
		if err == nil && r.enc.positions != nil && len(s.ids) > r.enc.cfg.MaxPositionEmbeddings {
			err = fmt.Errorf("%w: %d tokens, and the model has %d positions", ErrTooLong, len(s.ids), r.enc.cfg.MaxPositionEmbeddings)
		}
		if err != nil {
			errs[i] = err
			continue
		}
		seqs, which = append(seqs, s), append(which, i)
	}
	err := batches(len(seqs), r.opt.BatchTokens, func(i int) int { return len(seqs[i].ids) }, func(from, to int) error {
		out, err := r.enc.forward(ctx, seqs[from:to])
		if err != nil {
			return err
		}
		for i, x := range out {
			x = r.pooler.one(x)
			r.act(x)
			scores[which[from+i]] = float64(r.classifier.one(x)[r.label])
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reward: %w", err)
	}
	return partial(scores, errs)
}
