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
	Role    string  `json:"role"`
	Content string  `json:"content"`
	Refusal *string `json:"refusal"`
}

type chatDelta struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

type chatLogprobs struct {
	Content []chatLogprob `json:"content"`
	Refusal *string       `json:"refusal"`
}

// chatCompletions is POST /v1/chat/completions.
func (s *Server) chatCompletions(w http.ResponseWriter, r *http.Request) {
	var q generate.Request
	b, name, qs, err := s.begin(w, r, func(b *body) (rs []generate.Request, err error) {
		q, err = b.chatRequest()
		return []generate.Request{q}, err
	})
	if err != nil {
		s.fail(w, err)
		return
	}
	e := entryOf(w)
	n := b.samples()
	sp := s.speller(s.reference(name))
	var echoed string
	if b.Echo {
		// As vLLM does: the last message, if it is what the model goes on with.
		if last := b.Messages[len(b.Messages)-1]; b.ContinueFinal {
			echoed = last.Content
		}
		qs[0].echo = false
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
			c.FinishReason = &d.Response.FinishReason
		}
	}
	env := envelope{ID: newID("chatcmpl-"), Object: "chat.completion", Created: time.Now().Unix(), Model: s.modelID(b, name), Fingerprint: s.fingerprint}
	if b.ReturnTokenIDs {
		env.PromptIDs = qs[0].request.Tokens
	}
	if b.Stream {
		env.Object = "chat.completion.chunk"
		var head []chatChoice
		for i := range n {
			text := echoed
			head = append(head, chatChoice{Index: i, Delta: &chatDelta{Role: "assistant", Content: &text}})
		}
		s.stream(w, r, b, e, name, qs, &env, head, func(p piece) any {
			c := chatChoice{Delta: &chatDelta{}}
			if p.delta.Text != "" {
				c.Delta.Content = &p.delta.Text
			}
			fill(&c, p)
			if p.delta.Text == "" && c.FinishReason == nil && c.Logprobs == nil && c.TokenIDs == nil {
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
		c.Message = &chatMessage{Role: "assistant", Content: echoed + p.delta.Text}
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
	return r, nil
}
