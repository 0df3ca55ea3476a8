package expo

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"expo/weights/tensor"
)

// Rule gives α to the tensors whose name matches Pattern, in which * stands
// for any sequence of characters, ? for one and [a-z] for one of a range, as
// in path.Match: none of them stands for a slash, which names do not contain.
// With α = 0 a tensor is the aligned model's, and needs no partner in the SFT
// model unless the rounding is PerOp and the type a floating-point one.
type Rule struct {
	Pattern string  `json:"pattern"`
	Alpha   float64 `json:"alpha"`
}

// ParseAlphas reads the values of --alpha: any number of pattern=number, in
// the order in which they are tried, then one bare number, the α of all
// tensors that no pattern matches. Numbers are finite also as float32.
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
			return 0, nil, fmt.Errorf("expo: --alpha %q comes after the plain --alpha, which already covers every tensor; put the pattern first", v)
		}
		r := Rule{v[:i], a}
		if err := r.check(); err != nil {
			return 0, nil, err
		}
		rules = append(rules, r)
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
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("%q is not a number", s)
	case !usable(a):
		return 0, fmt.Errorf("%q is not a finite number in float32, the type that it is multiplied in", s)
	}
	return a, nil
}

// usable reports whether α is finite, also as the float32 that it becomes.
func usable(alpha float64) bool {
	a := float32(alpha)
	return a-a == 0
}

func (r Rule) check() error {
	if _, err := path.Match(r.Pattern, ""); err != nil || r.Pattern == "" {
		return fmt.Errorf("expo: α pattern %q is not valid", r.Pattern)
	}
	if !usable(r.Alpha) {
		return fmt.Errorf("expo: α %v of pattern %q is not a finite number in float32", r.Alpha, r.Pattern)
	}
	return nil
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
// neither the rounding nor the dtype nor the head's policy asks for more than
// a copy.
func (o *Options) zero() bool {
	for _, r := range o.Rules {
		if r.Alpha != 0 {
			return false
		}
	}
	return o.Alpha == 0 && o.Rounding != PerOp && o.DType == tensor.Invalid && o.Head != HeadTied
}
