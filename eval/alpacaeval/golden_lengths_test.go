package alpacaeval

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"unicode/utf8"
)

type lengthsLine struct {
	Source, Model string
	N             int
	Instr         []int
	Len           []int
}

func readLengths(t *testing.T, dir string) []lengthsLine {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "output_lengths.jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := Decompress(f)
	if err != nil {
		t.Fatal(err)
	}
	var out []lengthsLine
	for dec := json.NewDecoder(r); dec.More(); {
		var l lengthsLine
		if err := dec.Decode(&l); err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

func baselineLengths(t *testing.T, dir string) []int {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "instructions.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, row := range all[1:] {
		n, err := strconv.Atoi(row[4])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	return out
}

// TestPublishedLengths: average lengths follow from those of all outputs. The
// seven others are of outputs that were changed after they were published.
func TestPublishedLengths(t *testing.T) {
	dir := testdata(t)
	type key struct{ source, model string }
	average := map[key]int{}
	for _, l := range readLengths(t, dir) {
		j := &Judged{}
		for _, n := range l.Len {
			j.Rows = append(j.Rows, Comparison{LenModel: n})
		}
		average[key{l.Source, l.Model}] = j.AverageLength()
	}
	rows, exact := 0, 0
	for _, p := range readPublished(t, dir) {
		rows++
		got, ok := average[key{p.source, p.model}]
		if !ok {
			t.Errorf("%s/%s: no lengths", p.source, p.model)
		}
		if got == p.avg {
			exact++
		} else {
			t.Logf("%s, %s: %d, published %d", p.model, p.judge, got, p.avg)
		}
	}
	if rows != 166 || exact != 159 {
		t.Errorf("%d of %d exact, want 159 of 166", exact, rows)
	}
}

// TestPublishedOutputs: texts have the lengths that are published of them.
func TestPublishedOutputs(t *testing.T) {
	dir := testdata(t)
	lengths := map[string][]int{}
	for _, l := range readLengths(t, dir) {
		if l.Source == "LLM-Extrapolation" {
			lengths[l.Model] = l.Len
		}
	}
	for file, want := range map[string]int{"expo_zephyr-7b-sft-full.json": 862, "expo_zephyr_0.2.json": 1125, "expo_zephyr_0.2_a2.5.json": 2138} {
		f, err := os.Open(filepath.Join(filepath.Dir(dir), "datasets", file))
		if err != nil {
			t.Skip(err)
		}
		defer f.Close()
		rows, err := ReadOutputs(f, file)
		if err != nil {
			t.Fatal(err)
		}
		if got := AverageLength(rows); len(rows) != 805 || got != want {
			t.Errorf("%s: %d rows of length %d, want 805 of %d", file, len(rows), got, want)
		}
		l := lengths[rows[0].Generator]
		for i, r := range rows {
			if len(l) == 805 && utf8.RuneCountInString(r.Output) != l[i] {
				t.Errorf("%s, row %d: length %d, want %d", file, i, utf8.RuneCountInString(r.Output), l[i])
				break
			}
		}
		if len(l) != 805 {
			t.Errorf("%s: no lengths of %s", file, rows[0].Generator)
		}
	}
}
