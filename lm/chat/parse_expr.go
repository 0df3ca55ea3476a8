package chat

import (
	"slices"
)

// maxDepth bounds the depth of an expression. What is evaluated by recursion
// must not be as deep as a template from a stranger likes: a Go stack that
// overflows ends the process.
const maxDepth = 300

// A parser builds statements and expressions from tokens. Its grammar, and so
// its binding of operators, is that of Jinja's own parser.
type parser struct {
	tokens []token
	pos    int
	depth  int // of expressions being parsed
	nested int // of statements being parsed
	loops  int // around the statement being parsed, in the same function
	iters  []*expr
}

func (p *parser) peek() token { return p.tokens[p.pos] }

// ahead is the token after the next one.
func (p *parser) ahead() token { return p.tokens[min(p.pos+1, len(p.tokens)-1)] }

func (p *parser) next() token {
	t := p.tokens[p.pos]
	if t.kind != tokEnd {
		p.pos++
	}
	return t
}

func (t token) is(kind tokenKind, text string) bool { return t.kind == kind && t.text == text }

// op reports whether the next token is one of the operators.
func (p *parser) op(ops ...string) bool {
	return p.peek().kind == tokOperator && slices.Contains(ops, p.peek().text)
}

// skipOp moves over the operator if it is next.
func (p *parser) skipOp(op string) bool {
	if p.peek().is(tokOperator, op) {
		p.pos++
		return true
	}
	return false
}

// skipName moves over the keyword if it is next.
func (p *parser) skipName(name string) bool {
	if p.peek().is(tokName, name) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) expectOp(op string) error {
	if !p.skipOp(op) {
		return p.unexpected("'" + op + "'")
	}
	return nil
}

func (p *parser) expectName() (string, error) {
	if p.peek().kind != tokName {
		return "", p.unexpected("a name")
	}
	return p.next().text, nil
}

func (p *parser) unexpected(want string) error {
	return syntaxError(p.peek().line, "unexpected %v, want %s", p.peek(), want)
}

// node makes an expression and bounds its depth.
func (p *parser) node(e expr) (*expr, error) {
	e.depth = 1
	for _, a := range e.args {
		if a != nil {
			e.depth = max(e.depth, a.depth+1)
		}
	}
	if e.depth > maxDepth {
		return nil, syntaxError(e.line, "the expression is nested too deeply")
	}
	return &e, nil
}

// deeper bounds the depth to which the parser calls itself.
func (p *parser) deeper() error {
	if p.depth++; p.depth > maxDepth {
		return syntaxError(p.peek().line, "the expression is nested too deeply")
	}
	return nil
}

// expression parses a conditional expression.
func (p *parser) expression() (*expr, error) {
	e, err := p.or()
	if err != nil {
		return nil, err
	}
	for p.peek().is(tokName, "if") {
		line := p.next().line
		test, err := p.or()
		if err != nil {
			return nil, err
		}
		args := []*expr{test, e}
		if p.skipName("else") {
			if err := p.deeper(); err != nil {
				return nil, err
			}
			other, err := p.expression()
			p.depth--
			if err != nil {
				return nil, err
			}
			args = append(args, other)
		}
		if e, err = p.node(expr{kind: exIf, line: line, args: args}); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// binary parses operands joined by operators that bind to the left. The
// function at says whether the next token is one, and moves over it.
func (p *parser) binary(operand func() (*expr, error), at func() (exprKind, string, bool)) (*expr, error) {
	e, err := operand()
	for err == nil {
		line := p.peek().line
		kind, name, ok := at()
		if !ok {
			break
		}
		var right *expr
		if right, err = operand(); err == nil {
			e, err = p.node(expr{kind: kind, line: line, name: name, args: []*expr{e, right}})
		}
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

// infix is the function that binary wants, for operators.
func (p *parser) infix(ops ...string) func() (exprKind, string, bool) {
	return func() (exprKind, string, bool) {
		if !p.op(ops...) {
			return 0, "", false
		}
		return exBinary, p.next().text, true
	}
}

func (p *parser) or() (*expr, error) {
	return p.binary(p.and, func() (exprKind, string, bool) { return exOr, "", p.skipName("or") })
}

func (p *parser) and() (*expr, error) {
	return p.binary(p.not, func() (exprKind, string, bool) { return exAnd, "", p.skipName("and") })
}

func (p *parser) not() (*expr, error) {
	if !p.peek().is(tokName, "not") {
		return p.compare()
	}
	line := p.next().line
	if err := p.deeper(); err != nil {
		return nil, err
	}
	e, err := p.not()
	p.depth--
	if err != nil {
		return nil, err
	}
	return p.node(expr{kind: exNot, line: line, args: []*expr{e}})
}

func (p *parser) compare() (*expr, error) {
	e, err := p.sum()
	if err != nil {
		return nil, err
	}
	line := p.peek().line
	args := []*expr{e}
	var ops []string
	for {
		switch {
		case p.op("==", "!=", "<", "<=", ">", ">="):
			ops = append(ops, p.next().text)
		case p.skipName("in"):
			ops = append(ops, "in")
		case p.peek().is(tokName, "not") && p.ahead().is(tokName, "in"):
			p.pos += 2
			ops = append(ops, "not in")
		case len(ops) == 0:
			return e, nil
		default:
			return p.node(expr{kind: exCompare, line: line, args: args, ops: ops})
		}
		right, err := p.sum()
		if err != nil {
			return nil, err
		}
		args = append(args, right)
	}
}

func (p *parser) sum() (*expr, error) { return p.binary(p.concat, p.infix("+", "-")) }

func (p *parser) concat() (*expr, error) {
	e, err := p.product()
	if err != nil || !p.op("~") {
		return e, err
	}
	line := p.peek().line
	args := []*expr{e}
	for p.skipOp("~") {
		right, err := p.product()
		if err != nil {
			return nil, err
		}
		args = append(args, right)
	}
	return p.node(expr{kind: exConcat, line: line, args: args})
}

func (p *parser) product() (*expr, error) { return p.binary(p.power, p.infix("*", "/", "//", "%")) }

func (p *parser) power() (*expr, error) {
	return p.binary(func() (*expr, error) { return p.unary(true) }, p.infix("**"))
}

// unary parses a sign and what follows it. Filters and tests bind to all of
// it, not to what is behind the sign.
func (p *parser) unary(filters bool) (e *expr, err error) {
	if err := p.deeper(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	if p.op("+", "-") {
		t := p.next()
		if e, err = p.unary(false); err == nil {
			e, err = p.node(expr{kind: exSign, line: t.line, name: t.text, args: []*expr{e}})
		}
	} else {
		e, err = p.primary()
	}
	if err == nil {
		e, err = p.postfix(e)
	}
	if err == nil && filters {
		e, err = p.filters(e)
	}
	return e, err
}
