package mtbench

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"expo/eval"
	"expo/eval/judge"
)

// FullSize is the number of ratings of a complete run, two for each of the 80
// questions.
const FullSize = 160

// Scores are a model's figures. Metrics' N counts ratings; standard errors and
// intervals are over questions.
type Scores struct {
	Model string
	Judge string

	Turn1 eval.Metric
	Turn2 eval.Metric
	// All is the mean of all ratings: not the mean of both turns' means, from
	// which it differs where ratings are missing.
	All        eval.Metric
	Categories []eval.Metric // the mean of both turns, by category

	Unparsed   int // replies without a rating, left out of the means
	OutOfRange int // ratings that are not from 1 to 10
	Duplicates int // further ratings of the same answer, left out
	// Missing are the questions that lack a rating, or a reply that cannot be
	// read, to one of their turns; Unknown are those judged that do not belong
	// to the set. Both are in order.
	Missing, Unknown []int
	Questions        []QuestionScore
}

// QuestionScore is the ratings of a question's answers; NaN for none.
type QuestionScore struct {
	ID       int
	Category string
	Turns    [2]float64
}

// Mean of the question's ratings; NaN if there are none.
func (q QuestionScore) Mean() float64 {
	sum, n := 0.0, 0
	for _, x := range q.Turns {
		if !math.IsNaN(x) {
			sum += x
			n++
		}
	}
	return sum / float64(n)
}

// Complete reports whether each of the 160 answers has a rating or a reply
// that cannot be read, and there is none to any other question.
func (s *Scores) Complete() bool {
	return s.All.N+s.Unparsed >= FullSize && len(s.Missing)+len(s.Unknown) == 0
}

// ScoreOptions are how figures are computed.
type ScoreOptions struct {
	Questions []Question // the set, and its categories; MT-Bench's own if nil
	// Strict leaves ratings out that are not from 1 to 10.
	Strict bool
	// Draws of the bootstrap over questions for the intervals; 0 for 2000, −1
	// for no intervals.
	Draws int
}

// Score computes the figures of each model, in the order in which models first
// occur. Where one model is rated by several judges, each judge has figures of
// its own. The first of several ratings of an answer counts, if any can be read.
func Score(js []Judgment, opt ScoreOptions) []Scores {
	if opt.Draws == 0 {
		opt.Draws = 2000
	}
	category := map[int]string{}
	turns := map[int]int{} // of the set's questions
	for _, q := range opt.Questions {
		category[q.ID] = q.Category
		if len(q.Turns) > 0 {
			turns[q.ID] = len(q.Turns)
		}
	}
	if len(turns) == 0 {
		for id := firstQuestion; id <= lastQuestion; id++ {
			turns[id] = 2
		}
	}
	type rated struct{ model, judge string }
	var order []rated
	rows := map[rated][]Judgment{}
	for _, j := range js {
		g := rated{j.Model, ""}
		if len(j.Judge) > 0 {
			g.judge = j.Judge[0]
		}
		if rows[g] == nil {
			order = append(order, g)
		}
		rows[g] = append(rows[g], j)
	}
	out := make([]Scores, len(order))
	var group sync.WaitGroup
	for i, g := range order {
		group.Go(func() {
			out[i] = Scores{Model: g.model, Judge: g.judge}
			out[i].add(rows[g], category, turns, opt.Strict)
			out[i].figures(opt.Draws)
		})
	}
	group.Wait()
	return out
}

