package openai

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"

	"expo/lm/chat"
	"expo/lm/generate"
	"expo/lm/generate/grammar"
)

// wire is the JSON of a request, of both endpoints. What is nil is not sent.
type wire struct {
	Model    string          `json:"model"`
	Messages []chat.Message  `json:"messages,omitempty"`
	Tools    json.RawMessage `json:"tools,omitempty"`
	Prompt   any             `json:"prompt,omitempty"`

	MaxTokens           *int     `json:"max_tokens,omitempty"`
	MaxCompletionTokens *int     `json:"max_completion_tokens,omitempty"`
	Temperature         *float64 `json:"temperature,omitempty"`
	TopP                *float64 `json:"top_p,omitempty"`
	PresencePenalty     *float64 `json:"presence_penalty,omitempty"`
	FrequencyPenalty    *float64 `json:"frequency_penalty,omitempty"`
	Seed                *int64   `json:"seed,omitempty"`
	Stop                []string `json:"stop,omitempty"`
	Logprobs            any      `json:"logprobs,omitempty"` // a bool for chat, a number for completions
	TopLogprobs         *int     `json:"top_logprobs,omitempty"`
	Echo                bool     `json:"echo,omitempty"`
	Stream              bool     `json:"stream,omitempty"`
	StreamOptions       any      `json:"stream_options,omitempty"`

	TopK                 *int           `json:"top_k,omitempty"`
	MinP                 *float64       `json:"min_p,omitempty"`
	RepetitionPenalty    *float64       `json:"repetition_penalty,omitempty"`
	RepeatPenalty        *float64       `json:"repeat_penalty,omitempty"`
	StopTokenIDs         []int          `json:"stop_token_ids,omitempty"`
	IgnoreEOS            bool           `json:"ignore_eos,omitempty"`
	AddSpecialTokens     *bool          `json:"add_special_tokens,omitempty"`
	ResponseFormat       any            `json:"response_format,omitempty"`
	AddGenerationPrompt  *bool          `json:"add_generation_prompt,omitempty"`
	ContinueFinalMessage *bool          `json:"continue_final_message,omitempty"`
	ChatTemplateKwargs   map[string]any `json:"chat_template_kwargs,omitempty"`
	ReturnTokenIDs       bool           `json:"return_token_ids,omitempty"`
}

func bad(format string, args ...any) error {
	return fmt.Errorf("openai: "+format+" (%w)", append(args, generate.ErrRequest)...)
}

// checkRequest refuses what no server can be asked.
func checkRequest(r *generate.Request) error {
	if r.Truncate {
		return bad("a server cannot be asked to drop the beginning of a prompt; shorten it")
	}
	return r.Check()
}

// body is the JSON of a request for a server.
func (f *Fleet) body(s *server, r *generate.Request, stream bool) ([]byte, error) {
	w, err := newWire(s, r)
	if err != nil {
		return nil, err
	}
	if stream {
		w.Stream = true
		w.StreamOptions = map[string]bool{"include_usage": true}
	}
	return f.encode(w)
}

// encode leaves out and adds what the options say.
func (f *Fleet) encode(w *wire) ([]byte, error) {
	b, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("openai: %w", err)
	}
	if len(f.opt.Omit) == 0 && len(f.opt.Extra) == 0 {
		return b, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return nil, fmt.Errorf("openai: %w", err)
	}
	for _, name := range f.opt.Omit {
		delete(fields, name)
	}
	merged := map[string]any{}
	for name, v := range fields {
		merged[name] = v
	}
	maps.Copy(merged, f.opt.Extra)
	if b, err = json.Marshal(merged); err != nil {
		return nil, fmt.Errorf("openai: extra fields: %w", err)
	}
	return b, nil
}

