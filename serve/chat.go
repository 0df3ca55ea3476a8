package serve

import (
	"net/http"
	"time"

	"expo/lm/generate"
)

// chatChoice is an answer of /v1/chat/completions.
type chatChoice struct {
	Index        int                    `json:"index"`
	Message      *chatMessage           `json:"message,omitempty"`
	Delta        *chatDelta             `json:"delta,omitempty"`
	Logprobs     *chatLogprobs          `json:"logprobs"`
	FinishReason *generate.FinishReason `json:"finish_reason"`
	StopReason   *string                `json:"stop_reason"`
	TokenIDs     *[]int                 `json:"token_ids,omitempty"`
}

type chatMessage struct {
	Role      string     `json:"role"`
	Content   *string    `json:"content"` // null if there are calls and no text
	Refusal   *string    `json:"refusal"`
	ToolCalls []toolCall `json:"tool_calls,omitempty"`
}

type chatDelta struct {
	Role      string     `json:"role,omitempty"`
	Content   *string    `json:"content,omitempty"`
	ToolCalls []toolCall `json:"tool_calls,omitempty"`
}

type chatLogprobs struct {
	Content []chatLogprob `json:"content"`
	Refusal *string       `json:"refusal"`
}

// chatCompletions is POST /v1/chat/completions.
func (s *Server) chatCompletions(w http.ResponseWriter, r *http.Request) {
	var q generate.Request
	var tools *tooling
	b, name, qs, err := s.begin(w, r, func(b *body) (rs []generate.Request, err error) {
		name, err := s.parseName(b.Model)
		if err != nil {
			return nil, err
		}
		if q, err = b.chatRequest(); err == nil {
			tools, err = b.tools(&q, s.reference(name).Template())
		}
		return []generate.Request{q}, err
	})
	if err != nil {
		s.fail(w, err)
		return
	}
	e := entryOf(w)
	n := b.samples()
	sp := speller{s.reference(name)}
	var echoed string
	if b.Echo {
		// As vLLM does: the last message, if it is what the model goes on with.
		if last := b.Messages[len(b.Messages)-1]; b.ContinueFinal {
			echoed = last.Content
		}
		qs[0].echo = false
	}
	readers := make([]*callReader, n)
	if tools != nil {
		for i := range readers {
			readers[i] = &callReader{tooling: tools}
		}
	}
	// speech is what a piece says and calls.
	speech := func(p piece) (string, []toolCall) {
		text, calls := readers[p.index].add(p.delta.Text)
		if p.delta.Response != nil {
			rest, more := readers[p.index].end()
			text, calls = text+rest, append(calls, more...)
		}
		return text, calls
	}
	fill := func(c *chatChoice, p piece) {
		d := p.delta
		c.Index = p.index
		if q.Logprobs {
			c.Logprobs = &chatLogprobs{Content: sp.chat(d.Logprobs)}
		}
		if b.ReturnTokenIDs {
			ids := append([]int{}, d.Tokens...)
			c.TokenIDs = &ids
		}
		if d.Response != nil {
			reason := readers[p.index].reason(d.Response.FinishReason)
			c.FinishReason = &reason
		}
	}
	env := envelope{ID: newID("chatcmpl-"), Object: "chat.completion", Created: time.Now().Unix(), Model: s.modelID(b, name), Fingerprint: s.fingerprint}
	if b.ReturnTokenIDs {
		env.PromptIDs = qs[0].request.Tokens
	}
	if b.Stream {
		env.Object = "chat.completion.chunk"
		called := make([]int, n)
		var head []chatChoice
		for i := range n {
			text := echoed
			head = append(head, chatChoice{Index: i, Delta: &chatDelta{Role: "assistant", Content: &text}})
		}
		s.stream(w, r, b, e, name, qs, &env, head, func(p piece) any {
			c := chatChoice{Delta: &chatDelta{}}
			text, calls := speech(p)
			if text != "" {
				c.Delta.Content = &text
			}
			for i := range calls {
				calls[i].Index = new(called[p.index])
				called[p.index]++
			}
			c.Delta.ToolCalls = calls
			fill(&c, p)
			if text == "" && calls == nil && c.FinishReason == nil && c.Logprobs == nil && c.TokenIDs == nil {
				return nil
			}
			return []chatChoice{c}
		})
		return
	}
	choices := make([]chatChoice, n)
	for p, err := range s.answer(r.Context(), e, name, qs, n, false) {
		if err != nil {
			s.fail(w, err)
			return
		}
		c := &choices[p.index]
		text, calls := speech(p)
		text = echoed + text
		c.Message = &chatMessage{Role: "assistant", Content: &text, ToolCalls: calls}
		if text == "" && calls != nil {
			c.Message.Content = nil
		}
		fill(c, p)
		e.usage.add(p.delta.Response, p.index == 0)
		e.noteAnswer(p.delta.Text)
	}
	env.Choices, env.Usage = choices, &e.usage
	writeJSON(w, http.StatusOK, env)
}

// chatRequest reads what /v1/chat/completions says.
func (b *body) chatRequest() (generate.Request, error) {
	var none generate.Request
	if len(b.Messages) == 0 {
		return none, badField("messages", "messages is missing or empty")
	}
	if len(b.Prompt) > 0 && string(b.Prompt) != "null" {
		return none, badField("prompt", "prompt belongs to /v1/completions; /v1/chat/completions takes messages")
	}
	r, err := b.request()
	if err != nil {
		return r, err
	}
	if r.MaxTokens == 0 && (b.MaxTokens != nil || b.MaxCompletionTokens != nil) {
		return r, badField("max_tokens", "max_tokens is 0, want at least 1")
	}
	switch string(b.Logprobs) {
	case "", "null", "false":
	case "true":
		r.Logprobs = true
	default:
		return r, badField("logprobs", "logprobs must be true or false; top_logprobs is the number")
	}
	if b.TopLogprobs != nil {
		switch n := *b.TopLogprobs; {
		case n < 0 || n > topMost:
			return r, badField("top_logprobs", "top_logprobs is %d, want 0 to %d", n, topMost)
		case n > 0 && !r.Logprobs:
			return r, badField("top_logprobs", "top_logprobs needs logprobs: true")
		default:
			r.TopLogprobs = n
		}
	}
	if b.AddGenerationPrompt != nil && !*b.AddGenerationPrompt && !b.ContinueFinal {
		return r, badField("add_generation_prompt", "add_generation_prompt: false is supported with continue_final_message: true only")
	}
	r.Messages = b.Messages
	return r, asObjects(r.Messages)
}
