package judge

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Winner is which of two answers a judge prefers, in FastChat's words.
type Winner string

// The winners. NoWinner is that of a reply that does not say.
const (
	WinnerA  Winner = "A"
	WinnerB  Winner = "B"
	Tie      Winner = "tie"
	NoWinner Winner = "error"
)

var (
	twoRatings       = regexp.MustCompile(`\[\[([0-9]+\.?[0-9]*),\s?([0-9]+\.?[0-9]*)\]\]`)
	twoRatingsBackup = regexp.MustCompile(`\[([0-9]+\.?[0-9]*),\s?([0-9]+\.?[0-9]*)\]`)
)

// ParseWinner finds the verdict in a reply in the format of a template. For
// [[A]], a reply that has [[A]] anywhere prefers A, else one that has [[B]]
// prefers B, else [[C]] is a tie: which stands first in the text does not
// matter. For [[rating_a,rating_b]], ratings that differ by no more than 0.1
// are a tie.
func ParseWinner(reply, format string) Winner {
	if format != "[[rating_a,rating_b]]" {
		switch {
		case strings.Contains(reply, "[[A]]"):
			return WinnerA
		case strings.Contains(reply, "[[B]]"):
			return WinnerB
		case strings.Contains(reply, "[[C]]"):
			return Tie
		}
		return NoWinner
	}
	m := twoRatings.FindStringSubmatch(reply)
	if m == nil {
		m = twoRatingsBackup.FindStringSubmatch(reply)
	}
	if m == nil {
		return NoWinner
	}
	a, errA := strconv.ParseFloat(m[1], 64)
	b, errB := strconv.ParseFloat(m[2], 64)
	switch {
	case errA != nil || errB != nil:
		return NoWinner
	case math.Abs(a-b) <= 0.1:
		return Tie
	case a > b:
		return WinnerA
	}
	return WinnerB
}
