package alpacaeval

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"sync"
)

// Reference is the set of instructions that difficulties belong to.
type Reference struct {
	// Difficulty of each instruction, (instructions). It was estimated once
	// from the judgments of many models and is about 0 ± 1.5.
	Difficulty []float64

	index map[string]int // by digest; nil if the instructions are not known

	mu    sync.Mutex
	found map[string]int // instructions that were looked up: a digest takes longer
}

const digestDigits = 16

func digest(instruction string) string {
	sum := sha256.Sum256([]byte(instruction))
	return hex.EncodeToString(sum[:])[:digestDigits]
}

// Know tells the set its instructions, in order, so that they can be looked
// up. They are as many as there are difficulties; without any, those are 0.
func (ref *Reference) Know(instructions []string) error {
	if ref.Difficulty == nil {
		ref.Difficulty = make([]float64, len(instructions))
	}
	if len(instructions) != len(ref.Difficulty) {
		return fmt.Errorf("alpacaeval: %d instructions, but %d difficulties; they belong to another set", len(instructions), len(ref.Difficulty))
	}
	index := make(map[string]int, len(instructions))
	for i, s := range instructions {
		d := digest(s)
		if first, ok := index[d]; ok {
			return fmt.Errorf("alpacaeval: instructions %d and %d are the same: %s", first, i, short(s))
		}
		if known, ok := ref.index[d]; ref.index != nil && (!ok || known != i) {
			return fmt.Errorf("alpacaeval: instruction %d (%s) is not what the difficulties are of; they belong to another set", i, short(s))
		}
		index[d] = i
	}
	ref.setIndex(index)
	return nil
}

// KnowAs takes over what another set knows of the same instructions.
func (ref *Reference) KnowAs(other *Reference) error {
	if len(other.Difficulty) != len(ref.Difficulty) {
		return fmt.Errorf("alpacaeval: %d difficulties beside %d of the gamed rows; they belong to another set", len(other.Difficulty), len(ref.Difficulty))
	}
	ref.setIndex(other.index)
	return nil
}

func (ref *Reference) setIndex(index map[string]int) {
	ref.mu.Lock()
	defer ref.mu.Unlock()
	ref.index, ref.found = index, nil
}

// Knows tells whether instructions can be looked up.
func (ref *Reference) Knows() bool { return ref.index != nil }

// Index is the place of an instruction in the set; the error wraps ErrUnknown
// if it has none.
func (ref *Reference) Index(instruction string) (int, error) {
	if ref.index == nil {
		return -1, errors.New("alpacaeval: the difficulties do not say what instructions they belong to; give the questions too, or align by position")
	}
	ref.mu.Lock()
	defer ref.mu.Unlock()
	if i, ok := ref.found[instruction]; ok {
		return i, nil
	}
	i, ok := ref.index[digest(instruction)]
	if !ok {
		return -1, fmt.Errorf("alpacaeval: %s: %w", short(instruction), ErrUnknown)
	}
	if ref.found == nil {
		ref.found = make(map[string]int, len(ref.index))
	}
	ref.found[instruction] = i
	return i, nil
}

// ReadDifficulty reads a CSV with a column instruction_difficulty, or with an
// index and one other column. The index (instr, index, or a column without a
// name) counts from 0; digests of the instructions (sha256_16, the first 16
// hexadecimal digits) are used if they are there.
func ReadDifficulty(r io.Reader) (*Reference, error) {
	t, err := readTable(r)
	if err != nil {
		return nil, fmt.Errorf("alpacaeval: difficulties: %w", err)
	}
	at := t.column("instruction_difficulty")
	if at < 0 && len(t.header) == 2 {
		at = 1
	}
	if at < 0 {
		return nil, errors.New("alpacaeval: difficulties: no column instruction_difficulty")
	}
	index, sum := t.column("instr", "index", ""), t.column("sha256_16")
	ref := &Reference{Difficulty: make([]float64, len(t.rows))}
	if sum >= 0 {
		ref.index = make(map[string]int, len(t.rows))
	}
	for i, row := range t.rows {
		if index >= 0 {
			if n, err := strconv.ParseFloat(row[index], 64); err != nil || n != float64(i) {
				return nil, fmt.Errorf("alpacaeval: difficulties: row %d is about instruction %q; the file is not whole, or not in order", i, row[index])
			}
		}
		d, err := strconv.ParseFloat(row[at], 64)
		if err != nil || math.IsNaN(d) || math.IsInf(d, 0) {
			return nil, fmt.Errorf("alpacaeval: difficulties: row %d: %q is not a number", i, row[at])
		}
		ref.Difficulty[i] = d
		if sum >= 0 {
			if _, ok := ref.index[row[sum]]; ok || len(row[sum]) != digestDigits {
				return nil, fmt.Errorf("alpacaeval: difficulties: row %d: digest %q is of another length or there twice", i, row[sum])
			}
			ref.index[row[sum]] = i
		}
	}
	if len(ref.Difficulty) == 0 {
		return nil, errors.New("alpacaeval: difficulties: the file has no rows")
	}
	return ref, nil
}

