package grammar

// The rules that every network begins with. Their states have the same numbers
// in all of them.
const (
	ruleSpace = iota
	ruleString
	ruleInteger
	ruleNumber
	ruleBoolean
	ruleNull
	ruleValue
	ruleArray
	ruleObject
	builtinRules
)

// Digits of a number at most: before and after the point, and of its exponent.
const (
	mostDigits   = 20
	mostExponent = 2
	mostIndent   = 20
)

// newNetwork is a network with the rules of JSON
// (https://www.rfc-editor.org/rfc/rfc8259).
func newNetwork() *network {
	n := &network{}
	for range builtinRules {
		n.rule()
	}
	start := func(rule int) int32 { return n.starts[rule] }

	// Nothing, a space, or a line break and some indentation.
	n.states[start(ruleSpace)].accept = true
	n.read(start(ruleSpace), ' ', ' ', n.end())
	at := n.end()
	n.read(start(ruleSpace), '\n', '\n', at)
	for range mostIndent {
		to := n.end()
		n.read(at, ' ', ' ', to)
		n.read(at, '\t', '\t', to)
		at = to
	}

	n.string(start(ruleString))
	n.number(start(ruleInteger), false)
	n.number(start(ruleNumber), true)
	for _, word := range []string{"true", "false"} {
		n.states[n.text(start(ruleBoolean), word)].accept = true
	}
	n.states[n.text(start(ruleNull), "null")].accept = true

	end := n.end()
	for _, rule := range []int{ruleString, ruleNumber, ruleBoolean, ruleNull, ruleArray, ruleObject} {
		n.call(start(ruleValue), rule, end)
	}
	n.array(start(ruleArray), ruleValue)
	n.entries(start(ruleObject), ruleValue)
	return n
}

// builtinStates is how many states newNetwork has.
func builtinStates() int { return len(newNetwork().states) }

// array reads an array of values of a rule.
func (n *network) array(from int32, value int) {
	end, behind := n.end(), n.state()
	first := n.then(n.text(from, "["), ruleSpace)
	n.read(first, ']', ']', end)
	n.call(first, value, behind)
	n.call(n.then(n.text(behind, ","), ruleSpace), value, behind)
	n.read(n.then(behind, ruleSpace), ']', ']', end)
}

// entries reads an object of any names with values of a rule.
func (n *network) entries(from int32, value int) {
	end, behind := n.end(), n.state()
	entry := func(from int32) {
		n.call(n.then(n.text(n.then(from, ruleString), ":"), ruleSpace), value, behind)
	}
	first := n.then(n.text(from, "{"), ruleSpace)
	n.read(first, '}', '}', end)
	entry(first)
	entry(n.then(n.text(behind, ","), ruleSpace))
	n.read(n.then(behind, ruleSpace), '}', '}', end)
}

// A property is a name and the rule of its value.
type property struct {
	name     string
	value    int
	required bool
}

// properties reads an object that has these properties, in this order.
func (n *network) properties(from int32, ps []property) {
	first := n.then(n.text(from, "{"), ruleSpace) // there is none yet
	var behind int32 = -1                         // there are some
	for _, p := range ps {
		if n.full {
			return
		}
		to := n.state()
		entry := func(from int32) {
			n.call(n.then(n.text(from, quoted(p.name)+":"), ruleSpace), p.value, to)
		}
		if behind >= 0 {
			entry(n.then(n.text(behind, ","), ruleSpace))
			if !p.required {
				n.skip(behind, to)
			}
		}
		behind = to
		if first < 0 {
			continue
		}
		entry(first)
		if p.required {
			first = -1
			continue
		}
		next := n.state()
		n.skip(first, next)
		first = next
	}
	end := n.end()
	if first >= 0 {
		n.read(first, '}', '}', end)
	}
	if behind >= 0 {
		n.read(n.then(behind, ruleSpace), '}', '}', end)
	}
}

