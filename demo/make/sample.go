package main

import (
	"context"
	"encoding/json"
	"os"

	"golang.org/x/sync/errgroup"

	"expo/align/train"
	"expo/demo/notes"
	"expo/lm/chat"
	"expo/lm/generate"
	"expo/lm/generate/local"
	"expo/lm/model"
)

// sample gives n answers of a model to each prompt.
func (m *maker) sample(ctx context.Context, from *train.Model, prompts []notes.Prompt, n int, temperature float64, seed uint64) ([][]string, error) {
	texts := make([]string, len(prompts))
	for i, p := range prompts {
		texts[i] = p.Text
	}
	return m.sampleTexts(ctx, from, texts, n, temperature, seed)
}

func (m *maker) sampleTexts(ctx context.Context, from *train.Model, prompts []string, n int, temperature float64, seed uint64) ([][]string, error) {
	c, err := from.Checkpoint("the model in training")
	if err != nil {
		return nil, err
	}
	e, err := local.Open(ctx, c, model.LoadOptions{Jobs: m.jobs}, local.Options{MaxBatch: 64})
	if err != nil {
		return nil, err
	}
	defer e.Model().Close()
	out := make([][]string, len(prompts))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(128)
	for i, p := range prompts {
		out[i] = make([]string, n)
		for k := range n {
			group.Go(func() error {
				r := generate.Request{Messages: []chat.Message{{Role: "user", Content: p}}, MaxTokens: notes.MaxTokens}
				r.Temperature, r.Seed, r.Sample = temperature, seed, i*n+k
				resp, err := e.Generate(ctx, r)
				out[i][k] = resp.Text
				return err
			})
		}
	}
	err = group.Wait()
	m.say("%d answers to %d prompts", n, len(prompts))
	return out, err
}

// writeLines writes JSON lines.
func writeLines[T any](path string, rows []T) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(f)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			f.Close()
			return err
		}
	}
	return f.Close()
}
