package alpacaeval_test

import (
	"fmt"
	"math"

	"expo/eval/alpacaeval"
)

func ExampleNewWinRate() {
	// Two wins, a loss, a draw, and one that could not be judged.
	w := alpacaeval.NewWinRate([]float64{1.9, 2, 1.1, 1.5, math.NaN()})
	fmt.Printf("%.1f %% ± %.1f of %d, %d missing\n", w.WinRate, w.StandardError, w.Total, w.Missing)
	// Output: 62.5 % ± 20.6 of 4, 1 missing
}

func ExampleWeights_Against() {
	// Fits of two models against a common baseline, and three difficulties.
	a := alpacaeval.Weights{Tanh: -1, Difficulty: 0.4, Intercept: 0.5}
	b := alpacaeval.Weights{Tanh: -1, Difficulty: 0.2, Intercept: -0.5}
	rate, _, err := a.Against(b, []float64{-1, 0, 1})
	fmt.Printf("%.1f %v\n", rate, err)
	// Output: 73.0 <nil>
}