// number reads a number, or one without a fraction and an exponent.
func (n *network) number(from int32, fraction bool) {
	digits := func(from int32, least byte, most int, each func(at int32)) {
		for range most {
			to := n.end()
			n.read(from, least, '9', to)
			each(to)
			from, least = to, '0'
		}
	}
	point, e := int32(-1), int32(-1)
	if fraction {
		point, e = n.state(), n.state()
		digits(point, '0', mostDigits, func(at int32) {
			n.read(at, 'e', 'e', e)
			n.read(at, 'E', 'E', e)
		})
		sign := n.state()
		n.read(e, '+', '+', sign)
		n.read(e, '-', '-', sign)
		for _, at := range []int32{e, sign} {
			digits(at, '0', mostExponent, func(int32) {})
		}
	}
	whole := func(at int32) {
		if fraction {
			n.read(at, '.', '.', point)
			n.read(at, 'e', 'e', e)
			n.read(at, 'E', 'E', e)
		}
	}
	positive := n.state()
	n.skip(from, positive)
	n.read(from, '-', '-', positive)
	zero := n.end()
	n.read(positive, '0', '0', zero)
	whole(zero)
	digits(positive, '1', mostDigits, whole)
}

// string reads a string, byte by byte: well-formed UTF-8 as in table 3-7 of the
// Unicode standard.
func (n *network) string(from int32) {
	in := n.text(from, `"`)
	n.read(in, '"', '"', n.end())
	n.read(in, 0x20, 0x21, in)
	n.read(in, 0x23, 0x5B, in)
	n.read(in, 0x5D, 0x7F, in)
	one, two := n.state(), n.state() // bytes that must follow
	n.read(one, 0x80, 0xBF, in)
	n.read(two, 0x80, 0xBF, one)
	after := func(lo, hi, next, to byte, then int32) {
		s := n.state()
		n.read(in, lo, hi, s)
		n.read(s, next, to, then)
	}
	n.read(in, 0xC2, 0xDF, one)
	after(0xE0, 0xE0, 0xA0, 0xBF, one)
	n.read(in, 0xE1, 0xEC, two)
	after(0xED, 0xED, 0x80, 0x9F, one)
	n.read(in, 0xEE, 0xEF, two)
	after(0xF0, 0xF0, 0x90, 0xBF, two)
	after(0xF1, 0xF3, 0x80, 0xBF, two)
	after(0xF4, 0xF4, 0x80, 0x8F, two)

	escape := n.text(in, `\`)
	for _, c := range []byte(`"\/bfnrt`) {
		n.read(escape, c, c, in)
	}
	// Four digits; what begins with D8 to DB takes another with DC to DF.
	hex := func(from int32, to int32) {
		n.read(from, '0', '9', to)
		n.read(from, 'a', 'f', to)
		n.read(from, 'A', 'F', to)
	}
	more := func(count int, to int32) int32 {
		for range count {
			s := n.state()
			hex(s, to)
			to = s
		}
		return to
	}
	low := n.state()
	lowHead := n.state()
	for _, c := range []byte("cdefCDEF") {
		n.read(lowHead, c, c, more(2, in))
	}
	n.read(low, 'd', 'd', lowHead)
	n.read(low, 'D', 'D', lowHead)
	between := n.state()
	n.read(n.text(between, `\`), 'u', 'u', low)
	high, three, two16 := more(2, between), more(3, in), more(2, in)
	d := n.state()
	n.read(d, '0', '7', two16)
	for _, c := range []byte("89abAB") {
		n.read(d, c, c, high)
	}
	u := n.text(escape, "u")
	n.read(u, '0', '9', three)
	n.read(u, 'a', 'c', three)
	n.read(u, 'A', 'C', three)
	n.read(u, 'e', 'f', three)
	n.read(u, 'E', 'F', three)
	n.read(u, 'd', 'd', d)
	n.read(u, 'D', 'D', d)
}

// quoted is a text as a JSON string, with no more escapes than it needs.
func quoted(s string) string {
	const digits = "0123456789abcdef"
	b := []byte{'"'}
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c < 0x20:
			b = append(b, `\u00`...)
			b = append(b, digits[c>>4], digits[c&15])
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}
