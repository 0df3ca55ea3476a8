package tokenizer

import (
	"hash/maphash"
	"sync"
)

// A Tokenizer encodes text as token IDs and decodes IDs as text. It never
// changes and may be used by several goroutines at once.
//
// Encoding is a line of stations: added tokens are cut out of the text, the
// text between them is normalized, split into words, and each word is encoded
// by the model; at the end special tokens are put around the whole.
type Tokenizer struct {
	kind  string
	vocab *vocabulary

	raw        added // tokens sought in the text as it is
	normalized added // tokens sought in the normalized text
	special    map[int32]bool
	barred     map[int32]bool // what EncodeOrdinary never gives

	normalizers []normalizer
	splitters   []splitter
	model       model

	// What stands before and after the text when special tokens are wanted.
	prefix, suffix []int32

	decoder       decoder
	bos, eos, unk int32
	pad           int32
	states        [2]sync.Pool // of *state, for Encode and for EncodeOrdinary
}

// A model encodes one word of normalized text, appending to st.ids.
type model interface {
	encode(st *state, word string)
}

// A place is where in the text and for which purpose a part of it is encoded.
type place struct {
	first    bool // it begins where the text begins
	ordinary bool // for EncodeOrdinary
	limit    *budget
}

// A normalizer rewrites a part of the text.
type normalizer func(text string, at place) string

// A piece is a part of the normalized text.
type piece struct {
	text  string
	first bool // it begins where the text begins
}

// A splitter splits pieces. One of its fields is set.
type splitter struct {
	// split appends the parts of the pieces in, none of them empty, to out.
	split func(out, in []piece, limit *budget) []piece

	// scan finds the parts of a piece one after the other.
	scan scanner
}

// A state is the memory of one encoding, kept for the next one.
type state struct {
	ordinary bool
	limit    budget
	ids      []int
	cuts     []cut
	inner    []cut
	pieces   []piece
	spare    []piece
	words    wordCache
	bpe      bpeState
	best     []bestPath
}

// newTokenizer is an empty tokenizer of a vocabulary.
func newTokenizer(kind string, vocab *vocabulary) *Tokenizer {
	return &Tokenizer{kind: kind, vocab: vocab, special: map[int32]bool{}, barred: map[int32]bool{}, bos: none, eos: none, unk: none, pad: none}
}

// state takes a state out of the pool.
func (t *Tokenizer) state(ordinary bool) (*state, *sync.Pool) {
	pool := &t.states[0]
	if ordinary {
		pool = &t.states[1]
	}
	st, ok := pool.Get().(*state)
	if !ok {
		st = &state{ordinary: ordinary, words: wordCache{seed: maphash.MakeSeed()}}
	}
	st.limit = budget{}
	return st, pool
}

// Encode is the IDs of text. Added tokens, special ones among them, are
// recognised where they are written in it, as the file says; see
// [Tokenizer.EncodeOrdinary] for text of unknown origin. With addSpecial the
// tokens that the model expects around every text are added, such as BOS.
func (t *Tokenizer) Encode(text string, addSpecial bool) []int {
	st, pool := t.state(false)
	if addSpecial {
		st.ids = appendIDs(st.ids, t.prefix)
	}
	t.text(st, wellFormed(text))
	if addSpecial {
		st.ids = appendIDs(st.ids, t.suffix)
	}
	return st.result(pool)
}

// EncodeOrdinary is the IDs of text in which nothing has a meaning of its own:
// "<s>" becomes what the model makes of these three characters. The result
// holds no added token, special or not, with two exceptions: the token for
// unknown text, and tokens that are not special and are one character or
// consist of letters, marks, digits and white space only. By such some
// vocabularies were extended, and a text would be another one to the model
// without them.
func (t *Tokenizer) EncodeOrdinary(text string) []int {
	st, pool := t.state(true)
	t.text(st, wellFormed(text))
	return st.result(pool)
}

// text encodes the text but for what stands around it.
func (t *Tokenizer) text(st *state, text string) {
	st.cuts = t.raw.matcher(st.ordinary).cut(st.cuts[:0], text)
	for _, c := range st.cuts {
		if c.id != none {
			st.ids = append(st.ids, int(c.id))
			continue
		}
		t.part(st, text[c.start:c.end], c.start == 0)
	}
}

