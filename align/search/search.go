package search

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
)

// SFT and Aligned are the α of the two ends of the line.
const (
	SFT     = -1.0
	Aligned = 0.0
)

// Objective measures one α. It is called once for each, never twice at a time.
type Objective func(ctx context.Context, alpha float64) (Score, error)

// Options say which α are measured and how one is chosen.
type Options struct {
	// Alphas is the grid. The ends of the line, SFT and Aligned, are measured
	// in any case.
	Alphas []float64
	// Widen is how many α may be added while the best is the largest or the
	// smallest one. Steps beyond the largest double each time.
	Widen int
	// Golden is how many α may be added by golden section between the
	// neighbours of the best. It stops early where neighbours cannot be told
	// apart.
	Golden int

	// SkipSFT leaves the SFT model out, where there is none to be asked.
	SkipSFT bool

	Gates Gates

	// Confidence is that of intervals and of telling two α apart; 0 means 0.95.
	Confidence float64
	// Resamples are the bootstrap's; 0 means 2000.
	Resamples int
	// Seed is the bootstrap's.
	Seed uint64

	// Measured, if not nil, is called with the rows so far, sorted, after each
	// α that was measured.
	Measured func(*Result)
}

// Row is what is known about one α. Means are over prompts; errors are standard
// errors, from the variation between prompts.
type Row struct {
	Alpha    float64 `json:"alpha"`
	Reward   Number  `json:"reward"`
	RewardSE Number  `json:"reward_se"`
	// Difference is the reward less the aligned model's, with the error of the
	// paired difference.
	Difference   Number `json:"difference"`
	DifferenceSE Number `json:"difference_se"`
	// AdjustedReward is the reward that would remain if answers were as long as
	// the aligned model's: Result.LengthEffect times the growth is taken off.
	AdjustedReward       Number `json:"adjusted_reward"`
	AdjustedDifference   Number `json:"adjusted_difference"`
	AdjustedDifferenceSE Number `json:"adjusted_difference_se"`
	Length               Number `json:"length"` // characters
	LengthSE             Number `json:"length_se"`
	LengthGrowth         Number `json:"length_growth"` // the ratio to the aligned model's
	Finished             Number `json:"finished"`
	Repetition           Number `json:"repetition"`

	Tasks map[string]Task `json:"tasks,omitempty"`

	N       int `json:"n"`                 // samples with a reward
	Prompts int `json:"prompts"`           // that they answer
	Missing int `json:"missing,omitempty"` // samples that could not be made or judged

	// Gate is the limit that this α does not keep, "" if it keeps all.
	Gate string `json:"gate"`
	// Tied says that the reward cannot be told from the highest one.
	Tied bool `json:"tied"`
	// BestShare is the share of resamples in which this α has the highest reward.
	BestShare float64 `json:"best_share"`
	// Added says that this α was not asked for: an end of the line, or
	// "widened", or "golden".
	Added string `json:"added,omitempty"`
}

// Task is the mean of one of Score.Tasks.
type Task struct {
	Mean         Number `json:"mean"`
	SE           Number `json:"se"`
	Difference   Number `json:"difference"` // from the aligned model, paired
	DifferenceSE Number `json:"difference_se"`
	N            int    `json:"n"`
}

// Result is a search, or what there is of one.
type Result struct {
	// BestAlpha is the choice: of the α that no gate stops and that cannot be
	// told from HighestAlpha, the nearest to the aligned model. Both are NaN if
	// no α passes the gates.
	BestAlpha Number `json:"best_alpha"`
	// HighestAlpha has the highest mean reward of those that no gate stops.
	HighestAlpha Number `json:"highest_alpha"`
	// IntervalLow and IntervalHigh hold the α of the highest reward, over
	// resamples of the prompts, with the confidence of the search.
	IntervalLow  Number  `json:"interval_low"`
	IntervalHigh Number  `json:"interval_high"`
	Confidence   float64 `json:"confidence"`
	// LengthEffect is what a character more is worth in reward among answers of
	// the same model, and for comparable prompts.
	LengthEffect Number `json:"length_effect"`
	Gates        Gates  `json:"gates"`
	Rows         []Row  `json:"rows"` // by α
	// Notes say in words what the numbers show.
	Notes []string `json:"notes"`
}

// Row finds the row of an α.
func (r *Result) Row(alpha float64) (Row, bool) {
	for _, row := range r.Rows {
		if row.Alpha == alpha {
			return row, true
		}
	}
	return Row{}, false
}

// ErrNoAlpha says that no α passes the gates.
var ErrNoAlpha = errors.New("search: no α passes the gates")

