package tokenizer

import (
	"math"
	"strings"
	"unicode/utf8"
)

// meta is U+2581, which SentencePiece and its relatives write for a space.
const meta = "▁"

// bpe is byte pair encoding: a word is cut into symbols, and the adjacent pair
// of lowest rank is merged, the leftmost among equals, until no pair has one.
//
// Where the rank of a pair comes from makes two kinds. With pairs, a list of
// merges gives it, as in tokenizer.json. With joined, any two symbols merge
// whose text together is a piece, as in SentencePiece and tiktoken.
type bpe struct {
	pairs  *hashTable       // left ID<<32 | right ID to rank<<32 | barred bit | ID
	joined map[string]merge // text to its piece

	vocab map[string]int32 // of symbols, and of whole words
	bytes *[256]int32      // the symbols when they are bytes; otherwise nil: characters

	whole bool // a word that is a piece is taken as it is, whatever its merges

	// cut says that no merge joins ▁ to a character before it, so that a text
	// may be taken apart before each run of ▁ without changing its tokens.
	cut bool

	// For characters without a symbol.
	fallback *[256]int32 // the pieces of bytes, or nil
	unk      int32
	fuseUnk  bool // neighbouring unknown characters are one token

	prefix, suffix string // written to symbols that continue or end a word

	// For SentencePiece.
	user   userDefined    // never merged
	unused map[int32]bool // pieces that are split again into what they were merged from

	barred map[int32]bool // what EncodeOrdinary must not give
}

// A merge is what a pair becomes.
type merge struct {
	rank uint32
	id   int32
}

// noMerge is the rank of a pair that does not merge.
const noMerge = math.MaxUint32

// barredBit marks in bpe.pairs a merge into a barred token. IDs leave it free.
const barredBit = 1 << 31

// A symbol is a part of a word on its way to becoming a token.
type symbol struct {
	start, len int32 // its place in the word; len 0 when merged into another
	id         int32 // or none
	prev, next int32 // neighbours, or -1
	frozen     bool
}

// A candidate is a pair of a long word that waits to be merged.
type candidate struct {
	merge
	pos  int32 // the left symbol
	size int32 // length of both; a pair that has grown since is another
}

// A bpeState is what encoding a word needs.
type bpeState struct {
	symbols []symbol
	heap    []candidate
	parts   map[string]int // text of an unused piece to the length of its left part
}

// trim lets go of the memory that a long word took.
func (b *bpeState) trim() {
	if cap(b.symbols) > maxKept || cap(b.heap) > maxKept {
		b.symbols, b.heap = nil, nil
	}
}

// maxWord is the length of the longest word: positions are held as int32. What
// is longer is cut.
const maxWord = 1 << 30

func (m *bpe) encode(st *state, word string) {
	for len(word) > maxWord {
		m.encodeCut(st, word[:maxWord])
		word = word[maxWord:]
	}
	m.encodeCut(st, word)
}

func (m *bpe) encodeCut(st *state, word string) {
	for m.cut && !m.whole { // a whole word that is a piece comes before its cuts
		i := 0
		for strings.HasPrefix(word[i:], meta) {
			i += len(meta)
		}
		end := strings.Index(word[i:], meta)
		if end < 0 {
			break
		}
		m.encodeWord(st, word[:i+end])
		word = word[i+end:]
	}
	m.encodeWord(st, word)
}

func (m *bpe) encodeWord(st *state, word string) {
	ids, slot, ok := st.words.get(st.ids, word)
	st.ids = ids
	if ok {
		return
	}
	from := len(st.ids)
	if id, ok := m.vocab[word]; ok && m.whole && !(st.ordinary && m.barred[id]) {
		st.ids = append(st.ids, int(id))
	} else {
		b := &st.bpe
		b.symbols = b.symbols[:0]
		clear(b.parts)
		if m.joined == nil {
			m.symbolsByID(b, word, st.ordinary)
		} else {
			m.symbolsByText(b, word, st.ordinary)
		}
		if len(b.symbols) <= maxShort {
			m.mergeShort(b, word, st.ordinary)
		} else {
			m.mergeLong(b, word, st.ordinary)
		}
		m.emit(st, word)
	}
	slot.put(word, st.ids[from:])
}

