package reward

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"expo/lm/chat"
	"expo/lm/model"
	"expo/lm/tokenizer"
	"expo/weights/checkpoint"
)

// Options are for [Open]. The zero value is the reward model as its authors use
// it.
type Options struct {
	// Jobs is the number of threads that load and compute; zero is one for each
	// that Go runs.
	Jobs int

	// BatchTokens is how many tokens are computed at once, unless one text
	// alone has more; 4096 by default. Memory grows with it; results do not
	// depend on it.
	BatchTokens int

	// MaxTokens is how many tokens of a text are read at most, by default as
	// many as the model has positions. It is no limit for PairRM, which has
	// lengths of its own. What is longer has no score (ErrTooLong) unless
	// Truncate is set, which drops the beginning of a conversation, and the end
	// of the longer one of a pair of texts.
	MaxTokens int
	Truncate  bool

	// Label is the output that is the reward of a classifier with several: its
	// name in config.json's id2label, or its number. A classifier with one
	// output needs none.
	Label string

	// Template takes the place of the model's own chat template.
	Template *chat.Template

	// Quantize is for decoders.
	Quantize model.Quantization

	// Instruction is text that PairRM reads before the prompt. (LLM-Blender's
	// compare_conversations puts a sentence of its own there.)
	Instruction string
}

// Architectures lists what [Open] can load, as config.json names it.
func Architectures() []string {
	return []string{
		"DebertaV2ForSequenceClassification", "DebertaV2PairRM",
		"InternLM2ForSequenceClassification", "LlamaForSequenceClassification",
		"MistralForSequenceClassification", "Qwen2ForSequenceClassification",
	}
}

// Open loads the reward model of a checkpoint: a [*Classifier], a
// [*PairClassifier] or a [*PairRM], by the architectures of config.json.
// LLM-Blender's own checkpoints, whose config.json has a ranker_type instead,
// are PairRM too. c may be closed afterwards.
func Open(ctx context.Context, c *checkpoint.Checkpoint, opt Options) (Model, error) {
	m, err := open(ctx, c, opt)
	if err != nil {
		return nil, fmt.Errorf("reward: %s: %w", c.Name(), err)
	}
	return m, nil
}

func open(ctx context.Context, c *checkpoint.Checkpoint, opt Options) (Model, error) {
	if opt.BatchTokens <= 0 {
		opt.BatchTokens = 4096
	}
	cfg := c.Config()
	if !cfg.Exists() {
		return nil, errors.New("there is no config.json")
	}
	var name string
	if list, ok := cfg.Value("architectures"); ok {
		if list, ok := list.([]any); ok && len(list) > 0 {
			name, _ = list[0].(string)
		}
	}
	ranker, _ := cfg.String("ranker_type")
	switch {
	case name == "" && ranker == "pairranker":
		return openPairRM(ctx, c, opt, true)
	case name == "DebertaV2PairRM":
		return openPairRM(ctx, c, opt, false)
	case name == "DebertaV2ForSequenceClassification":
		return openPairClassifier(ctx, c, opt)
	case slices.Contains(Architectures(), name):
		return openClassifier(ctx, c, opt)
	case name == "":
		return nil, errors.New("config.json names no architecture; a reward model has one such as LlamaForSequenceClassification")
	case strings.HasSuffix(name, "ForCausalLM"):
		return nil, fmt.Errorf("%s is a language model, not a reward model; give one of %s", name, strings.Join(Architectures(), ", "))
	}
	return nil, fmt.Errorf("architecture %s is not supported, only %s", name, strings.Join(Architectures(), ", "))
}

// loadTokenizer reads the tokenizer. Without one the error says what to do.
func loadTokenizer(c *checkpoint.Checkpoint) (*tokenizer.Tokenizer, error) {
	tok, err := tokenizer.Load(c.Files())
	if err != nil {
		return nil, err
	}
	return tok, nil
}

// loadTemplate is the template to use: the one that is given, the model's own,
// or nil.
func loadTemplate(c *checkpoint.Checkpoint, given *chat.Template) (*chat.Template, error) {
	if given != nil {
		return given, nil
	}
	t, err := chat.Load(c.Files())
	if errors.Is(err, chat.ErrNoTemplate) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return t, err
}

// label is the index of the output that is the reward.
func label(c *checkpoint.Config, outputs int, name string) (int, error) {
	names, _ := c.Object("id2label")
	of := func(i int) string {
		if s, ok := names[strconv.Itoa(i)].(string); ok {
			return s
		}
		return strconv.Itoa(i)
	}
	var some []string
	for i := range outputs {
		if name != "" && (name == of(i) || name == strconv.Itoa(i)) {
			return i, nil
		}
		if len(some) < 10 {
			some = append(some, of(i))
		} else if len(some) == 10 {
			some = append(some, "…")
		}
	}
	switch {
	case name != "":
		return 0, fmt.Errorf("there is no output %q; the model has %s", name, strings.Join(some, ", "))
	case outputs != 1:
		return 0, fmt.Errorf("the model has %d outputs (%s): say which one is the reward", outputs, strings.Join(some, ", "))
	}
	return 0, nil
}

// batches cuts items 0 to n−1 into runs of at most limit tokens, or one item.
func batches(n, limit int, tokens func(i int) int, f func(from, to int) error) error {
	for from := 0; from < n; {
		to, sum := from, 0
		for to < n && (to == from || sum+tokens(to) <= limit) {
			sum += tokens(to)
			to++
		}
		if err := f(from, to); err != nil {
			return err
		}
		from = to
	}
	return nil
}
