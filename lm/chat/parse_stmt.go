package chat

import "slices"

// maxNested bounds how deep statements are nested.
const maxNested = 100

// parse reads the statements of a template.
func parse(src string) (body []*stmt, loops []*expr, err error) {
	tokens, err := scan(src)
	if err != nil {
		return nil, nil, err
	}
	p := &parser{tokens: tokens}
	body, err = p.statements()
	return body, p.iters, err
}

// statements parses up to a block that begins with one of the keywords in
// ends, of which the keyword comes next then; or, without any, up to the end
// of the template.
func (p *parser) statements(ends ...string) ([]*stmt, error) {
	if p.nested++; p.nested > maxNested {
		return nil, syntaxError(p.peek().line, "the statements are nested too deeply")
	}
	defer func() { p.nested-- }()
	var body []*stmt
	for {
		t := p.next()
		switch t.kind {
		case tokEnd:
			if len(ends) > 0 {
				return nil, syntaxError(t.line, "the template ends where %s is due", ends[len(ends)-1])
			}
			return body, nil
		case tokData:
			body = append(body, &stmt{kind: stText, line: t.line, text: t.text})
			continue
		case tokOutput:
			e, err := p.tuple(false, p.expression)
			if err != nil {
				return nil, err
			}
			if p.peek().kind != tokOutputEnd {
				return nil, p.unexpected("'}}'")
			}
			p.pos++
			body = append(body, &stmt{kind: stOutput, line: t.line, exprs: []*expr{e}})
			continue
		}
		if p.peek().kind == tokName && slices.Contains(ends, p.peek().text) {
			return body, nil
		}
		made, err := p.statement()
		if err != nil {
			return nil, err
		}
		if p.peek().kind != tokBlockEnd {
			return nil, p.unexpected("'%}'")
		}
		p.pos++
		body = append(body, made...)
	}
}

// body parses statements after the end of a block's first tag. The keyword
// that ends them comes next then.
func (p *parser) body(ends ...string) ([]*stmt, error) {
	p.skipOp(":")
	if p.peek().kind != tokBlockEnd {
		return nil, p.unexpected("'%}'")
	}
	p.pos++
	return p.statements(ends...)
}

// whole is body with the keyword that ends it left behind.
func (p *parser) whole(end string) ([]*stmt, error) {
	body, err := p.body(end)
	if err == nil {
		p.pos++
	}
	return body, err
}

// apart is whole for a body that runs as a function of its own, out of which
// break and continue do not lead.
func (p *parser) apart(end string) ([]*stmt, error) {
	loops := p.loops
	p.loops = 0
	body, err := p.whole(end)
	p.loops = loops
	return body, err
}

// statement parses a statement from its keyword on, up to the end of its last
// tag.
func (p *parser) statement() ([]*stmt, error) {
	line := p.peek().line
	keyword, err := p.expectName()
	if err != nil {
		return nil, err
	}
	s := &stmt{line: line}
	switch keyword {
	case "if":
		err = p.ifBlock(s)
	case "for":
		err = p.forBlock(s)
	case "set":
		err = p.set(s)
	case "macro":
		s.kind = stMacro
		if s.name, err = p.expectName(); err == nil {
			err = p.signature(s)
		}
		if err == nil {
			err = p.only(s, p.apart, "endmacro")
		}
	case "call":
		err = p.callBlock(s)
	case "filter":
		s.kind = stFilter
		err = p.filterChain(s, true)
		if err == nil {
			err = p.only(s, p.whole, "endfilter")
		}
	case "with":
		err = p.with(s)
	case "generation":
		s.kind = stScope
		err = p.only(s, p.apart, "endgeneration")
	case "block":
		s.kind = stScope
		if s.name, err = p.expectName(); err == nil {
			err = p.only(s, p.apart, "endblock")
		}
		if err == nil {
			p.skipName(s.name)
		}
	case "break", "continue":
		s.kind = stBreak
		if keyword == "continue" {
			s.kind = stContinue
		}
		if p.loops == 0 {
			return nil, syntaxError(line, "%s stands outside of a loop", keyword)
		}
	case "print":
		return p.print(line)
	case "include", "import", "from", "extends":
		return nil, syntaxError(line, "%s: a chat template has no other files", keyword)
	default:
		return nil, syntaxError(line, "unknown tag '%.40s'", keyword)
	}
	if err != nil {
		return nil, err
	}
	return []*stmt{s}, nil
}

// only parses the one body of s.
func (p *parser) only(s *stmt, parse func(string) ([]*stmt, error), end string) error {
	body, err := parse(end)
	s.bodies = [][]*stmt{body}
	return err
}

func (p *parser) ifBlock(s *stmt) error {
	s.kind = stIf
	for {
		test, err := p.tuple(false, p.or)
		if err != nil {
			return err
		}
		s.exprs = append(s.exprs, test)
		body, err := p.body("elif", "else", "endif")
		if err != nil {
			return err
		}
		s.bodies = append(s.bodies, body)
		switch p.next().text {
		case "elif":
			continue
		case "else":
			body, err := p.whole("endif")
			s.bodies = append(s.bodies, body)
			return err
		}
		return nil
	}
}