// add appends a symbol to the word.
func (b *bpeState) add(start, end int, id int32, frozen bool) {
	n := int32(len(b.symbols))
	b.symbols = append(b.symbols, symbol{int32(start), int32(end - start), id, n - 1, n + 1, frozen})
}

// symbolsByID cuts word into the symbols of a list of merges. Their texts do
// not matter any more: each counts as one long.
func (m *bpe) symbolsByID(b *bpeState, word string, ordinary bool) {
	// An unknown character waits in case the next is to be fused with it. It
	// waits on while characters become bytes, as it does in the reference.
	unk := false
	add := func(id int32) {
		n := len(b.symbols)
		b.add(n, n+1, id, false)
	}
	for i := 0; i < len(word); {
		id, w := none, 1
		if m.bytes != nil {
			id = m.bytes[word[i]]
		} else {
			_, w = utf8.DecodeRuneInString(word[i:])
			c := word[i : i+w]
			if m.prefix != "" && i > 0 {
				c = m.prefix + c
			}
			if m.suffix != "" && i+w == len(word) {
				c += m.suffix
			}
			if known, ok := m.vocab[c]; ok {
				id = known
			}
			if id == none && hasBytes(m.fallback, c) {
				for j := range len(c) {
					add(m.fallback[c[j]])
				}
				i += w
				continue
			}
		}
		if id != none && ordinary && m.barred[id] {
			id = none
		}
		switch {
		case id != none:
			if unk {
				add(m.unk)
				unk = false
			}
			add(id)
		case m.unk == none:
			// Without a token for it, what is unknown is left out.
		case unk && !m.fuseUnk:
			add(m.unk)
		default:
			unk = true
		}
		i += w
	}
	if unk {
		add(m.unk)
	}
}

// hasBytes reports whether there is a piece for each byte of s.
func hasBytes(pieces *[256]int32, s string) bool {
	if pieces == nil {
		return false
	}
	for i := range len(s) {
		if pieces[s[i]] == none {
			return false
		}
	}
	return true
}

// symbolsByText cuts word into characters, or bytes, and user-defined pieces.
func (m *bpe) symbolsByText(b *bpeState, word string, ordinary bool) {
	for i := 0; i < len(word); {
		if n, id := m.user.longest(word[i:], ordinary); n > 0 {
			b.add(i, i+n, id, true)
			i += n
			continue
		}
		id, w := none, 1
		if m.bytes != nil {
			id = m.bytes[word[i]]
		} else {
			_, w = utf8.DecodeRuneInString(word[i:])
			if known, ok := m.vocab[word[i:i+w]]; ok && !(ordinary && m.barred[known]) {
				id = known
			}
		}
		b.add(i, i+w, id, false)
		i += w
	}
}

// pair is what the neighbours l and r merge into; its rank is noMerge if they
// do not.
func (m *bpe) pair(b *bpeState, word string, l, r *symbol, ordinary bool) merge {
	if m.joined != nil {
		if l.frozen || r.frozen {
			return merge{rank: noMerge}
		}
		text := word[l.start : r.start+r.len]
		mg, ok := m.joined[text]
		if !ok || ordinary && m.barred[mg.id] {
			return merge{rank: noMerge}
		}
		if m.unused[mg.id] {
			// The last way in which it can come about is how it is split again.
			if b.parts == nil {
				b.parts = map[string]int{}
			}
			b.parts[text] = int(l.len)
		}
		return mg
	}
	v, ok := m.pairs.get(uint64(l.id)<<32 | uint64(r.id))
	if !ok || ordinary && v&barredBit != 0 {
		return merge{rank: noMerge}
	}
	return merge{rank: uint32(v >> 32), id: int32(v & (barredBit - 1))}
}

// maxShort is the number of symbols up to which looking through all pairs for
// the next merge is faster than a heap.
const maxShort = 40

