package alpacaeval

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Row is a model's line of a leaderboard. Numbers that a file lacks are NaN,
// counts −1.
type Row struct {
	Model string
	WinRate
	Mode          string // minimal and verified: run by the board's maintainers
	AverageLength int
	LC            float64
	LCError       float64
}

// leaderboardColumns are those of AlpacaEval 2's boards, after the model's.
var leaderboardColumns = [...]string{"win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total", "discrete_win_rate", "mode", "avg_length", "length_controlled_winrate", "lc_standard_error"}

// ReadLeaderboard reads a leaderboard's CSV: the model is in the column
// without a name, or in model; the others may stand in any order, and be
// lacking but for win_rate.
func ReadLeaderboard(r io.Reader) ([]Row, error) {
	t, err := readTable(r)
	if err != nil {
		return nil, fmt.Errorf("alpacaeval: leaderboard: %w", err)
	}
	model := t.column("", "model")
	if model < 0 || t.column("win_rate") < 0 {
		return nil, errors.New("alpacaeval: leaderboard: no column of models, or none called win_rate")
	}
	out := make([]Row, len(t.rows))
	for i, cells := range t.rows {
		number := func(name string) float64 {
			at := t.column(name)
			if at < 0 || cells[at] == "" {
				return math.NaN()
			}
			x, e := strconv.ParseFloat(cells[at], 64)
			if e != nil && err == nil {
				err = fmt.Errorf("alpacaeval: leaderboard: %s: %s is %q", cells[model], name, cells[at])
			}
			return x
		}
		count := func(name string) int {
			x := number(name)
			if !(x >= 0 && x < 1e9) {
				return -1
			}
			return int(x)
		}
		row := &out[i]
		row.Model = cells[model]
		row.WinRate = WinRate{
			WinRate: number("win_rate"), StandardError: number("standard_error"), DiscreteWinRate: number("discrete_win_rate"),
			Wins: count("n_wins"), WinsBase: count("n_wins_base"), Draws: count("n_draws"), Total: count("n_total"),
		}
		row.AverageLength = count("avg_length")
		row.LC, row.LCError = number("length_controlled_winrate"), number("lc_standard_error")
		if at := t.column("mode"); at >= 0 {
			row.Mode = cells[at]
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// WriteLeaderboard writes a leaderboard's CSV in the order of AlpacaEval 2's.
func WriteLeaderboard(w io.Writer, rows []Row) error {
	c := csv.NewWriter(w)
	c.Write(append([]string{""}, leaderboardColumns[:]...))
	for _, r := range rows {
		c.Write([]string{r.Model, decimal(r.WinRate.WinRate), decimal(r.StandardError), whole(r.Wins), whole(r.WinsBase), whole(r.Draws), whole(r.Total),
			decimal(r.DiscreteWinRate), r.Mode, whole(r.AverageLength), decimal(r.LC), decimal(r.LCError)})
	}
	c.Flush()
	if err := c.Error(); err != nil {
		return fmt.Errorf("alpacaeval: leaderboard: %w", err)
	}
	return nil
}

func decimal(x float64) string {
	if math.IsNaN(x) {
		return ""
	}
	return strconv.FormatFloat(x, 'g', -1, 64)
}

func whole(n int) string {
	if n < 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// Fitted are a model's weights, as a line of alpaca_eval's weights files.
type Fitted struct {
	Model   string
	Weights Weights
}

// Names of the columns of weights, in alpaca_eval's files and in tables of
// published rows.
var (
	weightColumns      = [...]string{"np.tanh(std_delta_len)", "instruction_difficulty", "not_gamed_baseline.astype(float)"}
	shortWeightColumns = [...]string{"w_tanh", "w_difficulty", "w_intercept"}
)

// ReadWeights reads a weights file of alpaca_eval, or a table with the columns
// model, w_tanh, w_difficulty and w_intercept; rows without weights are left
// out.
func ReadWeights(r io.Reader) ([]Fitted, error) {
	t, err := readTable(r)
	if err != nil {
		return nil, fmt.Errorf("alpacaeval: weights: %w", err)
	}
	model := t.column("", "model")
	var at [3]int
	for i := range at {
		at[i] = t.column(weightColumns[i], shortWeightColumns[i])
	}
	if model < 0 || min(at[0], at[1], at[2]) < 0 {
		return nil, fmt.Errorf("alpacaeval: weights: needs a column of models and %s", strings.Join(weightColumns[:], ", "))
	}
	var out []Fitted
	for _, cells := range t.rows {
		f := Fitted{Model: cells[model]}
		if cells[at[2]] == "" {
			continue
		}
		for i, to := range []*float64{&f.Weights.Tanh, &f.Weights.Difficulty, &f.Weights.Intercept} {
			if *to, err = strconv.ParseFloat(cells[at[i]], 64); err != nil {
				return nil, fmt.Errorf("alpacaeval: weights: %s: %q is not a number", f.Model, cells[at[i]])
			}
		}
		out = append(out, f)
	}
	return out, nil
}

// WriteWeights writes a weights file with 16 decimals, as alpaca_eval does.
func WriteWeights(w io.Writer, rows []Fitted) error {
	c := csv.NewWriter(w)
	c.Write(append([]string{""}, weightColumns[:]...))
	for _, r := range rows {
		c.Write([]string{r.Model, fixed16(r.Weights.Tanh), fixed16(r.Weights.Difficulty), fixed16(r.Weights.Intercept)})
	}
	c.Flush()
	if err := c.Error(); err != nil {
		return fmt.Errorf("alpacaeval: weights: %w", err)
	}
	return nil
}

func fixed16(x float64) string { return strconv.FormatFloat(x, 'f', 16, 64) }
