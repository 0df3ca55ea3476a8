package chat

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

// typeName is what an error calls the type of v: the name of the Python type
// with its article.
func typeName(v value) string {
	switch {
	case v.IsUndefined():
		return "undefined"
	case v.IsNone():
		return "none"
	case v.IsBool():
		return "a bool"
	case v.IsInt():
		return "an int"
	case v.IsFloat():
		return "a float"
	case v.IsString():
		return "a str"
	case v.IsList():
		return "a list"
	case v.IsDict():
		return "a dict"
	case isIterator(v):
		return "an iterator"
	}
	return "a function"
}

// A number is an int, a float or a bool.
type number struct {
	i       int64
	f       float64
	isFloat bool
}

func isNumber(v value) bool { return v.IsNumber() || v.IsBool() }

// toNumber is the number v, for which isNumber holds.
func toNumber(v value) number {
	switch {
	case v.IsFloat():
		return number{f: v.AsFloat(), isFloat: true}
	case v.IsInt():
		return number{i: v.AsInt(), f: float64(v.AsInt())}
	case v.AsBool():
		return number{i: 1, f: 1}
	}
	return number{}
}

// Mappings of the library have strings as keys. Other keys are strings that
// begin with a zero byte, and so is a string that begins with one.

// keyOf is the key that stands for v.
func keyOf(v value) (string, error) {
	switch v = plain(v); {
	case v.IsString():
		if s := v.AsString(); !strings.HasPrefix(s, "\x00") {
			return s, nil
		} else {
			return "\x00s" + s, nil
		}
	case v.IsNone():
		return "\x00n", nil
	case isNumber(v):
		n := toNumber(v)
		if n.isFloat && n.f == math.Trunc(n.f) && math.Abs(n.f) < 1<<53 {
			n = number{i: int64(n.f)}
		}
		if n.isFloat {
			return "\x00f" + strconv.FormatFloat(n.f, 'g', -1, 64), nil
		}
		return "\x00i" + strconv.FormatInt(n.i, 10), nil
	}
	return "", fmt.Errorf("%s cannot be a key", typeName(v))
}

// keyValue is the value that key stands for.
func keyValue(key string) value {
	if len(key) < 2 || key[0] != 0 {
		return jinja.NewString(key)
	}
	switch key[1] {
	case 's':
		return jinja.NewString(key[2:])
	case 'i':
		i, _ := strconv.ParseInt(key[2:], 10, 64)
		return jinja.NewInt(i)
	case 'f':
		f, _ := strconv.ParseFloat(key[2:], 64)
		return jinja.NewFloat(f)
	}
	return jinja.None()
}

// iteratorName is the name of the functions that are iterators. The library has
// no type for what is true, can be gone through once, and is good for nothing
// else.
const iteratorName = "\x00iterator"

// iterator is an iterator over items.
func (r *run) iterator(items []value) (value, error) {
	return jinja.NewCallable(iteratorName, func([]value, map[string]value) (value, error) {
		left := items
		items = nil
		return jinja.NewList(left), nil
	}), r.grow(valueSize * (len(items) + 1))
}

func isIterator(v value) bool { return v.IsCallable() && v.AsCallable().Name == iteratorName }

// items are the elements of what can be iterated over. Nothing may be changed
// in them. The expression e names v in an error, and may be nil.
func (r *run) items(e *expr, v value) ([]value, error) {
	switch {
	case v.IsList():
		return v.AsList().Items, nil
	case v.IsUndefined():
		return nil, nil
	case v.IsString():
		s := v.AsString()
		n := utf8.RuneCountInString(s)
		if err := r.growTimes(valueSize, int64(n)); err != nil {
			return nil, err
		}
		items := make([]value, 0, n)
		for len(s) > 0 {
			_, size := utf8.DecodeRuneInString(s)
			items = append(items, jinja.NewString(s[:size]))
			s = s[size:]
		}
		return items, nil
	case v.IsDict() && !r.spaces[v.AsDict()] && !isLoop(v.AsDict()):
		keys := v.AsDict().Keys
		items := make([]value, len(keys))
		for i, key := range keys {
			items[i] = keyValue(key)
		}
		return items, r.grow(valueSize * len(items))
	case isIterator(v):
		left, err := v.AsCallable().Fn(nil, nil)
		return left.AsList().Items, err
	}
	if e == nil || e.kind == exTuple {
		return nil, fmt.Errorf("%s cannot be iterated over", typeName(v))
	}
	return nil, fmt.Errorf("%v cannot be iterated over: it is %s", e, typeName(v))
}

