package alpacaeval

import (
	"bytes"
	"encoding/json"
	"errors"
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
// that repeat another in instruction and both outputs are left out; those among
// them that prefer otherwise are counted as Contradicting. source
// tells files of models with the same name apart.
func ReadAnnotations(r io.Reader, source string) ([]*Judged, error) {
	return new(AnnotationReader).Read(r, source)
}

// AnnotationReader reads one file after the other with less effort than
// ReadAnnotations: it keeps its memory, and instructions that it has seen. It
// is for one goroutine at a time.
type AnnotationReader struct {
	buf          bytes.Buffer
	instructions map[string]string // by what stands in files
}

// Read is ReadAnnotations.
func (a *AnnotationReader) Read(r io.Reader, source string) ([]*Judged, error) {
	b, err := readAll(&a.buf, r)
	var sets []*Judged
	if err == nil {
		sets, err = a.collect(b, source)
	}
	if err == nil && len(sets) == 0 {
		err = errors.New("no rows")
	}
	if err != nil {
		return nil, fmt.Errorf("alpacaeval: %s: %w", source, err)
	}
	return sets, nil
}

// instruction is the value of t.
func (a *AnnotationReader) instruction(t text) (string, error) {
	if v, ok := a.instructions[string(t.raw)]; ok {
		return v, nil
	}
	v, err := t.decode()
	if err != nil {
		return "", err
	}
	if a.instructions == nil {
		a.instructions = map[string]string{}
	}
	a.instructions[string(t.raw)] = v
	return v, nil
}

// collected is a set as it is read.
type collected struct {
	*Judged
	last map[string]int // the last row with an instruction
	kept []keptRow
}

// keptRow is what a row's repetition would have too.
type keptRow struct {
	output1, output2 text
	before           int // the row before with the same instruction, −1 if there is none
}

func (a *AnnotationReader) collect(b []byte, source string) ([]*Judged, error) {
	var out []*Judged
	sets := map[[3]string]*collected{}
	var last *collected // the set of the row before
	var names [3][]byte // and what it was called, as it stands in the file
	s := &scanner{b: b}
	err := s.rows(func(_ int, r *rawRow) error {
		if !r.instruction.there || !r.output1.there || !r.output2.there {
			return errors.New("needs instruction, output_1 and output_2")
		}
		now := [3][]byte{r.annotator.raw, r.generator1.raw, r.generator2.raw}
		if last == nil || !bytes.Equal(now[0], names[0]) || !bytes.Equal(now[1], names[1]) || !bytes.Equal(now[2], names[2]) {
			var k [3]string
			for i, t := range []text{r.annotator, r.generator1, r.generator2} {
				var err error
				if k[i], err = t.decode(); err != nil {
					return err
				}
			}
			names = now
			if last = sets[k]; last == nil {
				last = &collected{Judged: &Judged{Source: source, Judge: k[0], Baseline: k[1], Model: k[2]}, last: map[string]int{}}
				sets[k] = last
				out = append(out, last.Judged)
			}
		}
		instruction, err := a.instruction(r.instruction)
		if err != nil {
			return err
		}
		before, again := last.last[instruction]
		if !again {
			before = -1
		}
		for i := before; i >= 0; i = last.kept[i].before {
			same, err := last.kept[i].sameOutputs(r)
			if err != nil {
				return err
			}
			if same {
				last.repeated(&last.Rows[i], r.preference)
				return nil
			}
		}
		last.last[instruction] = len(last.kept)
		last.kept = append(last.kept, keptRow{r.output1, r.output2, before})
		last.Rows = append(last.Rows, Comparison{Instruction: instruction, Index: -1, Preference: r.preference, LenBaseline: r.output1.runes, LenModel: r.output2.runes})
		return nil
	})
	return out, err
}

// sameOutputs tells whether two rows have the same outputs.
func (r *keptRow) sameOutputs(o *rawRow) (bool, error) {
	for _, pair := range [][2]text{{r.output1, o.output1}, {r.output2, o.output2}} {
		if bytes.Equal(pair[0].raw, pair[1].raw) {
			continue
		}
		a, err := pair[0].decode()
		if err != nil {
			return false, err
		}
		b, err := pair[1].decode()
		if a != b || err != nil {
			return false, err
		}
	}
	return true, nil
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
