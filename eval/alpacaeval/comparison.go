package alpacaeval

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// Comparison is one instruction on which a model and the baseline were
// compared.
type Comparison struct {
	Instruction string // empty where only numbers are kept
	// Index is the instruction's position in the reference set, −1 if unknown.
	Index int
	// Preference as it stands in annotations, NaN for null; see [Valid].
	Preference float64
	// Lengths in Unicode code points.
	LenBaseline, LenModel int
}

// Judged is a model's comparisons with one baseline by one judge, in the order
// of the reference set. Figures of different judges or baselines are never
// comparable.
type Judged struct {
	Source   string // where it comes from: models of one name may be different
	Judge    string
	Baseline string
	Model    string
	Rows     []Comparison

	// Contradicting counts rows that were left out because another one before
	// has the same instruction and outputs, and whose preference is another
	// than that one's; Contradicted is the instruction of the first of them.
	Contradicting int
	Contradicted  string
}

// repeated takes note of a row that repeats another one.
func (j *Judged) repeated(first *Comparison, preference float64) {
	if first.Preference == preference || math.IsNaN(first.Preference) && math.IsNaN(preference) {
		return
	}
	if j.Contradicting == 0 {
		j.Contradicted = first.Instruction
	}
	j.Contradicting++
}

// Preferences are those of all rows, (rows).
func (j *Judged) Preferences() []float64 {
	p := make([]float64, len(j.Rows))
	for i, r := range j.Rows {
		p[i] = r.Preference
	}
	return p
}

// AverageLength is the mean length of the model's outputs in code points,
// rounded down; 0 if there is none.
func (j *Judged) AverageLength() int {
	sum := 0
	for _, r := range j.Rows {
		sum += r.LenModel
	}
	return sum / max(len(j.Rows), 1)
}

// Align is how rows are matched with the difficulties of instructions.
type Align string

const (
	// ByInstruction looks each instruction up.
	ByInstruction Align = "instruction"
	// ByPosition takes row i for instruction i, as alpaca_eval does; where a
	// row is missing, all after it get another instruction's difficulty.
	ByPosition Align = "position"
)

// ParseAlign reads the name of a rule; empty is ByInstruction.
func ParseAlign(s string) (Align, error) {
	switch a := Align(s); a {
	case "":
		return ByInstruction, nil
	case ByInstruction, ByPosition:
		return a, nil
	}
	return "", fmt.Errorf("alpacaeval: alignment %q: use instruction or position", s)
}

// ErrPartial is in the chain of the error for a set that lacks instructions.
var ErrPartial = errors.New("the set is not complete")

// ErrUnknown is in the chain of the error for instructions whose place in the
// reference set is not known.
var ErrUnknown = errors.New("instructions that are not in the reference set")

// Place sets the Index of every row: from the instruction with ByInstruction
// where it is not known yet, from the row's own position with ByPosition.
// Rows that belong nowhere, or twice to the same place, are an error with all
// of them.
func (j *Judged) Place(align Align, ref *Reference) error {
	if align == ByPosition {
		if len(j.Rows) > len(ref.Difficulty) {
			return fmt.Errorf("alpacaeval: %s: %d rows, but only %d instructions have a difficulty; leave the difficulty out (minimal)", j.Model, len(j.Rows), len(ref.Difficulty))
		}
		for i := range j.Rows {
			j.Rows[i].Index = i
		}
		return nil
	}
	var unknown, twice []string
	at := make([]int, len(ref.Difficulty)) // the row of an instruction, from 1
	for i := range j.Rows {
		r := &j.Rows[i]
		if r.Index < 0 {
			var err error
			if r.Index, err = ref.Index(r.Instruction); err != nil {
				if !errors.Is(err, ErrUnknown) {
					return fmt.Errorf("alpacaeval: %s: %w", j.Model, err)
				}
				unknown = append(unknown, fmt.Sprintf("row %d (%s)", i, short(r.Instruction)))
				continue
			}
		}
		if r.Index >= len(ref.Difficulty) {
			unknown = append(unknown, fmt.Sprintf("row %d (instruction %d of %d)", i, r.Index, len(ref.Difficulty)))
			continue
		}
		if first := at[r.Index]; first > 0 {
			twice = append(twice, fmt.Sprintf("rows %d and %d (%s)", first-1, i, short(r.Instruction)))
		}
		at[r.Index] = i + 1
	}
	switch {
	case len(unknown) > 0:
		return fmt.Errorf("alpacaeval: %s: %d %w: %s; use their own set, or leave the difficulty out (minimal)", j.Model, len(unknown), ErrUnknown, list(unknown))
	case len(twice) > 0:
		return fmt.Errorf("alpacaeval: %s: %d instructions are judged twice: %s; keep one of each", j.Model, len(twice), list(twice))
	}
	return nil
}

// Missing lists the instructions of the reference set, by index, that have no
// row. Rows must have been placed.
func (j *Judged) Missing(ref *Reference) []int {
	there := make([]bool, len(ref.Difficulty))
	for _, r := range j.Rows {
		if r.Index >= 0 && r.Index < len(there) {
			there[r.Index] = true
		}
	}
	var missing []int
	for i, ok := range there {
		if !ok {
			missing = append(missing, i)
		}
	}
	return missing
}

// PairedDifference is the mean difference of the probabilities of being
// preferred, a's minus b's, in percentage points, over the instructions that
// were judged for both; stderr is its standard error. Both saw the same
// instructions, so this and not the two separate errors tells whether one is
// better. Rows must have been placed.
func PairedDifference(a, b *Judged) (mean, stderr float64, n int) {
	other := make(map[int]float64, len(b.Rows))
	for _, r := range b.Rows {
		if p, ok := Valid(r.Preference); ok && r.Index >= 0 {
			other[r.Index] = p
		}
	}
	var d []float64
	for _, r := range a.Rows {
		p, ok := Valid(r.Preference)
		if q, both := other[r.Index]; ok && both {
			d = append(d, 100*(p-q))
		}
	}
	for _, x := range d {
		mean += x
	}
	mean /= float64(len(d))
	squares := 0.0
	for _, x := range d {
		squares += (x - mean) * (x - mean)
	}
	return mean, math.Sqrt(squares/float64(len(d)-1)) / math.Sqrt(float64(len(d))), len(d)
}

// short is the beginning of a text for a message.
func short(s string) string {
	const most = 40
	runes := []rune(strings.ToValidUTF8(s, "�"))
	if len(runes) > most {
		return fmt.Sprintf("%q…", string(runes[:most]))
	}
	return fmt.Sprintf("%q", s)
}

// list joins the first few.
func list(items []string) string {
	const most = 5
	if len(items) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(items[:most], ", "), len(items)-most)
	}
	return strings.Join(items, ", ")
}
