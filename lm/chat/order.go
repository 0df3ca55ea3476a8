package chat

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ardanlabs/jinja"
)

// A getter is what attribute="a.b.0" gets from an element.
type getter func(v value) (value, error)

// getter makes the getter of one attribute, whose parts are separated by
// dots. With def, that is what an undefined part becomes.
func (r *run) getter(attribute value, def opt) getter {
	parts := []value{attribute}
	if attribute.IsString() {
		parts = nil
		for p := range strings.SplitSeq(attribute.AsString(), ".") {
			key := jinja.NewString(p)
			if p != "" && strings.Trim(p, decimalDigits) == "" {
				var n int64
				if _, err := fmt.Sscan(p, &n); err == nil {
					key = jinja.NewInt(n)
				}
			}
			parts = append(parts, key)
		}
	}
	name := &expr{kind: exConst, val: attribute}
	name.args = []*expr{name}
	return func(v value) (value, error) {
		for _, p := range parts {
			var err error
			if v, err = r.item(name, v, p); err != nil {
				return v, err
			}
			if v.IsUndefined() && def.given {
				v = def.value
			}
		}
		return v, r.spend(1)
	}
}

// keys are what elements are compared by: themselves or their attributes, of
// which a list with commas may name several; strings in lower case unless
// their case matters.
func (r *run) keys(items []value, attribute opt, caseMatters bool, def opt) ([]value, error) {
	var get []getter
	if attribute.given && !attribute.IsNone() {
		names := []value{attribute.value}
		if attribute.IsString() {
			names = nil
			for name := range strings.SplitSeq(attribute.AsString(), ",") {
				names = append(names, jinja.NewString(name))
			}
		}
		for _, name := range names {
			get = append(get, r.getter(name, def))
		}
	}
	lower := func(v value) (value, error) {
		if caseMatters || !v.IsString() {
			return v, nil
		}
		return r.str(strings.ToLower(v.AsString()))
	}
	keys := make([]value, len(items))
	for i, item := range items {
		if len(get) == 0 {
			key, err := lower(item)
			if err != nil {
				return nil, err
			}
			keys[i] = key
			continue
		}
		parts := make([]value, len(get))
		for j, g := range get {
			v, err := g(item)
			if err == nil {
				v, err = lower(v)
			}
			if err != nil {
				return nil, err
			}
			parts[j] = v
		}
		keys[i] = parts[0]
		if len(parts) > 1 {
			keys[i] = jinja.NewList(parts)
		}
	}
	return keys, r.grow(valueSize * len(items) * (len(get) + 1))
}

// order is the stable order of keys, as indexes.
func (r *run) order(keys []value, reverse bool) ([]int, error) {
	index := make([]int, len(keys))
	for i := range index {
		index[i] = i
	}
	var failed error
	slices.SortStableFunc(index, func(i, j int) int {
		if failed != nil {
			return 0
		}
		if reverse {
			i, j = j, i
		}
		for _, pair := range [2][2]int{{i, j}, {j, i}} {
			is, err := r.less(keys[pair[0]], keys[pair[1]], 0)
			if err == nil {
				err = r.spend(1)
			}
			if err != nil {
				failed = err
				return 0
			}
			if is {
				if pair[0] == i {
					return -1
				}
				return 1
			}
		}
		return 0
	})
	return index, failed
}

func (r *run) sort(v value, a *arguments) (value, error) {
	args, err := a.bind(0, "reverse", "case_sensitive", "attribute")
	if err != nil {
		return jinja.Undefined(), err
	}
	items, err := r.items(nil, v)
	if err != nil {
		return jinja.Undefined(), err
	}
	keys, err := r.keys(items, args[2], args[1].bool(false), opt{})
	if err != nil {
		return jinja.Undefined(), err
	}
	index, err := r.order(keys, args[0].bool(false))
	if err != nil {
		return jinja.Undefined(), err
	}
	return r.list(pick(items, index))
}

// pick are the items at the indexes.
func pick(items []value, index []int) []value {
	out := make([]value, len(index))
	for i, n := range index {
		out[i] = items[n]
	}
	return out
}

