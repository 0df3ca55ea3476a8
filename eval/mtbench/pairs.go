package mtbench

import (
	"slices"

	"expo/eval"
)

// PairScores are the figures of a model's games.
type PairScores struct {
	Model              string
	Games              int // that have two verdicts
	Wins, Losses, Ties int
	Inconsistent       int // of the ties: the verdicts contradicted each other
	WinRate, LossRate  eval.Metric
	WinRateAdjusted    eval.Metric // a tie is half a win
}

// Bias is what games tell about the judge.
type Bias struct {
	Games        int // that have two verdicts
	Dropped      int // that lack one
	Inconsistent int // in which the verdicts differ
	// First and Second count inconsistent games in which the answer in the same
	// place won both times.
	First, Second int
}

// InconsistencyRate is the part of the games in which the order decided; NaN
// without games.
func (b Bias) InconsistencyRate() float64 { return float64(b.Inconsistent) / float64(b.Games) }

// outcome is what a game counts as: 1 if model_1 wins, −1 if model_2 does, 0
// for a tie.
func outcome(p PairJudgment) (result int, valid bool) {
	switch {
	case p.G1Winner == "error" || p.G2Winner == "error":
		return 0, false
	case p.G1Winner != p.G2Winner:
		return 0, true
	case p.G1Winner == "model_1":
		return 1, true
	case p.G1Winner == "model_2":
		return -1, true
	}
	return 0, true
}

// ScorePairs computes the figures of each model over all its games, ordered by
// name, and of the judge. Several judgments of a game count once.
func ScorePairs(ps []PairJudgment, draws int) ([]PairScores, Bias) {
	if draws == 0 {
		draws = 2000
	}
	type game struct {
		question, turn int
		a, b           string
	}
	var bias Bias
	results := map[string]map[int][]float64{} // by model and question: 1, 0, −1
	var questions []int
	scores := map[string]*PairScores{}
	seen := map[game]bool{}
	for _, p := range ps {
		g := game{p.QuestionID, p.Turn, p.Model1, p.Model2}
		if seen[g] {
			continue
		}
		seen[g] = true
		if !slices.Contains(questions, p.QuestionID) {
			questions = append(questions, p.QuestionID)
		}
		result, valid := outcome(p)
		if !valid {
			bias.Dropped++
			continue
		}
		bias.Games++
		inconsistent := p.G1Winner != p.G2Winner
		if inconsistent {
			bias.Inconsistent++
			switch {
			case p.G1Winner == "model_1" && p.G2Winner == "model_2":
				bias.First++
			case p.G1Winner == "model_2" && p.G2Winner == "model_1":
				bias.Second++
			}
		}
		for _, side := range []struct {
			model string
			sign  int
		}{{p.Model1, 1}, {p.Model2, -1}} {
			s := scores[side.model]
			if s == nil {
				s = &PairScores{Model: side.model}
				scores[side.model] = s
				results[side.model] = map[int][]float64{}
			}
			s.Games++
			switch side.sign * result {
			case 1:
				s.Wins++
			case -1:
				s.Losses++
			default:
				s.Ties++
				if inconsistent {
					s.Inconsistent++
				}
			}
			results[side.model][p.QuestionID] = append(results[side.model][p.QuestionID], float64(side.sign*result))
		}
	}
	var out []PairScores
	for name, s := range scores {
		rate := func(metric string, of func(x float64) float64) eval.Metric {
			parts := make([]part, len(questions))
			for i, q := range questions {
				for _, x := range results[name][q] {
					parts[i].sum += of(x)
					parts[i].n++
				}
			}
			return ratio(metric, parts, draws)
		}
		s.WinRate = rate("win_rate", func(x float64) float64 { return max(x, 0) })
		s.LossRate = rate("loss_rate", func(x float64) float64 { return max(-x, 0) })
		s.WinRateAdjusted = rate("win_rate_adjusted", func(x float64) float64 { return (x + 1) / 2 })
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b PairScores) int {
		if a.Model < b.Model {
			return -1
		}
		return 1
	})
	return out, bias
}
