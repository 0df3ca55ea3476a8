package chat

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

// attr is v.name of Jinja: a method of v, or its entry of that name. e is the
// expression, whose operand is v.
func (r *run) attr(e *expr, v value, name string) (value, error) {
	if v.IsUndefined() {
		return v, fmt.Errorf("'%v' is undefined", e.args[0])
	}
	if v.IsDict() {
		d := v.AsDict()
		switch {
		case isLoop(d):
			return r.loopAttr(v, name)
		case r.spaces[d]:
			return d.Data[name], nil
		}
	}
	if m, ok := r.method(v, name); ok {
		return m, nil
	}
	if v.IsDict() {
		return entry(v, jinja.NewString(name)), nil
	}
	return jinja.Undefined(), nil
}

// item is v[key] of Jinja: the entry of that key, or the method of that name.
func (r *run) item(e *expr, v, key value) (value, error) {
	switch {
	case v.IsUndefined():
		return v, fmt.Errorf("'%v' is undefined", e.args[0])
	case v.IsDict() && (isLoop(v.AsDict()) || r.spaces[v.AsDict()]):
		if key.IsString() {
			return r.attr(e, v, key.AsString())
		}
		return jinja.Undefined(), nil
	case v.IsDict():
		if got := entry(v, key); !got.IsUndefined() {
			return got, nil
		}
	case (v.IsList() || v.IsString()) && (key.IsInt() || key.IsBool()):
		return r.index(v, toNumber(key).i)
	}
	if key.IsString() {
		m, _ := r.method(v, key.AsString())
		return m, nil
	}
	return jinja.Undefined(), nil
}

// entry is the value of a key in a mapping, or undefined.
func entry(d, key value) value {
	k, err := keyOf(key)
	if err != nil {
		return jinja.Undefined() // there is no such key
	}
	return d.AsDict().Data[k]
}

// index is an element of a list or string, counted from the end if i is
// negative, or undefined.
func (r *run) index(v value, i int64) (value, error) {
	if v.IsList() {
		items := v.AsList().Items
		if i < 0 {
			i += int64(len(items))
		}
		if i < 0 || i >= int64(len(items)) {
			return jinja.Undefined(), nil
		}
		return items[i], nil
	}
	s := v.AsString()
	if err := r.read(len(s)); err != nil {
		return jinja.Undefined(), err
	}
	if i < 0 {
		i += int64(utf8.RuneCountInString(s))
	}
	if i < 0 {
		return jinja.Undefined(), nil
	}
	for at, c := range s {
		if i == 0 {
			return jinja.NewString(s[at : at+max(1, runeLen(s[at:], c))]), nil
		}
		i--
	}
	return jinja.Undefined(), nil
}

// runeLen is the length in bytes of the character c at the head of s, which
// may be one byte that is no character.
func runeLen(s string, c rune) int {
	if c != utf8.RuneError {
		return utf8.RuneLen(c)
	}
	_, n := utf8.DecodeRuneInString(s)
	return n
}

// loopAttr is an attribute of the loop variable.
func (r *run) loopAttr(loop value, name string) (value, error) {
	d := loop.AsDict()
	if name != "changed" {
		return d.Data[name], nil
	}
	return r.callable("changed", func(a *arguments) (value, error) {
		last := r.rounds[d]
		changed := !last.seen || len(last.args) != len(a.pos)
		for i := 0; !changed && i < len(a.pos); i++ {
			same, err := r.equal(a.pos[i], last.args[i], 0)
			if err != nil {
				return jinja.Undefined(), err
			}
			changed = !same
		}
		r.rounds[d] = loopState{seen: true, args: a.pos}
		return jinja.NewBool(changed), nil
	}), nil
}

// slice is args[0][args[1]:args[2]:args[3]], where none stands for what was
// left out.
func (r *run) slice(e *expr, args []value) (value, error) {
	v := args[0]
	if !v.IsString() && !v.IsList() {
		if v.IsUndefined() {
			return v, fmt.Errorf("'%v' is undefined", e.args[0])
		}
		return jinja.Undefined(), fmt.Errorf("%v has no slices: it is %s", e.args[0], typeName(v))
	}
	var bounds [3]*int64
	for i, b := range args[1:] {
		switch {
		case b.IsNone():
		case b.IsInt() || b.IsBool():
			n := toNumber(b).i
			bounds[i] = &n
		default:
			return jinja.Undefined(), fmt.Errorf("the bounds of a slice are integers, not %s", typeName(b))
		}
	}
	length := int64(0)
	ascii := false
	var items []value
	if v.IsList() {
		items = v.AsList().Items
		length = int64(len(items))
	} else {
		if err := r.read(len(v.AsString())); err != nil {
			return jinja.Undefined(), err
		}
		length = int64(utf8.RuneCountInString(v.AsString()))
		ascii = length == int64(len(v.AsString()))
	}
	start, stop, step, err := sliceBounds(bounds, length)
	if err != nil {
		return jinja.Undefined(), err
	}
	if v.IsString() {
		s := v.AsString()
		switch {
		case step == 1 && ascii:
			return jinja.NewString(s[start:max(start, stop)]), nil
		case step == 1:
			return jinja.NewString(runeSlice(s, start, max(start, stop))), nil
		}
		if err := r.growTimes(4, length); err != nil {
			return jinja.Undefined(), err
		}
		runes := []rune(s)
		var b strings.Builder
		for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
			b.WriteRune(runes[i])
		}
		return r.str(b.String())
	}
	var out []value
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		out = append(out, items[i])
	}
	if r.tuples[v.AsList()] {
		return r.tuple(out...)
	}
	return r.list(out)
}

