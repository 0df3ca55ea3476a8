package alpacaeval

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// ReadNumbers reads comparisons without their texts from a CSV with the columns
// source, annotator, model, instr, preference, len_base and len_model, as they
// are passed on where texts may not be; a column baseline is used if it is
// there. The file holds any number of models, the rows of one following each
// other. An empty preference is null.
func ReadNumbers(r io.Reader) ([]*Judged, error) {
	c := csv.NewReader(r)
	c.ReuseRecord = true
	header, err := c.Read()
	if err != nil {
		return nil, fmt.Errorf("alpacaeval: comparisons: %w", err)
	}
	t := table{header: append([]string(nil), header...)}
	t.header[0] = trimBOM(t.header[0])
	names := [...]string{"source", "annotator", "model", "instr", "preference", "len_base", "len_model"}
	var at [len(names)]int
	var lacks []string
	for i, name := range names {
		if at[i] = t.column(name); at[i] < 0 {
			lacks = append(lacks, name)
		}
	}
	if lacks != nil {
		return nil, fmt.Errorf("alpacaeval: comparisons: no column %s", strings.Join(lacks, ", "))
	}
	baseline := t.column("baseline")
	type key struct{ source, judge, model string }
	seen := map[key]bool{}
	var out []*Judged
	for line := 2; ; line++ {
		row, err := c.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("alpacaeval: comparisons: %w", err)
		}
		k := key{row[at[0]], row[at[1]], row[at[2]]}
		if last := len(out) - 1; last < 0 || (key{out[last].Source, out[last].Judge, out[last].Model}) != k {
			if seen[k] {
				return nil, fmt.Errorf("alpacaeval: comparisons: line %d: the rows of %s are not together", line, k.model)
			}
			// The row's text is a piece of a longer one.
			k = key{strings.Clone(k.source), strings.Clone(k.judge), strings.Clone(k.model)}
			seen[k] = true
			set := &Judged{Source: k.source, Judge: k.judge, Model: k.model}
			if baseline >= 0 {
				set.Baseline = strings.Clone(row[baseline])
			}
			out = append(out, set)
		}
		cmp := Comparison{Preference: math.NaN()}
		ints := []*int{&cmp.Index, &cmp.LenBaseline, &cmp.LenModel}
		for i, column := range []int{at[3], at[5], at[6]} {
			n, err := strconv.Atoi(row[column])
			if err != nil || n < 0 {
				return nil, fmt.Errorf("alpacaeval: comparisons: line %d: %q is not a count", line, row[column])
			}
			*ints[i] = n
		}
		if s := row[at[4]]; s != "" {
			if cmp.Preference, err = strconv.ParseFloat(s, 64); err != nil {
				return nil, fmt.Errorf("alpacaeval: comparisons: line %d: %q is not a preference", line, s)
			}
		}
		last := out[len(out)-1]
		last.Rows = append(last.Rows, cmp)
	}
}