func (p *parser) forBlock(s *stmt) (err error) {
	s.kind = stFor
	if s.target, err = p.target(false, "in"); err != nil {
		return err
	}
	if !p.skipName("in") {
		return p.unexpected("'in'")
	}
	s.exprs = make([]*expr, 2)
	s.bodies = make([][]*stmt, 2)
	if s.exprs[0], err = p.tuple(false, p.or, "recursive"); err != nil {
		return err
	}
	p.iters = append(p.iters, s.exprs[0])
	if p.skipName("if") {
		if s.exprs[1], err = p.expression(); err != nil {
			return err
		}
	}
	if p.skipName("recursive") {
		return syntaxError(s.line, "recursive loops are not supported")
	}
	p.loops++
	s.bodies[0], err = p.body("endfor", "else")
	p.loops--
	if err == nil && p.next().text == "else" {
		s.bodies[1], err = p.whole("endfor")
	}
	return err
}

// target parses what is assigned to: a name, several in a tuple, and where
// fields are allowed a field of a namespace.
func (p *parser) target(fields bool, ends ...string) (*expr, error) {
	e, err := p.tuple(false, func() (*expr, error) {
		t := p.peek()
		e, err := p.primary()
		if err != nil || !fields || e.kind != exName || t.kind != tokName || !p.skipOp(".") {
			return e, err
		}
		field, err := p.expectName()
		return &expr{kind: exField, line: t.line, depth: 1, name: e.name, ops: []string{field}}, err
	}, ends...)
	if err != nil {
		return nil, err
	}
	return e, assignable(e)
}

func assignable(e *expr) error {
	switch e.kind {
	case exName, exField:
		return nil
	case exTuple:
		for _, a := range e.args {
			if err := assignable(a); err != nil {
				return err
			}
		}
		return nil
	}
	return syntaxError(e.line, "cannot assign to %v", e)
}

func (p *parser) set(s *stmt) (err error) {
	if s.target, err = p.target(true); err != nil {
		return err
	}
	if p.skipOp("=") {
		s.kind = stSet
		e, err := p.tuple(false, p.expression)
		s.exprs = []*expr{e}
		return err
	}
	s.kind = stSetBlock
	if err = p.filterChain(s, false); err == nil {
		err = p.only(s, p.whole, "endset")
	}
	return err
}

// block stands for the text of a block in the filters behind it.
const block = "\x00block"

// filterChain parses filters that are applied to a block. With bare, the
// first has no bar before it.
func (p *parser) filterChain(s *stmt, bare bool) error {
	e := &expr{kind: exName, line: s.line, depth: 1, name: block}
	for bare || p.skipOp("|") {
		bare = false
		var err error
		if e, err = p.filter(e); err != nil {
			return err
		}
	}
	if e.kind == exFilter {
		s.exprs = []*expr{e}
	}
	return nil
}

// signature parses the parameters of a macro.
func (p *parser) signature(s *stmt) error {
	if err := p.expectOp("("); err != nil {
		return err
	}
	optional := false
	for !p.skipOp(")") {
		if len(s.params) > 0 {
			if err := p.expectOp(","); err != nil {
				return err
			}
		}
		line := p.peek().line
		name, err := p.expectName()
		if err != nil {
			return err
		}
		if slices.Contains(s.params, name) {
			return syntaxError(line, "the parameter %s is there twice", name)
		}
		var e *expr
		if p.skipOp("=") {
			optional = true
			if e, err = p.expression(); err != nil {
				return err
			}
		} else if optional {
			return syntaxError(line, "the parameter %s without a default follows one with a default", name)
		}
		s.params = append(s.params, name)
		s.defaults = append(s.defaults, e)
	}
	return nil
}

func (p *parser) callBlock(s *stmt) error {
	s.kind = stCall
	if p.op("(") {
		if err := p.signature(s); err != nil {
			return err
		}
	}
	e, err := p.expression()
	if err != nil {
		return err
	}
	if e.kind != exCall {
		return syntaxError(s.line, "a call block wants a call, not %v", e)
	}
	s.exprs = []*expr{e}
	return p.only(s, p.apart, "endcall")
}

func (p *parser) with(s *stmt) error {
	s.kind = stWith
	for p.peek().kind != tokBlockEnd {
		if len(s.targets) > 0 {
			if err := p.expectOp(","); err != nil {
				return err
			}
		}
		t := p.peek()
		name, err := p.expectName()
		if err != nil {
			return err
		}
		if err := p.expectOp("="); err != nil {
			return err
		}
		e, err := p.expression()
		if err != nil {
			return err
		}
		s.targets = append(s.targets, &expr{kind: exName, line: t.line, depth: 1, name: name})
		s.exprs = append(s.exprs, e)
	}
	return p.only(s, p.whole, "endwith")
}

func (p *parser) print(line int) ([]*stmt, error) {
	var made []*stmt
	for p.peek().kind != tokBlockEnd {
		if len(made) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		made = append(made, &stmt{kind: stOutput, line: line, exprs: []*expr{e}})
	}
	return made, nil
}
