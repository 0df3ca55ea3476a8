package chat

import (
	"errors"
	"slices"

	"github.com/ardanlabs/jinja"
)

// sequenceFilter finds a filter that takes a sequence, or gives nil.
func (r *run) sequenceFilter(name string) filter {
	switch name {
	case "batch":
		return r.batch
	case "dictsort":
		return r.dictSort
	case "first", "last":
		return simple(func(v value) (value, error) {
			if name == "last" && isIterator(v) {
				return jinja.Undefined(), errors.New("an iterator has no last element, its list has")
			}
			items, err := r.items(nil, v)
			switch {
			case err != nil || len(items) == 0:
				return jinja.Undefined(), err
			case name == "first":
				return items[0], nil
			}
			return items[len(items)-1], nil
		})
	case "groupby":
		return r.groupBy
	case "join":
		return r.joinFilter
	case "list":
		return simple(func(v value) (value, error) {
			items, err := r.items(nil, v)
			if err != nil {
				return jinja.Undefined(), err
			}
			return r.list(slices.Clone(items))
		})
	case "map":
		return r.mapFilter
	case "max", "min":
		return func(v value, a *arguments) (value, error) { return r.extreme(v, a, name == "max") }
	case "reject", "select":
		return func(v value, a *arguments) (value, error) { return r.choose(v, a, false, name == "select") }
	case "rejectattr", "selectattr":
		return func(v value, a *arguments) (value, error) { return r.choose(v, a, true, name == "selectattr") }
	case "reverse":
		return simple(r.reverse)
	case "slice":
		return r.sliceFilter
	case "sort":
		return r.sort
	case "sum":
		return r.sum
	case "unique":
		return r.unique
	}
	return nil
}

func (r *run) joinFilter(v value, a *arguments) (value, error) {
	args, err := a.bind(0, "d", "attribute")
	if err != nil {
		return jinja.Undefined(), err
	}
	items, err := r.items(nil, v)
	if err != nil {
		return jinja.Undefined(), err
	}
	if args[1].given && !args[1].IsNone() {
		items, err = r.each(items, r.getter(args[1].value, opt{}))
		if err != nil {
			return jinja.Undefined(), err
		}
	}
	sep, err := r.text(args[0].or(jinja.NewString("")))
	if err != nil {
		return jinja.Undefined(), err
	}
	s, err := r.join(sep, items)
	return jinja.NewString(s), err
}

