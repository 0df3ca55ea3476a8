package alpacaeval

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"unicode/utf8"
)

// Annotation is one judgment, a row of alpaca_eval's annotations.json.
type Annotation struct {
	Dataset     string `json:"dataset,omitempty"`
	Datasplit   string `json:"datasplit,omitempty"`
	Instruction string `json:"instruction"`
	Output1     string `json:"output_1"`    // the baseline's, whatever order was shown
	Generator1  string `json:"generator_1"` // the baseline
	Output2     string `json:"output_2"`    // the model's
	Generator2  string `json:"generator_2"` // the model; not every published file is right about it
	Annotator   string `json:"annotator"`   // the judge

	// Preference is 1 if the baseline is better, 2 if the model is, 1.5 for a
	// draw; nil without a judgment.
	Preference *float64 `json:"preference"`

	// RawCompletion is what the judge said, in the order that was shown.
	RawCompletion json.RawMessage `json:"preference_raw_completion,omitempty"`
	Price         *float64        `json:"preference_price_per_example,omitempty"` // US dollars
	Seconds       *float64        `json:"preference_time_per_example,omitempty"`
	Date          string          `json:"preference_date,omitempty"`

	// IsSwitched tells whether the model's output was shown first.
	IsSwitched *bool `json:"is_switched_outputs,omitempty"`
	// GLMPreference is the probability that the model is preferred at equal
	// length.
	GLMPreference *float64 `json:"glm_preference,omitempty"`
}

// comparisonOf keeps of a row what figures depend on.
func comparisonOf(a *Annotation) Comparison {
	c := Comparison{
		Instruction: a.Instruction, Index: -1, Preference: math.NaN(),
		LenBaseline: utf8.RuneCountInString(a.Output1), LenModel: utf8.RuneCountInString(a.Output2),
	}
	if a.Preference != nil {
		c.Preference = *a.Preference
	}
	return c
}

// WriteAnnotations writes annotations.json. Numbers are the shortest that read
// back as the same.
func WriteAnnotations(w io.Writer, rows []Annotation) error { return writeArray(w, rows) }

// ReadAnnotations reads annotations.json, of any number of models, into one
// Judged per judge, baseline and model, in the order of their first rows. Rows
// that repeat another in instruction and both outputs are left out. source
// tells files of models with the same name apart.
func ReadAnnotations(r io.Reader, source string) ([]*Judged, error) {
	type key struct{ judge, baseline, model string }
	sets := map[key]*Judged{}
	seen := map[[3]string]bool{}
	var out []*Judged
	r, err := Decompress(r)
	if err != nil {
		return nil, fmt.Errorf("alpacaeval: %s: %w", source, err)
	}
	err = eachObject(r, func(dec *json.Decoder) error {
		var row struct {
			Instruction *string  `json:"instruction"`
			Output1     *string  `json:"output_1"`
			Output2     *string  `json:"output_2"`
			Generator1  string   `json:"generator_1"`
			Generator2  string   `json:"generator_2"`
			Annotator   string   `json:"annotator"`
			Preference  *float64 `json:"preference"`
		}
		if err := dec.Decode(&row); err != nil {
			return err
		}
		if row.Instruction == nil || row.Output1 == nil || row.Output2 == nil {
			return fmt.Errorf("needs instruction, output_1 and output_2")
		}
		k := key{row.Annotator, row.Generator1, row.Generator2}
		set := sets[k]
		if set == nil {
			set = &Judged{Source: source, Judge: k.judge, Baseline: k.baseline, Model: k.model}
			sets[k] = set
			out = append(out, set)
		}
		id := [3]string{digest(k.judge + "\x00" + k.baseline + "\x00" + k.model + "\x00" + *row.Instruction), digest(*row.Output1), digest(*row.Output2)}
		if seen[id] {
			return nil
		}
		seen[id] = true
		set.Rows = append(set.Rows, comparisonOf(&Annotation{Instruction: *row.Instruction, Output1: *row.Output1, Output2: *row.Output2, Preference: row.Preference}))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("alpacaeval: %s: %w", source, err)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("alpacaeval: %s: no rows", source)
	}
	return out, nil
}

// ReadAnnotationRows reads annotations.json with all that is in it, to go on
// with it. Older names of fields are understood.
func ReadAnnotationRows(r io.Reader, source string) ([]Annotation, error) {
	r, err := Decompress(r)
	if err != nil {
		return nil, fmt.Errorf("alpacaeval: %s: %w", source, err)
	}
	var out []Annotation
	err = eachObject(r, func(dec *json.Decoder) error {
		var row struct {
			Annotation
			OldRaw     json.RawMessage `json:"raw_completion"`
			OldPrice   *float64        `json:"price_per_example"`
			OldSeconds *float64        `json:"time_per_example"`
			OldDate    string          `json:"date"`
		}
		if err := dec.Decode(&row); err != nil {
			return err
		}
		a := row.Annotation
		if a.RawCompletion == nil {
			a.RawCompletion = row.OldRaw
		}
		if a.Price == nil {
			a.Price = row.OldPrice
		}
		if a.Seconds == nil {
			a.Seconds = row.OldSeconds
		}
		if a.Date == "" {
			a.Date = row.OldDate
		}
		out = append(out, a)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("alpacaeval: %s: %w", source, err)
	}
	return out, nil
}
