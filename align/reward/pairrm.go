package reward

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"expo/lm/chat"
	"expo/lm/tokenizer"
	"expo/weights/checkpoint"
)

// PairRM compares two responses to a prompt. It reads
//
//	[CLS] <|source|> prompt [SEP] [CLS] <|candidate1|> a [SEP] [CLS] <|candidate2|> b [SEP]
//
// through DeBERTa-v3, and its logit is above 0 if a is the better one. Since
// exchanging a and b does not give the opposite, both orders are computed
// wherever a preference is asked for.
//
// The prompt has up to source_maxlength tokens (1224), each response up to
// candidate_maxlength (412) and half of what the prompt leaves; what is beyond is
// dropped. A conversation of several messages becomes a text of its user turns,
// with a placeholder for each answer, and each response is the list of all
// answers, as LLM-Blender's compare_conversations does; but see
// Options.Instruction. Special tokens written in the texts mean nothing.
type PairRM struct {
	enc                     *encoder
	tok                     *tokenizer.Tokenizer
	hidden, last            linear
	cls, sep                int
	source, first, second   int // IDs of the three prefixes
	sourceMax, candidateMax int
	opt                     Options
}

func openPairRM(ctx context.Context, c *checkpoint.Checkpoint, opt Options, blender bool) (*PairRM, error) {
	r := &PairRM{opt: opt}
	var cfg *debertaConfig
	var err error
	if blender {
		cfg, err = blenderConfig(c)
	} else {
		cfg, err = parseDeberta(c.Config())
	}
	if err != nil {
		return nil, err
	}
	cr := &configReader{c: c.Config()}
	tasks := cr.number("n_tasks", 1, 1)
	r.sourceMax = cr.number("source_maxlength", 3, 1224)
	r.candidateMax = cr.number("candidate_maxlength", 3, 412)
	if err := cr.err(); err != nil {
		return nil, err
	}
	if r.tok, err = loadTokenizer(c); err != nil {
		if blender {
			err = fmt.Errorf("%w; LLM-Blender takes the tokenizer of microsoft/deberta-v3-large: put its spm.model and tokenizer_config.json here", err)
		}
		return nil, err
	}
	if r.cls, r.sep, err = frame(r.tok); err != nil {
		return nil, err
	}
	if err := r.prefixes(cr, cfg.VocabSize); err != nil {
		return nil, err
	}

	l := &loader{c: c, prefix: "pretrained_model."}
	enc, finish, err := l.plan(cfg, workers(opt.Jobs))
	if err != nil {
		return nil, err
	}
	r.enc = enc
	l.prefix = ""
	l.matrix(&r.hidden, "head_layer.1", cfg.HiddenSize, 2*cfg.HiddenSize, true)
	l.matrix(&r.last, "head_layer.4", tasks, cfg.HiddenSize, true)
	if err := l.run(ctx, workers(opt.Jobs)); err != nil {
		return nil, err
	}
	return r, finish(ctx)
}

// prefixes finds the IDs of the three marks. Where the tokenizer does not have
// them, they follow its vocabulary, in the order in which LLM-Blender adds them.
func (r *PairRM) prefixes(cr *configReader, vocabulary int) error {
	for i, p := range []struct {
		to         *int
		token, key string
	}{
		{&r.source, "<|source|>", "source_prefix_id"},
		{&r.first, "<|candidate1|>", "cand1_prefix_id"},
		{&r.second, "<|candidate2|>", "cand2_prefix_id"},
	} {
		id, ok := r.tok.ID(p.token)
		if !ok {
			id = r.tok.Size() + i
		}
		*p.to = cr.number(p.key, 0, id)
		if ok && *p.to != id {
			cr.fault("%s is %d, and the tokenizer has %s as %d", p.key, *p.to, p.token, id)
		}
		if *p.to >= vocabulary {
			return fmt.Errorf("the embedding has %d rows, none for %s with ID %d", vocabulary, p.token, *p.to)
		}
	}
	return cr.err()
}