// add sorts a model's ratings by question; turns is how many each question of
// the set has.
func (s *Scores) add(rows []Judgment, category map[int]string, turns map[int]int, strict bool) {
	at := map[int]int{}
	seen := map[[2]int]bool{}
	// A rating counts rather than a reply without one.
	slices.SortStableFunc(rows, func(a, b Judgment) int {
		_, x := value(a.Score)
		_, y := value(b.Score)
		switch {
		case x == y:
			return 0
		case x:
			return -1
		}
		return 1
	})
	for _, j := range rows {
		if seen[[2]int{j.QuestionID, j.Turn}] {
			s.Duplicates++
			continue
		}
		seen[[2]int{j.QuestionID, j.Turn}] = true
		i, ok := at[j.QuestionID]
		if !ok {
			i = len(s.Questions)
			at[j.QuestionID] = i
			c, known := category[j.QuestionID]
			if !known {
				c = CategoryOf(j.QuestionID)
			}
			s.Questions = append(s.Questions, QuestionScore{j.QuestionID, c, [2]float64{math.NaN(), math.NaN()}})
		}
		x, ok := value(j.Score)
		if !ok {
			s.Unparsed++
			continue
		}
		if !judge.InRange(x) {
			s.OutOfRange++
			if strict {
				continue
			}
		}
		s.Questions[i].Turns[j.Turn-1] = x
	}
	slices.SortFunc(s.Questions, func(a, b QuestionScore) int { return cmp.Compare(a.ID, b.ID) })
	for _, q := range s.Questions {
		if turns[q.ID] == 0 {
			s.Unknown = append(s.Unknown, q.ID)
		}
	}
	for id, n := range turns {
		for turn := 1; turn <= n; turn++ {
			if !seen[[2]int{id, turn}] {
				s.Missing = append(s.Missing, id)
				break
			}
		}
	}
	slices.Sort(s.Missing)
}

func (s *Scores) figures(draws int) {
	s.Turn1 = metric("turn1", s.Questions, draws, []int{0})
	s.Turn2 = metric("turn2", s.Questions, draws, []int{1})
	s.All = metric("all", s.Questions, draws, []int{0, 1})
	names := Categories()
	for _, q := range s.Questions {
		if q.Category != "" && !slices.Contains(names, q.Category) {
			names = append(names, q.Category)
		}
	}
	for _, name := range names {
		var in []QuestionScore
		for _, q := range s.Questions {
			if q.Category == name {
				in = append(in, q)
			}
		}
		if len(in) > 0 {
			s.Categories = append(s.Categories, metric(name, in, draws, []int{0, 1}))
		}
	}
}

// metric is the mean of the ratings of some turns.
func metric(name string, qs []QuestionScore, draws int, turns []int) eval.Metric {
	parts := make([]part, len(qs))
	for i, q := range qs {
		for _, t := range turns {
			if x := q.Turns[t]; !math.IsNaN(x) {
				parts[i].sum += x
				parts[i].n++
			}
		}
	}
	return ratio(name, parts, draws)
}

// part is what one question contributes to a mean.
type part struct{ sum, n float64 }

// ratio is the mean of all that the parts hold. Parts are what is independent:
// the standard error is that of a mean of clusters,
// √(k/(k−1)·Σ(sum − mean·n)²)/Σn, which is sd/√k where all have the same size.
func ratio(name string, parts []part, draws int) eval.Metric {
	parts = slices.DeleteFunc(parts, func(p part) bool { return p.n == 0 })
	var total part
	for _, p := range parts {
		total.sum += p.sum
		total.n += p.n
	}
	m := eval.Metric{Name: name, Value: total.sum / total.n, N: int(total.n)}
	squares, k := 0.0, float64(len(parts))
	for _, p := range parts {
		squares += (p.sum - m.Value*p.n) * (p.sum - m.Value*p.n)
	}
	m.StdErr = math.Sqrt(squares*k/(k-1)) / total.n
	m.CI = bootstrap(len(parts), draws, func(drawn []int) float64 {
		var d part
		for _, i := range drawn {
			d.sum += parts[i].sum
			d.n += parts[i].n
		}
		return d.sum / d.n
	})
	return m
}

// bootstrap is the percentile interval of a figure of n questions.
func bootstrap(n, draws int, figure func(drawn []int) float64) *eval.Interval {
	if n < 2 || draws <= 0 {
		return nil
	}
	r := rand.New(rand.NewPCG(1, 0))
	drawn := make([]int, n)
	values := make([]float64, draws)
	for d := range values {
		for i := range drawn {
			drawn[i] = r.IntN(n)
		}
		values[d] = figure(drawn)
	}
	slices.Sort(values)
	tail := draws / 40 // 2.5 %
	return &eval.Interval{Level: 0.95, Low: values[tail], High: values[draws-1-tail],
		Method: fmt.Sprintf("percentile bootstrap over %d questions, %d draws, seed 1", n, draws)}
}

