package expo

import (
	"errors"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
)

// Rule gives α to the tensors whose name matches Pattern, in which * stands
// for any sequence of characters, ? for one and [a-z] for one of a range.
type Rule struct {
	Pattern string  `json:"pattern"`
	Alpha   float64 `json:"alpha"`
}

// ParseAlphas reads the values of --alpha: numbers and pattern=number, in the
// order given. Exactly one must be a bare number, the α of all tensors that no
// pattern matches.
func ParseAlphas(values []string) (alpha float64, rules []Rule, err error) {
	bare := 0
	for _, v := range values {
		i := strings.LastIndexByte(v, '=')
		a, perr := parseAlpha(v[i+1:])
		if perr != nil {
			return 0, nil, fmt.Errorf("expo: --alpha %q: %w", v, perr)
		}
		if i < 0 {
			alpha = a
			bare++
			continue
		}
		if bare > 0 {
			return 0, nil, fmt.Errorf("expo: --alpha %q comes after the plain --alpha, which already covers every tensor; put it first", v)
		}
		if _, perr := path.Match(v[:i], ""); perr != nil || i == 0 {
			return 0, nil, fmt.Errorf("expo: --alpha %q: %q is not a valid pattern", v, v[:i])
		}
		rules = append(rules, Rule{v[:i], a})
	}
	switch {
	case bare == 0 && len(rules) == 0:
		return 0, nil, errors.New("expo: no α given; use --alpha 0.3, or another value")
	case bare == 0:
		return 0, nil, errors.New("expo: no α for the tensors that no pattern matches; add --alpha 0.3, or --alpha 0 to leave them as they are in the aligned model")
	case bare > 1:
		return 0, nil, errors.New("expo: more than one --alpha without a pattern")
	}
	return alpha, rules, nil
}

func parseAlpha(s string) (float64, error) {
	a, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(a) || math.IsInf(a, 0) || math.IsInf(float64(float32(a)), 0) {
		return 0, fmt.Errorf("%q is not a finite number", s)
	}
	return a, nil
}

// alphaOf is the α of a tensor and the index of the rule that gave it, −1 for
// the default.
func (o *Options) alphaOf(name string) (float64, int) {
	for i, r := range o.Rules {
		if ok, _ := path.Match(r.Pattern, name); ok {
			return r.Alpha, i
		}
	}
	return o.Alpha, -1
}

// zero reports whether every tensor is to be copied: α is 0 throughout, and
// neither the rounding nor the dtype asks for more than a copy.
func (o *Options) zero() bool {
	for _, r := range o.Rules {
		if r.Alpha != 0 {
			return false
		}
	}
	return o.Alpha == 0 && o.Rounding != PerOp && o.DType == 0
}
