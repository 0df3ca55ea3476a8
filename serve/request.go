package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"

	"expo/lm/chat"
	"expo/lm/generate"
)

// body is what a request for answers may say. Of both endpoints, which differ
// in Messages, Prompt and the type of Logprobs.
type body struct {
	Model    string          `json:"model"`
	Messages []chat.Message  `json:"messages"`
	Prompt   json.RawMessage `json:"prompt"`

	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	Temperature         *float64        `json:"temperature"`
	TopP                *float64        `json:"top_p"`
	PresencePenalty     float64         `json:"presence_penalty"`
	FrequencyPenalty    float64         `json:"frequency_penalty"`
	N                   *int            `json:"n"`
	Seed                *int64          `json:"seed"`
	Stop                json.RawMessage `json:"stop"`
	Logprobs            json.RawMessage `json:"logprobs"`
	TopLogprobs         *int            `json:"top_logprobs"`
	Echo                bool            `json:"echo"`
	Stream              bool            `json:"stream"`
	StreamOptions       struct {
		IncludeUsage    bool `json:"include_usage"`
		ContinuousUsage bool `json:"continuous_usage_stats"`
	} `json:"stream_options"`
	Tools          []json.RawMessage `json:"tools"`
	ToolChoice     json.RawMessage   `json:"tool_choice"`
	ParallelCalls  *bool             `json:"parallel_tool_calls"`
	ResponseFormat json.RawMessage   `json:"response_format"`

	// vLLM's.
	TopK                *int                       `json:"top_k"`
	MinP                float64                    `json:"min_p"`
	RepetitionPenalty   *float64                   `json:"repetition_penalty"`
	StopTokenIDs        []int                      `json:"stop_token_ids"`
	IgnoreEOS           bool                       `json:"ignore_eos"`
	TruncatePrompt      *int                       `json:"truncate_prompt_tokens"`
	AddSpecialTokens    *bool                      `json:"add_special_tokens"`
	AddGenerationPrompt *bool                      `json:"add_generation_prompt"`
	ContinueFinal       bool                       `json:"continue_final_message"`
	TemplateVars        map[string]json.RawMessage `json:"chat_template_kwargs"`
	ReturnTokenIDs      bool                       `json:"return_token_ids"`
	StructuredOutputs   json.RawMessage            `json:"structured_outputs"`
	GuidedJSON          json.RawMessage            `json:"guided_json"`
	GuidedChoice        []string                   `json:"guided_choice"`
}

// unsupported are fields that would change the answer, each with the values
// that would not.
var unsupported = map[string][]string{
	"allowed_token_ids":          {`[]`},
	"audio":                      nil,
	"bad_words":                  {`[]`},
	"chat_template":              nil,
	"documents":                  {`[]`},
	"function_call":              {`"none"`, `"auto"`},
	"functions":                  {`[]`},
	"guided_grammar":             nil,
	"guided_regex":               nil,
	"include_stop_str_in_output": {`false`},
	"logit_bias":                 {`{}`},
	"min_tokens":                 {`0`},
	"modalities":                 {`["text"]`},
	"prompt_embeds":              nil,
	"prompt_logprobs":            nil,
	"return_tokens_as_token_ids": {`false`},
	"skip_special_tokens":        {`true`},
	"suffix":                     {`""`},
	"use_beam_search":            {`false`},
}

// samplesMost bounds n, and the prompts of one request.
const samplesMost = 128

// readBody reads a request, and says of every unsupported field that it is.
func readBody(r *http.Request) (*body, error) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, badField("", "the body is no JSON object: %v", err)
	}
	var refused []string
	for name, value := range fields {
		harmless, ok := unsupported[name]
		if !ok || string(value) == "null" {
			continue
		}
		var compact bytes.Buffer
		json.Compact(&compact, value)
		if !slices.Contains(harmless, compact.String()) {
			refused = append(refused, name)
		}
	}
	if len(refused) > 0 {
		slices.Sort(refused)
		return nil, badField(refused[0], "not supported: %q", refused)
	}
	var b body
	if err := json.Unmarshal(raw, &b); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return nil, badField(wrong.Field, "%s must not be a %s", wrong.Field, wrong.Value)
		}
		return nil, badField("", "%v", err)
	}
	if best, ok := fields["best_of"]; ok && string(best) != "null" && string(best) != fmt.Sprint(b.samples()) {
		return nil, badField("best_of", "not supported unless it is n")
	}
	return &b, nil
}

