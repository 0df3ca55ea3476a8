package torchbin

// maxStack bounds the values and marks that wait on the stack. Python's
// pickler leaves a thousand or so at a time, and as many as a tuple is long.
const maxStack = 1 << 20

// A machine runs one pickle. It builds values of its own and calls nothing;
// each opcode takes constant time, or time in proportion to the bytes and
// stack entries that it uses up.
type machine struct {
	src   *source
	stack []any
	marks []int // lengths of the stack at each MARK
	memo  memo
	// persistent resolves a persistent id; nil where none may occur.
	persistent func(id tuple) (*storage, error)
	// copied counts the entries that were copied out of a list, which the
	// pickle can ask for again and again.
	copied int64
	op     int64 // offset of the opcode that runs
}

// load runs the pickle at src up to its STOP and returns what it builds.
func load(src *source, persistent func(tuple) (*storage, error)) (any, error) {
	m := &machine{src: src, persistent: persistent}
	for {
		m.op = src.pos
		b, err := src.next(1)
		if err != nil {
			return nil, err
		}
		if b[0] == opStop {
			if len(m.stack) != 1 || len(m.marks) != 0 {
				return nil, m.fail("the pickle stops with %d values and %d marks on its stack, want one value", len(m.stack), len(m.marks))
			}
			return m.stack[0], nil
		}
		if err := m.step(b[0]); err != nil {
			return nil, err
		}
		if len(m.stack)+len(m.marks) > maxStack {
			return nil, m.fail("the pickle leaves more than %d values on its stack", maxStack)
		}
	}
}

func (m *machine) fail(format string, args ...any) error {
	return m.src.fail(m.op, format, args...)
}

func (m *machine) push(v any) { m.stack = append(m.stack, v) }

// pop takes the topmost value above the topmost mark.
func (m *machine) pop() (any, error) {
	if _, err := m.top(); err != nil {
		return nil, err
	}
	n := len(m.stack) - 1
	v := m.stack[n]
	m.stack[n] = nil
	m.stack = m.stack[:n]
	return v, nil
}

// top returns the topmost value above the topmost mark.
func (m *machine) top() (any, error) {
	floor := 0
	if n := len(m.marks); n > 0 {
		floor = m.marks[n-1]
	}
	if len(m.stack) <= floor {
		return nil, m.fail("the pickle takes a value from an empty stack")
	}
	return m.stack[len(m.stack)-1], nil
}

// popTuple takes a tuple, the arguments of a call.
func (m *machine) popTuple() (tuple, error) {
	v, err := m.pop()
	if err != nil {
		return nil, err
	}
	t, ok := v.(tuple)
	if !ok {
		return nil, m.fail("the pickle calls with %s for arguments, want a tuple", describe(v))
	}
	return t, nil
}

// popMark takes the values above the topmost mark, and the mark. The result
// is good until the next push.
func (m *machine) popMark() ([]any, error) {
	n := len(m.marks)
	if n == 0 {
		return nil, m.fail("the pickle goes back to a mark that it has not set")
	}
	floor := m.marks[n-1]
	m.marks = m.marks[:n-1]
	items := m.stack[floor:]
	m.stack = m.stack[:floor]
	return items, nil
}

