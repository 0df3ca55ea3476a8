package search

import (
	"fmt"
	"math"
)

// Gates are limits that an α must keep to be chosen. A zero value sets none.
type Gates struct {
	// MaxLengthGrowth is the largest ratio of the mean length to the aligned
	// model's, such as 1.2.
	MaxLengthGrowth float64 `json:"max_length_growth,omitempty"`
	// MinFinished is the smallest share of answers that end by themselves.
	MinFinished float64 `json:"min_finished,omitempty"`
	// MaxRepetition is the largest mean of Sample.Repetition.
	MaxRepetition float64 `json:"max_repetition,omitempty"`
	// NoWorse names tasks of Score.Tasks whose mean must not be below the
	// aligned model's by more than one standard error of the paired difference.
	// That is stricter than a test of significance: what is to be kept out is a
	// loss that a small task cannot prove.
	NoWorse []string `json:"no_worse,omitempty"`
}

// check says what is wrong with the limits.
func (g *Gates) check() error {
	in := func(x, lo, hi float64) bool { return x == 0 || x >= lo && x <= hi }
	switch {
	case !in(g.MaxLengthGrowth, 1e-9, math.MaxFloat64):
		return fmt.Errorf("search: the limit of length growth is %v, want a ratio such as 1.2", g.MaxLengthGrowth)
	case !in(g.MinFinished, 0, 1):
		return fmt.Errorf("search: the smallest share of finished answers is %v, want 0 to 1", g.MinFinished)
	case !in(g.MaxRepetition, 0, 1):
		return fmt.Errorf("search: the limit of repetition is %v, want 0 to 1", g.MaxRepetition)
	}
	return nil
}

// stop is the gate that stops a row, "" if none does. A measure that is missing
// stops it too.
func (g *Gates) stop(r *Row) string {
	if g.MaxLengthGrowth > 0 && !(float64(r.LengthGrowth) <= g.MaxLengthGrowth) {
		return fmt.Sprintf("length %s × aligned > %g", beside(float64(r.LengthGrowth), g.MaxLengthGrowth), g.MaxLengthGrowth)
	}
	if g.MinFinished > 0 && !(float64(r.Finished) >= g.MinFinished) {
		return fmt.Sprintf("finished %s < %g", beside(float64(r.Finished), g.MinFinished), g.MinFinished)
	}
	if g.MaxRepetition > 0 && !(float64(r.Repetition) <= g.MaxRepetition) {
		return fmt.Sprintf("repetition %s > %g", beside(float64(r.Repetition), g.MaxRepetition), g.MaxRepetition)
	}
	for _, name := range g.NoWorse {
		t, ok := r.Tasks[name]
		d, se := float64(t.Difference), float64(t.DifferenceSE)
		switch {
		case !ok || math.IsNaN(d):
			return name + " was not measured"
		case d < 0 && !(d >= -se): // an error that is not known excuses nothing
			return fmt.Sprintf("%s %.3g below aligned (SE %.2g)", name, -d, se)
		}
	}
	return ""
}

// beside writes v with three digits, or with as many more as set it apart from
// a limit that it does not keep.
func beside(v, limit float64) string {
	digits := 3
	for ; digits < 17 && fmt.Sprintf("%.*g", digits, v) == fmt.Sprintf("%.*g", digits, limit); digits++ {
	}
	return fmt.Sprintf("%.*g", digits, v)
}