// text is v as it is written to the output: str(v) of Python.
func (r *run) text(v value) (string, error) {
	switch {
	case v.IsString():
		return v.AsString(), nil
	case v.IsUndefined():
		return "", nil
	}
	if s, ok := markupText(v); ok {
		return s, nil
	}
	return r.repr(v)
}

// repr is v as it is written inside of a list: repr(v) of Python.
func (r *run) repr(v value) (string, error) {
	var b strings.Builder
	err := r.writeRepr(&b, v, 0)
	return b.String(), err
}

func (r *run) writeRepr(b *strings.Builder, v value, depth int) error {
	if depth > maxNest {
		return fmt.Errorf("%w: values more than %d deep", ErrLimit, maxNest)
	}
	start := b.Len()
	switch {
	case v.IsUndefined():
		b.WriteString("Undefined")
	case v.IsNone():
		b.WriteString("None")
	case v.IsBool():
		if v.AsBool() {
			b.WriteString("True")
		} else {
			b.WriteString("False")
		}
	case v.IsInt():
		b.WriteString(strconv.FormatInt(v.AsInt(), 10))
	case v.IsFloat():
		b.WriteString(formatFloat(v.AsFloat()))
	case v.IsString():
		if err := r.growTimes(10, int64(len(v.AsString()))); err != nil { // \U00000000 is the longest escape
			return err
		}
		quoteString(b, v.AsString())
	case v.IsList():
		tuple := r.tuples[v.AsList()]
		b.WriteString(map[bool]string{false: "[", true: "("}[tuple])
		for i, item := range v.AsList().Items {
			if i > 0 {
				b.WriteString(", ")
			}
			if err := r.writeRepr(b, item, depth+1); err != nil {
				return err
			}
		}
		switch {
		case !tuple:
			b.WriteByte(']')
		case v.AsList().Len() == 1:
			b.WriteString(",)")
		default:
			b.WriteByte(')')
		}
		return r.grow(2)
	case v.IsDict():
		d := v.AsDict()
		if isLoop(d) {
			b.WriteString("<LoopContext>")
			break
		}
		if r.spaces[d] {
			b.WriteString("<Namespace ")
		}
		b.WriteByte('{')
		for i, key := range d.Keys {
			if i > 0 {
				b.WriteString(", ")
			}
			if err := r.writeRepr(b, keyValue(key), depth+1); err != nil {
				return err
			}
			b.WriteString(": ")
			if err := r.writeRepr(b, d.Data[key], depth+1); err != nil {
				return err
			}
		}
		b.WriteByte('}')
		if r.spaces[d] {
			b.WriteByte('>')
		}
		return r.grow(2)
	default:
		if s, ok := markupText(v); ok {
			b.WriteString("Markup(")
			if err := r.writeRepr(b, jinja.NewString(s), depth); err != nil {
				return err
			}
			b.WriteByte(')')
		} else if m := r.prog.macro(v.AsCallable().Name); m != nil {
			b.WriteString("<Macro '" + m.name + "'>")
		} else {
			b.WriteString("<function>")
		}
	}
	return r.grow(b.Len() - start)
}

