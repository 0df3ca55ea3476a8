package chat

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

// A layout says how a value is written: what is common to "%-8.3f" and
// "{:<8.3f}".
type layout struct {
	fill      string
	align     byte // <, >, ^ or = (behind the sign), 0 for that of the type
	sign      byte // + or space, or 0
	alt       bool
	comma     bool
	width     int64
	precision int64 // -1 if there is none
	verb      byte  // 0 for that of the type
}

// maxWidth bounds widths and precisions.
const maxWidth = 1000

// leadingInt reads the digits at the head of s.
func leadingInt(s string) (n int64, rest string, err error) {
	d := 0
	for d < len(s) && isDigit(s[d]) {
		d++
	}
	if d == 0 {
		return 0, s, nil
	}
	n, err = strconv.ParseInt(s[:d], 10, 64)
	if err != nil || n > maxWidth {
		return 0, s, fmt.Errorf("the width %.20s is larger than %d", s[:d], maxWidth)
	}
	return n, s[d:], nil
}

// percent is format % v.
func (r *run) percent(format string, v value) (string, error) {
	values, isTuple := []value{v}, false
	if v.IsList() && r.tuples[v.AsList()] {
		values, isTuple = v.AsList().Items, true
	}
	used := 0
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(format, "%")
		b.WriteString(before)
		if err := r.grow(len(before) + 1); err != nil {
			return "", err
		}
		if !found {
			break
		}
		keyed := false
		arg := jinja.Undefined()
		if strings.HasPrefix(rest, "(") {
			name, after, ok := strings.Cut(rest[1:], ")")
			if !ok || !v.IsDict() {
				return "", errors.New("%: a format with names wants a dict")
			}
			rest, keyed = after, true
			if arg, ok = v.AsDict().Get(name); !ok {
				return "", fmt.Errorf("%%: no value for %s", name)
			}
		}
		l := layout{fill: " ", precision: -1, align: '>'}
		zero := false
		for rest != "" && strings.IndexByte("-+ #0", rest[0]) >= 0 {
			switch rest[0] {
			case '-':
				l.align = '<'
			case '#':
				l.alt = true
			case '0':
				zero = true
			default:
				l.sign = rest[0]
			}
			rest = rest[1:]
		}
		var err error
		if l.width, rest, err = leadingInt(rest); err != nil {
			return "", err
		}
		if strings.HasPrefix(rest, ".") {
			if l.precision, rest, err = leadingInt(rest[1:]); err != nil {
				return "", err
			}
		}
		if rest == "" {
			return "", errors.New("%: the format ends in a directive")
		}
		l.verb, format = rest[0], rest[1:]
		if l.verb == '%' {
			b.WriteByte('%')
			continue
		}
		if !keyed {
			if used == len(values) {
				return "", errors.New("%: more directives than values")
			}
			arg = values[used]
			used++
		}
		if zero && l.align == '>' && strings.IndexByte("srac", l.verb) < 0 {
			l.fill, l.align = "0", '='
		}
		out, err := r.directive(l, arg)
		if err != nil {
			return "", fmt.Errorf("%%%c: %w", l.verb, err)
		}
		b.WriteString(out)
		if err := r.grow(len(out)); err != nil {
			return "", err
		}
	}
	// Python asks whether it could be a mapping, which a list could.
	if used < len(values) && (isTuple || !v.IsDict() && !v.IsList() && !v.IsUndefined()) {
		return "", errors.New("%: fewer directives than values")
	}
	return b.String(), nil
}

// directive is a value in the layout of a directive of percent.
func (r *run) directive(l layout, v value) (string, error) {
	var text string
	var err error
	switch l.verb {
	case 's':
		text, err = r.text(v)
	case 'r', 'a':
		text, err = r.repr(v)
	case 'c':
		if v.IsInt() && v.AsInt() >= 0 && v.AsInt() <= utf8.MaxRune {
			text = string(rune(v.AsInt()))
		} else if text, err = r.text(v); utf8.RuneCountInString(text) != 1 {
			return "", errors.New("want one character")
		}
	case 'd', 'i', 'u':
		if !isNumber(v) {
			return "", fmt.Errorf("want a number, not %s", typeName(v))
		}
		n := toNumber(v)
		if n.isFloat {
			if n.i, err = truncate(n.f); err != nil {
				return "", err
			}
		}
		l.verb = 'd'
		return r.number(l, number{i: n.i, f: float64(n.i)})
	case 'x', 'X', 'o':
		if !isNumber(v) || v.IsFloat() {
			return "", fmt.Errorf("want an integer, not %s", typeName(v))
		}
		return r.number(l, toNumber(v))
	case 'e', 'E', 'f', 'F', 'g', 'G':
		if !isNumber(v) {
			return "", fmt.Errorf("want a number, not %s", typeName(v))
		}
		return r.number(l, toNumber(v))
	default:
		return "", errors.New("unknown directive")
	}
	if err != nil {
		return "", err
	}
	if l.precision >= 0 {
		text = runeSlice(text, 0, l.precision)
	}
	return r.aligned(l, "", text)
}

