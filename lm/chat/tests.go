package chat

import (
	"errors"
	"fmt"

	"github.com/ardanlabs/jinja"
)

// test is v is name(a).
func (r *run) test(name string, v value, a *arguments) (ok bool, err error) {
	f := testNamed(name)
	if f == nil {
		return false, fmt.Errorf("no test is called '%.40s'", name)
	}
	args, err := a.bind(f.need, f.params...)
	if err == nil {
		ok, err = f.is(r, v, args)
	}
	var own *TemplateError
	if err != nil && !errors.Is(err, ErrLimit) && !errors.As(err, &own) {
		err = fmt.Errorf("the test %s: %w", name, err)
	}
	return ok, err
}

// A test asks something of a value.
type test struct {
	need   int
	params []string
	is     func(r *run, v value, args []opt) (bool, error)
}

// kind makes a test that asks what a value is.
func kind(is func(value) bool) *test {
	return &test{0, nil, func(_ *run, v value, _ []opt) (bool, error) { return is(v), nil }}
}

// relation makes a test that compares a value with another.
func relation(op string) *test {
	return &test{1, []string{"other"}, func(r *run, v value, args []opt) (bool, error) {
		return r.compare(op, v, args[0].value)
	}}
}

// modulo makes a test of an integer's remainder.
func modulo(rest int64) *test {
	return &test{0, nil, func(_ *run, v value, _ []opt) (bool, error) {
		return hasRest(v, jinja.NewInt(2), rest)
	}}
}

func hasRest(v, by value, rest int64) (bool, error) {
	if !isNumber(v) || !isNumber(by) {
		return false, fmt.Errorf("want a number, not %s", typeName(v))
	}
	m, err := arithmetic("%", toNumber(v), toNumber(by))
	return err == nil && toNumber(m).f == float64(rest), err
}

// testNamed finds a test, or gives nil.
func testNamed(name string) *test {
	switch name {
	case "boolean":
		return kind(value.IsBool)
	case "callable":
		// An undefined value is, in Jinja, though the call fails.
		return kind(func(v value) bool { return v.IsCallable() && !isIterator(v) || v.IsUndefined() })
	case "defined":
		return kind(func(v value) bool { return !v.IsUndefined() })
	case "undefined":
		return kind(value.IsUndefined)
	case "escaped":
		return kind(func(value) bool { return false })
	case "true":
		return kind(func(v value) bool { return v.IsBool() && v.AsBool() })
	case "false":
		return kind(func(v value) bool { return v.IsBool() && !v.AsBool() })
	case "none":
		return kind(value.IsNone)
	case "integer":
		return kind(value.IsInt)
	case "float":
		return kind(value.IsFloat)
	case "number":
		return kind(isNumber)
	case "string":
		return kind(value.IsString)
	case "odd":
		return modulo(1)
	case "even":
		return modulo(0)
	case "divisibleby":
		return &test{1, []string{"num"}, func(_ *run, v value, args []opt) (bool, error) {
			return hasRest(v, args[0].value, 0)
		}}
	case "==", "eq", "equalto":
		return relation("==")
	case "!=", "ne":
		return relation("!=")
	case "<", "lt", "lessthan":
		return relation("<")
	case "<=", "le":
		return relation("<=")
	case ">", "gt", "greaterthan":
		return relation(">")
	case ">=", "ge":
		return relation(">=")
	case "in":
		return relation("in")
	case "mapping":
		return &test{0, nil, func(r *run, v value, _ []opt) (bool, error) { return r.isMapping(v), nil }}
	case "iterable", "sequence":
		return &test{0, nil, func(r *run, v value, _ []opt) (bool, error) {
			return name == "iterable" && isIterator(v) || v.IsString() || v.IsList() || v.IsUndefined() || r.isMapping(v), nil
		}}
	case "lower":
		return &test{0, nil, func(r *run, v value, _ []opt) (bool, error) {
			s, err := r.text(v)
			return isLower(s), err
		}}
	case "upper":
		return &test{0, nil, func(r *run, v value, _ []opt) (bool, error) {
			s, err := r.text(v)
			return isUpper(s), err
		}}
	case "sameas":
		return &test{1, []string{"other"}, func(r *run, v value, args []opt) (bool, error) {
			return same(v, args[0].value), nil
		}}
	case "filter":
		return &test{0, nil, func(r *run, v value, _ []opt) (bool, error) {
			return v.IsString() && r.filterNamed(v.AsString()) != nil, nil
		}}
	case "test":
		return kind(func(v value) bool { return v.IsString() && testNamed(v.AsString()) != nil })
	}
	return nil
}

func (r *run) isMapping(v value) bool {
	return v.IsDict() && !r.spaces[v.AsDict()] && !isLoop(v.AsDict())
}

// same is a is b of Python, where values without identity of their own are the
// same if they are of one type and equal.
func same(a, b value) bool {
	switch {
	case a.IsList() && b.IsList():
		return a.AsList() == b.AsList()
	case a.IsDict() && b.IsDict():
		return a.AsDict() == b.AsDict()
	case a.IsList() || a.IsDict() || a.IsCallable():
		return false
	}
	return a.Equals(b)
}
