package alpacaeval

import (
	"math"
	"testing"
)

func TestWinRate(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		name        string
		preferences []float64
		want        WinRate
	}{
		{"none", nil, WinRate{WinRate: nan, StandardError: nan, DiscreteWinRate: nan}},
		{"one", []float64{2}, WinRate{WinRate: 100, StandardError: nan, DiscreteWinRate: 100, Wins: 1, Total: 1}},
		{"draws are 0 or 1.5", []float64{0, 1.5}, WinRate{WinRate: 50, StandardError: 0, DiscreteWinRate: 50, Draws: 2, Total: 2}},
		{"missing ones count nowhere", []float64{1, 2, nan, -1, 0.5, 2.5, 3}, WinRate{WinRate: 50, StandardError: 100 * math.Sqrt(0.5) / math.Sqrt2, DiscreteWinRate: 50, Wins: 1, WinsBase: 1, Total: 2, Missing: 5}},
		{"continuous", []float64{1.2, 1.7, 1.9, 1.5}, WinRate{WinRate: 57.5, StandardError: 100 * math.Sqrt((0.375*0.375+0.125*0.125+0.325*0.325+0.075*0.075)/3) / 2, DiscreteWinRate: 62.5, Wins: 2, WinsBase: 1, Draws: 1, Total: 4}},
	} {
		got := NewWinRate(c.preferences)
		near := func(a, b float64) bool { return math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) < 1e-12 }
		if !near(got.WinRate, c.want.WinRate) || !near(got.StandardError, c.want.StandardError) || !near(got.DiscreteWinRate, c.want.DiscreteWinRate) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		got.WinRate, got.StandardError, got.DiscreteWinRate = 0, 0, 0
		c.want.WinRate, c.want.StandardError, c.want.DiscreteWinRate = 0, 0, 0
		if got != c.want {
			t.Errorf("%s: counts %+v, want %+v", c.name, got, c.want)
		}
	}
}