// step runs one opcode.
func (m *machine) step(op byte) error {
	switch op {
	case opProto:
		v, err := m.src.uint(1)
		if err != nil {
			return err
		}
		if v > 5 {
			return m.fail("pickle protocol %d, want at most 5", v)
		}
	case opFrame:
		n, err := m.src.uint(8)
		if err != nil {
			return err
		}
		if n > uint64(m.src.end-m.src.pos) {
			return m.fail("a frame of %d bytes begins here, %d are left", n, m.src.end-m.src.pos)
		}
	case opMark:
		m.marks = append(m.marks, len(m.stack))
	case opPop:
		// On a mark Python takes the mark.
		if n := len(m.marks); n > 0 && m.marks[n-1] == len(m.stack) {
			m.marks = m.marks[:n-1]
			return nil
		}
		_, err := m.pop()
		return err
	case opPopMark:
		items, err := m.popMark()
		clear(items)
		return err

	case opNone:
		m.push(nil)
	case opNewTrue:
		m.push(true)
	case opNewFalse:
		m.push(false)
	case opBinInt, opBinInt1, opBinInt2, opLong1, opLong4, opInt, opLong, opFloat, opBinFloat:
		return m.number(op)
	case opBinString, opShortBinString, opBinUnicode, opShortBinUnicode, opBinUnicode8,
		opShortBinBytes, opBinBytes, opBinBytes8, opByteArray8:
		return m.text(op)
	case opGlobal, opStackGlobal:
		return m.name(op)

	case opEmptyTuple:
		m.push(tuple(nil))
	case opTuple1, opTuple2, opTuple3:
		t := make(tuple, op-opTuple1+1)
		for i := len(t) - 1; i >= 0; i-- {
			v, err := m.pop()
			if err != nil {
				return err
			}
			t[i] = v
		}
		m.push(t)
	case opTuple:
		items, err := m.popMark()
		if err != nil {
			return err
		}
		t := tuple(append([]any(nil), items...))
		clear(items)
		m.push(t)
	case opEmptyList:
		m.push(&list{})
	case opEmptyDict:
		m.push(&dict{})
	case opEmptySet:
		m.push(instance{&builtinSet})
	case opFrozenSet:
		items, err := m.popMark()
		if err != nil {
			return err
		}
		clear(items)
		m.push(instance{&builtinSet})
	case opAppend, opSetItem:
		n := 1
		if op == opSetItem {
			n = 2
		}
		var items [2]any
		for i := n - 1; i >= 0; i-- {
			v, err := m.pop()
			if err != nil {
				return err
			}
			items[i] = v
		}
		return m.fill(op, items[:n])
	case opAppends, opSetItems, opAddItems:
		items, err := m.popMark()
		if err != nil {
			return err
		}
		err = m.fill(op, items)
		clear(items)
		return err

	case opBinGet, opLongBinGet:
		i, err := m.src.uint(either(op == opLongBinGet, 4, 1))
		if err != nil {
			return err
		}
		v, ok := m.memo.get(uint32(i))
		if !ok {
			return m.fail("the pickle recalls %d, which it has not stored", i)
		}
		m.push(v)
	case opBinPut, opLongBinPut, opMemoize:
		i := uint64(m.memo.len())
		if op != opMemoize {
			var err error
			if i, err = m.src.uint(either(op == opLongBinPut, 4, 1)); err != nil {
				return err
			}
		}
		v, err := m.top()
		if err != nil {
			return err
		}
		m.memo.put(uint32(i), v)

	case opBinPersID:
		return m.persID()
	case opReduce, opNewObj:
		args, err := m.popTuple()
		if err != nil {
			return err
		}
		fn, err := m.pop()
		if err != nil {
			return err
		}
		v, err := m.call(fn, args, op == opNewObj)
		if err != nil {
			return err
		}
		m.push(v)
	case opBuild:
		if _, err := m.pop(); err != nil {
			return err
		}
		v, err := m.top()
		if err != nil {
			return err
		}
		switch v.(type) {
		case *dict, instance:
			// Attributes, such as _metadata of a state dict: not its content.
		default:
			return m.fail("refuses to set the state of %s: its value could change", describe(v))
		}
	default:
		return m.fail("%s", refusedOpcode(op))
	}
	return nil
}

// either is the width of an argument that comes in two.
func either(long bool, ifLong, ifShort int64) int64 {
	if long {
		return ifLong
	}
	return ifShort
}

// fill adds items to the container on top of the stack.
func (m *machine) fill(op byte, items []any) error {
	v, err := m.top()
	if err != nil {
		return err
	}
	switch c := v.(type) {
	case *dict:
		if op != opSetItem && op != opSetItems {
			break
		}
		if len(items)%2 != 0 {
			return m.fail("the pickle sets a dict's items from %d values, want pairs", len(items))
		}
		for i := 0; i < len(items); i += 2 {
			c.items = append(c.items, item{items[i], items[i+1]})
		}
		return nil
	case *list:
		if op != opAppend && op != opAppends {
			break
		}
		c.items = append(c.items, items...)
		return nil
	case instance:
		return nil
	}
	return m.fail("the pickle adds items to %s", describe(v))
}

// name runs the opcodes that push what a module and a name stand for.
func (m *machine) name(op byte) error {
	var part [2]string
	for i := range part {
		if op == opGlobal {
			s, err := m.src.line()
			if err != nil {
				return err
			}
			part[i] = s
			continue
		}
		v, err := m.pop()
		if err != nil {
			return err
		}
		s, ok := v.(string)
		if !ok {
			return m.fail("the pickle uses %s for a name", describe(v))
		}
		part[1-i] = s
	}
	g, ok := findGlobal(part[0], part[1])
	if !ok {
		return m.fail("refuses to load %s: a pickle that names it could run code (none was run); convert the file to safetensors with a tool that you trust to load it",
			printable(part[0]+"."+part[1]))
	}
	m.push(g)
	return nil
}

// persID runs BINPERSID.
func (m *machine) persID() error {
	v, err := m.pop()
	if err != nil {
		return err
	}
	id, ok := v.(tuple)
	if !ok {
		return m.fail("the persistent id is %s, want a tuple", describe(v))
	}
	if m.persistent == nil {
		return m.fail("a persistent id does not belong here")
	}
	s, err := m.persistent(id)
	if err != nil {
		return m.fail("%v", err)
	}
	m.push(s)
	return nil
}

// A memo keeps the values that the pickle stores to recall. Picklers number
// them from 0 on, so that they fill a slice; other numbers go to a map.
type memo struct {
	dense  []any
	sparse map[uint32]any
}

func (m *memo) len() int { return len(m.dense) + len(m.sparse) }

func (m *memo) get(i uint32) (any, bool) {
	if uint64(i) < uint64(len(m.dense)) {
		return m.dense[i], true
	}
	v, ok := m.sparse[i]
	return v, ok
}

func (m *memo) put(i uint32, v any) {
	switch {
	case uint64(i) < uint64(len(m.dense)):
		m.dense[i] = v
	case uint64(i) == uint64(len(m.dense)):
		m.dense = append(m.dense, v)
		delete(m.sparse, i)
	default:
		if m.sparse == nil {
			m.sparse = make(map[uint32]any)
		}
		m.sparse[i] = v
	}
}