func (r *run) dictSort(v value, a *arguments) (value, error) {
	args, err := a.bind(0, "case_sensitive", "by", "reverse")
	if err != nil {
		return jinja.Undefined(), err
	}
	by, err := args[1].string("key")
	if err != nil || by != "key" && by != "value" {
		return jinja.Undefined(), errors.New("a mapping is sorted by key or by value")
	}
	if !v.IsDict() {
		return jinja.Undefined(), fmt.Errorf("want a mapping, not %s", typeName(v))
	}
	pairs, err := r.pairs(v.AsDict())
	if err != nil {
		return jinja.Undefined(), err
	}
	items := pairs.AsList().Items
	at := jinja.NewInt(0)
	if by == "value" {
		at = jinja.NewInt(1)
	}
	keys, err := r.keys(items, opt{at, true}, args[0].bool(false), opt{})
	if err != nil {
		return jinja.Undefined(), err
	}
	index, err := r.order(keys, args[2].bool(false))
	if err != nil {
		return jinja.Undefined(), err
	}
	return r.list(pick(items, index))
}

func (r *run) groupBy(v value, a *arguments) (value, error) {
	args, err := a.bind(1, "attribute", "default", "case_sensitive")
	if err != nil {
		return jinja.Undefined(), err
	}
	items, err := r.items(nil, v)
	if err != nil {
		return jinja.Undefined(), err
	}
	caseMatters := args[2].bool(false)
	keys, err := r.keys(items, args[0], caseMatters, args[1])
	if err != nil {
		return jinja.Undefined(), err
	}
	index, err := r.order(keys, false)
	if err != nil {
		return jinja.Undefined(), err
	}
	var groups []value
	for start := 0; start < len(index); {
		end := start + 1
		for end < len(index) {
			same, err := r.equal(keys[index[start]], keys[index[end]], 0)
			if err != nil {
				return jinja.Undefined(), err
			}
			if !same {
				break
			}
			end++
		}
		members := pick(items, index[start:end])
		key, err := r.getter(args[0].value, args[1])(members[0])
		if err != nil {
			return jinja.Undefined(), err
		}
		list, err := r.list(members)
		if err != nil {
			return jinja.Undefined(), err
		}
		group, err := r.tuple(key, list)
		if err != nil {
			return jinja.Undefined(), err
		}
		groups = append(groups, group)
		start = end
	}
	return r.list(groups)
}

func (r *run) unique(v value, a *arguments) (value, error) {
	args, err := a.bind(0, "case_sensitive", "attribute")
	if err != nil {
		return jinja.Undefined(), err
	}
	items, err := r.items(nil, v)
	if err != nil {
		return jinja.Undefined(), err
	}
	keys, err := r.keys(items, args[1], args[0].bool(false), opt{})
	if err != nil {
		return jinja.Undefined(), err
	}
	seen := map[string]bool{}
	var out []value
	for i, key := range keys {
		k := "\x00u"
		if !key.IsUndefined() {
			if k, err = keyOf(key); err != nil {
				return jinja.Undefined(), err
			}
		}
		if !seen[k] {
			seen[k] = true
			out = append(out, items[i])
		}
	}
	if err := r.grow(entrySize * len(seen)); err != nil {
		return jinja.Undefined(), err
	}
	return r.iterator(out)
}

// extreme is the first of the largest elements, or of the smallest.
func (r *run) extreme(v value, a *arguments, largest bool) (value, error) {
	args, err := a.bind(0, "case_sensitive", "attribute")
	if err != nil {
		return jinja.Undefined(), err
	}
	items, err := r.items(nil, v)
	if err != nil || len(items) == 0 {
		return jinja.Undefined(), err
	}
	keys, err := r.keys(items, args[1], args[0].bool(false), opt{})
	if err != nil {
		return jinja.Undefined(), err
	}
	best := 0
	for i := 1; i < len(keys); i++ {
		x, y := keys[i], keys[best]
		if largest {
			x, y = y, x
		}
		better, err := r.less(x, y, 0)
		if err != nil {
			return jinja.Undefined(), err
		}
		if better {
			best = i
		}
	}
	return items[best], nil
}
