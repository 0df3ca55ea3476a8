package expo

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"expo/weights/checkpoint"
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
	Tensors     int // that either model has, or should have, by name
}

// incompatible is the error for these differences of two models.
func incompatible(diffs []Difference, sft, aligned *checkpoint.Checkpoint) *IncompatibleError {
	e := &IncompatibleError{Differences: diffs, Tensors: aligned.Len()}
	for t := range sft.Tensors() {
		if _, ok := aligned.Tensor(t.Name); !ok {
			e.Tensors++
		}
	}
	for _, d := range diffs { // a head may be missing on both sides
		_, a := aligned.Tensor(d.Tensor)
		_, s := sft.Tensor(d.Tensor)
		if !a && !s && !strings.HasPrefix(d.Tensor, configKey) {
			e.Tensors++
		}
	}
	return e
}

// Error is one line; Lines has the details.
func (e *IncompatibleError) Error() string {
	var tensors, missing, settings int
	for _, d := range e.Differences {
		switch {
		case strings.HasPrefix(d.Tensor, configKey):
			settings++
		case d.Aligned == "absent":
			missing++
		default:
			tensors++
		}
	}
	var parts []string
	if tensors > 0 {
		parts = append(parts, fmt.Sprintf("%d of %s", tensors, count(e.Tensors, "tensor differs", "tensors differ")))
	}
	if missing > 0 {
		parts = append(parts, count(missing, "tensor is", "tensors are")+" only in the SFT model")
	}
	if settings > 0 {
		parts = append(parts, count(settings, "setting of config.json differs", "settings of config.json differ"))
	}
	return "expo: the models cannot be extrapolated: " + strings.Join(parts, ", ")
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}

// configKey begins the Tensor of a difference in config.json.
const configKey = "config.json: "

// Lines is a table of the differences, a line each.
func (e *IncompatibleError) Lines() []string {
	width, sft := 0, 0
	for _, d := range e.Differences {
		width, sft = max(width, len(printable(d.Tensor))), max(sft, len(printable(d.SFT)))
	}
	width = min(width, 60)
	var out []string
	for _, d := range e.Differences {
		out = append(out, fmt.Sprintf("%-*s  SFT %-*s  aligned %s", width, printable(d.Tensor), sft+1, printable(d.SFT)+",", printable(d.Aligned)))
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
// tie_word_embeddings says that it is the embedding, and for pairs of which
// one side ties its head and the other does not.
type Head string

// The policies. Refuse, the zero value, is each one's default.
const (
	Refuse = ""

	// ExtraRowsAligned extrapolates the rows that both have, takes the rows
	// that only the aligned model has from it, and drops those of the SFT
	// model alone: the result has the aligned model's shapes.
	ExtraRowsAligned ExtraRows = "aligned"

	// MissingAligned takes tensors that only the aligned model has from it
	// and leaves out those that only the SFT model has. A head that one side
	// stores and the other ties is not missing: Head decides about it.
	MissingAligned Missing = "aligned"

	// HeadStored extrapolates the aligned model's stored head on its own, the
	// embedding standing in where the SFT model stores none. If the result's
	// config.json ties the head, transformers 5 uses the stored one all the
	// same, transformers 4 drops it.
	HeadStored Head = "stored"

	// HeadTied leaves stored heads out on both sides: the result's head is
	// its embedding. The aligned model has to tie its head.
	HeadTied Head = "tied"
)

func describe(t tensor.Tensor) string { return fmt.Sprintf("%v %v", t.DType, t.Shape) }

// printable quotes what could upset a terminal or break a line.
func printable(s string) string {
	for _, r := range s {
		if r == utf8.RuneError || !strconv.IsPrint(r) {
			return strconv.Quote(s)
		}
	}
	return s
}
