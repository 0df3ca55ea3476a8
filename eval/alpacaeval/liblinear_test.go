package alpacaeval

import (
	_ "embed"
	"encoding/json"
	"math"
	"slices"
	"testing"
)

// Fits of scikit-learn 1.9.1: python testdata/liblinear.py > testdata/liblinear.json
//
//go:embed testdata/liblinear.json
var liblinearGolden []byte

// lcg is the generator of rows that liblinear.py has too.
type lcg struct{ state uint64 }

func (g *lcg) next() float64 {
	g.state = g.state*6364136223846793005 + 1442695040888963407
	return float64(g.state>>11) / (1 << 53)
}

// goldenProblem has the rows of liblinear.py.
func goldenProblem(n int, seed uint64, features int) *problem {
	g := &lcg{seed}
	p := &problem{glm: V1, use: []int{0, 1, 2}, rows: newRows(n)}
	if features == 2 {
		p.use = []int{0, 2}
	}
	for i := range n {
		tanh, d := 2*g.next()-1, 4*g.next()-2
		one, weight := 0.0, 0.1
		if i >= n/3 {
			one, weight = 1, 1
		}
		y := g.next()
		if i%7 == 0 {
			y = math.RoundToEven(y)
		}
		if features == 2 {
			d = 0
		}
		p.add(tanh, d, one, weight*y, weight*(1-y))
	}
	return p
}

// solved is a fit of all rows of p at c.
func solved(p *problem, c float64) *fit {
	f := newFit(p.use)
	f.on(p.rows)
	f.solve(c, gridSeeds[0])
	return f
}

func TestLiblinear(t *testing.T) {
	var golden struct {
		Fits []struct {
			N, Features int
			Seed        uint64
			C           float64
			W           []float64
		}
		Scores []struct {
			N    int
			Seed uint64
			Mean []float64
			C    float64
		}
	}
	if err := json.Unmarshal(liblinearGolden, &golden); err != nil {
		t.Fatal(err)
	}
	worst, zeros := 0.0, 0
	for _, g := range golden.Fits {
		p := goldenProblem(g.N, g.Seed, g.Features)
		f := solved(p, g.C)
		for j, want := range g.W {
			worst = max(worst, math.Abs(f.w[j]-want))
			if math.Abs(f.w[j]-want) > 1e-9*max(1, math.Abs(want)) {
				t.Errorf("n = %d, C = %v: w = %v, want %v", g.N, g.C, f.w, g.W)
				break
			}
			if want == 0 {
				zeros++
			}
		}
	}
	t.Logf("%d fits within %.2g; %d weights are zero", len(golden.Fits), worst, zeros)
	if len(golden.Fits) != 60 || zeros == 0 {
		t.Errorf("%d fits with %d zeros are a poor test", len(golden.Fits), zeros)
	}
	for _, g := range golden.Scores {
		p := goldenProblem(g.N, g.Seed, 3)
		if c := p.choose(Mod5); math.Abs(c/g.C-1) > 1e-12 {
			t.Errorf("n = %d: C = %v was chosen, want %v", g.N, c, g.C)
		}
	}
}

// TestScore compares the score of one fold with a sum by hand.
func TestScore(t *testing.T) {
	var r rows
	r.add(1, 0, 7, 0.1, 0)
	r.add(0, 1, 7, 0.5, 0.5)
	r.add(-2, 1, 7, 0, 1)
	// z is 1, 2, 0
	want := (0.1*math.Log(1/(1+math.Exp(-1))) + 0.5*math.Log(1/(1+math.Exp(-2))) + 0.5*math.Log(1-1/(1+math.Exp(-2))) + math.Log(0.5)) / 3
	if got := r.score([3]float64{1, 2, 0}); math.Abs(got-want) > 1e-15 {
		t.Errorf("%v, want %v", got, want)
	}
	// A certain mistake costs log 1e−15, not more.
	r = rows{}
	r.add(1, 0, 0, 0, 1)
	if got := r.score([3]float64{1e4, 0, 0}); math.Abs(got-math.Log(1e-15)) > 0.2 {
		t.Errorf("a certain mistake scores %v", got)
	}
}

func TestRefine(t *testing.T) {
	for _, features := range []int{2, 3} {
		for _, c := range []float64{0.36, 2.78, 21.5, 1e4} {
			p := goldenProblem(805, 3, features)
			full := solved(p, c)
			// The optimum is a little beyond where the solver stops.
			start := slices.Clone(full.w)
			start[0] += 0.05
			f := solved(p, c)
			if !f.refine(c, start) {
				t.Errorf("C = %v: did not arrive", c)
			}
			for j := range f.w {
				if math.Abs(f.w[j]-full.w[j]) > 2e-3 {
					t.Errorf("C = %v: %v, want about %v", c, f.w, full.w)
				}
			}
			again := solved(p, c)
			if !again.refine(c, f.w) || math.Abs(again.w[0]-f.w[0]) > 1e-6 {
				t.Errorf("C = %v: %v moves to %v", c, f.w, again.w)
			}
		}
	}
}

func TestFolds(t *testing.T) {
	order := func(n int) []int {
		t := make([]int, n)
		for i := range t {
			t[i] = i
		}
		introsortEqual(t)
		return t
	}
	// numpy 2.4.6 with SIMD switched off: np.argsort(np.zeros(n))
	if got, want := order(17), []int{0, 14, 13, 12, 11, 10, 9, 15, 8, 6, 5, 4, 3, 2, 1, 7, 16}; !slices.Equal(got, want) {
		t.Errorf("17: %v, want %v", got, want)
	}
	if got, want := order(2415)[:10], []int{0, 1606, 1607, 1608, 1609, 1610, 1611, 1605, 1612, 1614}; !slices.Equal(got, want) {
		t.Errorf("2415: %v, want %v", got, want)
	}
	if got := order(16); !slices.IsSorted(got) {
		t.Errorf("16: %v, want them as they were", got)
	}
	for _, rule := range []Folds{Mod5, Introsort} {
		for _, n := range []int{1, 4, 5, 6, 16, 17, 100, 2415} {
			count := [foldCount]int{}
			for _, f := range rule.deal(n) {
				count[f]++
			}
			if lo, hi := slices.Min(count[:]), slices.Max(count[:]); hi-lo > 1 {
				t.Errorf("%s, %d rows: folds of %v", rule, n, count)
			}
		}
	}
	fold := Mod5.deal(23)
	for i := 5; i < len(fold); i++ {
		if fold[i] != fold[i-5] {
			t.Fatalf("mod5 deals %v", fold)
		}
	}
	if _, err := ParseFolds("random"); err == nil {
		t.Error("a rule that is none passes")
	}
}
