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

// filter is v|name(a). Filters that take a sequence are in sequences.go.
func (r *run) filter(name string, v value, a *arguments) (value, error) {
	f := r.filterNamed(name)
	if f == nil {
		return jinja.Undefined(), fmt.Errorf("no filter is called '%.40s'", name)
	}
	out, err := f(v, a)
	var own *TemplateError
	if err != nil && !errors.Is(err, ErrLimit) && !errors.As(err, &own) {
		err = fmt.Errorf("the filter %s: %w", name, err)
	}
	return out, err
}

// A filter changes a value.
type filter func(v value, a *arguments) (value, error)

// filterNamed finds a filter, or gives nil.
func (r *run) filterNamed(name string) filter {
	switch name {
	case "abs":
		return simple(r.abs)
	case "attr":
		return r.attrFilter
	case "capitalize":
		return r.onText(capitalize)
	case "center":
		return r.center
	case "count", "length":
		return simple(r.length)
	case "d", "default":
		return defaultFilter
	case "e", "escape", "forceescape":
		return simple(func(v value) (value, error) { return r.markup(v, true) })
	case "float":
		return r.float
	case "format":
		return r.formatFilter
	case "indent":
		return r.indent
	case "int":
		return r.integer
	case "items":
		return simple(r.itemsFilter)
	case "lower":
		return r.onText(strings.ToLower)
	case "replace":
		return r.replaceFilter
	case "round":
		return r.roundFilter
	case "safe":
		return simple(func(v value) (value, error) { return r.markup(v, false) })
	case "string":
		return r.onText(func(s string) string { return s })
	case "title":
		return r.onText(titleWords)
	case "tojson":
		return r.tojson
	case "trim":
		return r.trim
	case "truncate":
		return r.truncateFilter
	case "upper":
		return r.onText(upper)
	case "urlencode":
		return r.onText(urlQuote)
	case "wordcount":
		return simple(r.wordCount)
	}
	return r.sequenceFilter(name)
}

// simple makes a filter that takes no arguments.
func simple(f func(v value) (value, error)) filter {
	return func(v value, a *arguments) (value, error) {
		if _, err := a.bind(0); err != nil {
			return jinja.Undefined(), err
		}
		return f(v)
	}
}

// onText makes a filter that changes the text of a value.
func (r *run) onText(f func(string) string) filter {
	return simple(func(v value) (value, error) {
		s, err := r.text(v)
		if err != nil {
			return jinja.Undefined(), err
		}
		// The longest replacement of a byte has six.
		if err := r.growTimes(6, int64(len(s))); err != nil {
			return jinja.Undefined(), err
		}
		return jinja.NewString(f(s)), nil
	})
}

