package alpacaeval

import (
	"slices"
	"testing"
)

// TestChoose compares with cross-validation by liblinear's fits alone, on
// published rows where they are there.
func TestChoose(t *testing.T) {
	var problems []*problem
	for seed := range uint64(6) {
		j, ref, gamed := synthetic(150+60*int(seed), seed)
		for _, glm := range []GLM{V1, NoReg, Minimal} {
			p, err := newProblem(j, ref, LCOptions{GLM: glm, Gamed: gamed})
			if err != nil {
				t.Fatal(err)
			}
			problems = append(problems, p)
		}
	}
	all := make([]int, len(Grid()))
	for g := range all {
		all[g] = g
	}
	compare := func(problems []*problem) (worst float64) {
		for _, p := range problems {
			for _, rule := range []Folds{Introsort, Mod5} {
				d := p.deal(rule)
				want, _ := d.scores(Grid(), all, solveThese)
				best := slices.Index(want, slices.Max(want))
				if got := p.choose(rule); got != Grid()[best] {
					t.Errorf("%s, %d rows, %s: C = %v, want %v", p.glm, p.n(), rule, got, Grid()[best])
				}
				optimum, ok := d.scores(Grid(), all, followOptimum)
				if !ok {
					t.Errorf("%s, %d rows, %s: lost the optimum", p.glm, p.n(), rule)
					continue
				}
				// How much liblinear's best leads by, and follows by there.
				top := slices.Index(optimum, slices.Max(optimum))
				worst = max(worst, want[best]-want[top]+optimum[top]-optimum[best])
			}
		}
		return worst
	}
	compare(problems)
	if testing.Short() {
		return
	}
	dir := testdata(t)
	sets, _ := readSets(t, dir)
	gamed, ref := readInputs(t, dir)
	problems = nil
	for i, s := range sets {
		if err := s.Place(ByPosition, ref); err != nil {
			t.Fatal(err)
		}
		if p, err := newProblem(s, ref, LCOptions{Gamed: gamed}); err != nil {
			t.Fatal(err)
		} else if !p.self && i%12 == 0 {
			problems = append(problems, p)
		}
	}
	worst := compare(problems)
	t.Logf("%d published sets: disagreements are over up to %.2g", len(problems), worst)
	if worst > nearTie {
		t.Errorf("disagreements are over %v: too much for what counts as a tie", worst)
	}
}
