package chat

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

// A program is a template in the form in which the Jinja library runs it.
//
// The library evaluates names, conditions, loops, macros and calls as Jinja
// does. Its operators, filters and methods are lenient where Python raises an
// error, and nothing in it bounds what a template does. So everything else is
// translated to calls of the functions in run.functions, which do as Python
// does and count what they do. The first argument of nearly all of them is
// the index in sites of the expression they stand for. Text is translated
// too, so that the library sees tags only and has no whitespace to control.
type program struct {
	code   *jinja.Template
	sites  []*expr
	macros []*stmt // one for each name m0, m1, ...
	parts  bool    // handles content in parts
	text   string  // of the template, as it came
}

// compile translates a template.
func compile(src string) (*program, error) {
	body, loops, err := parse(src)
	if err != nil {
		return nil, err
	}
	w := &writer{}
	w.block(body)
	code, err := jinja.Compile(w.String())
	if err != nil {
		return nil, &TemplateError{Message: "cannot be translated", Err: err}
	}
	return &program{
		code:   code,
		sites:  w.sites,
		macros: w.macros,
		parts:  readsParts(w.sites, loops),
		text:   src,
	}, nil
}

// A writer writes a translation.
type writer struct {
	strings.Builder
	sites  []*expr
	macros []*stmt
	temps  int
	rename map[string]string // names that stand for something else, for now
}

// site numbers an expression.
func (w *writer) site(e *expr) int {
	w.sites = append(w.sites, e)
	return len(w.sites) - 1
}

// temp makes a name that no template can use.
func (w *writer) temp() string {
	w.temps++
	return fmt.Sprintf("t%d", w.temps)
}

// prefix is what the names of a template begin with in its translation, except
// those that the library itself sets. It keeps them apart from keywords and
// functions.
const prefix = "v_"

// mangle is the name that stands for the template's name: ASCII, which is all
// that the library reads as a name.
func mangle(name string) string {
	if name == "loop" || name == "caller" {
		return name
	}
	var b strings.Builder
	b.WriteString(prefix)
	for _, c := range name {
		if c < utf8.RuneSelf {
			b.WriteRune(c)
		} else {
			fmt.Fprintf(&b, "_u%x_", c)
		}
	}
	return b.String()
}

func (w *writer) name(name string) string {
	if to, ok := w.rename[name]; ok {
		return to
	}
	return mangle(name)
}

// quote writes s as a string literal of the library.
func (w *writer) quote(s string) {
	w.WriteByte('\'')
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' || s[i] == '\'' {
			w.WriteByte('\\')
		}
		w.WriteByte(s[i])
	}
	w.WriteByte('\'')
}

// writef writes a piece in which $ stands for an expression.
func (w *writer) writef(format string, args ...any) {
	for {
		before, after, found := strings.Cut(format, "$")
		n := strings.Count(before, "%")
		fmt.Fprintf(w, before, args[:n]...)
		if !found {
			return
		}
		w.expr(args[n].(*expr))
		format, args = after, args[n+1:]
	}
}

// Tags stand on lines of their own, whose ends are stripped again. The library
// looks through all tags without text between them for text to strip, for each
// of them.
const (
	blockStart  = "{%- "
	blockEnd    = " -%}\n"
	outputStart = "{{- "
	outputEnd   = " -}}\n"
)

// tag writes a block tag, as writef does.
func (w *writer) tag(format string, args ...any) {
	w.WriteString(blockStart)
	w.writef(format, args...)
	w.WriteString(blockEnd)
}

// show writes an output tag, as writef does.
func (w *writer) show(format string, args ...any) {
	w.WriteString(outputStart)
	w.writef(format, args...)
	w.WriteString(outputEnd)
}

// weigh writes what counts the steps of a body that may run many times, and
// returns a function that is to be called behind it: what the body does
// without calling one of our functions must count too.
func (w *writer) weigh(line int, format string) (done func()) {
	e := &expr{line: line}
	w.show(format, w.site(e))
	start := w.Len()
	return func() { e.weight = (w.Len() - start) / bytesPerStep }
}

// bytesPerStep is how much of a translation is run in a step, roughly.
const bytesPerStep = 32

// functionOf is what the library calls for each kind of expression.
var functionOf = map[exprKind]string{
	exList: "list", exTuple: "tuple", exDict: "dict", exAttr: "attr", exItem: "item",
	exSlice: "slice", exCall: "call", exFilter: "filter", exTest: "test",
	exBinary: "op", exSign: "sign", exCompare: "compare", exConcat: "concat",
}

