package tokenizer

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// ParseSentencePiece reads a model file of SentencePiece, of type BPE or
// Unigram.
//
// Encode recognises user-defined pieces in the text, as SentencePiece does,
// and no control pieces: "<s>" is spelled out. [Load], which knows what a model
// directory says about special tokens, gives a tokenizer that recognises them.
// With special tokens Encode puts the BOS piece of a BPE model before the
// text, as the models of the Llama family expect it.
func ParseSentencePiece(b []byte) (*Tokenizer, error) {
	m, err := parseSPM(b)
	if err == nil {
		var t *Tokenizer
		if t, err = newSentencePiece(m, true); err == nil {
			if t.bos != none && m.modelType == 2 {
				t.prefix = []int32{t.bos}
			}
			t.bar()
			return t, nil
		}
	}
	return nil, fmt.Errorf("tokenizer: SentencePiece model: %w", err)
}

// newSentencePiece makes the tokenizer of a model. every says that each part
// of the text between added tokens gets the dummy prefix, and not only one at
// its beginning.
func newSentencePiece(m *spmModel, every bool) (*Tokenizer, error) {
	if len(m.pieces) == 0 {
		return nil, errors.New("has no pieces")
	}
	if len(m.denormalizer) > 0 {
		return nil, errors.New("a denormalizer is not supported")
	}
	if !m.escapeWhitespaces {
		return nil, errors.New("escape_whitespaces false is not supported")
	}
	all := make(map[string]int32, len(m.pieces))
	m.unkID = none
	for i, p := range m.pieces {
		id := int32(i)
		switch {
		case p.text == "":
			return nil, fmt.Errorf("piece %d: is empty", i)
		case !utf8.ValidString(p.text):
			return nil, fmt.Errorf("piece %d: is not UTF-8", i)
		case len(p.text) >= maxPieceBytes:
			return nil, fmt.Errorf("piece %d: is %d bytes long, want less than %d", i, len(p.text), maxPieceBytes)
		case p.kind < pieceNormal || p.kind > pieceByte:
			return nil, fmt.Errorf("piece %d: type %d is not supported", i, p.kind)
		case math.IsNaN(float64(p.score)):
			return nil, fmt.Errorf("piece %d: its score is not a number", i)
		}
		if j, ok := all[p.text]; ok {
			return nil, fmt.Errorf("pieces %d and %d are both %s", j, i, quote(p.text))
		}
		all[p.text] = id
		if p.kind == pieceUnknown {
			if m.unkID != none && !m.lenient {
				return nil, fmt.Errorf("pieces %d and %d are both of type unknown", m.unkID, i)
			}
			m.unkID = id
		}
	}
	if m.unkID == none && !m.lenient {
		return nil, errors.New("has no piece of type unknown")
	}

	vocab, err := newVocabulary(all)
	if err != nil {
		return nil, err
	}
	var fallback *[256]int32
	if m.byteFallback {
		fallback = bytePieces(all)
		if i := slices.Index(fallback[:], none); i >= 0 {
			return nil, fmt.Errorf("has byte_fallback and no piece <0x%02X>", i)
		}
	}
	user := m.userDefined()
	norm, err := newSPMNormalizer(m, user, every)
	if err != nil {
		return nil, err
	}

	var t *Tokenizer
	switch m.modelType {
	case 1:
		t = newTokenizer("SentencePiece Unigram", vocab)
		t.model = m.unigram(fallback)
	case 2:
		t = newTokenizer("SentencePiece BPE", vocab)
		t.model = m.bpe(fallback, user)
	default:
		return nil, fmt.Errorf("model_type %d is not supported", m.modelType)
	}
	t.normalizers = []normalizer{norm}
	t.decoder = m.decoder()
	t.unk = m.unkID
	t.bos, t.eos, t.pad = m.control(all, m.bosPiece), m.control(all, m.eosPiece), m.control(all, m.padPiece)
	for i, p := range m.pieces {
		tok := addedToken{Content: p.text}
		switch p.kind {
		case pieceControl:
			t.special[int32(i)] = true
		case pieceUserDefined:
			if !tok.plain() {
				t.barred[int32(i)] = true
			}
		}
	}
	return t, nil
}

// hasNUL reports whether the piece holds the character NUL. SentencePiece does
// not find such a piece in text, since version 0.2.
func (p *spmPiece) hasNUL() bool { return strings.ContainsRune(p.text, 0) }