func newWire(s *server, r *generate.Request) (*wire, error) {
	d := s.dialect
	w := &wire{Model: s.model, Messages: r.Messages, Stop: r.Stop, Temperature: &r.Temperature, TopP: new(1.0)}
	if r.TopP > 0 {
		w.TopP = &r.TopP
	}
	if len(r.Tools) > 0 {
		tools, err := json.Marshal(r.Tools)
		if err != nil {
			return nil, bad("tools: %v", err)
		}
		w.Tools = tools
	}
	switch {
	case r.Tokens != nil:
		w.Prompt = r.Tokens
	case r.Messages == nil:
		w.Prompt = r.Prompt
	}
	if r.MaxTokens > 0 {
		if s.completionTokens.Load() && r.Messages != nil {
			w.MaxCompletionTokens = &r.MaxTokens
		} else {
			w.MaxTokens = &r.MaxTokens
		}
	}
	if r.PresencePenalty != 0 || d.extras() {
		w.PresencePenalty = &r.PresencePenalty
	}
	if r.FrequencyPenalty != 0 || d.extras() {
		w.FrequencyPenalty = &r.FrequencyPenalty
	}
	if r.Temperature > 0 || r.Seed != 0 || r.Sample != 0 {
		w.Seed = new(seedOf(r.Seed, r.Sample))
	}
	if r.Logprobs || r.TopLogprobs > 0 {
		if r.Messages != nil {
			w.Logprobs, w.TopLogprobs = true, &r.TopLogprobs
		} else {
			w.Logprobs = max(r.TopLogprobs, 1) // llama.cpp takes 0 for no
		}
	}
	if g := r.Grammar; g != nil {
		source := g.Source()
		switch {
		case source == nil:
			return nil, bad("a server cannot be asked for a form that is no JSON schema")
		case r.Messages == nil && d != VLLM && d != SGLang:
			return nil, bad("this server can be asked for a form of answers to messages only")
		}
		w.ResponseFormat = map[string]any{"type": "json_object"}
		if string(source) != string(grammar.Object().Source()) {
			w.ResponseFormat = map[string]any{"type": "json_schema",
				"json_schema": map[string]any{"name": "answer", "schema": json.RawMessage(source), "strict": true}}
		}
	}
	return w, w.extend(d, r)
}

// extend adds the fields beyond OpenAI's.
func (w *wire) extend(d Dialect, r *generate.Request) error {
	repetition := r.RepetitionPenalty
	if repetition == 0 {
		repetition = 1
	}
	if d.extras() || r.TopK > 0 {
		w.TopK = new(r.TopK)
		switch {
		case d == LlamaCPP:
			w.TopK = new(max(r.TopK, 0))
		case r.TopK == 0: // older vLLM refuses 0
			w.TopK = new(-1)
		}
	}
	if d.extras() || r.MinP > 0 {
		w.MinP = &r.MinP
	}
	if d == LlamaCPP {
		w.RepeatPenalty = &repetition
	} else if d.extras() || repetition != 1 {
		w.RepetitionPenalty = &repetition
	}
	w.IgnoreEOS, w.StopTokenIDs = r.IgnoreEOS, r.StopTokenIDs
	if d == LlamaCPP && len(r.StopTokenIDs) > 0 {
		return bad("llama.cpp's server cannot be asked to stop at token ids; use stop strings")
	}
	if r.NoSpecial && r.Messages == nil && r.Tokens == nil {
		w.AddSpecialTokens = new(false)
	}
	if r.Messages != nil && len(r.TemplateVars) > 0 {
		w.ChatTemplateKwargs = r.TemplateVars
	}
	if r.ContinueFinal {
		switch d {
		case VLLM, SGLang:
			w.AddGenerationPrompt, w.ContinueFinalMessage = new(false), new(true)
		case LlamaCPP: // does so by itself where the last message is an assistant's
		default:
			return bad("this server cannot be asked to go on with the last message")
		}
	}
	w.ReturnTokenIDs = d == VLLM && w.Logprobs != nil
	return nil
}

// seedOf is a server's seed, 31 bits, which all of them take. A small seed of
// the first sample is sent as it is.
func seedOf(seed uint64, sample int) int64 {
	if sample == 0 && seed <= math.MaxInt32 {
		return int64(seed)
	}
	// The finalizer of splitmix64 (https://prng.di.unimi.it/splitmix64.c).
	z := seed + (uint64(sample)+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return int64((z ^ z>>31) >> 33)
}
