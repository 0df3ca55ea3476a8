package train

import (
	"context"
	"fmt"
)

// SFT trains m to answer as in data: the mean over the response tokens of a step
// of −log π(token), end token included and prompt left out. That is TRL's SFTTrainer
// with completion_only_loss, whose mean is over all batches of a step, too
// (https://huggingface.co/docs/trl/sft_trainer).
func SFT(ctx context.Context, m *Model, data []Example, opt Options) (*Report, error) {
	if err := m.languageModel("SFT"); err != nil {
		return nil, err
	}
	o, err := opt.defaults(2e-5, m.cfg)
	if err != nil {
		return nil, err
	}
	e, err := m.newEncoder(o.Raw, o.MaxLength)
	if err != nil {
		return nil, err
	}
	t := &task{method: "sft"}
	var seqs []sequence
	skipped := 0
	for i, x := range data {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		prompt, messages, response := x.Prompt, x.Messages, x.Response
		if n := len(messages); n > 0 {
			messages, response = messages[:n-1], messages[n-1].Content
		}
		s, err := e.sequence(ctx, prompt, messages, response)
		if err != nil {
			return nil, fmt.Errorf("train: row %d: %w", i+1, err)
		}
		if s.learned() == 0 {
			skipped++
			continue
		}
		seqs, t.rows = append(seqs, s), append(t.rows, i)
	}
	if len(seqs) == 0 {
		return nil, fmt.Errorf("train: no row has a response within %d tokens", o.MaxLength)
	}
	t.digest = func(d *digest) { d.sequences(seqs) }
	t.weight = func(rows []int) (sum float64) {
		for _, r := range rows {
			sum += float64(seqs[r].learned())
		}
		return sum
	}
	var b batch
	t.batch = func(n *network, rows []int, weight float64) (r result) {
		b.reset()
		for _, i := range rows {
			b.add(seqs[i])
		}
		for range b.targets {
			b.coef = append(b.coef, float32(-1/weight))
		}
		n.forward(b.inputs)
		n.logProbs(b.targets, b.room(), b.coef)
		n.backward()
		for _, l := range b.logp {
			r.loss -= l
		}
		r.loss /= weight
		r.tokens = len(n.tokens)
		return r
	}
	report, err := m.run(ctx, t, o)
	if report != nil {
		report.Skipped, report.Truncated = skipped, e.truncated
	}
	return report, err
}

func (m *Model) languageModel(method string) error {
	if m.labels > 0 {
		return fmt.Errorf("train: %s needs a language model, this is a sequence classifier", method)
	}
	return nil
}

// batch lays out sequences for a network. The last token of a sequence is only
// predicted, never read.
type batch struct {
	inputs  [][]int
	targets []target
	ends    []int // of each sequence, among targets
	rows    int
	logp    []float64
	coef    []float32
}

func (b *batch) reset() {
	*b = batch{inputs: b.inputs[:0], targets: b.targets[:0], ends: b.ends[:0], logp: b.logp[:0], coef: b.coef[:0]}
}

func (b *batch) add(s sequence) {
	b.inputs = append(b.inputs, s.tokens[:len(s.tokens)-1])
	for i := s.from; i < len(s.tokens); i++ {
		b.targets = append(b.targets, target{b.rows + i - 1, s.tokens[i]})
	}
	b.rows += len(s.tokens) - 1
	b.ends = append(b.ends, len(b.targets))
}

// room is where the log-probabilities go.
func (b *batch) room() []float64 {
	for len(b.logp) < len(b.targets) {
		b.logp = append(b.logp, 0)
	}
	return b.logp
}

// sums are the log-probabilities of whole responses.
func (b *batch) sums() []float64 {
	out := make([]float64, len(b.ends))
	lo := 0
	for i, hi := range b.ends {
		for _, l := range b.logp[lo:hi] {
			out[i] += l
		}
		lo = hi
	}
	return out
}

// spread gives every token of response i the coefficient c[i].
func (b *batch) spread(c []float64) {
	b.coef = b.coef[:0]
	lo := 0
	for i, hi := range b.ends {
		for range hi - lo {
			b.coef = append(b.coef, float32(c[i]))
		}
		lo = hi
	}
}
