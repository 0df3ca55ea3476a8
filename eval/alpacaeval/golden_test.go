package alpacaeval

import (
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"testing"
)

// testdata is the folder of published data that is not ours to keep here.
func testdata(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("EXPO_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	dir = filepath.Join(dir, "alpacaeval")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the published data is not here; EXPO_TESTDATA names its folder")
	}
	return dir
}

// published is a row of a published leaderboard.
type published struct {
	columns          map[string]string
	source, judge    string
	model, readable  string
	n, avg           int
	wr, se, dwr      float64
	wins, base, draw int
	lc, lcse, c      float64
	weights          Weights
}

func (p *published) hasWeights() bool { return !math.IsNaN(p.weights.Intercept) }

func readPublished(t *testing.T, dir string) []published {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "published.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []published
	for _, row := range all[1:] {
		m := map[string]string{}
		for i, h := range all[0] {
			m[h] = row[i]
		}
		number := func(name string) float64 {
			if m[name] == "" {
				return math.NaN()
			}
			x, err := strconv.ParseFloat(m[name], 64)
			if err != nil {
				return math.NaN()
			}
			return x
		}
		whole := func(name string) int { return int(number(name)) }
		p := published{columns: m, judge: m["annotator"], model: m["model"], readable: m["annotations_status"],
			n: whole("n_total"), avg: whole("avg_length"), wr: number("win_rate"), se: number("standard_error"), dwr: number("discrete_win_rate"),
			wins: whole("n_wins"), base: whole("n_wins_base"), draw: whole("n_draws"),
			lc: number("length_controlled_winrate"), lcse: number("lc_standard_error"), c: number("lc_C"),
			weights: Weights{number("w_tanh"), number("w_difficulty"), number("w_intercept")}}
		p.source = "alpaca_eval"
		if s := m["source_leaderboard"]; len(s) >= 17 && s[:17] == "LLM-Extrapolation" {
			p.source = "LLM-Extrapolation"
		}
		out = append(out, p)
	}
	return out
}

type setKey struct{ source, judge, model string }

func readSets(t *testing.T, dir string) ([]*Judged, map[setKey]*Judged) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "annotations.csv.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := Decompress(f)
	if err != nil {
		t.Fatal(err)
	}
	sets, err := ReadNumbers(r)
	if err != nil {
		t.Fatal(err)
	}
	by := map[setKey]*Judged{}
	for _, s := range sets {
		by[setKey{s.Source, s.Judge, s.Model}] = s
	}
	return sets, by
}

