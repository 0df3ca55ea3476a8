package chat

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

// method is the method of that name of a string, list or mapping, as in
// Python. Those that would change a list or mapping are not there, as in
// Jinja's immutable sandbox, though their names are taken.
func (r *run) method(v value, name string) (m value, ok bool) {
	var f builtin
	switch {
	case strings.HasPrefix(name, "__") && strings.HasSuffix(name, "__"):
		return jinja.Undefined(), true
	case v.IsString():
		f = r.stringMethod(v.AsString(), name)
	case v.IsList():
		f = r.listMethod(v.AsList(), name)
	case v.IsDict():
		if slices.Contains(changesDict, name) {
			return jinja.Undefined(), true
		}
		f = r.dictMethod(v, name)
	}
	if f == nil {
		return jinja.Undefined(), false
	}
	return r.callable(name, func(a *arguments) (value, error) {
		v, err := f(a)
		if err != nil && !errors.Is(err, ErrLimit) {
			err = fmt.Errorf("%s: %w", name, err)
		}
		return v, err
	}), true
}

var (
	changesList = []string{"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"}
	changesDict = []string{"clear", "pop", "popitem", "setdefault", "update"}
)

func (r *run) dictMethod(v value, name string) builtin {
	d := v.AsDict()
	none := func(f func() (value, error)) builtin {
		return func(a *arguments) (value, error) {
			if _, err := a.bind(0); err != nil {
				return jinja.Undefined(), err
			}
			return f()
		}
	}
	switch name {
	case "get":
		return func(a *arguments) (value, error) {
			args, err := a.bind(1, "key", "default")
			if err != nil {
				return jinja.Undefined(), err
			}
			key, err := keyOf(args[0].value)
			if err != nil {
				return jinja.Undefined(), err
			}
			if v, ok := d.Get(key); ok {
				return v, nil
			}
			return args[1].or(jinja.None()), nil
		}
	case "keys":
		return none(func() (value, error) {
			items, err := r.items(nil, v)
			return jinja.NewList(items), err
		})
	case "values":
		return none(func() (value, error) {
			items := make([]value, len(d.Keys))
			for i, key := range d.Keys {
				items[i] = d.Data[key]
			}
			return r.list(items)
		})
	case "items":
		return none(func() (value, error) { return r.pairs(d) })
	case "copy":
		return none(func() (value, error) {
			c := jinja.NewDict()
			return c, r.update(c, v)
		})
	}
	return nil
}

// pairs are the keys and values of a mapping, in order.
func (r *run) pairs(d *jinja.Dict) (value, error) {
	items := make([]value, len(d.Keys))
	for i, key := range d.Keys {
		pair, err := r.tuple(keyValue(key), d.Data[key])
		if err != nil {
			return jinja.Undefined(), err
		}
		items[i] = pair
	}
	return r.list(items)
}

// mapping is a mapping of keys and values that follow each other in args.
func (r *run) mapping(args []value) (value, error) {
	d := jinja.NewDict()
	for i := 0; i < len(args); i += 2 {
		key, err := keyOf(args[i])
		if err == nil {
			err = r.set(d, key, args[i+1])
		}
		if err != nil {
			return jinja.Undefined(), err
		}
	}
	return d, r.grow(entrySize)
}

func (r *run) listMethod(l *jinja.List, name string) builtin {
	switch name {
	case "index", "count":
		return func(a *arguments) (value, error) {
			args, err := a.bind(1, "value")
			if err != nil {
				return jinja.Undefined(), err
			}
			n := int64(0)
			for i, item := range l.Items {
				same, err := r.equal(item, args[0].value, 0)
				switch {
				case err != nil:
					return jinja.Undefined(), err
				case same && name == "index":
					return jinja.NewInt(int64(i)), nil
				case same:
					n++
				}
			}
			if name == "index" {
				return jinja.Undefined(), errors.New("the value is not in the list")
			}
			return jinja.NewInt(n), nil
		}
	case "copy":
		return func(a *arguments) (value, error) { return r.list(slices.Clone(l.Items)) }
	}
	return nil
}

// A textMethod takes a string and arguments, of which those left out are nil.
type textMethod struct {
	need   int
	params []string
	f      func(r *run, s string, args []opt) (value, error)
}

// stringMethod is a method of the string s, or nil.
func (r *run) stringMethod(s, name string) builtin {
	if name == "format" {
		return func(a *arguments) (value, error) {
			out, err := r.format(s, a)
			return jinja.NewString(out), err
		}
	}
	m, ok := textMethods[name]
	if !ok {
		return nil
	}
	return func(a *arguments) (value, error) {
		args, err := a.bind(m.need, m.params...)
		if err == nil {
			err = r.read(len(s))
		}
		if err != nil {
			return jinja.Undefined(), err
		}
		return m.f(r, s, args)
	}
}

// convert makes a method that changes a string to one of about its size.
func convert(f func(string) string) textMethod {
	return textMethod{0, nil, func(r *run, s string, _ []opt) (value, error) { return r.str(f(s)) }}
}

// all makes a method that asks whether s has characters and is is true of all.
func all(is func(rune) bool) textMethod {
	return textMethod{0, nil, func(_ *run, s string, _ []opt) (value, error) {
		no := func(c rune) bool { return !is(c) }
		return jinja.NewBool(s != "" && strings.IndexFunc(s, no) < 0), nil
	}}
}

var (
	chars  = []string{"chars"}
	places = []string{"sub", "start", "end"}
	splits = []string{"sep", "maxsplit"}
)

