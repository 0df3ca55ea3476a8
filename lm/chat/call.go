package chat

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ardanlabs/jinja"
)

// arguments are what a filter, a test or a function is called with.
type arguments struct {
	pos   []value
	named map[string]value // by the template's names
	order []string         // of named
}

// arguments sorts out the arguments of e: args are its positional ones, then
// what is spread with * and **, and given are the named ones.
func (r *run) arguments(e *expr, args []value, given map[string]value) (*arguments, error) {
	a := &arguments{pos: args}
	if len(e.keywords) == 0 && !e.spread && !e.spreadKw {
		return a, nil
	}
	a.named = map[string]value{}
	for _, name := range e.keywords {
		a.named[name] = given[mangle(name)]
		a.order = append(a.order, name)
	}
	// In e the named arguments stand before those that are spread. In args
	// they are not.
	if e.spreadKw {
		last := len(args) - 1
		d := args[last]
		args = args[:last]
		if !d.IsDict() {
			return nil, fmt.Errorf("** wants a mapping, not %s", typeName(d))
		}
		for _, key := range d.AsDict().Keys {
			if _, twice := a.named[key]; twice {
				return nil, fmt.Errorf("the argument %s is given twice", key)
			}
			a.named[key] = d.AsDict().Data[key]
			a.order = append(a.order, key)
		}
	}
	if e.spread {
		last := len(args) - 1
		more, err := r.items(e, args[last])
		if err != nil {
			return nil, err
		}
		if err := r.grow(valueSize * len(more)); err != nil {
			return nil, err
		}
		args = slices.Concat(args[:last], more)
	}
	a.pos = args
	return a, nil
}

// opt is an argument that may be left out.
type opt struct {
	value
	given bool
}

// bind gives the arguments for the parameters names, of which the first need
// must be there.
func (a *arguments) bind(need int, names ...string) ([]opt, error) {
	if len(a.pos) > len(names) {
		return nil, fmt.Errorf("%d arguments, want at most %d", len(a.pos), len(names))
	}
	opts := make([]opt, len(names))
	for i, v := range a.pos {
		opts[i] = opt{v, true}
	}
	for name, v := range a.named {
		i := slices.Index(names, name)
		switch {
		case i < 0:
			return nil, fmt.Errorf("no such argument: %s", name)
		case opts[i].given:
			return nil, fmt.Errorf("the argument %s is given twice", name)
		}
		opts[i] = opt{plain(v), true}
	}
	for i, o := range opts[:need] {
		if !o.given {
			return nil, fmt.Errorf("the argument %s is missing", names[i])
		}
	}
	return opts, nil
}

func (o opt) or(v value) value {
	if o.given {
		return o.value
	}
	return v
}

// int is the argument as an integer, where none counts as left out.
func (o opt) int(def int64) (int64, error) {
	switch {
	case !o.given || o.IsNone():
		return def, nil
	case o.IsInt():
		return o.AsInt(), nil
	case o.IsBool():
		return toNumber(o.value).i, nil
	}
	return 0, fmt.Errorf("want an integer, not %s", typeName(o.value))
}

// string is the argument as a string, where none counts as left out.
func (o opt) string(def string) (string, error) {
	switch {
	case !o.given || o.IsNone():
		return def, nil
	case o.IsString():
		return o.AsString(), nil
	}
	return "", fmt.Errorf("want a string, not %s", typeName(o.value))
}

func (o opt) bool(def bool) bool {
	if o.given {
		return o.IsTruthy()
	}
	return def
}

// A builtin is a function of ours that templates can call.
type builtin func(a *arguments) (value, error)

// callable makes a value of f. The name of a callable tells whose it is: those
// of macros, which the library makes, begin with m and a digit.
func (r *run) callable(name string, f builtin) value {
	return jinja.NewCallable("."+name, func(args []value, named map[string]value) (value, error) {
		a := &arguments{pos: args, named: named, order: r.named}
		return f(a)
	})
}