// each is what f makes of the elements.
func (r *run) each(items []value, f getter) ([]value, error) {
	out := make([]value, len(items))
	for i, item := range items {
		v, err := f(item)
		if err == nil {
			err = r.spend(1)
		}
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, r.grow(valueSize * len(out))
}

// someItems are the elements of v, of which there are none if v is false.
func (r *run) someItems(v value) ([]value, error) {
	if !v.IsTruthy() {
		return nil, nil
	}
	return r.items(nil, v)
}

func (r *run) mapFilter(v value, a *arguments) (value, error) {
	items, err := r.someItems(v)
	if err != nil {
		return jinja.Undefined(), err
	}
	var f getter
	if len(a.pos) == 0 {
		args, err := a.bind(0, "attribute", "default")
		if err == nil && !args[0].given {
			err = errors.New("want the name of a filter, or an attribute")
		}
		if err != nil {
			return jinja.Undefined(), err
		}
		f = r.getter(args[0].value, args[1])
	} else {
		if !a.pos[0].IsString() {
			return jinja.Undefined(), errors.New("want the name of a filter, or an attribute")
		}
		rest := *a
		rest.pos = a.pos[1:]
		f = func(v value) (value, error) { return r.filter(a.pos[0].AsString(), v, &rest) }
	}
	if items, err = r.each(items, f); err != nil {
		return jinja.Undefined(), err
	}
	return r.iterator(items)
}

// choose are the elements that pass a test, or do not; or whose attribute
// does. Without a test they must be true.
func (r *run) choose(v value, a *arguments, attribute, pass bool) (value, error) {
	items, err := r.someItems(v)
	if err != nil {
		return jinja.Undefined(), err
	}
	rest := *a
	get := func(v value) (value, error) { return v, nil }
	if attribute {
		if len(a.pos) == 0 {
			return jinja.Undefined(), errors.New("want the name of an attribute")
		}
		get = r.getter(a.pos[0], opt{})
		rest.pos = a.pos[1:]
	}
	name := ""
	if len(rest.pos) > 0 {
		if !rest.pos[0].IsString() {
			return jinja.Undefined(), errors.New("want the name of a test")
		}
		name, rest.pos = rest.pos[0].AsString(), rest.pos[1:]
	}
	var out []value
	for _, item := range items {
		v, err := get(item)
		if err != nil {
			return jinja.Undefined(), err
		}
		ok := v.IsTruthy()
		if name != "" {
			ok, err = r.test(name, v, &rest)
		}
		if err == nil {
			err = r.spend(1)
		}
		if err != nil {
			return jinja.Undefined(), err
		}
		if ok == pass {
			out = append(out, item)
		}
	}
	return r.iterator(out)
}

func (r *run) reverse(v value) (value, error) {
	if v.IsString() {
		runes := []rune(v.AsString())
		slices.Reverse(runes)
		return r.str(string(runes))
	}
	items, err := r.items(nil, v)
	if err != nil {
		return jinja.Undefined(), err
	}
	out := slices.Clone(items)
	slices.Reverse(out)
	if isIterator(v) {
		return r.list(out)
	}
	return r.iterator(out)
}

func (r *run) sum(v value, a *arguments) (value, error) {
	args, err := a.bind(0, "attribute", "start")
	if err != nil {
		return jinja.Undefined(), err
	}
	items, err := r.items(nil, v)
	if err != nil {
		return jinja.Undefined(), err
	}
	if args[0].given && !args[0].IsNone() {
		if items, err = r.each(items, r.getter(args[0].value, opt{})); err != nil {
			return jinja.Undefined(), err
		}
	}
	total := args[1].or(jinja.NewInt(0))
	plus := &expr{kind: exBinary, name: "+"}
	operand := &expr{kind: exName, name: "sum"}
	plus.args = []*expr{operand, operand}
	for _, item := range items {
		if total.IsString() {
			return jinja.Undefined(), errors.New("strings are joined, not summed")
		}
		if total, err = r.operate(plus, total, item); err != nil {
			return jinja.Undefined(), err
		}
	}
	return total, r.spend(len(items))
}

// batch makes lists of so many elements, the last of them filled up with a
// value if one is given.
func (r *run) batch(v value, a *arguments) (value, error) {
	args, err := a.bind(1, "linecount", "fill_with")
	if err != nil {
		return jinja.Undefined(), err
	}
	width, err := args[0].int(0)
	if err != nil || width < 1 {
		return jinja.Undefined(), errors.New("want a positive number")
	}
	items, err := r.items(nil, v)
	if err != nil {
		return jinja.Undefined(), err
	}
	var rows []value
	for len(items) > 0 {
		n := int(min(width, int64(len(items))))
		row := slices.Clone(items[:n])
		items = items[n:]
		if fill := args[1]; fill.given && !fill.IsNone() && int64(n) < width {
			if err := r.growTimes(valueSize, width-int64(n)); err != nil {
				return jinja.Undefined(), err
			}
			for int64(len(row)) < width {
				row = append(row, fill.value)
			}
		}
		list, err := r.list(row)
		if err != nil {
			return jinja.Undefined(), err
		}
		rows = append(rows, list)
	}
	return r.iterator(rows)
}

func (r *run) sliceFilter(v value, a *arguments) (value, error) {
	args, err := a.bind(1, "slices", "fill_with")
	if err != nil {
		return jinja.Undefined(), err
	}
	count, err := args[0].int(0)
	if err != nil || count < 1 {
		return jinja.Undefined(), errors.New("want a positive number")
	}
	items, err := r.items(nil, v)
	if err != nil {
		return jinja.Undefined(), err
	}
	if err := r.growTimes(2*valueSize, count); err != nil {
		return jinja.Undefined(), err
	}
	each, extra := int64(len(items))/count, int64(len(items))%count
	rows := make([]value, count)
	for i := range count {
		n := each
		if i < extra {
			n++
		}
		row := slices.Clone(items[:n])
		items = items[n:]
		if fill := args[1]; fill.given && !fill.IsNone() && i >= extra {
			row = append(row, fill.value)
		}
		if rows[i], err = r.list(row); err != nil {
			return jinja.Undefined(), err
		}
	}
	return r.iterator(rows)
}