// textMethods are the methods of strings, other than format.
var textMethods = map[string]textMethod{
	"strip":        {0, chars, stripper(strings.TrimFunc)},
	"lstrip":       {0, chars, stripper(strings.TrimLeftFunc)},
	"rstrip":       {0, chars, stripper(strings.TrimRightFunc)},
	"upper":        convert(upper),
	"lower":        convert(strings.ToLower),
	"casefold":     convert(strings.ToLower),
	"capitalize":   convert(capitalize),
	"title":        convert(title),
	"swapcase":     convert(swapCase),
	"split":        {0, splits, split},
	"rsplit":       {0, splits, rsplit},
	"splitlines":   {0, []string{"keepends"}, splitLines},
	"partition":    {1, []string{"sep"}, partition(false)},
	"rpartition":   {1, []string{"sep"}, partition(true)},
	"startswith":   {1, places, affix(strings.HasPrefix)},
	"endswith":     {1, places, affix(strings.HasSuffix)},
	"find":         {1, places, find(strings.Index, false)},
	"rfind":        {1, places, find(strings.LastIndex, false)},
	"index":        {1, places, find(strings.Index, true)},
	"rindex":       {1, places, find(strings.LastIndex, true)},
	"count":        {1, places, countIn},
	"replace":      {2, []string{"old", "new", "count"}, replace},
	"removeprefix": {1, []string{"prefix"}, remove(strings.TrimPrefix)},
	"removesuffix": {1, []string{"suffix"}, remove(strings.TrimSuffix)},
	"join": {1, []string{"iterable"}, func(r *run, s string, args []opt) (value, error) {
		items, err := r.items(nil, args[0].value)
		if err != nil {
			return jinja.Undefined(), err
		}
		for i, item := range items {
			if !item.IsString() {
				return jinja.Undefined(), fmt.Errorf("element %d is %s, want a str", i, typeName(item))
			}
		}
		out, err := r.join(s, items)
		return jinja.NewString(out), err
	}},
	"center":    {1, []string{"width", "fillchar"}, pad(halfBefore)},
	"ljust":     {1, []string{"width", "fillchar"}, pad(noneBefore)},
	"rjust":     {1, []string{"width", "fillchar"}, pad(allBefore)},
	"zfill":     {1, []string{"width"}, zeroFill},
	"isalpha":   all(unicode.IsLetter),
	"isdigit":   all(unicode.IsDigit),
	"isdecimal": all(unicode.IsDigit),
	"isnumeric": all(unicode.IsNumber),
	"isalnum":   all(func(c rune) bool { return unicode.IsLetter(c) || unicode.IsNumber(c) }),
	"isspace":   all(isSpace),
	"isascii": {0, nil, func(_ *run, s string, _ []opt) (value, error) {
		return jinja.NewBool(strings.IndexFunc(s, func(c rune) bool { return c >= utf8.RuneSelf }) < 0), nil
	}},
	"islower": {0, nil, func(_ *run, s string, _ []opt) (value, error) { return jinja.NewBool(isLower(s)), nil }},
	"isupper": {0, nil, func(_ *run, s string, _ []opt) (value, error) { return jinja.NewBool(isUpper(s)), nil }},
}

func isLower(s string) bool {
	return strings.IndexFunc(s, unicode.IsLower) >= 0 && strings.IndexFunc(s, notLower) < 0
}

func isUpper(s string) bool {
	return strings.IndexFunc(s, unicode.IsUpper) >= 0 && strings.IndexFunc(s, notUpper) < 0
}

func notLower(c rune) bool { return unicode.IsUpper(c) || unicode.IsTitle(c) }
func notUpper(c rune) bool { return unicode.IsLower(c) || unicode.IsTitle(c) }

// stripper makes a method that cuts off spaces, or the characters given.
func stripper(trim func(s string, cut func(rune) bool) string) func(*run, string, []opt) (value, error) {
	return func(r *run, s string, args []opt) (value, error) {
		set, err := args[0].string("")
		if err != nil {
			return jinja.Undefined(), err
		}
		if !args[0].given || args[0].IsNone() {
			return jinja.NewString(trim(s, isSpace)), nil
		}
		in := map[rune]bool{}
		for _, c := range set {
			in[c] = true
		}
		return jinja.NewString(trim(s, func(c rune) bool { return in[c] })), r.read(len(set))
	}
}

// upper is s in upper case, in which some letters are several.
func upper(s string) string { return strings.ToUpper(several.Replace(s)) }

var several = strings.NewReplacer("ß", "SS", "ﬀ", "FF", "ﬁ", "FI", "ﬂ", "FL", "ﬃ", "FFI", "ﬄ", "FFL", "ﬅ", "ST", "ﬆ", "ST")

// capitalize is s with its first character in upper and the rest in lower
// case.
func capitalize(s string) string {
	c, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return s
	}
	return string(unicode.ToTitle(c)) + strings.ToLower(s[n:])
}

// title is s with every letter in lower case that follows one, and the others
// in upper case.
func title(s string) string {
	inWord := false
	return strings.Map(func(c rune) rune {
		cased := unicode.IsUpper(c) || unicode.IsLower(c) || unicode.IsTitle(c)
		first := cased && !inWord
		inWord = cased
		if first {
			return unicode.ToTitle(c)
		}
		return unicode.ToLower(c)
	}, s)
}

func swapCase(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsUpper(c) {
			return unicode.ToLower(c)
		}
		return unicode.ToUpper(c)
	}, s)
}