// blenderConfig is the configuration of a checkpoint of LLM-Blender, whose
// config.json is about training: a DeBERTa-v3 of the shape that its tensors have.
func blenderConfig(c *checkpoint.Checkpoint) (*debertaConfig, error) {
	if name, _ := c.Config().String("model_name"); !strings.Contains(name, "deberta-v3") {
		return nil, fmt.Errorf("model_name is %q; only rankers over DeBERTa-v3 are supported", name)
	}
	const prefix = "pretrained_model."
	shape := func(name string) []int {
		t, ok := c.Tensor(prefix + name)
		if !ok || len(t.Shape) != 2 {
			return []int{0, 0}
		}
		return t.Shape
	}
	words, up, relative := shape("embeddings.word_embeddings.weight"), shape("encoder.layer.0.intermediate.dense.weight"), shape("encoder.rel_embeddings.weight")
	d := &debertaConfig{
		VocabSize: words[0], HiddenSize: words[1], EmbeddingSize: words[1], IntermediateSize: up[0],
		AttentionHeadSize: 64, NumAttentionHeads: words[1] / 64,
		MaxPositionEmbeddings: 512, MaxRelativePositions: 512, PositionBuckets: relative[0] / 2,
		LayerNormEps: 1e-7, HiddenAct: "gelu", ConvAct: "tanh", PoolerHiddenAct: "gelu",
		RelativeAttention: true, C2P: true, P2C: true, ShareAttKey: true, NormRelEbd: true,
	}
	for ; ; d.NumHiddenLayers++ {
		if _, ok := c.Tensor(fmt.Sprintf("%sencoder.layer.%d.output.dense.weight", prefix, d.NumHiddenLayers)); !ok {
			break
		}
	}
	if words[1] == 0 || words[1]%64 != 0 || up[0] == 0 || d.NumHiddenLayers == 0 || d.PositionBuckets < 2 || d.PositionBuckets > 512 {
		return nil, fmt.Errorf("the tensors under %s are not those of DeBERTa-v3", prefix)
	}
	return d, nil
}

// Close gives the memory back.
func (r *PairRM) Close() { *r = PairRM{} }

// texts are the prompt, and what stands before a response: the earlier answers
// of the conversation, and a label, if there are several.
func (r *PairRM) texts(messages []chat.Message, prompt string) (source, before string, err error) {
	if prompt != "" || len(messages) <= 1 {
		source, err = promptOf(Item{Messages: messages, Prompt: prompt})
		return r.opt.Instruction + source, "", err
	}
	var users, answers strings.Builder
	turn := 0
	for i, m := range messages {
		want := [...]string{"user", "assistant"}[i%2]
		if m.Role != want {
			return "", "", fmt.Errorf("message %d is of role %q; PairRM reads turns of user and assistant", i, m.Role)
		}
		if m.Role == "assistant" {
			fmt.Fprintf(&answers, "<Response %d>: %s\n", turn, m.Content)
			continue
		}
		turn++
		if turn > 1 {
			users.WriteByte('\n')
		}
		fmt.Fprintf(&users, "USER: %s\nAssistant: <Response %d>", m.Content, turn)
	}
	if len(messages)%2 == 0 {
		return "", "", errors.New("the conversation ends with an answer already")
	}
	fmt.Fprintf(&answers, "<Response %d>: ", turn)
	return r.opt.Instruction + users.String(), answers.String(), nil
}

// A part is a text between [CLS] and its mark, and [SEP].
func (r *PairRM) part(mark int, text string, most int) []int {
	ids := r.tok.EncodeOrdinary(strings.ReplaceAll(text, "[SEP]", " "))
	ids = ids[:min(len(ids), max(most-3, 0))]
	return append(append([]int{r.cls, mark}, ids...), r.sep)
}

// sequence is what the model reads of a comparison.
func (r *PairRM) sequence(source, a, b string) sequence {
	ids := r.part(r.source, source, r.sourceMax)
	most := (r.sourceMax + 2*r.candidateMax - len(ids)) / 2
	s := sequence{want: []int{1, len(ids) + 1}}
	ids = append(ids, r.part(r.first, a, most)...)
	s.want = append(s.want, len(ids)+1)
	s.ids = append(ids, r.part(r.second, b, most)...)
	return s
}

// A comparison is one order of a pair. Its logit is filled in.
type comparison struct {
	source, a, b string
	logit        float64
}

func (r *PairRM) compare(ctx context.Context, cs []comparison) error {
	seqs := make([]sequence, len(cs))
	for i, c := range cs {
		seqs[i] = r.sequence(c.source, c.a, c.b)
	}
	h := r.enc.cfg.HiddenSize
	return batches(len(seqs), r.opt.BatchTokens, func(i int) int { return len(seqs[i].ids) }, func(from, to int) error {
		out, err := r.enc.forward(ctx, seqs[from:to])
		if err != nil {
			return err
		}
		for i, x := range out {
			left := r.head(x[:h], x[h:2*h])
			right := r.head(x[:h], x[2*h:])
			var sum float64
			for t := range left {
				sum += float64(left[t] - right[t])
			}
			cs[from+i].logit = sum / float64(len(left))
		}
		return nil
	})
}

