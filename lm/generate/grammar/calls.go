package grammar

import (
	"fmt"
)

// A Function is what a model may call.
type Function struct {
	Name       string
	Parameters []byte // JSON schema of its arguments, an object; nil: any
}

// A CallForm is how a model writes calls: each an object with the members name
// and Arguments.
type CallForm struct {
	Open, Close string // around each call
	Arguments   string // the name of the arguments' member
	Between     string // two calls
	One         bool   // there is one call, otherwise one or more
}

// Calls is the grammar of calls of some functions.
func Calls(functions []Function, form CallForm) (*Grammar, error) {
	if len(functions) == 0 {
		return nil, fmt.Errorf("grammar: no functions to call (%w)", ErrSchema)
	}
	n := newNetwork()
	call := n.rule()
	opened, closing := n.text(n.starts[call], form.Open), n.state()
	for _, f := range functions {
		arguments := ruleObject
		if f.Parameters != nil {
			if len(f.Parameters) > maxSource {
				return nil, fmt.Errorf("grammar: the schema of %.60q has %d bytes, want %d at most (%w)", f.Name, len(f.Parameters), maxSource, ErrSchema)
			}
			root, err := parse(f.Parameters)
			if err != nil {
				return nil, fmt.Errorf("grammar: the schema of %.60q is no JSON document: %w (%w)", f.Name, err, ErrSchema)
			}
			c := &compiler{root: root, net: n, rules: map[*node]int{}}
			arguments = c.ruleOf(root, "#")
			if err := c.run(); err != nil {
				return nil, fmt.Errorf("function %.60q: %w", f.Name, err)
			}
		}
		name, object := n.rule(), n.rule()
		if err := n.literals(name, []string{quoted(f.Name)}); err != nil {
			return nil, err
		}
		n.properties(n.starts[object], []property{{"name", name, true}, {form.Arguments, arguments, true}})
		n.call(opened, object, closing)
	}
	n.states[n.text(closing, form.Close)].accept = true

	root := n.rule()
	end := n.end()
	n.call(n.then(n.starts[root], ruleSpace), call, end)
	if !form.One {
		n.call(n.text(end, form.Between), call, end)
	}
	if err := n.finish(root); err != nil {
		return nil, err
	}
	return &Grammar{net: n, root: root}, nil
}
