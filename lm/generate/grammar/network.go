package grammar

import (
	"fmt"
)

// Limits of what a schema may ask for.
const (
	maxSource = 1 << 20
	maxStates = 1 << 17
	maxDepth  = 256 // of the schema's JSON
)

// noRule marks an edge that calls nothing.
const noRule = -1

// A label is what an edge does.
type label uint8

const (
	reads label = iota // a byte from lo to hi
	skips              // nothing
	calls              // a rule, and goes on where it ends
)

// An edge leads from one state to another.
type edge struct {
	what   label
	lo, hi byte
	rule   int32
	to     int32
}

// A state is a place within a rule.
type state struct {
	edges  []edge
	accept bool // the rule may end here
	reads  bool // there is an edge that reads
}

// A network is the states of all rules. A rule is named by a number and begins
// at a state.
type network struct {
	states []state
	starts []int32
	full   bool // there were to be more than maxStates
}

// state adds a state.
func (n *network) state() int32 {
	if len(n.states) >= maxStates {
		n.full = true
		return 0
	}
	n.states = append(n.states, state{})
	return int32(len(n.states) - 1)
}

// end adds a state at which the rule may end.
func (n *network) end() int32 {
	s := n.state()
	n.states[s].accept = true
	return s
}

// rule adds a rule.
func (n *network) rule() int {
	n.starts = append(n.starts, n.state())
	return len(n.starts) - 1
}

func (n *network) edge(from int32, e edge) {
	s := &n.states[from]
	s.edges = append(s.edges, e)
	s.reads = s.reads || e.what == reads
}

// read, skip and call add an edge to a given state.
func (n *network) read(from int32, lo, hi byte, to int32) {
	n.edge(from, edge{what: reads, lo: lo, hi: hi, rule: noRule, to: to})
}

func (n *network) skip(from, to int32) { n.edge(from, edge{what: skips, rule: noRule, to: to}) }

func (n *network) call(from int32, rule int, to int32) {
	n.edge(from, edge{what: calls, rule: int32(rule), to: to})
}

// text reads a text and returns the state behind it.
func (n *network) text(from int32, text string) int32 {
	for i := range len(text) {
		to := n.state()
		n.read(from, text[i], text[i], to)
		from = to
	}
	return from
}

// then calls a rule and returns the state behind it.
func (n *network) then(from int32, rule int) int32 {
	to := n.state()
	n.call(from, rule, to)
	return to
}

// literals makes a rule read one of some texts. What they begin with alike is
// read once.
func (n *network) literals(rule int, texts []string) error {
	type step struct {
		from int32
		b    byte
	}
	next := map[step]int32{}
	for _, t := range texts {
		at := n.starts[rule]
		for i := range len(t) {
			to, ok := next[step{at, t[i]}]
			if !ok {
				to = n.state()
				n.read(at, t[i], t[i], to)
				next[step{at, t[i]}] = to
			}
			at = to
		}
		n.states[at].accept = true
		if n.full {
			return errLarge
		}
	}
	return nil
}

var errLarge = fmt.Errorf("grammar: the schema is too large: it takes more than %d states (%w)", maxStates, ErrSchema)

// document is the rule of a whole answer: a value, which white space may
// precede. The tokens of some models begin with a space.
func (n *network) document(value int) int {
	r := n.rule()
	n.call(n.then(n.starts[r], ruleSpace), value, n.end())
	return r
}

// finish checks a network whose root rule is given, and takes out what leads
// nowhere.
func (n *network) finish(root int) error {
	if n.full {
		return errLarge
	}
	n.prune()
	if s := n.states[n.starts[root]]; len(s.edges) == 0 && !s.accept {
		return fmt.Errorf("grammar: no document can satisfy the schema: it must contain itself without an end, or nothing is allowed (%w)", ErrSchema)
	}
	if n.idles() {
		return fmt.Errorf("grammar: a part of the schema refers to itself and says nothing else (%w)", ErrSchema)
	}
	return nil
}

// prune takes out the edges from which a rule's end cannot be reached.
func (n *network) prune() {
	type user struct {
		from int32
		e    int32
	}
	users := make([][]user, len(n.states)) // edges that need a state to lead somewhere
	for i := range n.states {
		for k, e := range n.states[i].edges {
			users[e.to] = append(users[e.to], user{int32(i), int32(k)})
			if e.what == calls {
				s := n.starts[e.rule]
				users[s] = append(users[s], user{int32(i), int32(k)})
			}
		}
	}
	good := make([]bool, len(n.states))
	var work []int32
	mark := func(s int32) {
		if !good[s] {
			good[s] = true
			work = append(work, s)
		}
	}
	leads := func(e edge) bool { return good[e.to] && (e.what != calls || good[n.starts[e.rule]]) }
	for i := range n.states {
		if n.states[i].accept {
			mark(int32(i))
		}
	}
	for len(work) > 0 {
		s := work[len(work)-1]
		work = work[:len(work)-1]
		for _, u := range users[s] {
			if leads(n.states[u.from].edges[u.e]) {
				mark(u.from)
			}
		}
	}
	for i := range n.states {
		s := &n.states[i]
		kept := s.edges[:0]
		s.reads = false
		for _, e := range s.edges {
			if leads(e) {
				kept = append(kept, e)
				s.reads = s.reads || e.what == reads
			}
		}
		s.edges = kept
	}
}

// idles reports whether one can go in a circle without reading anything.
func (n *network) idles() bool {
	empty := n.empty()
	const (
		unseen = iota
		open
		closed
	)
	color := make([]uint8, len(n.states))
	type visit struct {
		s   int32
		out []int32 // what follows and has not been seen to
	}
	follow := func(s int32) (out []int32) {
		for _, e := range n.states[s].edges {
			switch e.what {
			case skips:
				out = append(out, e.to)
			case calls:
				out = append(out, n.starts[e.rule])
				if empty[n.starts[e.rule]] {
					out = append(out, e.to)
				}
			}
		}
		return out
	}
	var path []visit
	for i := range n.states {
		if color[i] != unseen {
			continue
		}
		path = append(path[:0], visit{int32(i), follow(int32(i))})
		color[i] = open
		for len(path) > 0 {
			v := &path[len(path)-1]
			if len(v.out) == 0 {
				color[v.s] = closed
				path = path[:len(path)-1]
				continue
			}
			s := v.out[0]
			v.out = v.out[1:]
			switch color[s] {
			case open:
				return true
			case unseen:
				color[s] = open
				path = append(path, visit{s, follow(s)})
			}
		}
	}
	return false
}

// empty finds the states from which a rule's end is reached without reading.
// The only calls that may be empty are those of white space.
func (n *network) empty() []bool {
	empty := make([]bool, len(n.states))
	for changed := true; changed; {
		changed = false
		for i := len(n.states) - 1; i >= 0; i-- {
			if empty[i] {
				continue
			}
			s := &n.states[i]
			ok := s.accept
			for _, e := range s.edges {
				switch e.what {
				case skips:
					ok = ok || empty[e.to]
				case calls:
					ok = ok || int(e.rule) == ruleSpace && empty[e.to]
				}
			}
			if ok {
				empty[i], changed = true, true
			}
		}
	}
	return empty
}
