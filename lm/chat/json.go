package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

// decode reads one JSON value and keeps the order of objects. Of a name that
// an object has twice, the last value counts, at the place of the first.
func decode(data []byte) (value, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := decodeValue(d, 0)
	if err != nil {
		return v, err
	}
	if _, err := d.Token(); err != io.EOF {
		return v, errors.New("something follows the JSON value")
	}
	return v, nil
}

func decodeValue(d *json.Decoder, depth int) (value, error) {
	if depth > maxNest {
		return jinja.Undefined(), fmt.Errorf("JSON nested more than %d deep", maxNest)
	}
	t, err := d.Token()
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return jinja.Undefined(), err
	}
	switch t := t.(type) {
	case nil:
		return jinja.None(), nil
	case bool:
		return jinja.NewBool(t), nil
	case string:
		return jinja.NewString(t), nil
	case json.Number:
		if !strings.ContainsAny(string(t), ".eE") {
			if i, err := t.Int64(); err == nil {
				return jinja.NewInt(i), nil
			}
		}
		f, err := t.Float64()
		if err != nil {
			return jinja.Undefined(), fmt.Errorf("the number %.40s is too large", string(t))
		}
		return jinja.NewFloat(f), nil
	case json.Delim:
		if t == '[' {
			var items []value
			for d.More() {
				v, err := decodeValue(d, depth+1)
				if err != nil {
					return v, err
				}
				items = append(items, v)
			}
			_, err := d.Token()
			return jinja.NewList(items), err
		}
		dict := jinja.NewDict()
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return jinja.Undefined(), err
			}
			key, err := keyOf(jinja.NewString(name.(string)))
			if err != nil {
				return jinja.Undefined(), err
			}
			v, err := decodeValue(d, depth+1)
			if err != nil {
				return v, err
			}
			dict.AsDict().Set(key, v)
		}
		_, err := d.Token()
		return dict, err
	}
	return jinja.Undefined(), fmt.Errorf("unexpected JSON token %v", t)
}

// fromGo is a Go value as one of the template language. Maps are ordered by
// their keys; what is neither a plain value nor a slice or map of them goes
// through its JSON.
func fromGo(v any, depth int) (value, error) {
	if depth > maxNest {
		return jinja.Undefined(), fmt.Errorf("nested more than %d deep", maxNest)
	}
	switch v := v.(type) {
	case nil:
		return jinja.None(), nil
	case bool:
		return jinja.NewBool(v), nil
	case string:
		return jinja.NewString(v), nil
	case int:
		return jinja.NewInt(int64(v)), nil
	case int64:
		return jinja.NewInt(v), nil
	case float64:
		return jinja.NewFloat(v), nil
	case []any:
		items := make([]value, len(v))
		for i, item := range v {
			var err error
			if items[i], err = fromGo(item, depth+1); err != nil {
				return jinja.Undefined(), err
			}
		}
		return jinja.NewList(items), nil
	case map[string]any:
		dict := jinja.NewDict()
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			item, err := fromGo(v[name], depth+1)
			if err != nil {
				return jinja.Undefined(), fmt.Errorf("%s: %w", name, err)
			}
			key, err := keyOf(jinja.NewString(name))
			if err != nil {
				return jinja.Undefined(), err
			}
			dict.AsDict().Set(key, item)
		}
		return dict, nil
	}
	data, err := json.Marshal(v)
	if err != nil {
		return jinja.Undefined(), err
	}
	return decode(data)
}

// measure counts the values of v and the bytes of its text, itself included.
func measure(v value) (values, size int64) {
	switch {
	case v.IsString():
		return 1, int64(len(v.AsString()))
	case v.IsList():
		for _, item := range v.AsList().Items {
			n, s := measure(item)
			values, size = values+n, size+s
		}
	case v.IsDict():
		for key, item := range v.AsDict().Data {
			n, s := measure(item)
			values, size = values+n, size+s+int64(len(key))
		}
	}
	return values + 1, size + 8
}

// A jsonWriter writes values as Python's json.dumps does.
type jsonWriter struct {
	strings.Builder
	r        *run
	ascii    bool
	sorted   bool
	indented bool
	indent   string
	item     string // between elements
	key      string // between key and value
}