// expr writes an expression.
func (w *writer) expr(e *expr) {
	switch e.kind {
	case exName:
		w.WriteString(w.name(e.name))
	case exConst:
		w.constant(e)
	case exAnd:
		w.writef("($ and $)", e.args[0], e.args[1])
	case exOr:
		w.writef("($ or $)", e.args[0], e.args[1])
	case exNot:
		w.writef("(not $)", e.args[0])
	case exIf:
		w.writef("($ if $", e.args[1], e.args[0])
		if len(e.args) > 2 {
			w.writef(" else $", e.args[2])
		}
		w.WriteByte(')')
	default:
		w.writef("%s(%d", functionOf[e.kind], w.site(e))
		n := e.positional()
		for i, a := range e.args {
			w.WriteByte(',')
			if k := i - n; k >= 0 && k < len(e.keywords) {
				w.writef("%s=", mangle(e.keywords[k]))
			}
			if a == nil {
				w.WriteString("none")
			} else {
				w.expr(a)
			}
		}
		w.WriteByte(')')
	}
}

func (w *writer) constant(e *expr) {
	switch {
	case e.val.IsString():
		w.quote(e.val.AsString())
	case e.val.IsFloat():
		w.writef("number(%d)", w.site(e))
	case e.val.IsNone():
		w.WriteString("none")
	case e.val.IsBool():
		fmt.Fprint(w, e.val.AsBool())
	default:
		fmt.Fprint(w, e.val.AsInt())
	}
}

// block writes statements.
func (w *writer) block(body []*stmt) {
	for _, s := range body {
		w.stmt(s)
	}
}

func (w *writer) stmt(s *stmt) {
	switch s.kind {
	case stText:
		w.WriteString(outputStart + "text(")
		w.quote(s.text)
		w.WriteString(")" + outputEnd)
	case stOutput:
		w.output(s.exprs[0])
	case stIf:
		for i, body := range s.bodies {
			switch {
			case i == 0:
				w.tag("if $", s.exprs[i])
			case i < len(s.exprs):
				w.tag("elif $", s.exprs[i])
			default:
				w.tag("else")
			}
			w.block(body)
		}
		w.tag("endif")
	case stFor:
		w.loop(s)
	case stSet:
		w.assign(s.target, func() { w.expr(s.exprs[0]) })
	case stSetBlock:
		text := w.capture(s)
		w.assign(s.target, func() { w.filtered(s, text) })
	case stFilter:
		text := w.capture(s)
		fmt.Fprintf(w, outputStart+"output(%d,", w.site(s.exprs[0]))
		w.filtered(s, text)
		w.WriteString(")" + outputEnd)
	case stMacro:
		w.macro(s)
	case stCall:
		params := make([]string, len(s.params))
		for i, p := range s.params {
			params[i] = mangle(p)
		}
		w.tag("call(%s) $", strings.Join(params, ","), s.exprs[0])
		done := w.weigh(s.line, "count(%d)")
		w.defaults(s)
		w.block(s.bodies[0])
		done()
		w.tag("endcall")
	case stWith:
		w.with(s)
	case stScope:
		w.scoped(s.bodies[0], func() { w.block(s.bodies[0]) })
	case stBreak:
		w.tag("break")
	case stContinue:
		w.tag("continue")
	}
}

func (w *writer) output(e *expr) {
	w.show("output(%d,$)", w.site(e), e)
}

// scoped writes a body that has a scope of its own in Jinja but not in the
// library: what the body assigns to is put back behind it.
func (w *writer) scoped(body []*stmt, write func()) {
	restore := w.save(assigned(body))
	write()
	restore()
}

// save keeps the values of names, and returns a function that puts them back.
func (w *writer) save(names []string) (restore func()) {
	kept := make([]string, len(names))
	for i, name := range names {
		kept[i] = w.temp()
		w.tag("set %s=%s", kept[i], mangle(name))
	}
	return func() {
		for i, name := range names {
			w.tag("set %s=%s", mangle(name), kept[i])
		}
	}
}