func readInputs(t *testing.T, dir string) (*Gamed, *Reference) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "gamed_surrogate.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g, err := ReadGamed(f)
	if err != nil {
		t.Fatal(err)
	}
	d, err := os.Open(filepath.Join(dir, "instructions.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ref, err := ReadDifficulty(d)
	if err != nil {
		t.Fatal(err)
	}
	return g, ref
}

// TestPublishedWinRates recomputes every published row whose preferences are
// there.
func TestPublishedWinRates(t *testing.T) {
	dir := testdata(t)
	_, by := readSets(t, dir)
	rows, worst, worstSE, worstDiscrete := 0, 0.0, 0.0, 0.0
	for _, p := range readPublished(t, dir) {
		if p.readable != "readable" {
			continue
		}
		set := by[setKey{p.source, p.judge, p.model}]
		if set == nil {
			t.Errorf("%s/%s: no annotations", p.source, p.model)
			continue
		}
		rows++
		w := NewWinRate(set.Preferences())
		if w.Total != p.n || w.Wins != p.wins || w.WinsBase != p.base || w.Draws != p.draw {
			t.Errorf("%s: counts %d %d %d %d, want %d %d %d %d", p.model, w.Total, w.Wins, w.WinsBase, w.Draws, p.n, p.wins, p.base, p.draw)
		}
		worst = max(worst, math.Abs(w.WinRate-p.wr))
		worstSE = max(worstSE, math.Abs(w.StandardError-p.se))
		worstDiscrete = max(worstDiscrete, math.Abs(w.DiscreteWinRate-p.dwr))
		if math.Abs(w.WinRate-p.wr) > 1e-8 || math.Abs(w.StandardError-p.se) > 1e-8 || math.Abs(w.DiscreteWinRate-p.dwr) > 1e-8 {
			t.Errorf("%s: %v %v %v, want %v %v %v", p.model, w.WinRate, w.StandardError, w.DiscreteWinRate, p.wr, p.se, p.dwr)
		}
	}
	t.Logf("%d rows: win rate within %.2g points, standard error %.2g, discrete %.2g", rows, worst, worstSE, worstDiscrete)
	if rows != 75 {
		t.Errorf("%d rows, want 75", rows)
	}
}

// TestPublishedLC refits every published length-controlled win rate at the C
// of its row.
func TestPublishedLC(t *testing.T) {
	dir := testdata(t)
	_, by := readSets(t, dir)
	gamed, ref := readInputs(t, dir)
	rows, errors, weights := 0, 0, 0
	var worst, worstSE, worstW float64
	for _, p := range readPublished(t, dir) {
		if p.readable != "readable" || math.IsNaN(p.lc) || math.IsNaN(p.c) {
			continue
		}
		set := by[setKey{p.source, p.judge, p.model}]
		if err := set.Place(ByPosition, ref); err != nil {
			t.Fatal(err)
		}
		lc, err := LengthControlled(set, ref, LCOptions{C: p.c, Gamed: gamed})
		if err != nil {
			t.Fatal(err)
		}
		rows++
		worst = max(worst, math.Abs(lc.WinRate-p.lc))
		if math.Abs(lc.WinRate-p.lc) > 1e-8 {
			t.Errorf("%s: %v, want %v", p.model, lc.WinRate, p.lc)
		}
		if !math.IsNaN(p.lcse) {
			errors++
			worstSE = max(worstSE, math.Abs(lc.StandardError-p.lcse))
			if math.Abs(lc.StandardError-p.lcse) > 1e-8 {
				t.Errorf("%s: standard error %v, want %v", p.model, lc.StandardError, p.lcse)
			}
		}
		if p.hasWeights() && p.model != "NullModel" { // whose weights are those of another run
			weights++
			d := max(math.Abs(lc.Weights.Tanh-p.weights.Tanh), math.Abs(lc.Weights.Difficulty-p.weights.Difficulty), math.Abs(lc.Weights.Intercept-p.weights.Intercept))
			worstW = max(worstW, d)
			if d > 1e-8 {
				t.Errorf("%s: weights %v, want %v", p.model, lc.Weights, p.weights)
			}
		}
	}
	t.Logf("%d rows: LC within %.2g points; %d standard errors within %.2g; %d weights within %.2g", rows, worst, errors, worstSE, weights, worstW)
	if rows != 66 {
		t.Errorf("%d rows, want 66", rows)
	}
}

// TestChosenC lets cross-validation choose C, by both fold rules.
func TestChosenC(t *testing.T) {
	if testing.Short() {
		t.Skip("50 fits for each of 66 rows")
	}
	dir := testdata(t)
	_, by := readSets(t, dir)
	gamed, ref := readInputs(t, dir)
	type tally struct {
		rows, same int
		sum, most  float64
	}
	for _, rule := range []Folds{Mod5, Introsort} {
		groups := map[string]*tally{}
		for _, p := range readPublished(t, dir) {
			if p.readable != "readable" || math.IsNaN(p.lc) || math.IsNaN(p.c) {
				continue
			}
			set := by[setKey{p.source, p.judge, p.model}]
			if err := set.Place(ByPosition, ref); err != nil {
				t.Fatal(err)
			}
			lc, err := LengthControlled(set, ref, LCOptions{Folds: rule, Gamed: gamed})
			if err != nil {
				t.Fatal(err)
			}
			name := p.source + " " + p.judge
			if groups[name] == nil {
				groups[name] = new(tally)
			}
			g := groups[name]
			g.rows++
			if math.Abs(lc.C/p.c-1) < 1e-9 {
				g.same++
			}
			d := math.Abs(lc.WinRate - p.lc)
			g.sum += d
			g.most = max(g.most, d)
			if set.Judge == "weighted_alpaca_eval_gpt4_turbo" && d > 0.16 {
				t.Errorf("%s, %s: %v at C = %v, want within 0.16 of %v", p.model, rule, lc.WinRate, lc.C, p.lc)
			}
		}
		var names []string
		for name := range groups {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			g := groups[name]
			t.Logf("%s, %s: %d of %d choose the published C; |ΔLC| mean %.4f, max %.4f", rule, name, g.same, g.rows, g.sum/float64(g.rows), g.most)
		}
	}
}

// TestPublishedBaseline: a model against itself is exactly even.
func TestPublishedBaseline(t *testing.T) {
	dir := testdata(t)
	_, by := readSets(t, dir)
	gamed, ref := readInputs(t, dir)
	set := by[setKey{"alpaca_eval", "weighted_alpaca_eval_gpt4_turbo", "gpt4_1106_preview"}]
	if set == nil {
		t.Fatal("no annotations of the baseline")
	}
	if err := set.Place(ByPosition, ref); err != nil {
		t.Fatal(err)
	}
	w := NewWinRate(set.Preferences())
	lc, err := LengthControlled(set, ref, LCOptions{Gamed: gamed})
	if err != nil {
		t.Fatal(err)
	}
	if w.WinRate != 50 || w.StandardError != 0 || w.Draws != 805 || lc.WinRate != 50 || lc.StandardError != 0 || lc.Weights != (Weights{}) {
		t.Errorf("%+v, %v ± %v, %v", w, lc.WinRate, lc.StandardError, lc.Weights)
	}
}

// TestPublishedWeights: the rate follows from published weights alone, and so
// does that between any two models.
func TestPublishedWeights(t *testing.T) {
	dir := testdata(t)
	_, ref := readInputs(t, dir)
	exact, weights := 0, map[string]Weights{}
	other := map[string]bool{"NullModel": true, "zephyr-7b-alpha-ExPO": true, "minotaur-13b": true, "alpaca-7b_concise": true, "phi-2": true}
	for _, p := range readPublished(t, dir) {
		if !p.hasWeights() {
			continue
		}
		weights[p.model] = p.weights
		rate, _, err := p.weights.Against(Weights{}, ref.Difficulty)
		if err != nil {
			t.Fatal(err)
		}
		if d := math.Abs(rate - p.lc); d < 1e-9 {
			exact++
		} else if !other[p.model] {
			t.Errorf("%s: %v from weights, published %v", p.model, rate, p.lc)
		}
	}
	if len(weights) != 85 || exact != 80 {
		t.Errorf("%d of %d exact, want 80 of 85", exact, len(weights))
	}
	for _, c := range []struct {
		model, base string
		want        float64
	}{
		{"SPPO-Mistral7B-PairRM-ExPO", "SPPO-Mistral7B-PairRM", 53.1617006954},
		{"SPPO-Mistral7B-PairRM-ExPO", "", 31.8223219606},
		{"", "SPPO-Mistral7B-PairRM-ExPO", 68.1776780394},
		{"zephyr-7b-alpha-ExPO", "", 13.5730893237},
	} {
		got, _, err := weights[c.model].Against(weights[c.base], ref.Difficulty)
		if err != nil || math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%q against %q: %.10f (%v), want %.10f", c.model, c.base, got, err, c.want)
		}
	}
}

