package model

import (
	"context"
	"errors"
)

// Classify gives the num_labels outputs of a sequence classifier for each
// sequence: those at the rightmost token that is not the padding token, as
// transformers' GenericForSequenceClassification reads them. Where the padding
// token is also the end of a sequence, that is the token before it.
func (m *Model) Classify(ctx context.Context, sequences [][]int) ([][]float32, error) {
	if m.cfg.NumLabels == 0 {
		return nil, errors.New("model: this is a language model, not a sequence classifier")
	}
	out := make([][]float32, len(sequences))
	batch := make([]Step, len(sequences))
	for i, ids := range sequences {
		if len(ids) == 0 {
			return nil, errors.New("model: an empty sequence has no class")
		}
		at := len(ids) - 1
		for m.cfg.PadTokenID >= 0 && at > 0 && ids[at] == m.cfg.PadTokenID {
			at--
		}
		batch[i] = Step{
			Cache: m.NewCache(), Tokens: ids[:at+1], Want: []int{at},
			Logits: func(_ int, logits []float32) { out[i] = append([]float32(nil), logits...) },
		}
		defer batch[i].Cache.Free()
	}
	if err := m.Forward(ctx, batch); err != nil {
		return nil, err
	}
	return out, nil
}
