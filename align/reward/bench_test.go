package reward

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"expo/weights/tensor"
)

// BenchmarkEncoder reads texts with 6 layers of the width of DeBERTa-v3-base.
func BenchmarkEncoder(b *testing.B) {
	const h, layers, vocabulary = 768, 6, 200
	g := goldenCase{}
	add := func(name string, shape ...int) { g.Tensors = append(g.Tensors, goldenTensor{name, shape}) }
	both := func(name string, shape ...int) {
		add(name+".weight", shape...)
		add(name+".bias", shape[0])
	}
	add("deberta.embeddings.word_embeddings.weight", vocabulary, h)
	both("deberta.embeddings.LayerNorm", h)
	add("deberta.encoder.rel_embeddings.weight", 512, h)
	both("deberta.encoder.LayerNorm", h)
	for i := range layers {
		at := fmt.Sprintf("deberta.encoder.layer.%d.", i)
		for _, name := range []string{"attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj", "attention.output.dense"} {
			both(at+name, h, h)
		}
		both(at+"attention.output.LayerNorm", h)
		both(at+"intermediate.dense", 4*h, h)
		both(at+"output.dense", h, 4*h)
		both(at+"output.LayerNorm", h)
	}
	both("pooler.dense", h, h)
	both("classifier", 1, h)
	var err error
	g.Config, err = json.Marshal(map[string]any{
		"architectures": []string{"DebertaV2ForSequenceClassification"}, "id2label": map[string]string{"0": "LABEL_0"},
		"vocab_size": vocabulary, "hidden_size": h, "intermediate_size": 4 * h, "num_hidden_layers": layers, "num_attention_heads": 12,
		"relative_attention": true, "position_buckets": 256, "pos_att_type": "p2c|c2p", "share_att_key": true,
		"norm_rel_ebd": "layer_norm", "position_biased_input": false, "max_position_embeddings": 512,
	})
	if err != nil {
		b.Fatal(err)
	}
	r := opened[*PairClassifier](b, g.checkpoint(b, tensor.F32, nil), Options{Jobs: 2})
	for _, c := range []struct{ texts, tokens int }{{16, 64}, {4, 256}, {1, 1024}} {
		seqs := make([]sequence, c.texts)
		for i := range seqs {
			seqs[i] = sequence{ids: make([]int, c.tokens), want: []int{0}}
			for k := range seqs[i].ids {
				seqs[i].ids[k] = (7*k + i) % vocabulary
			}
		}
		b.Run(fmt.Sprintf("%dx%d", c.texts, c.tokens), func(b *testing.B) {
			for b.Loop() {
				if _, err := r.enc.forward(context.Background(), seqs); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(c.texts*c.tokens*b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
