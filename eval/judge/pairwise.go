package judge

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"expo/lm/chat"
	"expo/lm/generate"
)

// Pair is two outputs for one instruction.
type Pair struct {
	Instruction string
	Output1     string // the baseline's
	Output2     string // the model's
}

// Reading is how a verdict is read out of a reply.
type Reading string

const (
	// FirstToken takes the probabilities of the two identifiers at the first
	// token.
	FirstToken Reading = "first-token"
	// LastToken takes them at the last one, after some reasoning.
	LastToken Reading = "last-token"
	// Ranking reads a list of {'model', 'rank'}.
	Ranking Reading = "ranking"
	// Votes reads an identifier as text, from several sampled replies, for
	// servers that give no log-probabilities.
	Votes Reading = "votes"
)

// Pairwise is a judge that compares two outputs.
type Pairwise struct {
	// ID is the name under which results are filed. Figures of different
	// judges are never comparable.
	ID       string
	Template *PairwiseTemplate
	Reading  Reading
	// Request is how the judge is asked: the number of tokens, sampling,
	// TopLogprobs.
	Request generate.Request
	// First and Second are the identifiers of the outputs in the order in
	// which they are shown; m and M if empty, model_1 and model_2 for Ranking.
	First, Second string

	Samples int  // replies for Votes, 1 if 0
	Swap    bool // judge in both orders and take the mean
	// Tries bounds how often a reply that cannot be read is asked for; 2 if 0.
	Tries int
	// Literal fills the template as alpaca_eval does, see FillLiterally.
	Literal bool
}

// Ask is one request of a judge.
type Ask struct {
	Request  generate.Request
	Switched bool // the model's output is shown first
	Sample   int  // of Votes
	Try      int
}

// PairwiseReply is what a judge said, in the order in which outputs were
// shown. It is what has to be kept to read the verdict again.
type PairwiseReply struct {
	Text         string        `json:"text"`
	FinishReason string        `json:"finish_reason,omitempty"`
	Logprobs     []TokenChoice `json:"logprobs,omitempty"` // of the token that is read
	HasLogprobs  bool          `json:"has_logprobs,omitempty"`

	PromptTokens     int     `json:"prompt_tokens,omitempty"`
	CompletionTokens int     `json:"completion_tokens,omitempty"`
	Seconds          float64 `json:"seconds,omitempty"`
	Date             string  `json:"date,omitempty"`
}

// TokenChoice is a token that could have been said.
type TokenChoice struct {
	Token   string  `json:"token"`
	Logprob float64 `json:"logprob"`
}

// Verdict is what a judge found.
type Verdict struct {
	// Preference is 1 if the first output of the pair is better, 2 if the
	// second is; NaN if the judge could not be read.
	Preference float64
	Rulings    []Ruling
}

// Ruling is one order of a pair, as it was judged.
type Ruling struct {
	Preference float64 // of the pair's own order, whatever was shown
	Switched   bool
	Replies    []PairwiseReply // those that were read last
	Unreadable int             // replies that could not be read
}

// ErrNoLogprobs is in the chain of the error for a judge whose server gives no
// log-probabilities although the reading needs them.
var ErrNoLogprobs = errors.New("the judge gives no log-probabilities")

// Judge compares a pair. answer answers each request, from a model or from
// what was kept; its errors end the comparison and are returned as they are.
// Equal outputs are a draw without a request.
func (p *Pairwise) Judge(ctx context.Context, pair Pair, answer func(context.Context, Ask) (PairwiseReply, error)) (Verdict, error) {
	if pair.Output1 == pair.Output2 {
		return Verdict{Preference: 1.5}, nil
	}
	orders := []bool{Switched(pair.Instruction)}
	if p.Swap {
		orders = append(orders, !orders[0])
	}
	v := Verdict{}
	for _, switched := range orders {
		r, err := p.rule(ctx, pair, switched, answer)
		if err != nil {
			return Verdict{}, err
		}
		v.Rulings = append(v.Rulings, r)
		v.Preference += r.Preference / float64(len(orders))
	}
	return v, nil
}

// rule judges a pair in one order.
func (p *Pairwise) rule(ctx context.Context, pair Pair, switched bool, answer func(context.Context, Ask) (PairwiseReply, error)) (Ruling, error) {
	first, second := pair.Output1, pair.Output2
	if switched {
		first, second = second, first
	}
	var messages []chat.Message
	if p.Literal {
		var err error
		if messages, err = p.Template.FillLiterally(pair.Instruction, first, second); err != nil {
			return Ruling{}, err
		}
	} else {
		messages = p.Template.Fill(pair.Instruction, first, second)
	}
	r := Ruling{Switched: switched}
	samples := 1
	if p.Reading == Votes {
		samples = max(p.Samples, 1)
	}
	tries := p.Tries
	if tries <= 0 {
		tries = 2
	}
	sum, read := 0.0, 0
	for s := range samples {
		for try := range tries {
			ask := Ask{Request: p.request(messages, s, try), Switched: switched, Sample: s, Try: try}
			reply, err := answer(ctx, ask)
			if err != nil {
				return Ruling{}, err
			}
			if p.NeedsLogprobs() && !reply.HasLogprobs {
				return Ruling{}, fmt.Errorf("judge: %s: %w; take one that does, or read it by votes", p.ID, ErrNoLogprobs)
			}
			raw, ok := p.Read(reply)
			if ok {
				r.Replies = append(r.Replies, reply)
				sum, read = sum+raw, read+1
				break
			}
			r.Unreadable++
		}
	}
	if read == 0 {
		r.Preference = math.NaN()
		return r, nil
	}
	r.Preference = sum / float64(read)
	if switched {
		r.Preference = 3 - r.Preference
	}
	return r, nil
}

// NeedsLogprobs tells whether verdicts are read from log-probabilities.
func (p *Pairwise) NeedsLogprobs() bool { return p.Reading == FirstToken || p.Reading == LastToken }

// request is the request for one reply. Samples and tries differ in their
// random numbers only.
func (p *Pairwise) request(messages []chat.Message, sample, try int) generate.Request {
	r := p.Request
	r.Messages = messages
	r.Sample = sample + try*max(p.Samples, 1)
	if p.NeedsLogprobs() {
		r.Logprobs = true
		r.TopLogprobs = max(r.TopLogprobs, 2)
	}
	return r
}

// Reply keeps of a response what can be read and what explains it.
func (p *Pairwise) Reply(resp generate.Response, took time.Duration) PairwiseReply {
	r := PairwiseReply{
		Text: resp.Text, FinishReason: string(resp.FinishReason), HasLogprobs: len(resp.Logprobs) > 0,
		PromptTokens: resp.Usage.PromptTokens, CompletionTokens: resp.Usage.CompletionTokens, Seconds: took.Seconds(),
	}
	if n := len(resp.Logprobs); n > 0 && p.NeedsLogprobs() {
		at := resp.Logprobs[0]
		if p.Reading == LastToken {
			at = resp.Logprobs[n-1]
			for i := n - 1; i > 0 && at.Token == ""; i-- { // end tokens without a text
				at = resp.Logprobs[i-1]
			}
		}
		if len(at.Top) == 0 {
			r.Logprobs = []TokenChoice{{at.Token, at.Logprob}}
		}
		for _, t := range at.Top {
			r.Logprobs = append(r.Logprobs, TokenChoice{t.Token, t.Logprob})
		}
	}
	return r
}