// part encodes a part of the text that is between added tokens.
func (t *Tokenizer) part(st *state, text string, first bool) {
	if text == "" {
		return
	}
	at := place{first: first, ordinary: st.ordinary, limit: &st.limit}
	for _, n := range t.normalizers {
		text = n(text, at)
	}
	m := t.normalized.matcher(st.ordinary)
	if m.trie == nil {
		t.words(st, text, first)
		return
	}
	st.inner = m.cut(st.inner[:0], text)
	for _, c := range st.inner {
		if c.id != none {
			st.ids = append(st.ids, int(c.id))
			continue
		}
		t.words(st, text[c.start:c.end], first && c.start == 0)
	}
}

// words splits normalized text and gives the words to the model.
func (t *Tokenizer) words(st *state, text string, first bool) {
	if text == "" {
		return
	}
	pieces, spare := append(st.pieces[:0], piece{text, first}), st.spare
	for i, s := range t.splitters {
		if s.scan != nil && i == len(t.splitters)-1 {
			t.scan(st, pieces, s.scan)
			pieces = pieces[:0]
			break
		}
		if s.scan != nil {
			pieces, spare = s.scan.split(spare[:0], pieces), pieces
		} else {
			pieces, spare = s.split(spare[:0], pieces, &st.limit), pieces
		}
	}
	for _, p := range pieces {
		t.model.encode(st, p.text)
	}
	clear(pieces)
	clear(spare)
	st.pieces, st.spare = pieces, spare
}

// scan gives to the model the words that a scanner finds in pieces. This is the
// last step for most tokenizers, and the words of a text are many.
func (t *Tokenizer) scan(st *state, pieces []piece, next scanner) {
	for _, p := range pieces {
		for i := 0; i < len(p.text); {
			j := next(p.text, i)
			t.model.encode(st, p.text[i:j])
			i = j
		}
	}
}

// maxKept is the number of elements up to which the buffers of a state are
// kept for the next encoding.
const maxKept = 1 << 17

// result is what was collected in st, which goes back to its pool.
func (st *state) result(pool *sync.Pool) []int {
	ids := make([]int, len(st.ids))
	copy(ids, st.ids)
	if cap(st.ids) > maxKept || cap(st.pieces) > maxKept || cap(st.spare) > maxKept {
		st.ids, st.pieces, st.spare = nil, nil, nil
	}
	if cap(st.cuts) > maxKept || cap(st.inner) > maxKept {
		st.cuts, st.inner = nil, nil
	}
	st.bpe.trim()
	if cap(st.best) > maxKept {
		st.best = nil
	}
	st.ids = st.ids[:0]
	pool.Put(st)
	return ids
}

func appendIDs(ids []int, more []int32) []int {
	for _, id := range more {
		ids = append(ids, int(id))
	}
	return ids
}

// Size is one more than the largest ID: the number of rows that an embedding
// of these tokens needs.
func (t *Tokenizer) Size() int { return t.vocab.size }

// Token is the piece with the given ID, as the vocabulary writes it: with ▁
// for a space, with the letters of byte-level BPE, or in a tiktoken file as
// bytes that need not be UTF-8.
func (t *Tokenizer) Token(id int) (piece string, ok bool) {
	if id < 0 || id > maxID {
		return "", false
	}
	return t.vocab.piece(int32(id))
}

// ID is the ID of a piece as the vocabulary writes it.
func (t *Tokenizer) ID(piece string) (int, bool) {
	id := t.vocab.id(piece)
	return int(id), id != none
}

// Special reports whether id is a special token, which [Tokenizer.Decode]
// leaves out on request.
func (t *Tokenizer) Special(id int) bool {
	return id >= 0 && id <= maxID && t.special[int32(id)]
}

// BOS is the ID of the token that begins a text, or −1 when the files name
// none. The same holds for EOS, UNK and PAD.
func (t *Tokenizer) BOS() int { return int(t.bos) }

// EOS is the ID of the token that ends a text, or −1.
func (t *Tokenizer) EOS() int { return int(t.eos) }

// UNK is the ID of the token for text that the vocabulary cannot express, or
// −1.
func (t *Tokenizer) UNK() int { return int(t.unk) }

// PAD is the ID of the token that fills a batch, or −1.
func (t *Tokenizer) PAD() int { return int(t.pad) }

// Kind names the method in words: "BPE", "byte-level BPE", "Unigram",
// "SentencePiece BPE", "SentencePiece Unigram" or "tiktoken BPE".
func (t *Tokenizer) Kind() string { return t.kind }
