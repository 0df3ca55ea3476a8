// Package generate says what a request to a language model is, and what it
// answers, whoever answers it: this process (package local) or a server
// (package openai).
//
// Start at [Request], [Generator] and [Streamer]; [Scorer] is for the
// log-likelihoods of given texts. [Sampler] turns logits into a token and is
// what local uses.
//
// Parameters mean what they mean to vLLM
// (https://docs.vllm.ai/en/stable/api/vllm/sampling_params.html): raw
// log-probabilities, then the grammar, penalties, temperature, min-p, top-k, top-p, in this
// order. An answer depends on the request alone, Seed and Sample included, not
// on what else is being answered.
package generate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"

	"expo/lm/chat"
	"expo/lm/generate/grammar"
)

// Request is one prompt and how to continue it. Exactly one of Messages,
// Prompt and Tokens is given. The zero values of all else are useful: greedy,
// up to the end of the context.
type Request struct {
	// Messages go through the model's chat template, which also decides about
	// special tokens. Tools and TemplateVars are for the template.
	Messages     []chat.Message
	Tools        []json.RawMessage
	TemplateVars map[string]any
	// ContinueFinal lets the model go on with the last message rather than
	// answer it.
	ContinueFinal bool

	// Prompt is text as it stands; special tokens written in it count, and the
	// tokenizer's own (BOS) are added unless NoSpecial says otherwise. An empty
	// Prompt is one if Messages and Tokens are nil.
	Prompt    string
	NoSpecial bool

	// Tokens are token IDs, taken as they are.
	Tokens []int
	// NewText says that Tokens are a chat template's, so that the answer is a
	// text of its own, as that to Messages is. Otherwise it is what the text of
	// prompt and answer has more than that of the prompt: with tokenizers of the
	// SentencePiece family the answer to "Once upon" may then begin with a
	// space.
	NewText bool

	// MaxTokens bounds the answer; 0 leaves that to the length of the context.
	MaxTokens int
	// Truncate drops the beginning of a prompt that is longer than the context
	// allows, which is an error otherwise.
	Truncate bool

	Sampling

	// Grammar is the form that the answer is to have, nil for any: tokens that
	// cannot continue it are not sampled, and the answer ends when it is
	// complete. The limit of tokens, Stop and StopTokenIDs may cut it short.
	// Log-probabilities are those without it.
	Grammar *grammar.Grammar

	// Stop are strings at which the answer ends; they are not part of it.
	Stop []string
	// StopTokenIDs end the answer like the model's own end tokens.
	StopTokenIDs []int
	// IgnoreEOS goes on past the model's end tokens, for measuring.
	IgnoreEOS bool

	// Logprobs asks for the log-probability of each token, TopLogprobs (up to
	// 20) for those of the best ones as well: log softmax of the logits before
	// penalties and temperature.
	Logprobs    bool
	TopLogprobs int
}

// Sampling is how a token is chosen.
type Sampling struct {
	// Temperature divides the logits, 0…2. Below 1e-5 the first of the largest
	// logits wins and TopP, TopK, MinP mean nothing; up to 0.01 it counts as
	// 0.01.
	Temperature float64
	TopP        float64 // keep the fewest tokens with this much probability; 0 and 1: all
	TopK        int     // keep the k best, and what ties with the last; 0 and −1: all
	MinP        float64 // drop what is less probable than this part of the best; 0…1

	// PresencePenalty is subtracted once from the logit of a token in the
	// answer, FrequencyPenalty once for each time it is there; −2…2.
	PresencePenalty  float64
	FrequencyPenalty float64
	// RepetitionPenalty divides a positive logit of a token in the prompt or
	// the answer and multiplies a negative one; above 0, and 0 means 1.
	RepetitionPenalty float64

	// Seed and Sample choose the random numbers: the same pair gives the same
	// text, and samples of one seed are independent.
	Seed   uint64
	Sample int
}

// ErrRequest is in the chain of errors about a request's own values.
var ErrRequest = errors.New("bad request")

func bad(format string, args ...any) error {
	return fmt.Errorf("generate: "+format+" (%w)", append(args, ErrRequest)...)
}