// head gives the n_tasks outputs for a candidate.
func (r *PairRM) head(source, candidate []float32) []float32 {
	x := r.hidden.one(append(append(make([]float32, 0, 2*len(source)), source...), candidate...))
	for i, v := range x {
		x[i] = float32(math.Tanh(float64(v)))
	}
	return r.last.one(x)
}

// Logits compares the sides of each pair in both orders: ab has A as the first
// candidate and is above 0 if A is better, ba has B first and is above 0 if B is
// better. A pair that cannot be compared has NaN, and the error is a
// [*PartialError].
func (r *PairRM) Logits(ctx context.Context, pairs []Pair) (ab, ba []float64, err error) {
	ab, ba = make([]float64, len(pairs)), make([]float64, len(pairs))
	errs := make([]error, len(pairs))
	var cs []comparison
	var which []int
	for i, p := range pairs {
		source, before, err := r.texts(p.Messages, p.Prompt)
		if err != nil {
			errs[i] = err
			continue
		}
		a, b := before+p.A, before+p.B
		cs = append(cs, comparison{source: source, a: a, b: b}, comparison{source: source, a: b, b: a})
		which = append(which, i)
	}
	if err := r.compare(ctx, cs); err != nil {
		return nil, nil, fmt.Errorf("reward: %w", err)
	}
	for k, i := range which {
		ab[i], ba[i] = cs[2*k].logit, cs[2*k+1].logit
		if s := ab[i] + ba[i]; errs[i] == nil && (math.IsNaN(s) || math.IsInf(s, 0)) {
			errs[i] = fmt.Errorf("the model's output is %v", s)
		}
	}
	if ab, err = partial(ab, errs); err != nil {
		ba, err = partial(ba, errs)
	}
	return ab, ba, err
}

// Prefer gives P(A ≻ B) = σ((ab − ba)/2), the mean of both orders.
func (r *PairRM) Prefer(ctx context.Context, pairs []Pair) ([]float64, error) {
	ab, ba, err := r.Logits(ctx, pairs)
	for i := range ab {
		ab[i] = sigmoid((ab[i] - ba[i]) / 2)
	}
	return ab, err
}

// Score compares each item with its Reference; the reward is (ab − ba)/2, the
// mean logit of both orders: 0 for an answer as good as the reference.
func (r *PairRM) Score(ctx context.Context, items []Item) ([]float64, error) {
	if !slices.ContainsFunc(items, func(it Item) bool { return it.Reference != "" }) && len(items) > 0 {
		return nil, errors.New("reward: no item has a reference; PairRM compares, it needs another answer for each")
	}
	pairs := make([]Pair, len(items))
	for i, it := range items {
		pairs[i] = Pair{Messages: it.Messages, Prompt: it.Prompt, A: it.Response, B: it.Reference}
	}
	ab, ba, err := r.Logits(ctx, pairs)
	for i := range ab {
		ab[i] = (ab[i] - ba[i]) / 2
	}
	return ab, err
}

// Matrix compares all ordered pairs of responses to one prompt: element (i, j)
// is the logit with response i as the first candidate and j as the second. The
// diagonal is 0. [Rewards] makes a reward for each of it.
func (r *PairRM) Matrix(ctx context.Context, messages []chat.Message, prompt string, responses []string) ([][]float64, error) {
	source, before, err := r.texts(messages, prompt)
	if err != nil {
		return nil, fmt.Errorf("reward: %w", err)
	}
	var cs []comparison
	for i, a := range responses {
		for j, b := range responses {
			if i != j {
				cs = append(cs, comparison{source: source, a: before + a, b: before + b})
			}
		}
	}
	if err := r.compare(ctx, cs); err != nil {
		return nil, fmt.Errorf("reward: %w", err)
	}
	m := make([][]float64, len(responses))
	at := 0
	for i := range m {
		m[i] = make([]float64, len(responses))
		for j := range m[i] {
			if i != j {
				m[i][j] = cs[at].logit
				if math.IsNaN(m[i][j]) || math.IsInf(m[i][j], 0) {
					return nil, fmt.Errorf("reward: comparing responses %d and %d: the model's output is %v", i, j, m[i][j])
				}
				at++
			}
		}
	}
	return m, nil
}