// TestAlignedByInstruction: where outputs are missing, rows keep the
// difficulty of their own instruction.
func TestAlignedByInstruction(t *testing.T) {
	dir := testdata(t)
	_, by := readSets(t, dir)
	gamed, ref := readInputs(t, dir)
	for model, want := range map[string]float64{"minotaur-13b": 9.1045, "phi-2": 3.8934, "alpaca-7b_concise": 4.6697} {
		set := by[setKey{"alpaca_eval", "weighted_alpaca_eval_gpt4_turbo", model}]
		if err := set.Place(ByInstruction, ref); err != nil {
			t.Fatal(err)
		}
		if missing := set.Missing(ref); len(missing) != len(ref.Difficulty)-len(set.Rows) {
			t.Errorf("%s: %v are missing of %d", model, missing, len(set.Rows))
		}
		lc, err := LengthControlled(set, ref, LCOptions{C: 2.7825594022071258, Gamed: gamed})
		if err != nil || math.Abs(lc.WinRate-want) > 1e-3 {
			t.Errorf("%s: %v (%v), want %v", model, lc.WinRate, err, want)
		}
	}
}

// TestImpliedWinRates: at the optimum, weights and lengths alone give the raw
// win rate.
func TestImpliedWinRates(t *testing.T) {
	dir := testdata(t)
	_, ref := readInputs(t, dir)
	base := baselineLengths(t, dir)
	type key struct{ source, model string }
	lengths := map[key][]int{}
	for _, l := range readLengths(t, dir) {
		if l.Instr == nil && l.N == len(base) {
			lengths[key{l.Source, l.Model}] = l.Len
		}
	}
	rows, worst := 0, 0.0
	for _, p := range readPublished(t, dir) {
		l := lengths[key{p.source, p.model}]
		if !p.hasWeights() || l == nil || p.judge != "weighted_alpaca_eval_gpt4_turbo" {
			continue
		}
		j := &Judged{Rows: make([]Comparison, len(l))}
		for i := range l {
			j.Rows[i] = Comparison{LenBaseline: base[i], LenModel: l[i]}
		}
		delta, sd := lengthDifferences(j.Rows)
		sum := 0.0
		for i, d := range delta {
			sum += sigmoid(p.weights.Tanh*standardized(d, sd) + p.weights.Difficulty*ref.Difficulty[i] + p.weights.Intercept)
		}
		best := math.Inf(1)
		for _, c := range Grid() {
			got := 100 / float64(len(l)) * (sum + math.Copysign(1/c, p.weights.Intercept))
			best = min(best, math.Abs(got-p.wr))
		}
		rows++
		worst = max(worst, best)
		if best > 0.006 {
			t.Errorf("%s: off by %v", p.model, best)
		}
	}
	t.Logf("%d rows within %.4f points", rows, worst)
	if rows < 80 {
		t.Errorf("%d rows, want 81", rows)
	}
}