// urlQuote encodes all bytes but those that URLs hold as they are, and the
// slash.
func urlQuote(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || isDigit(c) || strings.IndexByte("_.-~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// titleWords is s with words in lower case but for their first letter, where
// words are what spaces, hyphens and opening brackets separate.
func titleWords(s string) string {
	first := true
	return strings.Map(func(c rune) rune {
		if isSpace(c) || strings.ContainsRune("-({[<", c) {
			first = true
			return c
		}
		if first {
			first = false
			return unicode.ToUpper(c)
		}
		return unicode.ToLower(c)
	}, s)
}

func mustString(v value) (string, error) {
	if !v.IsString() {
		return "", fmt.Errorf("want a str, not %s", typeName(v))
	}
	return v.AsString(), nil
}

func (r *run) abs(v value) (value, error) {
	if !isNumber(v) {
		return jinja.Undefined(), fmt.Errorf("want a number, not %s", typeName(v))
	}
	n := toNumber(v)
	if n.i == math.MinInt64 {
		return jinja.Undefined(), errOverflow
	}
	n.i, n.f = max(n.i, -n.i), math.Abs(n.f)
	return n.value(), nil
}

func (r *run) attrFilter(v value, a *arguments) (value, error) {
	args, err := a.bind(1, "name")
	if err != nil {
		return jinja.Undefined(), err
	}
	name, err := args[0].string("")
	if err == nil && v.IsUndefined() {
		err = errors.New("the value is undefined")
	}
	if err != nil {
		return jinja.Undefined(), err
	}
	if v.IsDict() && (r.spaces[v.AsDict()] || isLoop(v.AsDict())) {
		return r.attr(nil, v, name)
	}
	// Unlike v.name it does not look for entries.
	m, _ := r.method(v, name)
	return m, nil
}

func (r *run) center(v value, a *arguments) (value, error) {
	args, err := a.bind(0, "width")
	if err != nil {
		return jinja.Undefined(), err
	}
	width, err := args[0].int(80)
	if err != nil {
		return jinja.Undefined(), err
	}
	s, err := r.text(v)
	if err == nil {
		s, err = r.fill(s, width, " ", halfBefore)
	}
	return jinja.NewString(s), err
}

func (r *run) length(v value) (value, error) {
	switch {
	case v.IsString():
		s := v.AsString()
		return jinja.NewInt(int64(utf8.RuneCountInString(s))), r.read(len(s))
	case v.IsList():
		return jinja.NewInt(int64(v.AsList().Len())), nil
	case v.IsDict() && !isLoop(v.AsDict()) && !r.spaces[v.AsDict()]:
		return jinja.NewInt(int64(v.AsDict().Len())), nil
	case v.IsUndefined():
		return jinja.NewInt(0), nil
	}
	return jinja.Undefined(), fmt.Errorf("%s has no length", typeName(v))
}

func defaultFilter(v value, a *arguments) (value, error) {
	args, err := a.bind(0, "default_value", "boolean")
	if err != nil {
		return jinja.Undefined(), err
	}
	if v.IsUndefined() || args[1].bool(false) && !v.IsTruthy() {
		return args[0].or(jinja.NewString("")), nil
	}
	return v, nil
}

// parseFloat reads what float() of Python reads.
func parseFloat(s string) (float64, bool) {
	s = strings.TrimFunc(s, isSpace)
	if strings.ContainsAny(s, "xXpP") { // hexadecimal, which Go reads and Python does not
		return 0, false
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
	return f, err == nil || math.IsInf(f, 0) && errors.Is(err, strconv.ErrRange)
}

func (r *run) float(v value, a *arguments) (value, error) {
	args, err := a.bind(0, "default")
	if err != nil {
		return jinja.Undefined(), err
	}
	switch {
	case isNumber(v):
		return jinja.NewFloat(toNumber(v).f), nil
	case v.IsUndefined():
		return jinja.Undefined(), errors.New("the value is undefined")
	case v.IsString():
		if f, ok := parseFloat(v.AsString()); ok {
			return jinja.NewFloat(f), nil
		}
	}
	return args[0].or(jinja.NewFloat(0)), nil
}

func (r *run) integer(v value, a *arguments) (value, error) {
	args, err := a.bind(0, "default", "base")
	if err != nil {
		return jinja.Undefined(), err
	}
	base, err := args[1].int(10)
	if err != nil {
		return jinja.Undefined(), err
	}
	switch {
	case v.IsUndefined():
		return jinja.Undefined(), errors.New("the value is undefined")
	case v.IsFloat():
		if n, err := truncate(v.AsFloat()); err == nil {
			return jinja.NewInt(n), nil
		}
	case isNumber(v):
		return jinja.NewInt(toNumber(v).i), nil
	case v.IsString():
		s := strings.TrimFunc(v.AsString(), isSpace)
		digits := s
		if p := map[int64]string{16: "0x", 8: "0o", 2: "0b"}[base]; p != "" {
			digits = strings.TrimPrefix(strings.ToLower(s), p)
		}
		if base == 0 || base >= 2 && base <= 36 {
			if n, err := strconv.ParseInt(digits, int(base), 64); err == nil {
				return jinja.NewInt(n), nil
			}
		}
		if f, ok := parseFloat(s); ok {
			if n, err := truncate(f); err == nil {
				return jinja.NewInt(n), nil
			}
		}
	}
	return args[0].or(jinja.NewInt(0)), nil
}

func (r *run) formatFilter(v value, a *arguments) (value, error) {
	s, err := r.text(v)
	if err != nil {
		return jinja.Undefined(), err
	}
	var given value
	switch {
	case len(a.named) > 0 && len(a.pos) > 0:
		return jinja.Undefined(), errors.New("arguments with and without names do not go together")
	case len(a.named) > 0:
		given, err = r.newDict(a)
	default:
		given, err = r.tuple(a.pos...)
	}
	if err != nil {
		return jinja.Undefined(), err
	}
	s, err = r.percent(s, given)
	return jinja.NewString(s), err
}

func (r *run) indent(v value, a *arguments) (value, error) {
	args, err := a.bind(0, "width", "first", "blank")
	if err != nil {
		return jinja.Undefined(), err
	}
	by := ""
	if args[0].given && args[0].IsString() {
		by = args[0].AsString()
	} else {
		width, err := args[0].int(4)
		if err == nil {
			by, err = r.fill("", width, " ", allBefore)
		}
		if err != nil {
			return jinja.Undefined(), err
		}
	}
	first, blank := args[1].bool(false), args[2].bool(false)
	s, err := mustString(v)
	if err != nil {
		return jinja.Undefined(), err
	}
	parts := lines(s+"\n", false)
	if err := r.growTimes(len(by)+valueSize, int64(len(parts))); err != nil {
		return jinja.Undefined(), err
	}
	for i, line := range parts {
		if i == 0 && first || i > 0 && (blank || line != "") {
			parts[i] = by + line
		}
	}
	return r.str(strings.Join(parts, "\n"))
}

// itemsFilter are the keys and values of a mapping.
func (r *run) itemsFilter(v value) (value, error) {
	switch {
	case v.IsUndefined():
		return r.iterator(nil)
	case !v.IsDict() || r.spaces[v.AsDict()] || isLoop(v.AsDict()):
		return jinja.Undefined(), fmt.Errorf("want a mapping, not %s", typeName(v))
	}
	pairs, err := r.pairs(v.AsDict())
	if err != nil {
		return jinja.Undefined(), err
	}
	return r.iterator(pairs.AsList().Items)
}

func (r *run) replaceFilter(v value, a *arguments) (value, error) {
	args, err := a.bind(2, "old", "new", "count")
	if err != nil {
		return jinja.Undefined(), err
	}
	var texts [3]string
	for i, v := range []value{v, args[0].value, args[1].value} {
		if texts[i], err = r.text(v); err != nil {
			return jinja.Undefined(), err
		}
	}
	count, err := args[2].int(-1)
	if err != nil {
		return jinja.Undefined(), err
	}
	return r.replace(texts[0], texts[1], texts[2], count)
}

func (r *run) roundFilter(v value, a *arguments) (value, error) {
	args, err := a.bind(0, "precision", "method")
	if err != nil {
		return jinja.Undefined(), err
	}
	precision, err := args[0].int(0)
	if err != nil {
		return jinja.Undefined(), err
	}
	method, err := args[1].string("common")
	if err != nil {
		return jinja.Undefined(), err
	}
	if !isNumber(v) {
		return jinja.Undefined(), fmt.Errorf("want a number, not %s", typeName(v))
	}
	n := toNumber(v)
	precision = min(max(precision, -308), 308)
	scale := math.Pow(10, float64(precision))
	switch method {
	case "ceil":
		return jinja.NewFloat(math.Ceil(n.f*scale) / scale), nil
	case "floor":
		return jinja.NewFloat(math.Floor(n.f*scale) / scale), nil
	case "common":
	default:
		return jinja.Undefined(), errors.New("the method is common, ceil or floor")
	}
	switch {
	case precision < 0:
		f := math.RoundToEven(n.f*scale) / scale
		if n.isFloat {
			return jinja.NewFloat(f), nil
		}
		i, err := truncate(f)
		return jinja.NewInt(i), err
	case !n.isFloat:
		return jinja.NewInt(n.i), nil
	case math.IsInf(n.f, 0) || math.IsNaN(n.f):
		return v, nil
	}
	// The decimal expansion of a float is exact, so ties are real ones, and
	// go to the even digit.
	f, err := strconv.ParseFloat(strconv.FormatFloat(n.f, 'f', int(precision), 64), 64)
	return jinja.NewFloat(f), err
}

func (r *run) trim(v value, a *arguments) (value, error) {
	args, err := a.bind(0, "chars")
	if err != nil {
		return jinja.Undefined(), err
	}
	s, err := r.text(v)
	if err == nil {
		err = r.read(len(s))
	}
	if err != nil {
		return jinja.Undefined(), err
	}
	return stripper(strings.TrimFunc)(r, s, args)
}

func (r *run) truncateFilter(v value, a *arguments) (value, error) {
	args, err := a.bind(0, "length", "killwords", "end", "leeway")
	if err != nil {
		return jinja.Undefined(), err
	}
	length, err := args[0].int(255)
	if err != nil {
		return jinja.Undefined(), err
	}
	end, err := args[2].string("...")
	if err != nil {
		return jinja.Undefined(), err
	}
	leeway, err := args[3].int(5)
	if err != nil {
		return jinja.Undefined(), err
	}
	if v.IsUndefined() {
		return v, nil
	}
	s, err := mustString(v)
	if err != nil {
		return jinja.Undefined(), err
	}
	room := length - int64(utf8.RuneCountInString(end))
	if room < 0 || leeway < 0 {
		return jinja.Undefined(), errors.New("the length leaves no room for the end")
	}
	if int64(utf8.RuneCountInString(s)) <= length+leeway {
		return jinja.NewString(s), r.read(len(s))
	}
	s = runeSlice(s, 0, room)
	if at := strings.LastIndexByte(s, ' '); at >= 0 && !args[1].bool(false) {
		s = s[:at]
	}
	return r.str(s + end)
}

func (r *run) wordCount(v value) (value, error) {
	s, err := r.text(v)
	if err != nil {
		return jinja.Undefined(), err
	}
	n := int64(0)
	inWord := false
	for _, c := range s {
		is := c == '_' || unicode.IsLetter(c) || unicode.IsNumber(c)
		if is && !inWord {
			n++
		}
		inWord = is
	}
	return jinja.NewInt(n), r.read(len(s))
}
