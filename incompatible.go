package expo

import (
	"fmt"
	"slices"
	"strings"

	"expo/weights/tensor"
)

// Difference is one reason why a pair cannot be extrapolated as it is.
type Difference struct {
	// Tensor is a tensor's name, or "config.json: key".
	Tensor string `json:"tensor"`
	// SFT and Aligned say what each side has, such as "BF16 [32000 4096]",
	// "absent".
	SFT     string `json:"sft"`
	Aligned string `json:"aligned"`
	// Policy is the flag that would accept it, "" if there is none.
	Policy string `json:"policy,omitempty"`
	// Remedy is one sentence on what to do.
	Remedy string `json:"remedy,omitempty"`
}

// IncompatibleError lists everything that keeps a pair from being
// extrapolated.
type IncompatibleError struct {
	Differences []Difference
	Tensors     int // in the aligned model
}

// Error is one line; Lines has the details.
func (e *IncompatibleError) Error() string {
	n := 0
	for _, d := range e.Differences {
		if !strings.HasPrefix(d.Tensor, "config.json") {
			n++
		}
	}
	if n == 0 {
		return fmt.Sprintf("the models cannot be extrapolated: their configurations differ in %d places", len(e.Differences))
	}
	if config := len(e.Differences) - n; config > 0 {
		return fmt.Sprintf("the models cannot be extrapolated: %d of %d tensors and %d settings differ", n, e.Tensors, config)
	}
	return fmt.Sprintf("the models cannot be extrapolated: %d of %d tensors differ", n, e.Tensors)
}

// Lines is a table of the differences, a line each.
func (e *IncompatibleError) Lines() []string {
	width, sft := 0, 0
	for _, d := range e.Differences {
		width, sft = max(width, len(printable(d.Tensor))), max(sft, len(d.SFT))
	}
	width = min(width, 60)
	var out []string
	for _, d := range e.Differences {
		out = append(out, fmt.Sprintf("%-*s  SFT %-*s  aligned %s", width, printable(d.Tensor), sft+1, d.SFT+",", d.Aligned))
	}
	return out
}

// Hints says what can be done, each thing once.
func (e *IncompatibleError) Hints() []string {
	var out []string
	for _, d := range e.Differences {
		if d.Remedy != "" && !slices.Contains(out, d.Remedy) {
			out = append(out, d.Remedy)
		}
	}
	return out
}

// ExtraRows is the policy for embeddings and heads with more rows on one side:
// added tokens, or a vocabulary padded on one side only.
type ExtraRows string

// Missing is the policy for tensors that only one side has.
type Missing string

// Head is the policy for an output head that is stored although
// tie_word_embeddings says that it is the embedding.
type Head string

// The policies. Refuse, the zero value, is each one's default.
const (
	Refuse = ""

	// ExtraRowsAligned extrapolates the rows that both have, takes the rows
	// that only the aligned model has from it, and drops those of the SFT
	// model alone: the result has the aligned model's shapes.
	ExtraRowsAligned ExtraRows = "aligned"

	// MissingAligned takes tensors that only the aligned model has from it
	// and leaves out those that only the SFT model has.
	MissingAligned Missing = "aligned"

	// HeadStored extrapolates stored heads on their own, the embedding
	// standing in for the head of a side that stores none. transformers 5
	// then uses the stored head, transformers 4 ties it.
	HeadStored Head = "stored"

	// HeadTied leaves stored heads out on both sides: the result's head is
	// its embedding.
	HeadTied Head = "tied"
)

func describe(t tensor.Tensor) string { return fmt.Sprintf("%v %v", t.DType, t.Shape) }

// printable quotes what could upset a terminal.
func printable(s string) string {
	q := fmt.Sprintf("%q", s)
	if q[1:len(q)-1] == s {
		return s
	}
	return q
}