func (b *body) samples() int {
	if b.N == nil {
		return 1
	}
	return *b.N
}

// request makes what is common to all answers. Seeds that are not given are
// random.
func (b *body) request() (generate.Request, error) {
	var r generate.Request
	if n := b.samples(); n < 1 || n > samplesMost {
		return r, badField("n", "n is %d, want 1 to %d", n, samplesMost)
	}
	r.Temperature, r.TopP = 1, 1
	if b.Temperature != nil {
		r.Temperature = *b.Temperature
	}
	if b.TopP != nil {
		if r.TopP = *b.TopP; r.TopP <= 0 {
			return r, badField("top_p", "top_p is %v, want above 0, up to 1", r.TopP)
		}
	}
	if b.TopK != nil {
		r.TopK = *b.TopK
	}
	if b.RepetitionPenalty != nil {
		if r.RepetitionPenalty = *b.RepetitionPenalty; r.RepetitionPenalty <= 0 {
			return r, badField("repetition_penalty", "repetition_penalty is %v, want above 0", r.RepetitionPenalty)
		}
	}
	r.MinP, r.PresencePenalty, r.FrequencyPenalty = b.MinP, b.PresencePenalty, b.FrequencyPenalty
	r.Seed = rand.Uint64()
	if b.Seed != nil {
		r.Seed = uint64(*b.Seed)
	}
	limit := b.MaxTokens
	if b.MaxCompletionTokens != nil {
		limit = b.MaxCompletionTokens
	}
	if limit != nil {
		if r.MaxTokens = *limit; r.MaxTokens < 0 || r.MaxTokens == 0 && !b.Echo {
			return r, badField("max_tokens", "max_tokens is %d, want at least 1", r.MaxTokens)
		}
	}
	var err error
	if r.Stop, err = b.stops(); err != nil {
		return r, err
	}
	if r.Grammar, err = b.form(); err != nil {
		return r, err
	}
	r.StopTokenIDs, r.IgnoreEOS = b.StopTokenIDs, b.IgnoreEOS
	r.Tools = b.Tools
	r.ContinueFinal = b.ContinueFinal
	if len(b.TemplateVars) > 0 {
		r.TemplateVars = make(map[string]any, len(b.TemplateVars))
		for k, v := range b.TemplateVars {
			r.TemplateVars[k] = v
		}
	}
	return r, nil
}

func (b *body) stops() ([]string, error) {
	if b.Stop == nil || string(b.Stop) == "null" {
		return nil, nil
	}
	var one string
	if json.Unmarshal(b.Stop, &one) == nil {
		return []string{one}, nil
	}
	var many []string
	if err := json.Unmarshal(b.Stop, &many); err != nil {
		return nil, badField("stop", "stop must be a text or a list of texts")
	}
	if len(many) > 64 {
		return nil, badField("stop", "%d stop strings, want 64 at most", len(many))
	}
	return many, nil
}

// prompts reads the prompt of /v1/completions: a text, texts, token IDs, or
// lists of them.
func (b *body) prompts(r generate.Request) ([]generate.Request, error) {
	special := b.AddSpecialTokens == nil || *b.AddSpecialTokens
	text := func(s string) generate.Request {
		q := r
		q.Prompt, q.NoSpecial = s, !special
		return q
	}
	ids := func(list []int) generate.Request {
		q := r
		q.Tokens = list
		return q
	}
	var one string
	var many []string
	var tokens []int
	var lists [][]int
	var out []generate.Request
	switch {
	case len(b.Prompt) == 0 || string(b.Prompt) == "null":
		return nil, badField("prompt", "prompt is missing")
	case json.Unmarshal(b.Prompt, &one) == nil:
		return []generate.Request{text(one)}, nil
	case json.Unmarshal(b.Prompt, &tokens) == nil && len(tokens) > 0:
		return []generate.Request{ids(tokens)}, nil
	case json.Unmarshal(b.Prompt, &many) == nil && len(many) > 0:
		for _, s := range many {
			out = append(out, text(s))
		}
	case json.Unmarshal(b.Prompt, &lists) == nil && len(lists) > 0:
		for i, list := range lists {
			if len(list) == 0 {
				return nil, badField("prompt", "prompt %d is empty", i)
			}
			out = append(out, ids(list))
		}
	default:
		return nil, badField("prompt", "prompt must be a text, a list of texts, a list of token ids, or a list of such lists")
	}
	if len(out) > samplesMost {
		return nil, badField("prompt", "%d prompts, want %d at most", len(out), samplesMost)
	}
	return out, nil
}