// Check says what is wrong with the values of a request.
func (r *Request) Check() error {
	n := 0
	for _, given := range []bool{r.Messages != nil, r.Prompt != "", r.Tokens != nil} {
		if given {
			n++
		}
	}
	in := func(x, lo, hi float64) bool { return x >= lo && x <= hi } // false for NaN
	switch {
	case n > 1:
		return bad("more than one of messages, prompt and token ids")
	case r.MaxTokens < 0:
		return bad("max_tokens is %d, want at least 1", r.MaxTokens)
	case !in(r.Temperature, 0, 2):
		return bad("temperature is %v, want 0 to 2", r.Temperature)
	case !in(r.TopP, 0, 1):
		return bad("top_p is %v, want above 0, to 1", r.TopP)
	case r.TopK < -1:
		return bad("top_k is %d, want −1 (off) or a count", r.TopK)
	case !in(r.MinP, 0, 1):
		return bad("min_p is %v, want 0 to 1", r.MinP)
	case !in(r.PresencePenalty, -2, 2):
		return bad("presence_penalty is %v, want −2 to 2", r.PresencePenalty)
	case !in(r.FrequencyPenalty, -2, 2):
		return bad("frequency_penalty is %v, want −2 to 2", r.FrequencyPenalty)
	case !in(r.RepetitionPenalty, 0, math.MaxFloat32):
		return bad("repetition_penalty is %v, want above 0", r.RepetitionPenalty)
	case r.TopLogprobs < 0 || r.TopLogprobs > 20:
		return bad("top_logprobs is %d, want 0 to 20", r.TopLogprobs)
	}
	for _, s := range r.Stop {
		if s == "" {
			return bad("an empty stop string")
		}
	}
	return nil
}

// FinishReason is why an answer ended, in OpenAI's words.
type FinishReason string

// Stop is an end token or a stop string, Length the limit of tokens or
// context.
const (
	Stop   FinishReason = "stop"
	Length FinishReason = "length"
)

// Response is a whole answer.
type Response struct {
	Text         string
	Tokens       []int // what was sampled, a final end token included
	FinishReason FinishReason
	Logprobs     []TokenLogprob // for each of Tokens, if asked for
	Usage        Usage
	Timings      Timings
	Prompt       string // what the template made of Messages, or Prompt
}

// Usage counts tokens.
type Usage struct {
	PromptTokens     int
	CompletionTokens int
	// CachedTokens of the prompt had been computed before, for this or another
	// request.
	CachedTokens int
	// TruncatedTokens of the prompt were dropped.
	TruncatedTokens int
}

// Timings are in seconds; in a batch, others share them.
type Timings struct {
	PromptSeconds     float64 // from the request's turn to its first token
	CompletionSeconds float64 // from there to the last
}

// TokenLogprob is the log-probability of a token, and of the likeliest there.
type TokenLogprob struct {
	ID      int
	Token   string // as text; may be a part of a character
	Logprob float64
	Top     []TokenLogprob
}

// Delta is what has been added to an answer. The last one has Response set,
// which is the whole.
type Delta struct {
	Text     string
	Tokens   []int
	Logprobs []TokenLogprob
	Response *Response
}

// Generator answers requests.
type Generator interface {
	Generate(ctx context.Context, r Request) (Response, error)
}

// Streamer answers piece by piece. After an error there is nothing more.
type Streamer interface {
	Generator
	Stream(ctx context.Context, r Request) iter.Seq2[Delta, error]
}

// Continuation is a text after a context. Each is text or, where the slice is
// not nil, token IDs.
type Continuation struct {
	Context       string
	Text          string
	ContextTokens []int
	Tokens        []int
}

// Likelihood is how probable a continuation is.
type Likelihood struct {
	Logprob       float64   // the sum
	TokenIDs      []int     // of the continuation
	TokenLogprobs []float64 // of each
	IsGreedy      bool      // each is the likeliest
}

// Scorer computes log-likelihoods, in the order of the continuations.
type Scorer interface {
	Score(ctx context.Context, cs []Continuation) ([]Likelihood, error)
}
