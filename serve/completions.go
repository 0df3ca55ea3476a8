package serve

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"expo/lm/generate"
)

// textChoice is an answer, or a piece of one, of /v1/completions.
type textChoice struct {
	Index          int                    `json:"index"`
	Text           string                 `json:"text"`
	Logprobs       *textLogprobs          `json:"logprobs"`
	FinishReason   *generate.FinishReason `json:"finish_reason"`
	StopReason     *string                `json:"stop_reason"`
	TokenIDs       *[]int                 `json:"token_ids,omitempty"`
	PromptTokenIDs []int                  `json:"prompt_token_ids,omitempty"`
}

// envelope is what every answer comes in.
type envelope struct {
	ID          string `json:"id"`
	Object      string `json:"object"`
	Created     int64  `json:"created"`
	Model       string `json:"model"`
	Fingerprint string `json:"system_fingerprint"`
	Choices     any    `json:"choices"`
	Usage       *usage `json:"usage,omitempty"`
	PromptIDs   []int  `json:"prompt_token_ids,omitempty"`
}

// usage counts tokens.
type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
	Details    struct {
		Cached int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

func (u *usage) add(r *generate.Response, prompt bool) {
	if prompt {
		u.Prompt += r.Usage.PromptTokens
		u.Details.Cached += r.Usage.CachedTokens
	}
	u.Completion += r.Usage.CompletionTokens
	u.Total = u.Prompt + u.Completion
}

// completions is POST /v1/completions.
func (s *Server) completions(w http.ResponseWriter, r *http.Request) {
	b, name, qs, err := s.begin(w, r, (*body).textRequests)
	if err != nil {
		s.fail(w, err)
		return
	}
	e := entryOf(w)
	n := b.samples()
	sp := speller{s.reference(name)}
	offsets := make([]int, n*len(qs))
	began := make([]bool, n*len(qs))
	choice := func(p piece) textChoice {
		q := &qs[p.index/n]
		d := p.delta
		c := textChoice{Index: p.index, Text: d.Text}
		first := !began[p.index]
		began[p.index] = true
		if q.request.Logprobs {
			c.Logprobs = &textLogprobs{Tokens: []string{}, Logprobs: []*float64{}, Top: []map[string]float64{}, Offsets: []int{}}
			at := offsets[p.index]
			at = c.Logprobs.add(sp, p.prompt, at, true)
			offsets[p.index] = c.Logprobs.add(sp, d.Logprobs, at, false)
		}
		if first && q.echo {
			text := q.text
			if text == "" {
				text = s.reference(name).Tokenizer().Decode(q.request.Tokens, false)
			}
			c.Text = text + c.Text
			if !q.request.Logprobs {
				offsets[p.index] = utf8.RuneCountInString(text)
			}
		}
		if b.ReturnTokenIDs {
			ids := append([]int{}, d.Tokens...)
			c.TokenIDs = &ids
			if first {
				c.PromptTokenIDs = q.request.Tokens
			}
		}
		if d.Response != nil {
			c.FinishReason = &d.Response.FinishReason
		}
		return c
	}
	env := envelope{ID: newID("cmpl-"), Object: "text_completion", Created: time.Now().Unix(), Model: s.modelID(b, name), Fingerprint: s.fingerprint}
	if b.Stream {
		s.stream(w, r, b, e, name, qs, &env, nil, func(p piece) any {
			c := choice(p)
			if c.Text == "" && c.FinishReason == nil && c.Logprobs == nil && c.TokenIDs == nil {
				return nil
			}
			return []textChoice{c}
		})
		return
	}
	choices := make([]textChoice, n*len(qs))
	for p, err := range s.answer(r.Context(), e, name, qs, n, false) {
		if err != nil {
			s.fail(w, err)
			return
		}
		c := choice(p)
		// What echoes comes in two pieces.
		if old := choices[p.index]; old.Text != "" || old.Logprobs != nil {
			c.Text = old.Text + c.Text
			if old.Logprobs != nil {
				c.Logprobs.Tokens = append(old.Logprobs.Tokens, c.Logprobs.Tokens...)
				c.Logprobs.Logprobs = append(old.Logprobs.Logprobs, c.Logprobs.Logprobs...)
				c.Logprobs.Top = append(old.Logprobs.Top, c.Logprobs.Top...)
				c.Logprobs.Offsets = append(old.Logprobs.Offsets, c.Logprobs.Offsets...)
			}
			c.PromptTokenIDs = old.PromptTokenIDs
		}
		choices[p.index] = c
		if p.delta.Response != nil {
			e.usage.add(p.delta.Response, p.index%n == 0)
			e.noteAnswer(c.Text)
		}
	}
	env.Choices, env.Usage = choices, &e.usage
	writeJSON(w, http.StatusOK, env)
}

// textRequests reads what /v1/completions says.
func (b *body) textRequests() ([]generate.Request, error) {
	if len(b.Messages) > 0 {
		return nil, badField("messages", "messages belong to /v1/chat/completions; /v1/completions takes prompt")
	}
	if len(b.Tools) > 0 {
		return nil, badField("tools", "tools belong to /v1/chat/completions")
	}
	r, err := b.request()
	if err != nil {
		return nil, err
	}
	if b.MaxTokens == nil && b.MaxCompletionTokens == nil {
		r.MaxTokens = 16
	}
	if l := string(b.Logprobs); l != "" && l != "null" && l != "false" {
		n, err := strconv.Atoi(l)
		if l == "true" {
			n, err = 0, nil
		}
		if err != nil || n < 0 || n > topMost {
			return nil, badField("logprobs", "logprobs must be a number from 0 to %d", topMost)
		}
		r.Logprobs, r.TopLogprobs = true, n
	}
	return b.prompts(r)
}

// topMost is how many log-probabilities a token comes with at most.
const topMost = 20

// modelID is the name that the answer gives back: what was asked for.
func (s *Server) modelID(b *body, name modelName) string {
	if b.Model != "" {
		return b.Model
	}
	return name.String()
}

func marshal(v any) ([]byte, error) { return json.Marshal(v) }
