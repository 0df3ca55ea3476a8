package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"expo/align/reward"
	"expo/align/train"
	"expo/demo/notes"
	"expo/lm/chat"
	"expo/weights/checkpoint"
)

// Sizes and settings.
const (
	seed      = 1
	vocabSize = 768
	positions = 256

	written  = 12000 // notes to imitate
	sftSteps = 2000

	asked   = 640 // prompts whose answers are compared, for DPO
	answers = 6   // to each

	// read is for how many prompts readers compared two answers; others than those
	// of DPO and SPPO. For a quarter of them they also compared one with a confused
	// answer, at a high temperature, for a half with a spoilt one: a reward model
	// that has seen nothing but sense takes nonsense for it.
	read = 2400

	selfPlayed = 384 // prompts of SPPO, over all iterations
)

// config is that of the language models, of 209 thousand weights.
var config = map[string]any{
	"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "hidden_act": "silu",
	"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4,
	"vocab_size": vocabSize, "max_position_embeddings": positions, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
	"initializer_range": 0.05, "tie_word_embeddings": true, "attention_bias": false, "mlp_bias": false,
	"bos_token_id": nil, "eos_token_id": 3, "pad_token_id": 0, "dtype": "float32",
}

// all makes everything and writes it to out.
func (m *maker) all(ctx context.Context, out string) error {
	prompts, _ := notes.Prompts(notes.Seed)
	sft, err := m.stage(ctx, "sft", func() (*train.Model, error) { return m.sft(ctx, prompts) })
	if err != nil {
		return err
	}
	judge, err := m.stage(ctx, "reward", func() (*train.Model, error) { return m.reward(ctx, sft.Clone(), prompts) })
	if err != nil {
		return err
	}
	pairs, err := m.preferences(ctx, sft, prompts[:asked])
	if err != nil {
		return err
	}
	aligned, err := m.stage(ctx, "aligned", func() (*train.Model, error) {
		d := sft.Clone()
		_, err := train.DPO(ctx, d, pairs, train.DPOOptions{Options: m.follow("aligned", train.Options{
			Steps: 40, BatchSize: 16, LearningRate: 1.5e-4, Warmup: 2, Seed: seed,
		})})
		return d, err
	})
	if err != nil {
		return err
	}
	trained, err := m.stage(ctx, "trained", func() (*train.Model, error) {
		d := sft.Clone()
		_, err := train.DPO(ctx, d, pairs, train.DPOOptions{Options: m.follow("trained", train.Options{
			Epochs: 3, BatchSize: 16, LearningRate: 3e-4, Warmup: 10, Seed: seed,
		})})
		return d, err
	})
	if err != nil {
		return err
	}
	sppo, err := m.stage(ctx, "sppo", func() (*train.Model, error) {
		return m.sppo(ctx, sft.Clone(), judge, prompts[asked:asked+selfPlayed])
	})
	if err != nil {
		return err
	}
	for name, model := range map[string]*train.Model{"sft": sft, "aligned": aligned, "trained": trained, "sppo": sppo, "reward": judge} {
		if err := write(ctx, filepath.Join(out, name), model); err != nil {
			return err
		}
	}
	m.say("wrote %s", out)
	return nil
}

// sft makes tokenizer and language model, and teaches it to write notes.
func (m *maker) sft(ctx context.Context, prompts []notes.Prompt) (*train.Model, error) {
	var data []train.Example
	var texts []string
	for i := range written {
		p := prompts[i%len(prompts)]
		note := notes.Write(p, seed<<32+uint64(i))
		data = append(data, train.Example{Prompt: p.Text, Response: note})
		texts = append(texts, p.Text, note)
	}
	vocab, merges := trainBPE(texts, vocabSize)
	if len(vocab) != vocabSize {
		return nil, fmt.Errorf("the texts gave %d tokens, want %d", len(vocab), vocabSize)
	}
	files := tokenizerFiles(vocab, merges)
	files["config.json"] = encode(config, "  ")
	blank, err := train.New(checkpoint.Overlay(nil, files), seed)
	if err != nil {
		return nil, err
	}
	m.say("sft: %d weights, %d notes", blank.Parameters(), len(data))
	_, err = train.SFT(ctx, blank, data, m.follow("sft", train.Options{
		Steps: sftSteps, BatchSize: 32, LearningRate: 3e-3, Warmup: 50, WeightDecay: 0.01, Beta2: 0.98, Seed: seed,
	}))
	return blank, err
}

