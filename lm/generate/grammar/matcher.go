package grammar

import (
	"encoding/binary"
	"slices"
)

// Limits of what a matcher holds.
const (
	mostStacks  = 256 // possible at once
	mostSteps   = 1 << 14
	mostConfigs = 2048 // sets of stacks that are remembered
	mostReaches = 512
	mostMasks   = 64
)

// A Matcher follows one answer. It belongs to one goroutine at a time.
type Matcher struct {
	g   *Grammar
	v   *Vocabulary
	now *config

	frames  map[frameKey]*frame
	named   uint32 // frames so far
	configs map[string]*config
	begins  map[int32]*config // what a state begins, without a stack below
	reaches map[int32]*reach
	masks   map[*config]Set
	none    *config // what no byte leads to
}

// A frame is a stack: where to go on, and the rest.
type frame struct {
	state int32
	below *frame
	name  uint32
}

type frameKey struct {
	state int32
	below *frame
}

// A stack is the state that reads the next byte, and what lies below it.
type stack struct {
	state int32
	below *frame
}

// A config is all stacks that are possible, in an order that depends on what has
// been read alone.
type config struct {
	stacks []stack
	ended  bool          // what it began with may have ended
	next   *[256]*config // where bytes lead, as far as it is known
}

// Matcher begins to follow an answer.
func (g *Grammar) Matcher(v *Vocabulary) *Matcher {
	m := &Matcher{g: g, v: v, none: &config{}}
	m.forget()
	m.now = m.none
	m.now = m.begin(g.net.starts[g.root])
	return m
}

// forget drops what can be found again.
func (m *Matcher) forget() {
	m.frames, m.configs, m.begins = map[frameKey]*frame{}, map[string]*config{}, map[int32]*config{}
	m.reaches, m.masks = map[int32]*reach{}, map[*config]Set{}
}

// Complete reports whether the answer may end here.
func (m *Matcher) Complete() bool { return m.now.ended }

// Finished reports whether it must: nothing can follow.
func (m *Matcher) Finished() bool { return m.now.ended && len(m.now.stacks) == 0 }

// Accept goes on with a token. It reports false, and stays where it is, if the
// token is not allowed.
func (m *Matcher) Accept(id int) bool {
	if id < 0 || id >= m.v.size || m.v.bytes[id] == nil {
		return false
	}
	c := m.now
	for _, b := range m.v.bytes[id] {
		if c = m.step(c, b); c == nil {
			return false
		}
	}
	m.now = c
	return true
}

// Allowed is the set of tokens that may come next. It is valid until the next
// call and must not be changed.
func (m *Matcher) Allowed() Set {
	if s, ok := m.masks[m.now]; ok {
		return s
	}
	s := m.v.newSet()
	for _, st := range m.now.stacks {
		r := m.reach(st.state)
		r.addTo(s)
		for _, at := range r.exits {
			m.resume(at, st.below, s)
		}
	}
	if len(m.masks) >= mostMasks {
		clear(m.masks)
	}
	m.masks[m.now] = s
	return s
}

// resume adds the tokens below a place at which a rule may have ended, which go
// on in what lies below it.
func (m *Matcher) resume(at int32, below *frame, s Set) {
	for ; below != nil; below = below.below {
		c := m.begin(below.state)
		m.walk(at, c, func(at int32, ended bool) {
			for _, id := range m.v.tokens(at) {
				s.add(id)
			}
			if ended {
				m.resume(at, below.below, s)
			}
		})
		if !c.ended {
			return
		}
	}
}

// reach is where the tokens lead that are read from a state.
func (m *Matcher) reach(state int32) *reach {
	if int(state) < len(m.v.shared) {
		m.v.mu.Lock()
		defer m.v.mu.Unlock()
		if r := m.v.shared[state]; r != nil {
			return r
		}
	} else if r := m.reaches[state]; r != nil {
		return r
	}
	r := &reach{many: m.v.newSet()}
	m.walk(0, &config{stacks: []stack{{state, nil}}}, func(at int32, ended bool) {
		r.few = append(r.few, m.v.tokens(at)...)
		if ended {
			r.exits = append(r.exits, at)
		}
	})
	r = r.tidied()
	if int(state) < len(m.v.shared) {
		m.v.shared[state] = r
		return r
	}
	if len(m.reaches) >= mostReaches {
		clear(m.reaches)
	}
	m.reaches[state] = r
	return r
}

