package reward

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"expo/lm/chat"
)

// An Item is one answer to be scored.
type Item struct {
	// Messages are the conversation that Response answers; they go through the
	// reward model's chat template together with it. If there are none, Prompt
	// is text that Response follows as it stands, for models without a template.
	// A model that reads pairs of texts takes Prompt as the first one if it is
	// not empty, and otherwise the only message.
	Messages []chat.Message
	Prompt   string

	Response string

	// Ended says that the model ended the response itself. It matters where
	// there are no Messages: the tokenizer's EOS then follows the response, as it
	// does in training data. (A template writes its own.)
	Ended bool

	// Reference is another response to the same prompt, which a preference
	// model compares Response with. Other models do not read it.
	Reference string
}

// A Scorer gives the reward of each item, in their order; higher is better.
//
// Where single items cannot be scored their rewards are NaN and the error is a
// [*PartialError]; the other rewards are good. Any other error means that there
// are no rewards.
type Scorer interface {
	Score(ctx context.Context, items []Item) ([]float64, error)
}

// A Model is a Scorer in this process. It may be called from several goroutines
// at once. Close gives its memory back; it cannot be used after.
type Model interface {
	Scorer
	Close()
}

// A Pair is two responses to one prompt, which is given as in [Item].
type Pair struct {
	Messages []chat.Message
	Prompt   string
	A, B     string
}

// A Preference gives P(A ≻ B | prompt) for each pair, 0…1, such that exchanging A
// and B gives the complement. Errors are as with [Scorer].
type Preference interface {
	Prefer(ctx context.Context, pairs []Pair) ([]float64, error)
}

// ErrTooLong is in the chain of the error for an item of more tokens than the
// model reads.
var ErrTooLong = errors.New("too long")

// A PartialError says which items could not be scored and why: Errors[i] is nil
// for the others.
type PartialError struct {
	Errors []error
}

// Failed counts the items that have no score.
func (e *PartialError) Failed() int {
	n := 0
	for _, err := range e.Errors {
		if err != nil {
			n++
		}
	}
	return n
}

// Error tells the number of items and the first few reasons, each once.
func (e *PartialError) Error() string {
	var reasons []string
	seen := map[string]bool{}
	for i, err := range e.Errors {
		if err == nil || seen[err.Error()] {
			continue
		}
		seen[err.Error()] = true
		if len(reasons) == 3 {
			reasons = append(reasons, "…")
			break
		}
		reasons = append(reasons, fmt.Sprintf("item %d: %v", i, err))
	}
	return fmt.Sprintf("reward: %d of %d items have no score: %s", e.Failed(), len(e.Errors), strings.Join(reasons, "; "))
}

// Unwrap lists the reasons.
func (e *PartialError) Unwrap() []error {
	var errs []error
	for _, err := range e.Errors {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// partial is scores with NaN for those that failed, and the error that says so,
// nil if none did.
func partial(scores []float64, errs []error) ([]float64, error) {
	failed := false
	for i, err := range errs {
		if err == nil && (math.IsNaN(scores[i]) || math.IsInf(scores[i], 0)) {
			errs[i] = fmt.Errorf("the model's output is %v", scores[i])
		}
		if errs[i] != nil {
			scores[i] = math.NaN()
			failed = true
		}
	}
	if failed {
		return scores, &PartialError{errs}
	}
	return scores, nil
}