// formatFloat is f as Python writes it: the shortest text that reads back as
// f, with a point or an exponent in it.
func formatFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// quoteString writes s as a Python string literal.
func quoteString(b *strings.Builder, s string) {
	quote := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	b.WriteRune(quote)
	for _, c := range s {
		switch {
		case c == quote || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(c):
			b.WriteRune(c)
		case c < 0x100:
			fmt.Fprintf(b, `\x%02x`, c)
		case c < 0x10000:
			fmt.Fprintf(b, `\u%04x`, c)
		default:
			fmt.Fprintf(b, `\U%08x`, c)
		}
	}
	b.WriteRune(quote)
}

// equal is a == b of Python.
func (r *run) equal(a, b value, depth int) (bool, error) {
	if depth > maxNest {
		return false, fmt.Errorf("%w: values more than %d deep", ErrLimit, maxNest)
	}
	if err := r.spend(1); err != nil {
		return false, err
	}
	a, b = plain(a), plain(b)
	switch {
	case isNumber(a) && isNumber(b):
		c, ok := compareNumbers(a, b)
		return ok && c == 0, nil
	case a.IsString() && b.IsString():
		if len(a.AsString()) != len(b.AsString()) {
			return false, nil
		}
		return a.AsString() == b.AsString(), r.read(len(a.AsString()))
	case a.IsList() && b.IsList():
		x, y := a.AsList(), b.AsList()
		if x == y {
			return true, nil
		}
		if r.tuples[x] != r.tuples[y] || x.Len() != y.Len() {
			return false, nil
		}
		for i := range x.Items {
			if ok, err := r.equal(x.Items[i], y.Items[i], depth+1); err != nil || !ok {
				return false, err
			}
		}
		return true, nil
	case a.IsDict() && b.IsDict():
		x, y := a.AsDict(), b.AsDict()
		if x == y {
			return true, nil
		}
		if r.spaces[x] || r.spaces[y] || x.Len() != y.Len() {
			return false, nil
		}
		for _, key := range x.Keys {
			other, ok := y.Get(key)
			if !ok {
				return false, nil
			}
			if ok, err := r.equal(x.Data[key], other, depth+1); err != nil || !ok {
				return false, err
			}
		}
		return true, nil
	}
	return a.IsNone() && b.IsNone() || a.IsUndefined() && b.IsUndefined(), nil
}

// compareNumbers orders two numbers, unless one of them is NaN.
func compareNumbers(a, b value) (order int, ok bool) {
	x, y := toNumber(a), toNumber(b)
	if !x.isFloat && !y.isFloat {
		switch {
		case x.i < y.i:
			return -1, true
		case x.i > y.i:
			return 1, true
		}
		return 0, true
	}
	switch {
	case x.f < y.f:
		return -1, true
	case x.f > y.f:
		return 1, true
	}
	return 0, x.f == y.f
}

// less is a < b of Python.
func (r *run) less(a, b value, depth int) (bool, error) {
	switch a, b = plain(a), plain(b); {
	case depth > maxNest:
		return false, fmt.Errorf("%w: values more than %d deep", ErrLimit, maxNest)
	case isNumber(a) && isNumber(b):
		c, _ := compareNumbers(a, b)
		return c < 0, r.spend(1)
	case a.IsString() && b.IsString():
		return a.AsString() < b.AsString(), r.read(min(len(a.AsString()), len(b.AsString())))
	case a.IsList() && b.IsList() && r.tuples[a.AsList()] == r.tuples[b.AsList()]:
		x, y := a.AsList().Items, b.AsList().Items
		for i := range min(len(x), len(y)) {
			same, err := r.equal(x[i], y[i], depth+1)
			if err != nil {
				return false, err
			}
			if !same {
				return r.less(x[i], y[i], depth+1)
			}
		}
		return len(x) < len(y), nil
	}
	for _, v := range []value{a, b} {
		if v.IsUndefined() {
			return false, errors.New("an undefined value has no order")
		}
	}
	return false, fmt.Errorf("%s and %s have no order", typeName(a), typeName(b))
}
