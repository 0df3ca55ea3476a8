package local

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"

	"expo/lm/generate"
	"expo/lm/generate/grammar"
)

// TestForm sees that answers have the form that is asked for, that they end
// where it is complete and not before, and that they are the same alone and in
// company.
func TestForm(t *testing.T) {
	e := tiny(t, Options{}, nil)
	g, err := grammar.Schema([]byte(`{"type":"array","items":{"anyOf":[{"type":"boolean"},{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]},{"type":"array","items":{"$ref":"#"}}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	var rs []generate.Request
	for seed := range uint64(60) {
		r := generate.Request{Prompt: "list: ", MaxTokens: 40, Grammar: g, Sampling: generate.Sampling{Temperature: 1, Seed: seed}}
		r.IgnoreEOS, r.Logprobs = seed%3 == 0, seed%4 == 0
		if seed%5 == 0 {
			r.FrequencyPenalty, r.RepetitionPenalty = 1, 1.2
		}
		rs = append(rs, r)
	}
	want := make([]generate.Response, len(rs))
	ended := 0
	for i, r := range rs {
		want[i] = generateOne(t, e, r)
		valid := json.Valid([]byte(want[i].Text))
		switch want[i].FinishReason {
		case generate.Stop:
			ended++
			if !valid {
				t.Errorf("seed %d: %q has ended", i, want[i].Text)
			}
		case generate.Length:
			if valid {
				t.Errorf("seed %d: %q goes on", i, want[i].Text)
			}
		}
	}
	if ended < 10 {
		t.Errorf("%d of %d documents came to their end", ended, len(rs))
	}
	for name, o := range map[string]*Engine{"together": e, "in little memory": tiny(t, Options{Memory: NewMemory(4 * pageOf(t))}, nil)} {
		var wg sync.WaitGroup
		for i, r := range rs {
			wg.Go(func() {
				got, err := o.Generate(context.Background(), r)
				if err != nil || !reflect.DeepEqual(content(got), content(want[i])) {
					t.Errorf("%s: seed %d: %q, want %q: %v", name, i, got.Text, want[i].Text, err)
				}
			})
		}
		wg.Wait()
	}
	// A number may end, or go on: there the model's end token counts.
	number, err := grammar.Schema([]byte(`{"type":"integer"}`))
	if err != nil {
		t.Fatal(err)
	}
	byToken := 0
	for seed := range uint64(300) {
		got := generateOne(t, e, generate.Request{Prompt: "n", Grammar: number, Sampling: generate.Sampling{Temperature: 2, Seed: seed}})
		if !json.Valid([]byte(got.Text)) || got.FinishReason != generate.Stop {
			t.Errorf("seed %d: %q, %s", seed, got.Text, got.FinishReason)
		}
		if last := got.Tokens[len(got.Tokens)-1]; last == 1 {
			byToken++
		}
	}
	if byToken == 0 {
		t.Error("no number ended by a token")
	}
	// Stop tokens and strings of the request end an answer where they come.
	got := generateOne(t, e, generate.Request{Prompt: "list: ", MaxTokens: 40, Grammar: g, StopTokenIDs: e.tok.Encode("[", false)})
	if got.FinishReason != generate.Stop || strings.TrimSpace(got.Text) != "" {
		t.Errorf("%q, %s", got.Text, got.FinishReason)
	}
	foreign, err := grammar.Choice([]string{"日本"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Generate(context.Background(), generate.Request{Prompt: "x", Grammar: foreign}); !errors.Is(err, ErrStuck) {
		t.Errorf("%v, want %v", err, ErrStuck)
	}
}