// Run measures and chooses. With an error there is a result all the same if
// anything was measured: of ErrNoAlpha a whole one, otherwise what there was
// when the objective failed.
func Run(ctx context.Context, measure Objective, opt Options) (*Result, error) {
	if opt.Confidence == 0 {
		opt.Confidence = 0.95
	}
	if !(opt.Confidence > 0 && opt.Confidence < 1) {
		return nil, fmt.Errorf("search: the confidence is %v, want a share such as 0.95", opt.Confidence)
	}
	if err := opt.Gates.check(); err != nil {
		return nil, err
	}
	s := &searcher{opt: opt, measure: measure, scores: map[float64]Score{}, added: map[float64]string{}}
	if err := s.run(ctx); err != nil {
		return s.result(), err
	}
	r := s.result()
	if math.IsNaN(float64(r.BestAlpha)) {
		return r, ErrNoAlpha
	}
	return r, nil
}

// searcher is a search under way.
type searcher struct {
	opt     Options
	measure Objective
	alphas  []float64 // measured, sorted
	scores  map[float64]Score
	added   map[float64]string
}

func (s *searcher) run(ctx context.Context) error {
	// The aligned model first: others are compared with it.
	order := []float64{Aligned, SFT}
	if s.opt.SkipSFT {
		order = order[:1]
	}
	for _, a := range order {
		if !slices.Contains(s.opt.Alphas, a) {
			s.added[a] = "reference"
		}
	}
	grid := slices.Clone(s.opt.Alphas)
	slices.Sort(grid)
	for _, a := range append(order, grid...) {
		if a-a != 0 {
			return fmt.Errorf("search: α %v is not a finite number", a)
		}
		if err := s.visit(ctx, a, ""); err != nil {
			return err
		}
	}
	if err := s.widen(ctx, grid); err != nil {
		return err
	}
	return s.golden(ctx)
}

// visit measures an α unless that has been done.
func (s *searcher) visit(ctx context.Context, alpha float64, why string) error {
	if _, ok := s.scores[alpha]; ok {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	score, err := s.measure(ctx, alpha)
	if err != nil {
		return err
	}
	if want := len(s.scores[Aligned].Samples); len(s.scores) > 0 && len(score.Samples) != want {
		return fmt.Errorf("search: α %g has %d samples, the aligned model %d; they must be of the same prompts", alpha, len(score.Samples), want)
	}
	s.scores[alpha] = score
	if why != "" {
		s.added[alpha] = why
	}
	at, _ := slices.BinarySearch(s.alphas, alpha)
	s.alphas = slices.Insert(s.alphas, at, alpha)
	if s.opt.Measured != nil {
		s.opt.Measured(s.result())
	}
	return nil
}

// rows without what needs all of them.
func (s *searcher) rows() []Row {
	base := s.scores[Aligned]
	var out []Row
	for _, a := range s.alphas {
		sc := s.scores[a]
		re, le := over(sc.Samples, reward), over(sc.Samples, length)
		d := Paired(sc.Samples, base.Samples)
		r := Row{
			Alpha: a, Reward: Number(re.Mean), RewardSE: Number(re.SE),
			Difference: Number(d.Mean), DifferenceSE: Number(d.SE),
			Length: Number(le.Mean), LengthSE: Number(le.SE),
			LengthGrowth: Number(le.Mean / over(base.Samples, length).Mean),
			Finished:     Number(over(sc.Samples, finished).Mean),
			Repetition:   Number(over(sc.Samples, repetition).Mean),
			Added:        s.added[a],
		}
		prompts := map[int]bool{}
		for _, smp := range sc.Samples {
			if math.IsNaN(smp.Reward) {
				r.Missing++
				continue
			}
			r.N++
			prompts[smp.Prompt] = true
		}
		r.Prompts = len(prompts)
		for name, v := range sc.Tasks {
			m, diff := mean(known(v)), pairedValues(v, base.Tasks[name])
			if r.Tasks == nil {
				r.Tasks = map[string]Task{}
			}
			r.Tasks[name] = Task{Number(m.Mean), Number(m.SE), Number(diff.Mean), Number(diff.SE), m.N}
		}
		r.Gate = s.opt.Gates.stop(&r)
		out = append(out, r)
	}
	return out
}

func length(s Sample) float64     { return s.Length }
func repetition(s Sample) float64 { return s.Repetition }

func finished(s Sample) float64 {
	switch {
	case math.IsNaN(s.Length):
		return math.NaN()
	case s.Finished:
		return 1
	}
	return 0
}

// highest is the index of the row with the highest reward that no gate stops,
// the one nearest to the aligned model of several; −1 if there is none.
func highest(rows []Row) int {
	best := -1
	for i, r := range rows {
		if r.Gate != "" || math.IsNaN(float64(r.Reward)) {
			continue
		}
		if best < 0 || r.Reward > rows[best].Reward ||
			r.Reward == rows[best].Reward && math.Abs(r.Alpha) < math.Abs(rows[best].Alpha) {
			best = i
		}
	}
	return best
}