// mergeShort merges the symbols of a short word. Symbols that are merged away
// are removed.
func (m *bpe) mergeShort(b *bpeState, word string, ordinary bool) {
	var next [maxShort]merge // next[i] is of symbols i and i+1
	s := b.symbols
	for i := 0; i+1 < len(s); i++ {
		next[i] = m.pair(b, word, &s[i], &s[i+1], ordinary)
	}
	for len(s) > 1 {
		at, best := -1, uint32(noMerge)
		for i, mg := range next[:len(s)-1] {
			if mg.rank < best {
				at, best = i, mg.rank
			}
		}
		if at < 0 {
			break
		}
		s[at].len = s[at+1].start + s[at+1].len - s[at].start
		s[at].id = next[at].id
		copy(next[at:], next[at+1:len(s)-1])
		s = append(s[:at+1], s[at+2:]...)
		if at > 0 {
			next[at-1] = m.pair(b, word, &s[at-1], &s[at], ordinary)
		}
		if at+1 < len(s) {
			next[at] = m.pair(b, word, &s[at], &s[at+1], ordinary)
		}
	}
	b.symbols = s
}

// mergeLong merges the symbols of a word of any length in O(n log n). Symbols
// that are merged away keep their place with a length of 0.
func (m *bpe) mergeLong(b *bpeState, word string, ordinary bool) {
	s := b.symbols
	s[len(s)-1].next = -1
	b.heap = b.heap[:0]
	push := func(l, r int32) {
		if mg := m.pair(b, word, &s[l], &s[r], ordinary); mg.rank != noMerge {
			b.push(candidate{mg, l, s[r].start + s[r].len - s[l].start})
		}
	}
	for i := range int32(len(s) - 1) {
		push(i, i+1)
	}
	for len(b.heap) > 0 {
		c := b.pop()
		l := &s[c.pos]
		if l.len == 0 || l.next < 0 {
			continue
		}
		r := &s[l.next]
		if r.start+r.len-l.start != c.size {
			continue
		}
		l.len, l.id, l.next = c.size, c.id, r.next
		r.len = 0
		if l.next >= 0 {
			s[l.next].prev = c.pos
		}
		if l.prev >= 0 {
			push(l.prev, c.pos)
		}
		if l.next >= 0 {
			push(c.pos, l.next)
		}
	}
}

// before is the order of merging.
func (c candidate) before(d candidate) bool {
	return c.rank < d.rank || c.rank == d.rank && c.pos < d.pos
}

func (b *bpeState) push(c candidate) {
	h := append(b.heap, c)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !c.before(h[up]) {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = c
	b.heap = h
}

func (b *bpeState) pop() candidate {
	h := b.heap
	top, last := h[0], h[len(h)-1]
	h = h[:len(h)-1]
	b.heap = h
	if len(h) == 0 {
		return top
	}
	i := 0
	for {
		down := 2*i + 1
		if down >= len(h) {
			break
		}
		if down+1 < len(h) && h[down+1].before(h[down]) {
			down++
		}
		if !h[down].before(last) {
			break
		}
		h[i] = h[down]
		i = down
	}
	h[i] = last
	return top
}

// emit appends the tokens of the merged word.
func (m *bpe) emit(st *state, word string) {
	wasUnk := false
	for _, s := range st.bpe.symbols {
		if s.len == 0 {
			continue
		}
		if m.joined == nil {
			st.ids = append(st.ids, int(s.id))
			continue
		}
		wasUnk = m.emitText(st, word[s.start:s.start+s.len], s.id, wasUnk)
	}
}

// emitText appends the tokens of a symbol that may be unknown or unused, and
// reports whether the last one is the unknown token.
func (m *bpe) emitText(st *state, text string, id int32, wasUnk bool) bool {
	if id != none && m.unused[id] {
		if n, ok := st.bpe.parts[text]; ok {
			wasUnk = m.emitText(st, text[:n], m.part(text[:n]), wasUnk)
			return m.emitText(st, text[n:], m.part(text[n:]), wasUnk)
		}
	}
	if id != none {
		st.ids = append(st.ids, int(id))
		return id == m.unk
	}
	if m.fallback != nil {
		for i := range len(text) {
			if b := m.fallback[text[i]]; b != none {
				st.ids = append(st.ids, int(b))
			}
		}
		return false
	}
	if m.unk != none && !(wasUnk && m.fuseUnk) {
		st.ids = append(st.ids, int(m.unk))
	}
	return true
}

// part is the piece of a part of an unused piece, or none.
func (m *bpe) part(text string) int32 {
	if id, ok := m.vocab[text]; ok {
		return id
	}
	return none
}
