package alpacaeval

import "math"

// WinRate says how often a model's answers were preferred to the baseline's.
// Rates and the error are in percent, NaN without a judgment.
type WinRate struct {
	WinRate         float64 // mean probability that the judge prefers the model
	StandardError   float64
	DiscreteWinRate float64 // share of wins, a draw counting one half

	Wins, WinsBase, Draws int
	Total                 int // comparisons with a judgment
	Missing               int // without
}

// Valid tells whether a preference is a judgment, and gives it as a number
// between 1 (the baseline is better) and 2 (the model is). Draws of older
// files are 0; NaN, −1 and anything else is none.
func Valid(preference float64) (p float64, ok bool) {
	if preference == 0 {
		return 1.5, true
	}
	return preference, preference >= 1 && preference <= 2
}

// NewWinRate computes the win rate of preferences as they stand in
// annotations, NaN for null.
func NewWinRate(preferences []float64) WinRate {
	var w WinRate
	sum, discrete := 0.0, 0.0
	for _, preference := range preferences {
		p, ok := Valid(preference)
		if !ok {
			w.Missing++
			continue
		}
		w.Total++
		sum += p - 1
		switch {
		case p == 1.5:
			w.Draws++
			discrete += 0.5
		case p > 1.5:
			w.Wins++
			discrete++
		default:
			w.WinsBase++
		}
	}
	n := float64(w.Total)
	mean := sum / n
	squares := 0.0
	for _, preference := range preferences {
		if p, ok := Valid(preference); ok {
			squares += (p - 1 - mean) * (p - 1 - mean)
		}
	}
	w.WinRate = 100 * mean
	w.StandardError = 100 * math.Sqrt(squares/(n-1)) / math.Sqrt(n)
	w.DiscreteWinRate = 100 * discrete / n
	return w
}