// tojson is the filter of that name, with the arguments that transformers
// gives it.
func (r *run) tojson(v value, a *arguments) (value, error) {
	args, err := a.bind(0, "ensure_ascii", "indent", "separators", "sort_keys")
	if err != nil {
		return jinja.Undefined(), err
	}
	w := &jsonWriter{r: r, ascii: args[0].bool(false), sorted: args[3].bool(false), item: ", ", key: ": "}
	if indent := args[1]; indent.given && !indent.IsNone() {
		w.indented, w.item = true, ","
		if indent.IsString() {
			w.indent = indent.AsString()
		} else {
			n, err := indent.int(0)
			if err == nil {
				w.indent, err = r.fill("", min(n, maxWidth), " ", allBefore)
			}
			if err != nil {
				return jinja.Undefined(), err
			}
		}
	}
	if seps := args[2]; seps.given && !seps.IsNone() {
		items, err := r.items(nil, seps.value)
		if err != nil || len(items) != 2 || !items[0].IsString() || !items[1].IsString() {
			return jinja.Undefined(), errors.New("the separators are two strings")
		}
		w.item, w.key = items[0].AsString(), items[1].AsString()
	}
	if err := w.value(v, 0); err != nil {
		return jinja.Undefined(), err
	}
	return jinja.NewString(w.String()), nil
}

// line begins a new line if the output is indented.
func (w *jsonWriter) line(depth int) error {
	if !w.indented {
		return nil
	}
	w.WriteByte('\n')
	if err := w.r.growTimes(len(w.indent), int64(depth)); err != nil {
		return err
	}
	for range depth {
		w.WriteString(w.indent)
	}
	return nil
}

func (w *jsonWriter) value(v value, depth int) error {
	if depth > maxNest {
		return fmt.Errorf("%w: values more than %d deep", ErrLimit, maxNest)
	}
	if err := w.r.grow(8 + len(w.item) + len(w.key)); err != nil {
		return err
	}
	switch v = plain(v); {
	case v.IsNone():
		w.WriteString("null")
	case v.IsBool():
		w.WriteString(strconv.FormatBool(v.AsBool()))
	case v.IsInt():
		w.WriteString(strconv.FormatInt(v.AsInt(), 10))
	case v.IsFloat():
		w.WriteString(jsonFloat(v.AsFloat()))
	case v.IsString():
		return w.string(v.AsString())
	case v.IsList():
		items := v.AsList().Items
		return w.elements('[', ']', len(items), depth, func(i int) error { return w.value(items[i], depth+1) })
	case w.r.isMapping(v):
		d := v.AsDict()
		keys := d.Keys
		if w.sorted {
			keys = slices.Sorted(slices.Values(keys))
		}
		return w.elements('{', '}', len(keys), depth, func(i int) error {
			if err := w.string(jsonKey(keyValue(keys[i]))); err != nil {
				return err
			}
			w.WriteString(w.key)
			return w.value(d.Data[keys[i]], depth+1)
		})
	default:
		return fmt.Errorf("%s cannot be written as JSON", typeName(v))
	}
	return nil
}

func (w *jsonWriter) elements(open, end byte, n, depth int, element func(i int) error) error {
	w.WriteByte(open)
	for i := range n {
		if i > 0 {
			w.WriteString(w.item)
		}
		if err := w.line(depth + 1); err != nil {
			return err
		}
		if err := element(i); err != nil {
			return err
		}
	}
	if n > 0 {
		if err := w.line(depth); err != nil {
			return err
		}
	}
	w.WriteByte(end)
	return nil
}

func jsonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return formatFloat(f)
}

// jsonKey is a key as the string that it is in JSON.
func jsonKey(v value) string {
	switch {
	case v.IsString():
		return v.AsString()
	case v.IsInt():
		return strconv.FormatInt(v.AsInt(), 10)
	case v.IsFloat():
		return jsonFloat(v.AsFloat())
	}
	return "null"
}

func (w *jsonWriter) string(s string) error {
	start := w.Len()
	if err := w.r.read(len(s)); err != nil {
		return err
	}
	w.WriteByte('"')
	plain := 0 // where text begins that needs no escape
	for i := 0; i < len(s); {
		c, size := utf8.DecodeRuneInString(s[i:])
		if c >= ' ' && c != '"' && c != '\\' && (!w.ascii || c < 0x7f) {
			i += size
			continue
		}
		w.WriteString(s[plain:i])
		i += size
		plain = i
		switch c {
		case '"', '\\':
			w.WriteByte('\\')
			w.WriteRune(c)
		case '\n':
			w.WriteString(`\n`)
		case '\r':
			w.WriteString(`\r`)
		case '\t':
			w.WriteString(`\t`)
		case '\b':
			w.WriteString(`\b`)
		case '\f':
			w.WriteString(`\f`)
		default:
			if high, low := utf16.EncodeRune(c); high != utf8.RuneError {
				fmt.Fprintf(w, `\u%04x\u%04x`, high, low)
			} else {
				fmt.Fprintf(w, `\u%04x`, c)
			}
		}
	}
	w.WriteString(s[plain:])
	w.WriteByte('"')
	return w.r.grow(w.Len() - start)
}
