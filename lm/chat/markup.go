package chat

import (
	"strings"

	"github.com/ardanlabs/jinja"
)

// A markup is a string that is HTML already, which the filters safe and escape
// make. Chat templates are not HTML and nothing is escaped in them, with one
// exception that must be matched: what is added to a markup with + is. In all
// else a markup is a string like others.
//
// It is a function whose name begins with markupMark, the library having no
// type for it.
const markupMark = "\x00markup:"

// markup is the text of v as a markup.
func (r *run) markup(v value, escape bool) (value, error) {
	s, err := r.text(v)
	if err == nil && escape {
		s, err = r.escape(s)
	}
	if err != nil || s == "" { // which must not be true
		return jinja.NewString(""), err
	}
	return jinja.NewCallable(markupMark+s, nil), r.grow(len(s))
}

var htmlEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&#39;", `"`, "&#34;")

func (r *run) escape(s string) (string, error) {
	// The longest replacement of a byte has five.
	if err := r.growTimes(5, int64(len(s))); err != nil {
		return "", err
	}
	return htmlEscaper.Replace(s), nil
}

// markupText is the text of a markup.
func markupText(v value) (string, bool) {
	if !v.IsCallable() {
		return "", false
	}
	return strings.CutPrefix(v.AsCallable().Name, markupMark)
}

// plain is v, as a string if it is a markup.
func plain(v value) value {
	if s, ok := markupText(v); ok {
		return jinja.NewString(s)
	}
	return v
}

// addMarkup is a + b if op is + and one of the strings a and b is a markup.
func (r *run) addMarkup(op string, a, b value) (sum value, ok bool, err error) {
	if op != "+" || !a.IsCallable() && !b.IsCallable() {
		return sum, false, nil
	}
	var text strings.Builder
	for _, v := range []value{a, b} {
		s, is := markupText(v)
		switch {
		case is:
			ok = true
		case v.IsString():
			if s, err = r.escape(v.AsString()); err != nil {
				return sum, false, err
			}
		default:
			return sum, false, nil
		}
		if err := r.grow(len(s)); err != nil {
			return sum, false, err
		}
		text.WriteString(s)
	}
	return jinja.NewCallable(markupMark+text.String(), nil), ok, nil
}
