package chat

import (
	"slices"

	"github.com/ardanlabs/jinja"
)

func (p *parser) primary() (*expr, error) {
	t := p.peek()
	constant := func(v value) (*expr, error) {
		p.pos++
		return p.node(expr{kind: exConst, line: t.line, val: v})
	}
	switch t.kind {
	case tokName:
		switch t.text {
		case "true", "True":
			return constant(jinja.NewBool(true))
		case "false", "False":
			return constant(jinja.NewBool(false))
		case "none", "None":
			return constant(jinja.None())
		}
		p.pos++
		return p.node(expr{kind: exName, line: t.line, name: t.text})
	case tokNumber:
		return constant(t.val)
	case tokString:
		var text []byte
		for p.peek().kind == tokString {
			text = append(text, p.next().text...)
		}
		return p.node(expr{kind: exConst, line: t.line, val: jinja.NewString(string(text))})
	}
	switch {
	case p.skipOp("("):
		e, err := p.tuple(true, p.expression)
		if err != nil {
			return nil, err
		}
		return e, p.expectOp(")")
	case p.skipOp("["):
		args, err := p.elements("]", false)
		if err != nil {
			return nil, err
		}
		return p.node(expr{kind: exList, line: t.line, args: args})
	case p.skipOp("{"):
		args, err := p.elements("}", true)
		if err != nil {
			return nil, err
		}
		return p.node(expr{kind: exDict, line: t.line, args: args})
	}
	return nil, syntaxError(t.line, "unexpected %v", t)
}

// elements parses the elements of a list or, in pairs, of a mapping.
func (p *parser) elements(closer string, pairs bool) ([]*expr, error) {
	var args []*expr
	for !p.skipOp(closer) {
		if len(args) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
			if p.skipOp(closer) {
				break
			}
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		args = append(args, e)
		if !pairs {
			continue
		}
		if err := p.expectOp(":"); err != nil {
			return nil, err
		}
		if e, err = p.expression(); err != nil {
			return nil, err
		}
		args = append(args, e)
	}
	return args, nil
}

// tuple parses elements that are separated by commas, of which there may be
// only one; then it is no tuple without a comma behind it. The names in ends
// end a tuple after a comma, as brackets do.
func (p *parser) tuple(parentheses bool, element func() (*expr, error), ends ...string) (*expr, error) {
	line := p.peek().line
	var args []*expr
	comma := false
	for {
		t := p.peek()
		if t.kind == tokOutputEnd || t.kind == tokBlockEnd || t.is(tokOperator, ")") ||
			t.kind == tokName && slices.Contains(ends, t.text) {
			break
		}
		e, err := element()
		if err != nil {
			return nil, err
		}
		args = append(args, e)
		if !p.skipOp(",") {
			break
		}
		comma = true
	}
	if !comma {
		if len(args) > 0 {
			return args[0], nil
		}
		if !parentheses {
			return nil, p.unexpected("an expression")
		}
	}
	return p.node(expr{kind: exTuple, line: line, args: args})
}