// call calls args[0] with the rest of args.
func (r *run) call(e *expr, args []value, given map[string]value) (value, error) {
	fn := args[0]
	if !fn.IsCallable() {
		name := e.args[0].name
		if fn.IsUndefined() && e.args[0].kind == exAttr && (slices.Contains(changesList, name) || slices.Contains(changesDict, name)) {
			return jinja.Undefined(), fmt.Errorf("a template cannot change a list or dict with %s", name)
		}
		if fn.IsUndefined() {
			return jinja.Undefined(), fmt.Errorf("'%v' is undefined", e.args[0])
		}
		return jinja.Undefined(), fmt.Errorf("%v cannot be called: it is %s", e.args[0], typeName(fn))
	}
	if r.calls++; r.calls > maxCalls {
		return jinja.Undefined(), fmt.Errorf("%w: more than %d calls inside each other", ErrLimit, maxCalls)
	}
	defer func() { r.calls-- }()
	a, err := r.arguments(e, args[1:], given)
	if err != nil {
		return jinja.Undefined(), err
	}
	f := fn.AsCallable()
	switch {
	case f.Fn == nil || isIterator(fn): // what is no function for the template
		return jinja.Undefined(), fmt.Errorf("%v cannot be called", e.args[0])
	case f.Name[0] == '.':
		r.named = a.order
		if _, ok := given["caller"]; ok {
			return jinja.Undefined(), fmt.Errorf("%v is no macro", e.args[0])
		}
		return f.Fn(a.pos, a.named)
	case f.Name == "caller":
		// The library binds the arguments that there are and leaves other
		// names to the scope around.
		missing := jinja.NewCallable(missingName, nil)
		pos := slices.Clone(a.pos)
		for range maxParams {
			pos = append(pos, missing)
		}
		if len(a.named) > 0 || len(a.pos) > maxParams {
			return jinja.Undefined(), errors.New("caller takes positional arguments only, and not that many")
		}
		return f.Fn(pos, nil)
	case f.Name == "loop.cycle":
		if len(a.pos) == 0 {
			return jinja.Undefined(), errors.New("loop.cycle wants an argument")
		}
		return f.Fn(a.pos, nil)
	}
	m := r.prog.macro(f.Name)
	if m == nil {
		return jinja.Undefined(), fmt.Errorf("%v cannot be called", e.args[0])
	}
	if len(a.pos) > len(m.params) {
		return jinja.Undefined(), fmt.Errorf("the macro %s takes %d arguments, not %d", m.name, len(m.params), len(a.pos))
	}
	named := make(map[string]value, len(a.named)+1)
	for name, v := range a.named {
		switch i := slices.Index(m.params, name); {
		case i < 0:
			return jinja.Undefined(), fmt.Errorf("the macro %s has no parameter %s", m.name, name)
		case i < len(a.pos):
			return jinja.Undefined(), fmt.Errorf("the argument %s is given twice", name)
		}
		named[mangle(name)] = v
	}
	if caller, ok := given["caller"]; ok {
		named["caller"] = caller
	}
	return f.Fn(a.pos, named)
}

// macro is the macro that the library calls name, or nil.
func (p *program) macro(name string) *stmt {
	index, ok := strings.CutPrefix(name, "m")
	if i, err := strconv.Atoi(index); ok && err == nil && i < len(p.macros) {
		return p.macros[i]
	}
	return nil
}

// maxParams bounds the parameters of a call block.
const maxParams = 16

// globals are the functions that every template has.
func (r *run) globals() map[string]value {
	scope := map[string]value{}
	for name, f := range map[string]builtin{
		"range":           r.rangeList,
		"dict":            r.newDict,
		"namespace":       r.newSpace,
		"raise_exception": r.raise,
		"strftime_now":    r.strftimeNow,
		"joiner":          r.joiner,
		"cycler":          r.cycler,
	} {
		scope[name] = r.callable(name, f)
	}
	return scope
}

func (r *run) raise(a *arguments) (value, error) {
	args, err := a.bind(1, "message")
	if err != nil {
		return jinja.Undefined(), fmt.Errorf("raise_exception: %w", err)
	}
	message, err := r.text(args[0].value)
	if err != nil {
		return jinja.Undefined(), err
	}
	return jinja.Undefined(), &TemplateError{Raised: true, Message: message}
}

func (r *run) strftimeNow(a *arguments) (value, error) {
	args, err := a.bind(1, "format")
	if err != nil {
		return jinja.Undefined(), fmt.Errorf("strftime_now: %w", err)
	}
	format, err := args[0].string("")
	if err != nil {
		return jinja.Undefined(), fmt.Errorf("strftime_now: %w", err)
	}
	// No directive is longer than 50 characters written out.
	if err := r.growTimes(25, int64(len(format))); err != nil {
		return jinja.Undefined(), err
	}
	return r.str(strftime(r.now(), format))
}