// truncate is f without its fraction.
func truncate(f float64) (int64, error) {
	if f = math.Trunc(f); math.Abs(f) < 1<<63 {
		return int64(f), nil
	}
	return 0, errOverflow
}

// number is n in a layout whose verb is one of those of numbers.
func (r *run) number(l layout, n number) (string, error) {
	precision := 6
	if l.precision >= 0 {
		precision = int(l.precision)
	}
	var digits string
	negative := n.i < 0
	switch l.verb {
	case 'd', 'x', 'X', 'o', 'b':
		base := map[byte]int{'d': 10, 'x': 16, 'X': 16, 'o': 8, 'b': 2}[l.verb]
		digits = strings.TrimPrefix(strconv.FormatInt(n.i, base), "-")
		if l.precision > int64(len(digits)) {
			digits = strings.Repeat("0", int(l.precision)-len(digits)) + digits
		}
		if l.alt && base != 10 {
			digits = "0" + string(l.verb|0x20) + digits
		}
		if l.verb == 'X' {
			digits = strings.ToUpper(digits)
		}
	default:
		negative = math.Signbit(n.f)
		f := math.Abs(n.f)
		switch {
		case math.IsInf(f, 0) || math.IsNaN(f):
			digits = formatFloat(f)
		case l.verb == '%':
			digits = strconv.FormatFloat(f*100, 'f', precision, 64) + "%"
		case l.verb == 0:
			digits = formatFloat(f)
		case l.verb|0x20 == 'g':
			digits = general(f, max(precision, 1), l.alt)
		default:
			digits = strconv.FormatFloat(f, l.verb|0x20, precision, 64)
		}
		if l.verb == 'E' || l.verb == 'G' || l.verb == 'F' {
			digits = strings.ToUpper(digits)
		}
	}
	if l.comma {
		whole := 0
		for whole < len(digits) && isDigit(digits[whole]) {
			whole++
		}
		for i := whole - 3; i > 0; i -= 3 {
			digits = digits[:i] + "," + digits[i:]
		}
	}
	sign := ""
	switch {
	case negative:
		sign = "-"
	case l.sign != 0:
		sign = string(l.sign)
	}
	if l.align == 0 {
		l.align = '>'
	}
	return r.aligned(l, sign, digits)
}

// general is f with so many significant digits, in the shorter of two forms.
func general(f float64, precision int, alt bool) string {
	e := strconv.FormatFloat(f, 'e', precision-1, 64)
	mantissa, exponent, _ := strings.Cut(e, "e")
	x, _ := strconv.Atoi(exponent)
	tail := "e" + exponent
	if x >= -4 && x < precision {
		mantissa, tail = strconv.FormatFloat(f, 'f', precision-1-x, 64), ""
	}
	if !alt && strings.Contains(mantissa, ".") {
		mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
	}
	return mantissa + tail
}

// aligned fills text, of which sign is the head, up to the width.
func (r *run) aligned(l layout, sign, text string) (string, error) {
	switch l.align {
	case '=':
		text, err := r.fill(text, l.width-int64(len(sign)), l.fill, allBefore)
		return sign + text, err
	case '>':
		return r.fill(sign+text, l.width, l.fill, allBefore)
	case '^':
		return r.fill(sign+text, l.width, l.fill, func(missing, _ int64) int64 { return missing / 2 })
	}
	return r.fill(sign+text, l.width, l.fill, noneBefore)
}

