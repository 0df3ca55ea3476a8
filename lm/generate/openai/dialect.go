package openai

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Dialect is which fields beyond OpenAI's a server understands. It matters
// because servers have defaults of their own, for top-k, min-p and the
// repetition penalty among others, from the model's generation_config.json or
// built in: where the dialect has a field, it is sent with every request, so
// that a request means the same everywhere. Elsewhere it is sent only if it
// is set.
type Dialect string

// The dialects. Detect asks each server for its models before the first
// request and judges by their owner.
const (
	Detect   Dialect = ""
	Standard Dialect = "openai"    // OpenAI's fields
	VLLM     Dialect = "vllm"      // top_k, min_p, repetition_penalty, stop_token_ids, ignore_eos, …; expo too
	SGLang   Dialect = "sglang"    // as vLLM, without token IDs in the answer
	LlamaCPP Dialect = "llama.cpp" // top_k, min_p, repeat_penalty, ignore_eos
	Ollama   Dialect = "ollama"    // OpenAI's
)

// ParseDialect reads a name; auto and "" are Detect.
func ParseDialect(s string) (Dialect, error) {
	switch d := Dialect(s); d {
	case Detect, Standard, VLLM, SGLang, LlamaCPP, Ollama:
		return d, nil
	case "auto":
		return Detect, nil
	}
	return Detect, fmt.Errorf("openai: dialect %q: want auto, openai, vllm, sglang, llama.cpp or ollama", s)
}

// owners are the dialects by what servers call the owner of their models.
var owners = map[string]Dialect{
	"vllm": VLLM, "expo": VLLM, "sglang": SGLang, "llamacpp": LlamaCPP, "library": Ollama,
	"me": LlamaCPP, // llama-cpp-python
}

func (d Dialect) extras() bool { return d == VLLM || d == SGLang || d == LlamaCPP }

// modelList is the answer to GET models.
type modelList struct {
	Data []struct {
		ID      string `json:"id"`
		OwnedBy string `json:"owned_by"`
	} `json:"data"`
}

// Models are the names of the models of the first server that answers.
func (f *Fleet) Models(ctx context.Context) ([]string, error) {
	var names []string
	err := f.attempts(ctx, func(ctx context.Context, s *server) error {
		var list modelList
		if err := f.get(ctx, s, "models", &list); err != nil {
			return err
		}
		names = nil
		for _, m := range list.Data {
			names = append(names, m.ID)
		}
		return nil
	})
	return names, err
}

// greet finds out what has to be known of a server before it is asked
// anything: its dialect, and its model's name if none was given.
func (f *Fleet) greet(ctx context.Context, s *server) error {
	s.greeting.Lock()
	defer s.greeting.Unlock()
	if s.greeted {
		return nil
	}
	if s.dialect != Detect && s.model != "" {
		s.greeted = true
		return nil
	}
	var list modelList
	if err := f.get(ctx, s, "models", &list); err != nil {
		var e *Error
		// A gateway need not list its models.
		if s.model == "" || !errors.As(err, &e) || !slices.Contains([]int{400, 403, 404, 405, 501}, e.Status) {
			return err
		}
	}
	if s.model == "" {
		if len(list.Data) != 1 {
			return &Error{Server: s.name(), retryAfter: -1, Err: fmt.Errorf("has %d models%s; say which", len(list.Data), some(list))}
		}
		s.model = list.Data[0].ID
	}
	if s.dialect == Detect {
		s.dialect = Standard
		for _, m := range list.Data {
			if d, ok := owners[m.OwnedBy]; ok && (m.ID == s.model || len(list.Data) == 1) {
				s.dialect = d
			}
		}
	}
	s.greeted = true
	return nil
}

// some names a few models of a list.
func some(list modelList) string {
	text := ""
	for i, m := range list.Data {
		if i == 8 {
			return text + ", …"
		}
		text += map[bool]string{true: ": ", false: ", "}[i == 0] + clip(m.ID, 80)
	}
	return text
}
