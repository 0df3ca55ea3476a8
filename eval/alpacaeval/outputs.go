package alpacaeval

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// Output is a model's answer to an instruction, a row of alpaca_eval's
// model_outputs.json.
type Output struct {
	Dataset     string `json:"dataset,omitempty"` // the instruction's source
	Datasplit   string `json:"datasplit,omitempty"`
	Instruction string `json:"instruction"`
	Output      string `json:"output"`
	Generator   string `json:"generator"` // the model
}

// ReadOutputs reads model_outputs.json, or the same rows as JSON lines, CSV or
// TSV, told apart by the end of name. Files of instructions only have no
// output and no generator.
func ReadOutputs(r io.Reader, name string) ([]Output, error) {
	r, err := Decompress(r)
	if err != nil {
		return nil, fmt.Errorf("alpacaeval: %s: %w", name, err)
	}
	var out []Output
	switch kind := filepath.Ext(strings.TrimSuffix(name, ".gz")); kind {
	case ".csv", ".tsv":
		out, err = readOutputTable(r, kind == ".tsv")
	default:
		err = eachObject(r, func(dec *json.Decoder) error {
			var row struct {
				Output
				Prompt *string `json:"prompt"`
			}
			if err := dec.Decode(&row); err != nil {
				return err
			}
			if row.Instruction == "" && row.Prompt != nil {
				row.Instruction = *row.Prompt
			}
			out = append(out, row.Output)
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("alpacaeval: %s: %w", name, err)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("alpacaeval: %s: no rows", name)
	}
	for i, o := range out {
		if o.Instruction == "" {
			return nil, fmt.Errorf("alpacaeval: %s: row %d has no instruction", name, i)
		}
	}
	return out, nil
}

// eachObject calls f for every object of a JSON array, or of JSON lines, with
// the decoder in front of it. Errors name the row.
func eachObject(r io.Reader, f func(*json.Decoder) error) error {
	in := bufio.NewReader(r)
	if start, _ := in.Peek(len(bom)); string(start) == bom {
		in.Discard(len(bom))
	}
	array := false
	for {
		c, err := in.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			array = c == '['
			in.UnreadByte()
			break
		}
	}
	dec := json.NewDecoder(in)
	if array {
		if _, err := dec.Token(); err != nil {
			return err
		}
	}
	for row := 0; dec.More(); row++ {
		if err := f(dec); err != nil {
			return fmt.Errorf("row %d: %w", row, err)
		}
	}
	if array {
		if _, err := dec.Token(); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the rows")
	}
	return nil
}

func readOutputTable(r io.Reader, tabs bool) ([]Output, error) {
	c := csv.NewReader(r)
	if tabs {
		c.Comma, c.LazyQuotes = '\t', false
	}
	all, err := c.ReadAll()
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("the file is empty")
	}
	all[0][0] = trimBOM(all[0][0])
	t := &table{all[0], all[1:]}
	if t.column("instruction") < 0 {
		return nil, errors.New("no column instruction")
	}
	out := make([]Output, len(t.rows))
	for i, row := range t.rows {
		for name, to := range map[string]*string{"dataset": &out[i].Dataset, "datasplit": &out[i].Datasplit, "instruction": &out[i].Instruction, "output": &out[i].Output, "generator": &out[i].Generator} {
			if at := t.column(name); at >= 0 {
				*to = row[at]
			}
		}
	}
	return out, nil
}

// WriteOutputs writes model_outputs.json.
func WriteOutputs(w io.Writer, rows []Output) error { return writeArray(w, rows) }

// writeArray writes a JSON array as alpaca_eval's files are: an object per
// row, indented by two.
func writeArray[T any](w io.Writer, rows []T) error {
	if rows == nil {
		rows = []T{}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(rows); err != nil {
		return fmt.Errorf("alpacaeval: %w", err)
	}
	return nil
}

// AverageLength is the mean length of outputs in code points, rounded down.
func AverageLength(rows []Output) int {
	sum := 0
	for _, r := range rows {
		sum += utf8.RuneCountInString(r.Output)
	}
	return sum / max(len(rows), 1)
}