// assign writes an assignment of the value that write writes.
func (w *writer) assign(target *expr, write func()) {
	switch target.kind {
	case exName:
		w.WriteString(blockStart + "set " + mangle(target.name) + "=")
		write()
		w.WriteString(blockEnd)
	case exField:
		fmt.Fprintf(w, outputStart+"setfield(%d,%s,", w.site(target), mangle(target.name))
		write()
		w.WriteString(")" + outputEnd)
	case exTuple:
		list := w.temp()
		w.WriteString(blockStart)
		fmt.Fprintf(w, "set %s=unpack(%d,", list, w.site(target))
		write()
		w.WriteString(")" + blockEnd)
		for i, t := range target.args {
			w.assign(t, func() { w.writef("nth(%s,%d)", list, i) })
		}
	}
}

// capture writes the body of s into a variable and returns its name.
func (w *writer) capture(s *stmt) string {
	text := w.temp()
	w.scoped(s.bodies[0], func() {
		w.tag("set %s", text)
		w.block(s.bodies[0])
		w.tag("endset")
	})
	return text
}

// filtered writes the filters of s applied to the variable text.
func (w *writer) filtered(s *stmt, text string) {
	if len(s.exprs) == 0 {
		w.WriteString(text)
		return
	}
	outer := w.rename
	w.rename = map[string]string{block: text}
	w.expr(s.exprs[0])
	w.rename = outer
}

// loop writes a for loop. In Jinja each round begins with the variables of the
// scope around the loop, in the library with those of the round before: so
// what the body assigns to is put back at the head of each round.
func (w *writer) loop(s *stmt) {
	inTarget := map[string]bool{}
	places := map[string]string{} // what stands for each name of the target, before it is set
	item := w.temp()
	var find func(*expr, string)
	find = func(t *expr, place string) {
		if t.kind == exName {
			inTarget[t.name] = true
			places[t.name] = place
			return
		}
		for i, a := range t.args {
			find(a, fmt.Sprintf("nth(unpack(%d,%s),%d)", w.site(t), place, i))
		}
	}
	find(s.target, item)
	var names []string
	for _, name := range assigned(s.bodies[0]) {
		if !inTarget[name] {
			names = append(names, name)
		}
	}
	restore := w.save(names)

	source := &expr{kind: exName, name: s.exprs[0].String(), line: s.line}
	w.WriteString(blockStart)
	w.writef("for %s in iterate(%d,$)", item, w.site(source), s.exprs[0])
	if s.exprs[1] != nil {
		outer, start := w.rename, w.Len()
		w.rename = places
		w.writef(" if ($)", s.exprs[1])
		w.rename = outer
		source.weight = (w.Len() - start) / bytesPerStep
	}
	w.WriteString(blockEnd)
	done := w.weigh(s.line, "round(%d,loop)")
	restore()
	w.assign(s.target, func() { w.WriteString(item) })
	w.block(s.bodies[0])
	done()
	if s.bodies[1] != nil {
		w.tag("else")
		w.block(s.bodies[1])
	}
	w.tag("endfor")
}

// macro writes a macro under a name that tells which one it is, so that a call
// can check its arguments.
func (w *writer) macro(s *stmt) {
	name := fmt.Sprintf("m%d", len(w.macros))
	w.macros = append(w.macros, s)
	w.WriteString(blockStart + "macro " + name + "(")
	for i, p := range s.params {
		if i > 0 {
			w.WriteByte(',')
		}
		w.writef("%s=missing", mangle(p))
	}
	w.WriteString(")" + blockEnd)
	done := w.weigh(s.line, "count(%d)")
	w.defaults(s)
	w.block(s.bodies[0])
	done()
	w.tag("endmacro")
	w.tag("set %s=%s", mangle(s.name), name)
}

// defaults writes what sets parameters that a call left out.
func (w *writer) defaults(s *stmt) {
	for i, p := range s.params {
		p = mangle(p)
		if s.defaults[i] == nil {
			w.tag("set %s=(undefined if ismissing(%s) else %s)", p, p, p)
		} else {
			w.tag("set %s=($ if ismissing(%s) else %s)", p, s.defaults[i], p, p)
		}
	}
}

func (w *writer) with(s *stmt) {
	names := assigned([]*stmt{s})
	for _, name := range assigned(s.bodies[0]) {
		names = append(names, name)
	}
	restore := w.save(names)
	temps := make([]string, len(s.exprs))
	for i, e := range s.exprs {
		temps[i] = w.temp()
		w.tag("set %s=$", temps[i], e)
	}
	for i, t := range s.targets {
		w.tag("set %s=%s", mangle(t.name), temps[i])
	}
	w.block(s.bodies[0])
	restore()
}