// Gamed are the answers of two models that were told to be concise and
// verbose. They keep the fit from explaining their length by anything else.
type Gamed struct {
	Tanh       []float64 // of the standardized difference in length, (rows)
	Difficulty []float64 // (rows)
	Preference []float64 // 0…1, (rows)

	// Surrogate says that Preference is not what a judge said: only what the
	// fit at a given C depends on is right, the choice of C is not exact.
	Surrogate bool
}

// What is known of the rows: their number, Σ y tanh and Σ y d. A file that
// lost a few rows would still look plausible and move rates by up to half a
// point.
const (
	gamedRows       = 1610
	gamedTanh       = -182.6923898238
	gamedDifficulty = 413.0468487671
	gamedTolerance  = 1e-6
	gamedModels     = 2
	gamedWeight     = 0.2 // of all gamed models together
)

// ReadGamed reads alpaca_eval's df_gamed.csv, or a file with the columns
// tanh_std_delta_len, instruction_difficulty and preference_surrogate, and
// checks that it is whole.
func ReadGamed(r io.Reader) (*Gamed, error) {
	t, err := readTable(r)
	if err != nil {
		return nil, fmt.Errorf("alpacaeval: gamed rows: %w", err)
	}
	tanh, z := t.column("tanh_std_delta_len"), t.column("std_delta_len")
	d, p, s := t.column("instruction_difficulty"), t.column("preference"), t.column("preference_surrogate")
	g := &Gamed{Surrogate: p < 0}
	if g.Surrogate {
		p = s
	}
	if tanh < 0 && z < 0 || d < 0 || p < 0 {
		return nil, errors.New("alpacaeval: gamed rows: need the columns std_delta_len, instruction_difficulty and preference")
	}
	number := func(row []string, at int) float64 {
		x, e := strconv.ParseFloat(row[at], 64)
		if e != nil && err == nil {
			err = fmt.Errorf("%q is not a number", row[at])
		}
		return x
	}
	var sumTanh, sumDifficulty float64
	for i, row := range t.rows {
		var x float64
		if tanh >= 0 {
			x = number(row, tanh)
		} else {
			x = math.Tanh(number(row, z))
		}
		y, dd := number(row, p), number(row, d)
		if err == nil && !(y >= 0 && y <= 1) {
			err = fmt.Errorf("preference is %v, want 0 to 1", y)
		}
		if err != nil {
			return nil, fmt.Errorf("alpacaeval: gamed rows: row %d: %w", i, err)
		}
		g.Tanh = append(g.Tanh, x)
		g.Difficulty = append(g.Difficulty, dd)
		g.Preference = append(g.Preference, y)
		sumTanh += y * x
		sumDifficulty += y * dd
	}
	if len(g.Tanh) != gamedRows || !(math.Abs(sumTanh-gamedTanh) <= gamedTolerance) || !(math.Abs(sumDifficulty-gamedDifficulty) <= gamedTolerance) {
		return nil, fmt.Errorf("alpacaeval: gamed rows: %d rows with sums %.10f and %.10f, want %d, %.10f and %.10f; the file is not whole, or another one",
			len(g.Tanh), sumTanh, sumDifficulty, gamedRows, gamedTanh, gamedDifficulty)
	}
	return g, nil
}

// Reference is the set with the difficulties that stand in the gamed rows,
// which are those that published fits used.
func (g *Gamed) Reference() *Reference {
	return &Reference{Difficulty: g.Difficulty[:len(g.Difficulty)/gamedModels]}
}

// table is a CSV file with a header.
type table struct {
	header []string
	rows   [][]string
}

func readTable(r io.Reader) (*table, error) {
	c := csv.NewReader(r)
	all, err := c.ReadAll()
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("the file is empty")
	}
	all[0][0] = trimBOM(all[0][0])
	return &table{all[0], all[1:]}, nil
}

// bom begins files that some programs write.
const bom = "\ufeff"

func trimBOM(s string) string { return strings.TrimPrefix(s, bom) }

// column is the position of the first of the names that is there, or −1.
func (t *table) column(names ...string) int {
	for _, name := range names {
		for i, h := range t.header {
			if h == name {
				return i
			}
		}
	}
	return -1
}

// Decompress reads what is compressed with gzip as it was before, and anything
// else as it is.
func Decompress(r io.Reader) (io.Reader, error) {
	var start [2]byte
	n, err := io.ReadFull(r, start[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	whole := io.MultiReader(bytes.NewReader(start[:n]), r)
	if n == 2 && start == [2]byte{0x1f, 0x8b} {
		return gzip.NewReader(whole)
	}
	return whole, nil
}
