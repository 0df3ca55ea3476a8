package chat

import (
	"errors"
	"fmt"
	"math"

	"github.com/ardanlabs/jinja"
)

var (
	errOverflow = errors.New("the integer does not fit 64 bits")
	errZero     = errors.New("division by zero")
)

// sign is +v or -v.
func (r *run) sign(e *expr, v value) (value, error) {
	if !isNumber(v) {
		return jinja.Undefined(), fmt.Errorf("'%s' wants a number, not %s", e.name, typeName(v))
	}
	n := toNumber(v)
	if e.name == "-" {
		if n.i == math.MinInt64 {
			return jinja.Undefined(), errOverflow
		}
		n.i, n.f = -n.i, -n.f
	}
	return n.value(), nil
}

func (n number) value() value {
	if n.isFloat {
		return jinja.NewFloat(n.f)
	}
	return jinja.NewInt(n.i)
}

// arithmetic is an operator between numbers. Division and remainder round
// towards minus infinity, as in Python.
func arithmetic(op string, x, y number) (value, error) {
	if op == "/" {
		if y.f == 0 {
			return jinja.Undefined(), errZero
		}
		return jinja.NewFloat(x.f / y.f), nil
	}
	if op == "**" {
		return power(x, y)
	}
	if !x.isFloat && !y.isFloat {
		return integers(op, x.i, y.i)
	}
	var f float64
	switch op {
	case "+":
		f = x.f + y.f
	case "-":
		f = x.f - y.f
	case "*":
		f = x.f * y.f
	case "//", "%":
		if y.f == 0 {
			return jinja.Undefined(), errZero
		}
		rest := math.Mod(x.f, y.f)
		if rest != 0 && (rest < 0) != (y.f < 0) {
			rest += y.f
		}
		f = rest
		if op == "//" {
			f = math.Round((x.f - rest) / y.f)
		}
	}
	return jinja.NewFloat(f), nil
}

func integers(op string, x, y int64) (value, error) {
	var n int64
	ok := true
	switch op {
	case "+":
		n = x + y
		ok = (n > x) == (y > 0)
	case "-":
		n = x - y
		ok = (n < x) == (y > 0)
	case "*":
		n = x * y
		ok = x == 0 || n/x == y && !(x == -1 && y == math.MinInt64)
	case "//", "%":
		if y == 0 {
			return jinja.Undefined(), errZero
		}
		if x == math.MinInt64 && y == -1 {
			return jinja.Undefined(), errOverflow
		}
		n = x / y
		rest := x % y
		if rest != 0 && (rest < 0) != (y < 0) {
			n--
			rest += y
		}
		if op == "%" {
			n = rest
		}
	}
	if !ok {
		return jinja.Undefined(), errOverflow
	}
	return jinja.NewInt(n), nil
}

func power(x, y number) (value, error) {
	if x.isFloat || y.isFloat || y.i < 0 {
		if x.f == 0 && y.f < 0 {
			return jinja.Undefined(), errZero
		}
		f := math.Pow(x.f, y.f)
		if math.IsNaN(f) || math.IsInf(f, 0) && !math.IsInf(x.f, 0) && !math.IsInf(y.f, 0) {
			return jinja.Undefined(), errors.New("the power is no real number, or too large")
		}
		return jinja.NewFloat(f), nil
	}
	n := int64(1)
	switch {
	case x.i == 1 || x.i == 0 && y.i > 0:
		return jinja.NewInt(x.i), nil
	case x.i == -1:
		return jinja.NewInt(1 - 2*(y.i&1)), nil
	case y.i > 63:
		return jinja.Undefined(), errOverflow
	}
	for range y.i {
		v, err := integers("*", n, x.i)
		if err != nil {
			return v, err
		}
		n = v.AsInt()
	}
	return jinja.NewInt(n), nil
}