// TestAllSets scores everything that is there.
func TestAllSets(t *testing.T) {
	dir := testdata(t)
	sets, _ := readSets(t, dir)
	gamed, ref := readInputs(t, dir)
	rows, partial := 0, 0
	for _, s := range sets {
		if err := s.Place(ByInstruction, ref); err != nil {
			t.Fatal(err)
		}
		if len(s.Missing(ref)) > 0 {
			partial++
		}
		rows += len(s.Rows)
		w := NewWinRate(s.Preferences())
		lc, err := LengthControlled(s, ref, LCOptions{C: 2.7825594022071258, Gamed: gamed})
		if err != nil {
			t.Fatal(err)
		}
		if !(w.WinRate >= 0 && w.WinRate <= 100 && lc.WinRate >= 0 && lc.WinRate <= 100 && lc.StandardError >= 0) || w.Total+w.Missing != len(s.Rows) || w.Wins+w.WinsBase+w.Draws != w.Total {
			t.Errorf("%s: %+v, LC %v ± %v", s.Model, w, lc.WinRate, lc.StandardError)
		}
	}
	if len(sets) != 137 || rows != 110275 || partial != 6 {
		t.Errorf("%d sets of %d rows, %d of them partial; want 137 of 110275, 6", len(sets), rows, partial)
	}
}
