package openai

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"expo/lm/generate"
)

// Price is what a million tokens cost, read and written.
type Price struct {
	Input  float64 `json:"input"`
	Output float64 `json:"output"`
}

// Of is the price of a number of tokens.
func (p Price) Of(prompt, completion int) float64 {
	return (p.Input*float64(prompt) + p.Output*float64(completion)) / 1e6
}

// Estimate is what requests are expected to need at most.
type Estimate struct {
	Requests         int     `json:"requests"`
	PromptTokens     int     `json:"prompt_tokens"`     // a token for four bytes, and eight more a message
	CompletionTokens int     `json:"completion_tokens"` // if every answer is as long as allowed
	Cost             float64 `json:"cost"`
}

// assumedTokens is the length of an answer that nothing bounds.
const assumedTokens = 4096

// Estimate adds up requests. Nothing is sent.
func (p Price) Estimate(rs ...generate.Request) Estimate {
	var e Estimate
	for _, r := range rs {
		bytes, tokens := len(r.Prompt), len(r.Tokens)
		for _, m := range r.Messages {
			bytes += len(m.Content)
			tokens += 8
		}
		e.Requests++
		e.PromptTokens += tokens + (bytes+3)/4
		if r.MaxTokens > 0 {
			e.CompletionTokens += r.MaxTokens
		} else {
			e.CompletionTokens += assumedTokens
		}
	}
	e.Cost = p.Of(e.PromptTokens, e.CompletionTokens)
	return e
}

// ListPrices are OpenAI's list prices in US dollars, as published in spring
// 2026 for the models still sold then, and last published for the others. They
// are there to bound costs, not to account for them.
func ListPrices() map[string]Price {
	return map[string]Price{
		"gpt-3.5-turbo":      {0.5, 1.5},
		"gpt-4":              {30, 60},
		"gpt-4-32k":          {60, 120},
		"gpt-4-0125-preview": {10, 30},
		"gpt-4-1106-preview": {10, 30},
		"gpt-4-turbo":        {10, 30},
		"gpt-4.1":            {2, 8},
		"gpt-4.1-mini":       {0.4, 1.6},
		"gpt-4.1-nano":       {0.1, 0.4},
		"gpt-4o":             {2.5, 10},
		"gpt-4o-2024-05-13":  {5, 15},
		"gpt-4o-mini":        {0.15, 0.6},
		"gpt-5":              {1.25, 10},
		"gpt-5-mini":         {0.25, 2},
		"gpt-5-nano":         {0.05, 0.4},
		"gpt-5-pro":          {15, 120},
		"gpt-5.1":            {1.25, 10},
		"gpt-5.4":            {2.5, 15},
		"o1":                 {15, 60},
		"o3":                 {2, 8},
		"o3-mini":            {1.1, 4.4},
		"o4-mini":            {1.1, 4.4},
	}
}

// ParsePrices reads a table of prices, {"MODEL": {"input": 2.5, "output": 10}},
// per million tokens.
func ParsePrices(data []byte) (map[string]Price, error) {
	var table map[string]struct{ Input, Output *float64 }
	if err := json.Unmarshal(data, &table); err != nil {
		return nil, fmt.Errorf("openai: prices: %w", err)
	}
	out := make(map[string]Price, len(table))
	for model, p := range table {
		if p.Input == nil || p.Output == nil || *p.Input < 0 || *p.Output < 0 {
			return nil, fmt.Errorf(`openai: prices: %s: want {"input": NUMBER, "output": NUMBER}, per million tokens`, model)
		}
		out[model] = Price{*p.Input, *p.Output}
	}
	return out, nil
}

// PriceOf finds a model's price in a table: the entry of its name, or else of
// the longest beginning of it that ends at a dash, which is how dated versions
// are named. A provider's name and a slash in front do not matter.
func PriceOf(table map[string]Price, model string) (Price, bool) {
	for {
		for name := model; name != ""; name = name[:max(strings.LastIndexByte(name, '-'), 0)] {
			// "gpt-4" is no family: gpt-4-vision is not of its price.
			if p, ok := table[name]; ok && (name == model || dated(model[len(name):])) {
				return p, true
			}
		}
		_, rest, ok := strings.Cut(model, "/")
		if !ok {
			return Price{}, false
		}
		model = rest
	}
}

// dated reports whether the end of a name is a version's date, or says that it
// is the latest.
func dated(suffix string) bool {
	if suffix == "-latest" {
		return true
	}
	for _, c := range suffix {
		if c != '-' && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// Budget keeps what one or several fleets spend within a limit. What requests
// under way may cost at most counts as spent until they are settled.
type Budget struct {
	limit float64

	mu       sync.Mutex
	spent    float64
	reserved float64
	settled  chan struct{} // closed and replaced by settle
}

// NewBudget makes a budget in the currency of the fleets' prices.
func NewBudget(limit float64) *Budget {
	return &Budget{limit: limit, settled: make(chan struct{})}
}

// reserve waits until cost fits into what is left, or fails if it does not even
// when nothing is under way. A budget that is nil has no limit.
func (b *Budget) reserve(ctx context.Context, cost float64) error {
	for b != nil {
		b.mu.Lock()
		if b.spent+b.reserved+cost <= b.limit {
			b.reserved += cost
			b.mu.Unlock()
			return nil
		}
		if b.reserved < 1e-12 || b.spent+cost > b.limit {
			spent := b.spent
			b.mu.Unlock()
			return fmt.Errorf("openai: %.4f of %.4f are spent, and the next request could cost %.4f: %w", spent, b.limit, cost, ErrBudget)
		}
		settled := b.settled
		b.mu.Unlock()
		select {
		case <-settled:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (b *Budget) settle(reserved, cost float64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reserved -= reserved
	b.spent += cost
	close(b.settled)
	b.settled = make(chan struct{})
}