// Difference is by how much one model is rated higher than another, question
// by question.
type Difference struct {
	Model, Than        string
	Mean               eval.Metric // N counts questions
	Higher, Lower, Tie int         // questions
	// P is how probable a difference this far from 0, or further, would be if
	// the models were exchangeable: a permutation test that flips the signs of
	// the questions' differences at random.
	P float64
}

// Compare compares the figures of two models over the questions that both have
// ratings for.
func Compare(a, b Scores, draws int) Difference {
	if draws == 0 {
		draws = 2000
	}
	d := Difference{Model: a.Model, Than: b.Model}
	other := map[int]float64{}
	for _, q := range b.Questions {
		other[q.ID] = q.Mean()
	}
	var diffs []float64
	for _, q := range a.Questions {
		y, ok := other[q.ID]
		x := q.Mean()
		if !ok || math.IsNaN(x) || math.IsNaN(y) {
			continue
		}
		diffs = append(diffs, x-y)
		switch {
		case x > y:
			d.Higher++
		case x < y:
			d.Lower++
		default:
			d.Tie++
		}
	}
	parts := make([]part, len(diffs))
	for i, x := range diffs {
		parts[i] = part{x, 1}
	}
	d.Mean = ratio("difference", parts, draws)
	d.P = signFlips(diffs, 10000)
	return d
}

// signFlips is the two-sided p-value of a mean of differences.
func signFlips(diffs []float64, draws int) float64 {
	if len(diffs) == 0 {
		return math.NaN()
	}
	sum := func(sign func() float64) float64 {
		s := 0.0
		for _, x := range diffs {
			s += sign() * x
		}
		return math.Abs(s)
	}
	got := sum(func() float64 { return 1 })
	r := rand.New(rand.NewPCG(1, 1))
	extreme := 1 // the differences as they are, one of the ways to flip
	for range draws {
		var bits uint64
		left := 0
		flipped := sum(func() float64 {
			if left == 0 {
				bits, left = r.Uint64(), 64
			}
			left--
			s := float64(bits&1)*2 - 1
			bits >>= 1
			return s
		})
		if flipped >= got-1e-9 {
			extreme++
		}
	}
	return float64(extreme) / float64(draws+1)
}

// Warnings are what a reader of the figures has to know.
func (s *Scores) Warnings() []string {
	var out []string
	warn := func(format string, args ...any) {
		out = append(out, s.Model+": "+fmt.Sprintf(format, args...))
	}
	switch {
	case s.Complete():
	case s.All.N >= FullSize:
		warn("%d ratings, but not those of the %d answers; not an MT-Bench score", s.All.N, FullSize)
	default:
		warn("%d of %d ratings; not an MT-Bench score", s.All.N, FullSize)
	}
	if len(s.Missing) > 0 {
		warn("not all turns of %s are judged", ids(s.Missing))
	}
	if len(s.Unknown) > 0 {
		warn("there are ratings of %s, not of this set", ids(s.Unknown))
	}
	if s.Unparsed > 0 {
		warn("%s left out of the means", plural(s.Unparsed, "reply without a rating is", "replies without a rating are"))
	}
	if s.OutOfRange > 0 {
		warn("%s not from 1 to 10", plural(s.OutOfRange, "rating is", "ratings are"))
	}
	if s.Duplicates > 0 {
		warn("%s not counted", plural(s.Duplicates, "second rating of the same answer is", "further ratings of the same answers are"))
	}
	return out
}

// ids names the first few questions.
func ids(list []int) string {
	const most = 5
	var b strings.Builder
	b.WriteString(map[bool]string{true: "question ", false: "questions "}[len(list) == 1])
	for i, id := range list {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(list)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, id)
	}
	return b.String()
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}

// Label tells models apart where several judges rated the same one.
func Label(all []Scores, s Scores) string {
	for _, o := range all {
		if o.Model == s.Model && o.Judge != s.Judge {
			return strings.TrimSpace(s.Model + " [" + s.Judge + "]")
		}
	}
	return s.Model
}