// walk goes from a place of the trie to all below it that c can read, and gives
// them to f.
func (m *Matcher) walk(from int32, c *config, f func(at int32, ended bool)) {
	nodes := m.v.nodes
	base := nodes[from].depth
	var room [32]*config
	trail := append(room[:0], c)
	for at, end := from+1, nodes[from].next; at < end; {
		n := &nodes[at]
		depth := n.depth - base
		c := m.step(trail[depth-1], n.b)
		if c == nil {
			at = n.next
			continue
		}
		trail = append(trail[:depth], c)
		f(at, c.ended)
		if len(c.stacks) == 0 {
			at = n.next
		} else {
			at++
		}
	}
}

// step reads a byte, nil if it is not possible.
func (m *Matcher) step(c *config, b byte) *config {
	if c.next != nil && c.next[b] != nil {
		if to := c.next[b]; to != m.none {
			return to
		}
		return nil
	}
	x := expansion{m: m}
	for _, st := range c.stacks {
		for _, e := range m.g.net.states[st.state].edges {
			if e.what == reads && e.lo <= b && b <= e.hi {
				x.add(e.to, st.below)
			}
		}
	}
	to := x.config()
	if c.next == nil {
		c.next = new([256]*config)
	}
	if c.next[b] = to; to == nil {
		c.next[b] = m.none
	}
	return to
}

// begin is what a state begins, with nothing below it.
func (m *Matcher) begin(s int32) *config {
	c, ok := m.begins[s]
	if !ok {
		x := expansion{m: m}
		x.add(s, nil)
		if c = x.config(); c == nil {
			c = &config{}
		}
		m.begins[s] = c
	}
	return c
}

// An expansion finds all states that read, by way of those that do not.
type expansion struct {
	m     *Matcher
	found []stack
	ended bool
	seen  []stack
	index map[stack]bool // of seen, if it is long
}

func (x *expansion) add(s int32, below *frame) {
	st := stack{s, below}
	if len(x.seen) >= mostSteps || len(x.found) >= mostStacks || x.saw(st) {
		return
	}
	net := x.m.g.net
	n := &net.states[s]
	if n.reads {
		x.found = append(x.found, st)
	}
	for _, e := range n.edges {
		switch e.what {
		case skips:
			x.add(e.to, below)
		case calls:
			rest := below
			if to := &net.states[e.to]; !to.accept || len(to.edges) > 0 {
				rest = x.m.frame(e.to, below)
			}
			x.add(net.starts[e.rule], rest)
		}
	}
	if n.accept {
		if below == nil {
			x.ended = true
		} else {
			x.add(below.state, below.below)
		}
	}
}

// saw notes a stack and reports whether it was there.
func (x *expansion) saw(st stack) bool {
	const long = 16
	if len(x.seen) <= long {
		if slices.Contains(x.seen, st) {
			return true
		}
	} else {
		if x.index == nil {
			x.index = map[stack]bool{}
			for _, o := range x.seen {
				x.index[o] = true
			}
		}
		if x.index[st] {
			return true
		}
		x.index[st] = true
	}
	x.seen = append(x.seen, st)
	return false
}

// config is what was found, the same for the same stacks; nil for nothing.
func (x *expansion) config() *config {
	if len(x.found) == 0 && !x.ended {
		return nil
	}
	key := make([]byte, 0, 8*len(x.found)+1)
	for _, st := range x.found {
		name := uint32(0)
		if st.below != nil {
			name = st.below.name
		}
		key = binary.LittleEndian.AppendUint32(key, uint32(st.state))
		key = binary.LittleEndian.AppendUint32(key, name)
	}
	if x.ended {
		key = append(key, 1)
	}
	c := x.m.configs[string(key)]
	if c == nil {
		if len(x.m.configs) >= mostConfigs {
			x.m.forget()
			x.m.now.next = nil
		}
		c = &config{stacks: slices.Clip(x.found), ended: x.ended}
		x.m.configs[string(key)] = c
	}
	return c
}

// frame is a stack, the same for the same.
func (m *Matcher) frame(state int32, below *frame) *frame {
	k := frameKey{state, below}
	f := m.frames[k]
	if f == nil {
		m.named++
		f = &frame{state: state, below: below, name: m.named}
		m.frames[k] = f
	}
	return f
}
