package chat

import (
	"fmt"
	"strings"

	"github.com/ardanlabs/jinja"
)

// value is a value of the template language.
type value = jinja.Value

// exprKind says what an expression is, and with it what its fields hold.
type exprKind uint8

const (
	exName    exprKind = iota // name
	exConst                   // val
	exList                    // args are the elements
	exTuple                   // args are the elements
	exDict                    // args are key, value, key, value, ...
	exAttr                    // args[0].name
	exItem                    // args[0][args[1]]
	exSlice                   // args[0][args[1]:args[2]:args[3]], where an absent one is a none
	exCall                    // args[0](args[1:]...)
	exFilter                  // args[0]|name(args[1:]...)
	exTest                    // args[0] is name(args[1:]...)
	exBinary                  // args[0] name args[1]
	exSign                    // name args[0], where name is + or -
	exCompare                 // args[0] ops[0] args[1] ops[1] args[2] ...
	exConcat                  // args[0] ~ args[1] ~ ...
	exAnd                     // args[0] and args[1]
	exOr                      // args[0] or args[1]
	exNot                     // not args[0]
	exIf                      // args[1] if args[0] else args[2], which may be missing
	exField                   // name.attr as the target of an assignment, where attr is ops[0]
)

// An expr is an expression. One struct serves all kinds because nearly all
// that is done with them is the same for all: to bound their depth, to number
// them, to write them out with their operands.
type expr struct {
	kind  exprKind
	line  int
	depth int // of the tree under it, itself included
	name  string
	val   value
	args  []*expr
	ops   []string

	// Of an exCall, exFilter and exTest: the last of args are the values of
	// these keyword arguments, then *list and **mapping if there are any.
	keywords []string
	spread   bool
	spreadKw bool

	weight int // steps to count for what stands for it in a translation
}

// positional is the number of arguments that are neither named nor spread, the
// operand included.
func (e *expr) positional() int {
	n := len(e.args) - len(e.keywords)
	if e.spread {
		n--
	}
	if e.spreadKw {
		n--
	}
	return n
}

// String names an expression in an error.
func (e *expr) String() string {
	switch e.kind {
	case exName:
		return e.name
	case exAttr:
		return e.args[0].String() + "." + e.name
	case exItem:
		return e.args[0].String() + "[" + e.args[1].String() + "]"
	case exConst:
		if e.val.IsString() {
			return fmt.Sprintf("'%.40s'", e.val.AsString())
		}
		return e.val.String()
	case exCall:
		return e.args[0].String() + "(...)"
	case exFilter:
		return e.args[0].String() + "|" + e.name
	case exSlice:
		return e.args[0].String() + "[:]"
	}
	return "the expression"
}

// stmtKind says what a statement is, and with it what its fields hold.
type stmtKind uint8

const (
	stText     stmtKind = iota // text
	stOutput                   // exprs[0]
	stIf                       // exprs are the conditions, bodies theirs and that of else
	stFor                      // exprs are the iterable and a condition or nil; bodies[1] is that of else
	stSet                      // target = exprs[0]
	stSetBlock                 // target = bodies[0], through the filter in exprs[0] if there is one
	stFilter                   // bodies[0] through the filter in exprs[0]
	stMacro                    // name, params, defaults, bodies[0]
	stCall                     // exprs[0] is the call; params, defaults, bodies[0]
	stWith                     // targets = exprs in bodies[0]
	stScope                    // bodies[0], which assigns to names of its own
	stBreak
	stContinue
)

// A stmt is a statement.
type stmt struct {
	kind     stmtKind
	line     int
	text     string
	name     string
	target   *expr
	targets  []*expr
	exprs    []*expr
	params   []string
	defaults []*expr // one for each of params, nil where there is none
	bodies   [][]*stmt
}

// assigned lists the names that body assigns to in its own scope, each once.
func assigned(body []*stmt) []string {
	var names []string
	seen := map[string]bool{}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	var target func(*expr)
	target = func(e *expr) {
		switch e.kind {
		case exName:
			add(e.name)
		case exTuple:
			for _, a := range e.args {
				target(a)
			}
		}
	}
	var walk func([]*stmt)
	walk = func(body []*stmt) {
		for _, s := range body {
			switch s.kind {
			case stSet, stSetBlock:
				target(s.target)
			case stMacro:
				add(s.name)
			case stIf:
				for _, b := range s.bodies {
					walk(b)
				}
			case stFor: // the body is a scope, what is after else is not
				walk(s.bodies[1])
			case stWith: // a jump out of its body leaves its targets set
				for _, t := range s.targets {
					target(t)
				}
			}
		}
	}
	walk(body)
	return names
}

// readsParts reports whether the template handles a content that is a list of
// parts: it loops over a content, or asks what kind of thing one is.
func readsParts(sites []*expr, loops []*expr) bool {
	content := func(e *expr) bool {
		switch e.kind {
		case exName, exAttr:
			return e.name == "content"
		case exItem:
			return e.args[1].kind == exConst && e.args[1].val.IsString() && e.args[1].val.AsString() == "content"
		}
		return false
	}
	for _, e := range loops {
		if content(e) {
			return true
		}
	}
	for _, e := range sites {
		if e.kind != exTest || !content(e.args[0]) {
			continue
		}
		switch e.name {
		case "string", "iterable", "sequence", "mapping":
			return true
		}
	}
	return false
}

// syntaxError is an error in the text of a template.
func syntaxError(line int, format string, args ...any) error {
	return &TemplateError{Line: line, Message: strings.TrimSpace(fmt.Sprintf(format, args...))}
}