// postfix parses attributes, subscripts and calls.
func (p *parser) postfix(e *expr) (*expr, error) {
	for {
		var err error
		t := p.peek()
		switch {
		case p.skipOp("."):
			switch a := p.next(); {
			case a.kind == tokName:
				e, err = p.node(expr{kind: exAttr, line: t.line, name: a.text, args: []*expr{e}})
			case a.kind == tokNumber && a.val.IsInt():
				key := &expr{kind: exConst, line: t.line, depth: 1, val: a.val}
				e, err = p.node(expr{kind: exItem, line: t.line, args: []*expr{e, key}})
			default:
				return nil, syntaxError(t.line, "unexpected %v, want a name after '.'", a)
			}
		case p.skipOp("["):
			e, err = p.subscript(e, t.line)
		case p.op("("):
			e, err = p.call(expr{kind: exCall, line: t.line, args: []*expr{e}})
		default:
			return e, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// subscript parses what is between square brackets behind e.
func (p *parser) subscript(e *expr, line int) (*expr, error) {
	var parts [3]*expr
	n := 0
	for i := range parts {
		if !p.op(":", "]") {
			part, err := p.expression()
			if err != nil {
				return nil, err
			}
			parts[i] = part
		}
		if i == 2 || !p.skipOp(":") {
			break
		}
		n++
	}
	if p.op(",") {
		return nil, syntaxError(line, "subscripts of more than one index are not supported")
	}
	if err := p.expectOp("]"); err != nil {
		return nil, err
	}
	if n > 0 {
		return p.node(expr{kind: exSlice, line: line, args: []*expr{e, parts[0], parts[1], parts[2]}})
	}
	if parts[0] == nil {
		return nil, syntaxError(line, "the subscript is empty")
	}
	return p.node(expr{kind: exItem, line: line, args: []*expr{e, parts[0]}})
}

// call parses arguments in parentheses and completes e with them.
func (p *parser) call(e expr) (*expr, error) {
	if err := p.expectOp("("); err != nil {
		return nil, err
	}
	var named []*expr
	var spread, spreadKw *expr
	for first := true; !p.skipOp(")"); first = false {
		if !first {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
			if p.skipOp(")") {
				break
			}
		}
		t := p.peek()
		var to **expr
		switch {
		case spreadKw != nil:
			return nil, syntaxError(t.line, "an argument follows **")
		case p.skipOp("**"):
			to = &spreadKw
		case p.op("*") && spread == nil:
			p.pos++
			to = &spread
		case t.kind == tokName && p.ahead().is(tokOperator, "="):
			p.pos += 2
			if slices.Contains(e.keywords, t.text) {
				return nil, syntaxError(t.line, "the argument %s is given twice", t.text)
			}
			e.keywords = append(e.keywords, t.text)
		case spread != nil || len(named) > 0:
			return nil, syntaxError(t.line, "an argument without a name follows one with a name")
		}
		arg, err := p.expression()
		switch {
		case err != nil:
			return nil, err
		case to != nil:
			*to = arg
		case len(e.keywords) > len(named):
			named = append(named, arg)
		default:
			e.args = append(e.args, arg)
		}
	}
	e.args = append(e.args, named...)
	if spread != nil {
		e.args, e.spread = append(e.args, spread), true
	}
	if spreadKw != nil {
		e.args, e.spreadKw = append(e.args, spreadKw), true
	}
	return p.node(e)
}

// filters parses filters, tests and calls behind e.
func (p *parser) filters(e *expr) (*expr, error) {
	for {
		var err error
		switch {
		case p.skipOp("|"):
			e, err = p.filter(e)
		case p.skipName("is"):
			e, err = p.test(e)
		case p.op("("):
			e, err = p.call(expr{kind: exCall, line: p.peek().line, args: []*expr{e}})
		default:
			return e, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// dotted parses the name of a filter or test.
func (p *parser) dotted() (string, error) {
	name, err := p.expectName()
	for err == nil && p.skipOp(".") {
		var more string
		more, err = p.expectName()
		name += "." + more
	}
	return name, err
}

// filter parses a filter from its name on.
func (p *parser) filter(e *expr) (*expr, error) {
	line := p.peek().line
	name, err := p.dotted()
	if err != nil {
		return nil, err
	}
	f := expr{kind: exFilter, line: line, name: name, args: []*expr{e}}
	if p.op("(") {
		return p.call(f)
	}
	return p.node(f)
}

// test parses a test from the word behind "is" on. Without parentheses it
// takes the one operand that follows.
func (p *parser) test(e *expr) (*expr, error) {
	line := p.peek().line
	negated := p.skipName("not")
	name, err := p.dotted()
	if err != nil {
		return nil, err
	}
	node := expr{kind: exTest, line: line, name: name, args: []*expr{e}}
	t := p.peek()
	switch {
	case p.op("("):
		e, err = p.call(node)
	case t.kind == tokString, t.kind == tokNumber, p.op("[", "{"),
		t.kind == tokName && t.text != "else" && t.text != "or" && t.text != "and":
		if t.is(tokName, "is") {
			return nil, syntaxError(t.line, "tests cannot be chained")
		}
		var arg *expr
		if arg, err = p.primary(); err == nil {
			arg, err = p.postfix(arg)
		}
		if err != nil {
			return nil, err
		}
		node.args = append(node.args, arg)
		e, err = p.node(node)
	default:
		e, err = p.node(node)
	}
	if err == nil && negated {
		e, err = p.node(expr{kind: exNot, line: line, args: []*expr{e}})
	}
	return e, err
}