// rangeList is a range written out: a list, of at most maxRange elements.
func (r *run) rangeList(a *arguments) (value, error) {
	if len(a.named) > 0 || len(a.pos) == 0 || len(a.pos) > 3 {
		return jinja.Undefined(), errors.New("range wants one to three arguments, without names")
	}
	var n [3]int64
	for i, v := range a.pos {
		if !v.IsInt() && !v.IsBool() {
			return jinja.Undefined(), fmt.Errorf("range wants integers, not %s", typeName(v))
		}
		n[i] = toNumber(v).i
	}
	start, stop, step := n[0], n[1], n[2]
	switch len(a.pos) {
	case 1:
		start, stop, step = 0, n[0], 1
	case 2:
		step = 1
	}
	if step == 0 {
		return jinja.Undefined(), errors.New("range: the step must not be zero")
	}
	var items []value
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(items) == maxRange {
			return jinja.Undefined(), fmt.Errorf("%w: a range of more than %d elements", ErrLimit, maxRange)
		}
		items = append(items, jinja.NewInt(i))
		if next := i + step; (next > i) != (step > 0) {
			break // beyond 64 bits
		}
	}
	return r.list(items)
}

// newDict is dict(mapping or pairs, key=value, ...).
func (r *run) newDict(a *arguments) (value, error) {
	d := jinja.NewDict()
	if len(a.pos) > 1 {
		return jinja.Undefined(), fmt.Errorf("dict: %d arguments, want at most 1", len(a.pos))
	}
	if len(a.pos) == 1 {
		if err := r.update(d, a.pos[0]); err != nil {
			return jinja.Undefined(), fmt.Errorf("dict: %w", err)
		}
	}
	for _, name := range a.order {
		if err := r.set(d, name, a.named[name]); err != nil {
			return jinja.Undefined(), err
		}
	}
	return d, r.grow(entrySize)
}

// update adds the entries of a mapping, or pairs, to d.
func (r *run) update(d, from value) error {
	if from.IsDict() {
		for _, key := range from.AsDict().Keys {
			if err := r.set(d, key, from.AsDict().Data[key]); err != nil {
				return err
			}
		}
		return nil
	}
	pairs, err := r.items(nil, from)
	if err != nil {
		return err
	}
	for _, pair := range pairs {
		kv, err := r.items(nil, pair)
		if err != nil {
			return err
		}
		if len(kv) != 2 {
			return fmt.Errorf("%d values where a key and a value are due", len(kv))
		}
		key, err := keyOf(kv[0])
		if err == nil {
			err = r.set(d, key, kv[1])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *run) newSpace(a *arguments) (value, error) {
	d, err := r.newDict(a)
	if err != nil {
		return d, err
	}
	r.spaces[d.AsDict()] = true
	for _, key := range d.AsDict().Keys {
		if err := checkField(key); err != nil {
			return jinja.Undefined(), err
		}
	}
	return d, nil
}

func (r *run) setSpace(space value, name string, v value) error {
	if err := checkField(name); err != nil {
		return err
	}
	return r.set(space, name, v)
}

// checkField refuses attributes of a namespace that transformers refuses.
func checkField(name string) error {
	if name != "" && name[0] == '_' {
		return fmt.Errorf("a namespace cannot have the attribute %s: it begins with an underscore", name)
	}
	return nil
}

// joiner is a function that gives nothing the first time and the separator
// from then on.
func (r *run) joiner(a *arguments) (value, error) {
	args, err := a.bind(0, "sep")
	if err != nil {
		return jinja.Undefined(), fmt.Errorf("joiner: %w", err)
	}
	sep := args[0].or(jinja.NewString(", "))
	used := false
	return r.callable("joiner", func(*arguments) (value, error) {
		if !used {
			used = true
			return jinja.NewString(""), nil
		}
		return sep, nil
	}), r.grow(entrySize)
}

// cycler goes round its arguments, one with each call of next.
func (r *run) cycler(a *arguments) (value, error) {
	if len(a.pos) == 0 || len(a.named) > 0 {
		return jinja.Undefined(), errors.New("cycler wants arguments without names")
	}
	items := slices.Clone(a.pos)
	d := jinja.NewDict()
	r.spaces[d.AsDict()] = true
	at := 0
	d.AsDict().Set("current", items[0])
	d.AsDict().Set("next", r.callable("next", func(*arguments) (value, error) {
		v := items[at]
		at = (at + 1) % len(items)
		d.AsDict().Set("current", items[at])
		return v, nil
	}))
	d.AsDict().Set("reset", r.callable("reset", func(*arguments) (value, error) {
		at = 0
		d.AsDict().Set("current", items[0])
		return jinja.None(), nil
	}))
	return d, r.grow(valueSize*len(items) + 4*entrySize)
}