// format is s.format(...). Fields are names or positions, with entries of
// them; what is written in a field may not hold fields itself.
func (r *run) format(s string, a *arguments) (string, error) {
	var b strings.Builder
	auto := 0
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			b.WriteString(s)
			return b.String(), r.grow(len(s))
		}
		if err := r.grow(i + 1); err != nil {
			return "", err
		}
		b.WriteString(s[:i])
		if i+1 < len(s) && s[i+1] == s[i] {
			b.WriteByte(s[i])
			s = s[i+2:]
			continue
		}
		field, rest, ok := strings.Cut(s[i+1:], "}")
		if s[i] == '}' || !ok || strings.Contains(field, "{") {
			return "", errors.New("a brace stands alone, or inside of a field")
		}
		s = rest
		field, spec, _ := strings.Cut(field, ":")
		field, conversion, converted := strings.Cut(field, "!")
		v, err := r.field(field, a, &auto)
		if err != nil {
			return "", err
		}
		if converted {
			text := ""
			switch conversion {
			case "s":
				text, err = r.text(v)
			case "r", "a":
				text, err = r.repr(v)
			default:
				err = fmt.Errorf("unknown conversion !%s", conversion)
			}
			if err != nil {
				return "", err
			}
			v = jinja.NewString(text)
		}
		out, err := r.spec(spec, v)
		if err != nil {
			return "", fmt.Errorf("{%s}: %w", field, err)
		}
		b.WriteString(out)
		if err := r.grow(len(out)); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// field is the value that a field of format names. Fields without a name take
// the positions one after the other, counted by auto.
func (r *run) field(name string, a *arguments, auto *int) (value, error) {
	end := strings.IndexAny(name, ".[")
	if end < 0 {
		end = len(name)
	}
	first, rest := name[:end], name[end:]
	v, ok := a.named[first]
	if !ok {
		at := *auto
		if first == "" {
			*auto++
		} else if n, err := strconv.Atoi(first); err == nil {
			at = n
		} else {
			return v, fmt.Errorf("no argument %s", first)
		}
		if at < 0 || at >= len(a.pos) {
			return v, fmt.Errorf("no argument %d", at)
		}
		v = a.pos[at]
	}
	var err error
	for rest != "" && err == nil {
		e := &expr{kind: exName, name: name}
		e.args = []*expr{e}
		if rest[0] == '.' {
			rest = rest[1:]
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			v, err = r.attr(e, v, rest[:end])
			rest = rest[end:]
			continue
		}
		key, after, ok := strings.Cut(rest[1:], "]")
		if !ok || after != "" && after[0] != '.' && after[0] != '[' {
			return v, fmt.Errorf("bad field %s", name)
		}
		k := jinja.NewString(key)
		if n, err := strconv.Atoi(key); err == nil {
			k = jinja.NewInt(int64(n))
		}
		v, err = r.item(e, v, k)
		rest = after
	}
	return v, err
}

// spec is v in the layout of a field of format.
func (r *run) spec(spec string, v value) (string, error) {
	if spec == "" {
		return r.text(v)
	}
	l := layout{fill: " ", precision: -1}
	whole := spec
	if _, n := utf8.DecodeRuneInString(spec); len(spec) > n && strings.IndexByte("<>^=", spec[n]) >= 0 {
		l.fill, l.align, spec = spec[:n], spec[n], spec[n+1:]
	} else if strings.IndexByte("<>^=", spec[0]) >= 0 {
		l.align, spec = spec[0], spec[1:]
	}
	if spec != "" && strings.IndexByte("+- ", spec[0]) >= 0 {
		if spec[0] != '-' {
			l.sign = spec[0]
		}
		spec = spec[1:]
	}
	if strings.HasPrefix(spec, "#") {
		l.alt, spec = true, spec[1:]
	}
	if strings.HasPrefix(spec, "0") && l.align == 0 && isNumber(v) {
		l.fill, l.align = "0", '='
	}
	var err error
	if l.width, spec, err = leadingInt(spec); err != nil {
		return "", err
	}
	if strings.HasPrefix(spec, ",") {
		l.comma, spec = true, spec[1:]
	}
	if strings.HasPrefix(spec, ".") {
		if l.precision, spec, err = leadingInt(spec[1:]); err != nil {
			return "", err
		}
	}
	if len(spec) > 1 {
		return "", fmt.Errorf("bad format %.40s", whole)
	}
	if spec != "" {
		l.verb = spec[0]
	}
	switch {
	case v.IsString() && (l.verb == 0 || l.verb == 's') && l.align != '=':
		text := v.AsString()
		if l.precision >= 0 {
			text = runeSlice(text, 0, l.precision)
		}
		return r.aligned(l, "", text)
	case isNumber(v) && !v.IsFloat() && strings.IndexByte("\x00dxXob", l.verb) >= 0 && l.precision < 0:
		if l.verb == 0 {
			l.verb = 'd'
		}
		return r.number(l, toNumber(v))
	case isNumber(v) && strings.IndexByte("eEfFgG%", l.verb) >= 0, v.IsFloat() && l.verb == 0:
		if l.verb == 0 && l.precision >= 0 {
			l.verb = 'g'
		}
		return r.number(l, toNumber(v))
	}
	return "", fmt.Errorf("the format %.40s does not fit %s", whole, typeName(v))
}
