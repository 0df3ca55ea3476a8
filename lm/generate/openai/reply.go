package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sort"

	"expo/lm/generate"
)

// reply is an answer of either endpoint, whole or a piece of a stream. Servers
// differ in which fields they fill.
type reply struct {
	Model   string      `json:"model"`
	Choices []choice    `json:"choices"`
	Usage   *usage      `json:"usage"`
	Error   *errorReply `json:"error"`
}

type choice struct {
	Text         *string         `json:"text"`
	Message      *replyMessage   `json:"message"`
	Delta        *replyMessage   `json:"delta"`
	FinishReason *string         `json:"finish_reason"`
	Logprobs     json.RawMessage `json:"logprobs"`
	TokenIDs     []int           `json:"token_ids"`
}

type replyMessage struct {
	Content *content `json:"content"`
	Refusal *string  `json:"refusal"`
}

// content is a message's text. Some servers send it in parts, of which those
// with reasoning are not part of the answer.
type content string

func (c *content) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, (*string)(c)) == nil {
		return nil
	}
	var parts []struct{ Type, Text string }
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	for _, p := range parts {
		if p.Type == "text" {
			*c += content(p.Text)
		}
	}
	return nil
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	Details          *struct {
		CachedTokens int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

func (u *usage) usage() generate.Usage {
	if u == nil {
		return generate.Usage{}
	}
	out := generate.Usage{PromptTokens: max(u.PromptTokens, 0), CompletionTokens: max(u.CompletionTokens, 0)}
	if u.Details != nil {
		out.CachedTokens = max(u.Details.CachedTokens, 0)
	}
	return out
}

// response is the answer. The usage is there even with an error.
func (r *reply) response(q *generate.Request) (generate.Response, error) {
	resp := generate.Response{Usage: r.Usage.usage(), Prompt: q.Prompt}
	if len(r.Choices) == 0 {
		return resp, errors.New("answered without a choice")
	}
	c := r.Choices[0]
	switch {
	case c.Message != nil && c.Message.Content != nil:
		resp.Text = string(*c.Message.Content)
	case c.Message != nil && c.Message.Refusal != nil:
		resp.Text = *c.Message.Refusal
	case c.Text != nil:
		resp.Text = *c.Text
	case c.Message == nil:
		return resp, errors.New("answered without a text")
	}
	resp.FinishReason = finish(c.FinishReason)
	resp.Tokens = c.TokenIDs
	if q.Logprobs || q.TopLogprobs > 0 {
		list, err := parseLogprobs(c.Logprobs)
		if err != nil {
			return resp, err
		}
		number(list, c.TokenIDs)
		resp.Logprobs = list
	}
	return resp, nil
}

// finish is the reason in OpenAI's words; a server's own end of text is Stop.
func finish(s *string) generate.FinishReason {
	switch {
	case s == nil, *s == "", *s == "eos", *s == "eos_token", *s == "stop_sequence":
		return generate.Stop
	}
	return generate.FinishReason(*s)
}

// number sets the IDs of an answer's tokens where the server told them.
func number(list []generate.TokenLogprob, ids []int) {
	if len(ids) != len(list) {
		return
	}
	for i := range list {
		list[i].ID = ids[i]
	}
}

// logprobsJSON is both forms of log-probabilities: that of chat, a list of
// objects, and that of completions, parallel lists.
type logprobsJSON struct {
	Content []tokenJSON `json:"content"`

	Tokens        []string                     `json:"tokens"`
	TokenLogprobs []*float64                   `json:"token_logprobs"`
	TopLogprobs   []map[string]json.RawMessage `json:"top_logprobs"`
}

type tokenJSON struct {
	ID      *int        `json:"id"`
	Token   string      `json:"token"`
	Bytes   []int       `json:"bytes"`
	Logprob float64     `json:"logprob"`
	Top     []tokenJSON `json:"top_logprobs"`
}

func (t tokenJSON) token() generate.TokenLogprob {
	out := generate.TokenLogprob{ID: -1, Token: t.Token, Logprob: t.Logprob}
	if t.ID != nil {
		out.ID = *t.ID
	}
	if len(t.Bytes) > 0 { // parts of characters cannot be in Token
		b := make([]byte, len(t.Bytes))
		for i, x := range t.Bytes {
			b[i] = byte(x)
		}
		out.Token = string(b)
	}
	for _, s := range t.Top {
		out.Top = append(out.Top, s.token())
	}
	return out
}

// parseLogprobs reads either form; nil for none.
func parseLogprobs(raw json.RawMessage) ([]generate.TokenLogprob, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var l logprobsJSON
	if err := json.Unmarshal(raw, &l); err != nil {
		return nil, fmt.Errorf("log-probabilities that cannot be read: %w", err)
	}
	var out []generate.TokenLogprob
	for _, t := range l.Content {
		out = append(out, t.token())
	}
	if l.Content != nil || l.Tokens == nil {
		return out, nil
	}
	if len(l.TokenLogprobs) != len(l.Tokens) || l.TopLogprobs != nil && len(l.TopLogprobs) != len(l.Tokens) {
		return nil, fmt.Errorf("log-probabilities for %d of %d tokens", len(l.TokenLogprobs), len(l.Tokens))
	}
	for i, token := range l.Tokens {
		t := generate.TokenLogprob{ID: -1, Token: token}
		if p := l.TokenLogprobs[i]; p != nil { // the first of a prompt has none
			t.Logprob = *p
		}
		if l.TopLogprobs != nil {
			t.Top = best(l.TopLogprobs[i])
		}
		out = append(out, t)
	}
	return out, nil
}

// best are a map's tokens, the likeliest first.
func best(m map[string]json.RawMessage) []generate.TokenLogprob {
	var out []generate.TokenLogprob
	for token, raw := range m {
		var p float64
		if json.Unmarshal(raw, &p) == nil && !bytes.Equal(raw, []byte("null")) {
			out = append(out, generate.TokenLogprob{ID: -1, Token: token, Logprob: p})
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Logprob != out[j].Logprob {
			return out[i].Logprob > out[j].Logprob
		}
		return out[i].Token < out[j].Token
	})
	return out
}
