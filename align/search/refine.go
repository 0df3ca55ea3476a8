package search

import (
	"context"
	"math"
)

// edge is 1 if the highest row that passes the gates is the largest α, −1 if it
// is the smallest, 0 if it has neighbours on both sides. A neighbour that a gate
// stops counts: there is no going on beyond it.
func (s *searcher) edge(rows []Row) int {
	switch top := highest(rows); {
	case top < 0 || len(rows) < 2:
		return 0
	case top == len(rows)-1:
		return 1
	case top == 0:
		return -1
	}
	return 0
}

// widen goes on where the best is at an edge. The step is the grid's last (or
// first) one and doubles each time.
func (s *searcher) widen(ctx context.Context, grid []float64) error {
	step := [2]float64{1, 1}
	if n := len(s.alphas); n > 1 {
		step = [2]float64{s.alphas[1] - s.alphas[0], s.alphas[n-1] - s.alphas[n-2]}
	}
	if len(grid) > 1 {
		step[1] = grid[len(grid)-1] - grid[len(grid)-2]
	}
	for range s.opt.Widen {
		var next float64
		switch s.edge(s.rows()) {
		case 0:
			return nil
		case 1:
			next = s.alphas[len(s.alphas)-1] + step[1]
			step[1] *= 2
		case -1:
			if s.added[SFT] != "" && s.alphas[0] == SFT {
				return nil // the end of the line; to go beyond it must be asked for
			}
			next = s.alphas[0] - step[0]
			step[0] *= 2
		}
		if err := s.visit(ctx, tidy(next), "widened"); err != nil {
			return err
		}
	}
	return nil
}

// ratio is the golden one, 0.618….
const ratio = math.Phi - 1

// golden narrows the interval between the neighbours of the best.
func (s *searcher) golden(ctx context.Context) error {
	if s.opt.Golden <= 0 {
		return nil
	}
	rows := s.rows()
	top := highest(rows)
	if top <= 0 || top == len(rows)-1 {
		return nil // at an edge: nothing to narrow
	}
	a, b := rows[top-1].Alpha, rows[top+1].Alpha
	left := func() float64 { return tidy(b - ratio*(b-a)) }
	right := func() float64 { return tidy(a + ratio*(b-a)) }
	budget := s.opt.Golden
	look := func(x float64) (bool, error) {
		if _, ok := s.scores[x]; ok {
			return true, nil
		}
		if budget == 0 {
			return false, nil
		}
		budget--
		return true, s.visit(ctx, x, "golden")
	}
	for {
		c, d := left(), right()
		if !(a < c && c < d && d < b) {
			return nil // too narrow for the digits that α has
		}
		for _, x := range []float64{c, d} {
			if ok, err := look(x); err != nil || !ok {
				return err
			}
		}
		switch diff := Paired(s.scores[d].Samples, s.scores[c].Samples); {
		case s.stopped(d): // beyond a limit, or the worse of two that are
			b = d
		case s.stopped(c):
			a = c
		case !diff.Differs(s.opt.Confidence):
			return nil
		case diff.Mean > 0:
			a = c
		default:
			b = d
		}
	}
}

// stopped reports whether a gate stops a measured α.
func (s *searcher) stopped(alpha float64) bool {
	for _, r := range s.rows() {
		if r.Alpha == alpha {
			return r.Gate != ""
		}
	}
	return false
}
