package search

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxAlphas bounds a grid: more is a slip of the pen.
const maxAlphas = 1000

// ParseAlphas reads a grid: numbers and ranges LOW:HIGH:STEP, ends included,
// separated by commas or spaces, as in "-0.5,0.1:0.5:0.1,1". The result is
// sorted and has no α twice. Points of a range have as many decimals as its
// numbers, so 0.1:0.5:0.1 has 0.3 and not 0.30000000000000004.
func ParseAlphas(s string) ([]float64, error) {
	var all []float64
	var errs []error
	for _, item := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }) {
		list, err := parseItem(item)
		if err == nil && len(all)+len(list) > maxAlphas {
			err = fmt.Errorf("makes more than %d α", maxAlphas)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("search: %q: %w", item, err))
			continue
		}
		all = append(all, list...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("search: no α given; write 0.1:0.5:0.1 or 0.5,1,2")
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

func parseItem(item string) ([]float64, error) {
	parts := strings.Split(item, ":")
	var v [3]float64
	decimals := 0
	switch len(parts) {
	case 1, 3:
	case 2:
		return nil, errors.New("a range needs a step: LOW:HIGH:STEP")
	default:
		return nil, errors.New("want a number or LOW:HIGH:STEP")
	}
	for i, p := range parts {
		x, err := strconv.ParseFloat(p, 64)
		if err != nil || x-x != 0 || float32(x)-float32(x) != 0 {
			return nil, fmt.Errorf("%q is not a finite number", p)
		}
		v[i] = x
		decimals = max(decimals, decimalsOf(p))
	}
	if len(parts) == 1 {
		return v[:1:1], nil
	}
	lo, hi, step := v[0], v[1], v[2]
	switch {
	case step <= 0:
		return nil, errors.New("the step must be above 0")
	case hi < lo:
		return nil, errors.New("the range ends before it begins")
	}
	// An end that rounding puts a hair beyond the last step still counts.
	n := math.Floor((hi-lo)/step + 1e-9)
	if n >= maxAlphas {
		return nil, fmt.Errorf("makes more than %d α", maxAlphas)
	}
	list := make([]float64, 0, int(n)+1)
	for i := range int(n) + 1 {
		list = append(list, roundTo(lo+float64(i)*step, decimals))
	}
	return list, nil
}

// decimalsOf is how many digits after the point a number is written with.
func decimalsOf(s string) int {
	mantissa, exp, _ := strings.Cut(strings.ToLower(s), "e")
	_, frac, _ := strings.Cut(mantissa, ".")
	e, _ := strconv.Atoi(exp)
	return max(0, len(frac)-e)
}

// roundTo rounds to the double nearest to the decimal number with so many
// digits after the point.
func roundTo(x float64, decimals int) float64 {
	if decimals > 15 {
		return x
	}
	r, err := strconv.ParseFloat(strconv.FormatFloat(x, 'f', decimals, 64), 64)
	if err != nil || r == 0 {
		return 0 // never −0
	}
	return r
}

// tidy rounds an α that was computed to a few digits, so that it can be read
// and typed again.
func tidy(x float64) float64 {
	r, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 4, 64), 64)
	if err != nil || r == 0 {
		return 0
	}
	return r
}