// preferences are the best and the worst of a model's answers to each prompt, by
// the rule.
func (m *maker) preferences(ctx context.Context, sft *train.Model, prompts []notes.Prompt) ([]train.Pair, error) {
	var path = filepath.Join(m.work, "preferences.jsonl")
	if f, err := os.Open(path); err == nil {
		defer f.Close()
		return train.ReadPairs(f)
	}
	all, err := m.sample(ctx, sft, prompts, answers, 1, seed+100)
	if err != nil {
		return nil, err
	}
	var pairs []train.Pair
	for i, p := range prompts {
		best, worst := all[i][0], all[i][0]
		for _, s := range all[i] {
			if notes.Score(p, s) > notes.Score(p, best) {
				best = s
			}
			if notes.Score(p, s) < notes.Score(p, worst) {
				worst = s
			}
		}
		if notes.Score(p, best) > notes.Score(p, worst) {
			pairs = append(pairs, train.Pair{Prompt: p.Text, Chosen: best, Rejected: worst})
		}
	}
	m.say("%d preferences by the rule", len(pairs))
	return pairs, writeLines(path, pairs)
}

// reward makes a model of what readers like, of pairs of answers by sft.
func (m *maker) reward(ctx context.Context, sft *train.Model, prompts []notes.Prompt) (*train.Model, error) {
	prompts = prompts[len(prompts)-read:]
	all, err := m.sample(ctx, sft, prompts, 2, 1, seed+200)
	if err != nil {
		return nil, err
	}
	confused, err := m.sample(ctx, sft, prompts[:read/4], 1, 1.5, seed+201)
	if err != nil {
		return nil, err
	}
	var pairs []train.Pair
	compare := func(p notes.Prompt, a, b string) {
		if a == b {
			return
		}
		if !notes.Readers(p, a, b, seed<<32+uint64(len(pairs))) {
			a, b = b, a
		}
		pairs = append(pairs, train.Pair{Prompt: p.Text, Chosen: a, Rejected: b})
	}
	for i, p := range prompts {
		a, b := all[i][0], all[i][1]
		compare(p, a, b)
		switch {
		case i < len(confused):
			compare(p, a, confused[i][0])
		case i < len(confused)+read/2:
			compare(p, a, notes.Spoil(b, seed<<32+uint64(i)))
		}
	}
	m.say("%d comparisons by readers", len(pairs))
	_, err = train.Reward(ctx, sft, pairs, train.RewardOptions{Center: 0.01, Options: m.follow("reward", train.Options{
		Epochs: 2, BatchSize: 16, LearningRate: 5e-4, Warmup: 10, Seed: seed,
	})})
	return sft, err
}

// sppo trains by self-play against the reward model.
func (m *maker) sppo(ctx context.Context, start, judge *train.Model, prompts []notes.Prompt) (*train.Model, error) {
	c, err := judge.Checkpoint("reward")
	if err != nil {
		return nil, err
	}
	rm, err := reward.Open(ctx, c, reward.Options{Jobs: m.jobs})
	if err != nil {
		return nil, err
	}
	defer rm.Close()
	var asks []train.Pair
	for _, p := range prompts {
		asks = append(asks, train.Pair{Prompt: p.Text})
	}
	_, err = train.SPPO(ctx, start, asks, train.SPPOOptions{
		Eta: 10, Samples: 5, Iterations: 3,
		Sample: func(ctx context.Context, r train.SampleRequest) ([][]string, error) {
			texts := make([]string, len(r.Prompts))
			for i, p := range r.Prompts {
				texts[i] = p.Prompt
			}
			return m.sampleTexts(ctx, r.Model, texts, r.Samples, 1, seed+300+uint64(r.Iteration))
		},
		Score: func(ctx context.Context, asks []train.Pair, answers [][]string) ([][]float64, error) {
			scores := make([][]float64, len(asks))
			for i, a := range asks {
				var items []reward.Item
				for _, s := range answers[i] {
					items = append(items, reward.Item{Messages: []chat.Message{{Role: "user", Content: a.Prompt}}, Response: s, Ended: true})
				}
				var err error
				if scores[i], err = rm.Score(ctx, items); err != nil {
					return nil, err
				}
			}
			return scores, nil
		},
		Options: m.follow("sppo", train.Options{Epochs: 1, BatchSize: 16, LearningRate: 1e-4, Warmup: 2, Seed: seed}),
	})
	return start, err
}