// sliceBounds resolves the bounds of a slice as Python does: step by step from
// start, inclusive, to stop, exclusive, every index is one of the sequence.
func sliceBounds(bounds [3]*int64, length int64) (start, stop, step int64, err error) {
	step = 1
	if bounds[2] != nil {
		step = *bounds[2]
	}
	if step == 0 {
		return 0, 0, 0, errors.New("the step of a slice must not be zero")
	}
	step = max(step, -length-1)
	step = min(step, length+1)
	low, high := int64(0), length
	if step < 0 {
		low, high = -1, length-1
	}
	bound := func(b *int64, def int64) int64 {
		switch {
		case b == nil:
			return def
		case *b < 0:
			return max(*b+length, low)
		}
		return min(*b, high)
	}
	start, stop = bound(bounds[0], low), bound(bounds[1], high)
	if step < 0 {
		start, stop = bound(bounds[0], high), bound(bounds[1], low)
	}
	return start, stop, step, nil
}

// runeSlice is s from one character to another.
func runeSlice(s string, from, to int64) string {
	start, end := len(s), len(s)
	n := int64(0)
	for at := range s {
		if n == from {
			start = at
		}
		if n == to {
			end = at
			break
		}
		n++
	}
	return s[min(start, end):end]
}

// operate is a binary operator of arithmetic.
func (r *run) operate(e *expr, a, b value) (value, error) {
	if isNumber(a) && isNumber(b) {
		return arithmetic(e.name, toNumber(a), toNumber(b))
	}
	if v, ok, err := r.addMarkup(e.name, a, b); ok || err != nil {
		return v, err
	}
	a, b = plain(a), plain(b)
	switch e.name {
	case "+":
		switch {
		case a.IsString() && b.IsString():
			if err := r.grow(len(a.AsString()) + len(b.AsString())); err != nil {
				return jinja.Undefined(), err
			}
			return jinja.NewString(a.AsString() + b.AsString()), nil
		case a.IsList() && b.IsList() && r.tuples[a.AsList()] == r.tuples[b.AsList()]:
			x, y := a.AsList().Items, b.AsList().Items
			items := make([]value, 0, len(x)+len(y))
			items = append(append(items, x...), y...)
			if r.tuples[a.AsList()] {
				return r.tuple(items...)
			}
			return r.list(items)
		}
	case "*":
		if isNumber(a) {
			a, b = b, a
		}
		if (a.IsString() || a.IsList()) && (b.IsInt() || b.IsBool()) {
			return r.repeat(a, max(0, toNumber(b).i))
		}
	case "%":
		if a.IsString() {
			s, err := r.percent(a.AsString(), b)
			return jinja.NewString(s), err
		}
	}
	for i, v := range []value{a, b} {
		if v.IsUndefined() {
			return v, fmt.Errorf("'%v' is undefined", e.args[i])
		}
	}
	return jinja.Undefined(), fmt.Errorf("'%s' does not go between %s and %s (%v and %v)", e.name, typeName(a), typeName(b), e.args[0], e.args[1])
}

// repeat is a string or list n times.
func (r *run) repeat(v value, n int64) (value, error) {
	if v.IsString() {
		s := v.AsString()
		if s == "" || n == 0 {
			return jinja.NewString(""), nil
		}
		if err := r.growTimes(len(s), n); err != nil {
			return jinja.Undefined(), err
		}
		return jinja.NewString(strings.Repeat(s, int(n))), nil
	}
	items := v.AsList().Items
	if len(items) == 0 {
		n = 0
	}
	if err := r.growTimes(valueSize*len(items), n); err != nil {
		return jinja.Undefined(), err
	}
	var out []value
	for range n {
		out = append(out, items...)
	}
	if r.tuples[v.AsList()] {
		return r.tuple(out...)
	}
	return r.list(out)
}

// compare is an operator that gives a truth value. The expressions name a and
// b in an error.
func (r *run) compare(op string, a, b value, names ...*expr) (ok bool, err error) {
	switch op {
	case "==":
		return r.equal(a, b, 0)
	case "!=":
		ok, err = r.equal(a, b, 0)
		return !ok, err
	case "in":
		return r.contains(b, a)
	case "not in":
		ok, err = r.contains(b, a)
		return !ok, err
	}
	if isNumber(a) && isNumber(b) {
		if _, ok := compareNumbers(a, b); !ok {
			return false, nil // a NaN
		}
	}
	for i, v := range []value{a, b} {
		if v.IsUndefined() && i < len(names) {
			return false, fmt.Errorf("'%v' is undefined", names[i])
		}
	}
	switch op {
	case "<":
		return r.less(a, b, 0)
	case ">":
		return r.less(b, a, 0)
	case "<=":
		ok, err = r.less(b, a, 0)
	case ">=":
		ok, err = r.less(a, b, 0)
	}
	return !ok, err
}

// contains is v in container of Python.
func (r *run) contains(container, v value) (bool, error) {
	switch {
	case container.IsString():
		if !v.IsString() {
			return false, fmt.Errorf("only a str can be in a str, not %s", typeName(v))
		}
		return strings.Contains(container.AsString(), v.AsString()), r.read(len(container.AsString()))
	case container.IsDict() && !r.spaces[container.AsDict()] && !isLoop(container.AsDict()):
		if v.IsUndefined() {
			return false, nil
		}
		key, err := keyOf(v)
		return err == nil && container.AsDict().Has(key), err
	}
	items, err := r.items(nil, container)
	if err != nil {
		return false, err
	}
	for _, item := range items {
		if ok, err := r.equal(item, v, 0); err != nil || ok {
			return ok, err
		}
	}
	return false, nil
}