// control is the ID of a control piece, or none.
func (m *spmModel) control(all map[string]int32, piece string) int32 {
	if id, ok := all[piece]; ok && m.pieces[id].kind == pieceControl {
		return id
	}
	return none
}

// userDefined are the user-defined pieces: all, and the plain ones. They are
// nil when there are none.
type userDefined struct{ all, plain *trie }

// longest is the longest user-defined piece with which s begins.
func (u *userDefined) longest(s string, ordinary bool) (int, int32) {
	pieces := u.all
	if ordinary {
		pieces = u.plain
	}
	if pieces == nil {
		return 0, none
	}
	return pieces.longest(s)
}

// userDefined collects the user-defined pieces.
func (m *spmModel) userDefined() (u userDefined) {
	add := func(to **trie, text string, id int) {
		if *to == nil {
			*to = newTrie()
		}
		(*to).add(text, int32(id))
	}
	for i, p := range m.pieces {
		if p.kind != pieceUserDefined || p.hasNUL() {
			continue
		}
		add(&u.all, p.text, i)
		if tok := (addedToken{Content: p.text}); tok.plain() {
			add(&u.plain, p.text, i)
		}
	}
	return u
}

// bpe is the model of a BPE vocabulary: the pair with the highest score is
// merged first.
func (m *spmModel) bpe(fallback *[256]int32, user userDefined) *bpe {
	b := &bpe{joined: map[string]merge{}, fallback: fallback, unk: m.unkID, fuseUnk: true, user: user, cut: true}
	var scores []float32
	for _, p := range m.pieces {
		scores = append(scores, p.score)
	}
	slices.SortFunc(scores, func(x, y float32) int { // descending
		switch {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	scores = slices.Compact(scores)
	ranks := make(map[float32]uint32, len(scores))
	for i, s := range scores {
		ranks[s] = uint32(i)
	}
	for i, p := range m.pieces {
		switch p.kind {
		case pieceNormal, pieceUserDefined, pieceUnused:
			if p.hasNUL() {
				break
			}
			b.joined[p.text] = merge{ranks[p.score], int32(i)}
			b.cut = b.cut && !crossesMeta(p.text)
		}
		if p.kind == pieceUnused && !m.lenient {
			if b.unused == nil {
				b.unused = map[int32]bool{}
			}
			b.unused[int32(i)] = true
		}
	}
	b.vocab = make(map[string]int32, len(b.joined))
	for p, mg := range b.joined {
		b.vocab[p] = mg.id
	}
	if _, ok := b.vocab[meta]; !ok {
		b.cut = false
	}
	return b
}

// unigram is the model of a Unigram vocabulary.
func (m *spmModel) unigram(fallback *[256]int32) *unigram {
	u := &unigram{
		trie: newTrie(), scores: make([]float64, len(m.pieces)), skip: make([]bool, len(m.pieces)),
		user: make([]bool, len(m.pieces)), unk: m.unkID, fallback: fallback, sentencePiece: true,
	}
	lowest := float32(math.MaxFloat32)
	u.maxScore = math.SmallestNonzeroFloat32 * (1 << 23) // the smallest normal number
	for i, p := range m.pieces {
		u.scores[i] = float64(p.score)
		switch p.kind {
		case pieceNormal:
			lowest = min(lowest, p.score)
			u.maxScore = max(u.maxScore, p.score)
		case pieceUnused:
			u.skip[i] = true
		case pieceUserDefined:
			u.user[i] = true
		default:
			continue
		}
		if !p.hasNUL() {
			u.trie.add(p.text, int32(i))
		}
	}
	u.unkScore = float64(lowest - unkPenalty)
	return u
}

// newSPMNormalizer makes what SentencePiece does to text before it looks for
// pieces: replacements of the charsmap, white space, dummy prefix.
func newSPMNormalizer(m *spmModel, user userDefined, every bool) (normalizer, error) {
	var table *charsmap
	if len(m.charsmap) > 0 {
		var err error
		if table, err = parseCharsmap(m.charsmap); err != nil {
			return nil, err
		}
		if n := table.growth(); n > maxInsert {
			return nil, fmt.Errorf("precompiled charsmap: has a replacement of %d bytes, at most %d are allowed", n, maxInsert)
		}
	}
	before, after := m.addDummyPrefix && !m.whitespaceAsSuffix, m.addDummyPrefix && m.whitespaceAsSuffix
	extra := m.removeExtraWhitespaces
	return func(text string, at place) string {
		dummy := every || at.first
		var b strings.Builder
		b.Grow(len(text) + len(text)/2 + len(meta))
		if before && dummy {
			b.WriteString(meta)
		}
		if table == nil && !extra {
			b.WriteString(strings.ReplaceAll(text, " ", meta))
			if after && dummy {
				b.WriteString(meta)
			}
			return b.String()
		}
		// next takes a unit off the text: a user-defined piece as it is, what
		// the charsmap replaces, or one character.
		next := func() string {
			if n, _ := user.longest(text, at.ordinary); n > 0 {
				part := text[:n]
				text = text[n:]
				return part
			}
			if table != nil {
				part, n := table.longest(text)
				text = text[n:]
				return part
			}
			_, n := utf8.DecodeRuneInString(text)
			part := text[:n]
			text = text[n:]
			return part
		}
		blank := extra // a space would be one too many
		any := !extra  // there is more than space
		for text != "" {
			part := next()
			any = any || part != " "
			for blank && strings.HasPrefix(part, " ") {
				part = part[1:]
			}
			if part == "" {
				continue
			}
			b.WriteString(strings.ReplaceAll(part, " ", meta))
			blank = extra && strings.HasSuffix(part, " ")
		}
		if !any {
			return ""
		}
		s := b.String()
		for extra && strings.HasSuffix(s, meta) {
			s = s[:len(s)-len(meta)]
		}
		if after && dummy {
			s += meta
		}
		return s
	}, nil
}

// addSpecial makes t recognise special tokens in text: the control and unknown
// pieces, and tokens that other files name. renames are tokens by ID, which
// add to the vocabulary or rename pieces of it.
func (t *Tokenizer) addSpecial(m *spmModel, renames map[int32]addedToken) error {
	for _, id := range slices.Sorted(maps.Keys(renames)) {
		tok := renames[id]
		if err := t.vocab.add(tok.Content, id); err != nil {
			return err
		}
		if err := t.recognise(&t.raw, tok.Content, tok); err != nil {
			return err
		}
	}
	for i, p := range m.pieces {
		if _, ok := renames[int32(i)]; ok || p.kind != pieceControl && p.kind != pieceUnknown {
			continue
		}
		if err := t.raw.all.add(p.text, addedToken{Content: p.text, ID: int64(i)}); err != nil {
			return err
		}
	}
	return nil
}

// decoder makes the decoder of SentencePiece.
func (m *spmModel) decoder() decoder {
	return func(next stage) stage {
		return &spmStage{next: next, m: m, start: m.addDummyPrefix || m.removeExtraWhitespaces}
	}
}

// spmStage turns pieces into text. The ▁ at the beginning, which the dummy
// prefix has put there, is left out.
type spmStage struct {
	next  stage
	m     *spmModel
	start bool   // no text was given yet
	run   string // bytes that are not a whole character yet
}

func (s *spmStage) text(string) {}
func (s *spmStage) end()        {}

func (s *spmStage) piece(id int32, text string) {
	kind := pieceControl // an added token, written as it is
	if int(id) < len(s.m.pieces) && s.m.pieces[id].text == text {
		kind = s.m.pieces[id].kind
	}
	if kind == pieceByte {
		if c, ok := byteOf(text); ok {
			s.addByte(c)
		}
		return
	}
	s.endRun()
	switch kind {
	case pieceControl:
	case pieceUnknown:
		text = s.m.unkSurface
	default:
		if s.start {
			text = strings.TrimPrefix(text, meta)
			// Only one ▁ goes, unless the model takes all extra space away.
			s.start = s.start && text == "" && s.m.removeExtraWhitespaces
		}
		text = strings.ReplaceAll(text, meta, " ")
	}
	s.give(text)
}

func (s *spmStage) give(text string) {
	if text != "" {
		s.start = false
		s.next.text(text)
	}
}

// addByte adds a byte to the run. What cannot be part of a character is
// U+FFFD, byte by byte.
func (s *spmStage) addByte(c byte) {
	s.run += string([]byte{c})
	for s.run != "" {
		n, ok, partial := character(s.run)
		switch {
		case ok:
			s.give(s.run[:n])
			s.run = s.run[n:]
		case partial:
			return
		default:
			s.give(replacement)
			s.run = s.run[1:]
		}
	}
}

// endRun ends a run of bytes.
func (s *spmStage) endRun() {
	for range len(s.run) {
		s.give(replacement)
	}
	s.run = ""
}

func (s *spmStage) flush() {
	s.endRun()
	s.next.end()
	s.next.flush()
}
