package chat

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

// join is the elements as text, with sep between them.
func (r *run) join(sep string, items []value) (string, error) {
	parts := make([]string, len(items))
	n := 0
	for i, item := range items {
		s, err := r.text(item)
		if err != nil {
			return "", err
		}
		parts[i] = s
		n += len(s)
	}
	if err := r.growTimes(len(sep)+valueSize, int64(len(items))); err != nil {
		return "", err
	}
	if err := r.grow(n); err != nil {
		return "", err
	}
	return strings.Join(parts, sep), nil
}

// texts makes a list of strings.
func (r *run) texts(parts []string) (value, error) {
	items := make([]value, len(parts))
	for i, p := range parts {
		items[i] = jinja.NewString(p)
	}
	return r.list(items)
}

// pieces is the number of parts that a string of n bytes is cut into if the
// caller says at most most, where a negative number says as many as there are.
func pieces(most int64, n int) int {
	if most < 0 || most > int64(n) {
		return n + 1
	}
	return int(most) + 1
}

func split(r *run, s string, args []opt) (value, error) {
	sep, most, err := splitArgs(args)
	if err != nil {
		return jinja.Undefined(), err
	}
	if sep != "" {
		if err := r.grow(valueSize * strings.Count(s, sep)); err != nil {
			return jinja.Undefined(), err
		}
		return r.texts(strings.SplitN(s, sep, pieces(most, len(s))))
	}
	var parts []string
	rest := strings.TrimLeftFunc(s, isSpace)
	for limit := pieces(most, len(s)); rest != ""; rest = strings.TrimLeftFunc(rest, isSpace) {
		end := strings.IndexFunc(rest, isSpace)
		if end < 0 || len(parts)+1 == limit {
			parts = append(parts, rest)
			break
		}
		parts = append(parts, rest[:end])
		rest = rest[end:]
	}
	return r.texts(parts)
}

func rsplit(r *run, s string, args []opt) (value, error) {
	sep, most, err := splitArgs(args)
	if err != nil {
		return jinja.Undefined(), err
	}
	var parts []string
	limit := pieces(most, len(s))
	if sep != "" {
		for len(parts)+1 < limit {
			at := strings.LastIndex(s, sep)
			if at < 0 {
				break
			}
			parts = append(parts, s[at+len(sep):])
			s = s[:at]
		}
		parts = append(parts, s)
	} else {
		rest := strings.TrimRightFunc(s, isSpace)
		for ; rest != ""; rest = strings.TrimRightFunc(rest, isSpace) {
			at := strings.LastIndexFunc(rest, isSpace)
			if at < 0 || len(parts)+1 == limit {
				parts = append(parts, rest)
				break
			}
			_, n := utf8.DecodeRuneInString(rest[at:])
			parts = append(parts, rest[at+n:])
			rest = rest[:at]
		}
	}
	slices.Reverse(parts)
	return r.texts(parts)
}

func splitArgs(args []opt) (sep string, most int64, err error) {
	if sep, err = args[0].string(""); err != nil {
		return "", 0, err
	}
	if args[0].given && args[0].IsString() && sep == "" {
		return "", 0, errors.New("the separator is empty")
	}
	most, err = args[1].int(-1)
	return sep, most, err
}

// lineEnd is the length of the line break at the head of s, or 0.
func lineEnd(s string) int {
	if strings.HasPrefix(s, "\r\n") {
		return 2
	}
	switch c, n := utf8.DecodeRuneInString(s); c {
	case '\n', '\r', '\v', '\f', 0x1c, 0x1d, 0x1e, 0x85, 0x2028, 0x2029:
		return n
	}
	return 0
}

// lines cuts s as splitlines of Python does.
func lines(s string, keep bool) []string {
	var parts []string
	start := 0
	for i := 0; i < len(s); {
		n := lineEnd(s[i:])
		if n == 0 {
			_, size := utf8.DecodeRuneInString(s[i:])
			i += size
			continue
		}
		end := i
		if keep {
			end += n
		}
		parts = append(parts, s[start:end])
		i += n
		start = i
	}
	if start < len(s) {
		parts = append(parts, s[start:])
	}
	return parts
}

func splitLines(r *run, s string, args []opt) (value, error) {
	return r.texts(lines(s, args[0].bool(false)))
}

// partition makes a method that cuts a string in front of and behind the first
// separator, or the last.
func partition(last bool) func(*run, string, []opt) (value, error) {
	return func(r *run, s string, args []opt) (value, error) {
		sep, err := args[0].string("")
		if err != nil || sep == "" {
			return jinja.Undefined(), errors.New("the separator is empty or no str")
		}
		parts, at := []string{s, "", ""}, strings.Index(s, sep)
		if last {
			parts, at = []string{"", "", s}, strings.LastIndex(s, sep)
		}
		if at >= 0 {
			parts = []string{s[:at], sep, s[at+len(sep):]}
		}
		return r.tuple(jinja.NewString(parts[0]), jinja.NewString(parts[1]), jinja.NewString(parts[2]))
	}
}

