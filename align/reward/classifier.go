package reward

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"expo/lm/chat"
	"expo/lm/model"
	"expo/lm/tokenizer"
	"expo/weights/checkpoint"
)

// A Classifier is a decoder with a sequence classification head: the reward is
// its output at the last token that is not padding.
//
// A conversation becomes text by the reward model's own chat template, without a
// generation prompt. The BOS string is taken out of it and the text is encoded
// with the special tokens that the tokenizer adds, its own BOS among them. This
// is what the recipe of RLHFlow does
// (https://huggingface.co/weqweasdas/RM-Mistral-7B), and with it ExPO's search.
type Classifier struct {
	model *model.Model
	tok   *tokenizer.Tokenizer
	tmpl  *chat.Template // nil: none
	label int
	opt   Options
}

func openClassifier(ctx context.Context, c *checkpoint.Checkpoint, opt Options) (*Classifier, error) {
	r := &Classifier{opt: opt}
	var err error
	if r.tok, err = loadTokenizer(c); err != nil {
		return nil, err
	}
	if r.tmpl, err = loadTemplate(c, opt.Template); err != nil {
		return nil, err
	}
	cfg, err := model.ParseConfig(c.Config())
	if err != nil {
		return nil, err
	}
	if cfg.NumLabels == 0 {
		return nil, errors.New("config.json has no num_labels")
	}
	if r.label, err = label(c.Config(), cfg.NumLabels, opt.Label); err != nil {
		return nil, err
	}
	if r.opt.MaxTokens <= 0 {
		r.opt.MaxTokens = cfg.MaxPositionEmbeddings
	}
	r.model, err = model.Load(ctx, c, model.LoadOptions{Jobs: opt.Jobs, Quantize: opt.Quantize})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Close gives the memory of the weights back.
func (r *Classifier) Close() { r.model.Close() }

// Tokens are what the model reads of an item.
func (r *Classifier) Tokens(ctx context.Context, it Item) ([]int, error) {
	var ids []int
	if it.Messages == nil {
		ids = r.tok.Encode(it.Prompt+it.Response, true)
		if eos := r.tok.EOS(); it.Ended && eos >= 0 && (len(ids) == 0 || ids[len(ids)-1] != eos) {
			ids = append(ids, eos)
		}
	} else {
		text, err := render(ctx, r.tmpl, r.tok, it)
		if err != nil {
			return nil, err
		}
		ids = r.tok.Encode(text, true)
	}
	if len(ids) == 0 {
		return nil, errors.New("there is no text")
	}
	if over := len(ids) - r.opt.MaxTokens; over > 0 {
		if !r.opt.Truncate {
			return nil, fmt.Errorf("%w: %d tokens, and the reward model reads %d", ErrTooLong, len(ids), r.opt.MaxTokens)
		}
		keep := 0
		if ids[0] == r.tok.BOS() && r.opt.MaxTokens > 1 {
			keep = 1
		}
		ids = append(ids[:keep:keep], ids[keep+over:]...)
	}
	return ids, nil
}

// render is the text of the conversation and the response, without BOS.
func render(ctx context.Context, t *chat.Template, tok *tokenizer.Tokenizer, it Item) (string, error) {
	if t == nil {
		return "", errors.New("the reward model has no chat template; give one, or raw prompts")
	}
	piece := func(id int) string {
		s, _ := tok.Token(id)
		return s
	}
	opt := chat.Options{BOS: piece(tok.BOS()), EOS: piece(tok.EOS()), PAD: piece(tok.PAD()), UNK: piece(tok.UNK())}
	messages := append(it.Messages[:len(it.Messages):len(it.Messages)], chat.Message{Role: "assistant", Content: it.Response})
	text, err := t.Render(ctx, messages, opt)
	if err != nil {
		return "", err
	}
	if opt.BOS != "" {
		text = strings.ReplaceAll(text, opt.BOS, "")
	}
	return text, nil
}

// Score gives the reward of each item.
func (r *Classifier) Score(ctx context.Context, items []Item) ([]float64, error) {
	scores, errs := make([]float64, len(items)), make([]error, len(items))
	ids := make([][]int, 0, len(items))
	var which []int
	for i, it := range items {
		t, err := r.Tokens(ctx, it)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("reward: %w", ctx.Err())
		}
		if err != nil {
			errs[i] = err
			continue
		}
		ids, which = append(ids, t), append(which, i)
	}
	err := batches(len(ids), r.opt.BatchTokens, func(i int) int { return len(ids[i]) }, func(from, to int) error {
		out, err := r.model.Classify(ctx, ids[from:to])
		var broken *model.NonFiniteError
		if errors.As(err, &broken) && to-from > 1 {
			// One text may be the reason; the others have a score.
			for i := from; i < to; i++ {
				one, err := r.model.Classify(ctx, ids[i:i+1])
				if err := r.take(scores, errs, which[i], one, 0, err); err != nil {
					return err
				}
			}
			return nil
		}
		for i := from; i < to; i++ {
			if err := r.take(scores, errs, which[i], out, i-from, err); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reward: %w", err)
	}
	return partial(scores, errs)
}

// take notes the outcome of an item. What it returns ends everything.
func (r *Classifier) take(scores []float64, errs []error, item int, out [][]float32, at int, err error) error {
	var broken *model.NonFiniteError
	switch {
	case errors.As(err, &broken):
		errs[item], scores[item] = err, math.NaN()
	case err != nil:
		return err
	default:
		scores[item] = float64(out[at][r.label])
	}
	return nil
}