// window is the part of s between the character positions in args[1] and
// args[2], and the position at which it begins.
func window(s string, args []opt) (part string, from int64, err error) {
	if !args[1].given && !args[2].given {
		return s, 0, nil
	}
	length := int64(utf8.RuneCountInString(s))
	var bounds [3]*int64
	for i, a := range args[1:3] {
		if a.given && !a.IsNone() {
			n, err := a.int(0)
			if err != nil {
				return "", 0, err
			}
			bounds[i] = &n
		}
	}
	start, stop, _, err := sliceBounds(bounds, length)
	return runeSlice(s, start, max(start, stop)), start, err
}

func affix(has func(s, affix string) bool) func(*run, string, []opt) (value, error) {
	return func(r *run, s string, args []opt) (value, error) {
		s, _, err := window(s, args)
		if err != nil {
			return jinja.Undefined(), err
		}
		list := []value{args[0].value}
		if args[0].IsList() && r.tuples[args[0].AsList()] {
			list = args[0].AsList().Items
		}
		for _, a := range list {
			if !a.IsString() {
				return jinja.Undefined(), fmt.Errorf("want a str or a tuple of them, not %s", typeName(a))
			}
			if has(s, a.AsString()) {
				return jinja.NewBool(true), nil
			}
		}
		return jinja.NewBool(false), r.spend(len(list))
	}
}

func find(index func(s, sub string) int, must bool) func(*run, string, []opt) (value, error) {
	return func(_ *run, s string, args []opt) (value, error) {
		part, err := mustString(args[0].value)
		if err != nil {
			return jinja.Undefined(), err
		}
		s, from, err := window(s, args)
		if err != nil {
			return jinja.Undefined(), err
		}
		at := index(s, part)
		switch {
		case at >= 0:
			return jinja.NewInt(from + int64(utf8.RuneCountInString(s[:at]))), nil
		case must:
			return jinja.Undefined(), errors.New("the str is not in it")
		}
		return jinja.NewInt(-1), nil
	}
}

func countIn(_ *run, s string, args []opt) (value, error) {
	part, err := mustString(args[0].value)
	if err != nil {
		return jinja.Undefined(), err
	}
	s, _, err = window(s, args)
	return jinja.NewInt(int64(strings.Count(s, part))), err
}

func replace(r *run, s string, args []opt) (value, error) {
	old, err := mustString(args[0].value)
	if err != nil {
		return jinja.Undefined(), err
	}
	with, err := mustString(args[1].value)
	if err != nil {
		return jinja.Undefined(), err
	}
	count, err := args[2].int(-1)
	if err != nil {
		return jinja.Undefined(), err
	}
	return r.replace(s, old, with, count)
}

// replace is s with count occurrences of old replaced, or all if count is
// negative.
func (r *run) replace(s, old, with string, count int64) (value, error) {
	n := int64(strings.Count(s, old))
	if count >= 0 {
		n = min(n, count)
	}
	if err := r.growTimes(len(with), n); err != nil {
		return jinja.Undefined(), err
	}
	return r.str(strings.Replace(s, old, with, int(n)))
}

func remove(trim func(s, affix string) string) func(*run, string, []opt) (value, error) {
	return func(_ *run, s string, args []opt) (value, error) {
		part, err := mustString(args[0].value)
		if err != nil {
			return jinja.Undefined(), err
		}
		return jinja.NewString(trim(s, part)), nil
	}
}

// pad makes a method that fills a string up to a width, with so many of the
// characters that are missing in front as before says.
func pad(before func(missing, width int64) int64) func(*run, string, []opt) (value, error) {
	return func(r *run, s string, args []opt) (value, error) {
		width, err := args[0].int(0)
		if err != nil {
			return jinja.Undefined(), err
		}
		fill, err := args[1].string(" ")
		if err == nil && utf8.RuneCountInString(fill) != 1 {
			err = errors.New("the fill character is one character")
		}
		if err != nil {
			return jinja.Undefined(), err
		}
		out, err := r.fill(s, width, fill, before)
		return jinja.NewString(out), err
	}
}

func (r *run) fill(s string, width int64, fill string, before func(missing, width int64) int64) (string, error) {
	missing := width - int64(utf8.RuneCountInString(s))
	if missing <= 0 {
		return s, nil
	}
	if err := r.growTimes(len(fill), missing); err != nil {
		return "", err
	}
	left := before(missing, width)
	return strings.Repeat(fill, int(left)) + s + strings.Repeat(fill, int(missing-left)), r.grow(len(s))
}

func allBefore(missing, _ int64) int64 { return missing }
func noneBefore(_, _ int64) int64      { return 0 }

// halfBefore puts the odd character where Python's center does.
func halfBefore(missing, width int64) int64 { return missing/2 + missing&width&1 }

func zeroFill(r *run, s string, args []opt) (value, error) {
	width, err := args[0].int(0)
	if err != nil {
		return jinja.Undefined(), err
	}
	sign := ""
	if s != "" && (s[0] == '-' || s[0] == '+') {
		sign, s = s[:1], s[1:]
	}
	out, err := r.fill(s, width-int64(len(sign)), "0", allBefore)
	return jinja.NewString(sign + out), err
}
