package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"unicode/utf8"
)

// A component is a normalizer, pre-tokenizer, post-processor or decoder of a
// tokenizer.json, with the fields of all of them.
type component struct {
	Type string `json:"type"`

	// The elements of a Sequence.
	Normalizers   []*component `json:"normalizers"`
	Pretokenizers []*component `json:"pretokenizers"`
	Processors    []*component `json:"processors"`
	Decoders      []*component `json:"decoders"`

	Pattern             json.RawMessage `json:"pattern"`
	Content             *string         `json:"content"`
	Behavior            string          `json:"behavior"`
	Invert              bool            `json:"invert"`
	Delimiter           string          `json:"delimiter"`
	IndividualDigits    *bool           `json:"individual_digits"`
	Prepend             *string         `json:"prepend"`
	StripLeft           *bool           `json:"strip_left"`
	StripRight          *bool           `json:"strip_right"`
	PrecompiledCharsmap string          `json:"precompiled_charsmap"`
	AddPrefixSpace      *bool           `json:"add_prefix_space"`
	UseRegex            *bool           `json:"use_regex"`
	Replacement         string          `json:"replacement"`
	PrependScheme       string          `json:"prepend_scheme"`
	Split               *bool           `json:"split"`
	Start               int             `json:"start"`
	Stop                int             `json:"stop"`

	CleanText          *bool `json:"clean_text"`
	HandleChineseChars *bool `json:"handle_chinese_chars"`
	StripAccents       *bool `json:"strip_accents"`
	Lowercase          *bool `json:"lowercase"`

	Single        []templatePiece            `json:"single"`
	SpecialTokens map[string]templateSpecial `json:"special_tokens"`
	Cls           *pairOf                    `json:"cls"`
	Sep           *pairOf                    `json:"sep"`
}

// jsonModel is the model of a tokenizer.json.
type jsonModel struct {
	Type         string          `json:"type"`
	Vocab        json.RawMessage `json:"vocab"`
	Merges       json.RawMessage `json:"merges"`
	UnkToken     *string         `json:"unk_token"`
	UnkID        *int64          `json:"unk_id"`
	Prefix       *string         `json:"continuing_subword_prefix"`
	Suffix       *string         `json:"end_of_word_suffix"`
	FuseUnk      bool            `json:"fuse_unk"`
	ByteFallback bool            `json:"byte_fallback"`
	IgnoreMerges bool            `json:"ignore_merges"`
}

// ParseJSON reads a tokenizer.json. The IDs of the special tokens that the
// file does not name as such, BOS among them, are taken from its
// post-processor, and are otherwise −1; [Load] takes them from the files
// beside it.
func ParseJSON(b []byte) (*Tokenizer, error) {
	t, err := parseJSON(b)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	return t, nil
}

func parseJSON(b []byte) (*Tokenizer, error) {
	var f struct {
		AddedTokens   []addedToken `json:"added_tokens"`
		Normalizer    *component   `json:"normalizer"`
		PreTokenizer  *component   `json:"pre_tokenizer"`
		PostProcessor *component   `json:"post_processor"`
		Decoder       *component   `json:"decoder"`
		Model         *jsonModel   `json:"model"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, err
	}
	if f.Model == nil {
		return nil, errors.New("has no model")
	}
	if err := checkGrowth("normalizer", f.Normalizer); err != nil {
		return nil, err
	}
	if err := checkGrowth("pre_tokenizer", f.Normalizer, f.PreTokenizer); err != nil {
		return nil, err
	}
	if err := checkGrowth("decoder", f.Decoder); err != nil {
		return nil, err
	}
	normalizers, err := newNormalizers(f.Normalizer)
	if err != nil {
		return nil, err
	}
	splitters, bytes, err := newSplitters(f.PreTokenizer)
	if err != nil {
		return nil, err
	}
	decoder, err := newDecoder(f.Decoder)
	if err != nil {
		return nil, err
	}

	kind := f.Model.Type
	if kind == "" { // files of old versions do not say
		switch {
		case f.Model.Merges != nil:
			kind = "BPE"
		case strings.HasPrefix(string(f.Model.Vocab), "["):
			kind = "Unigram"
		}
	}
	var t *Tokenizer
	switch kind {
	case "BPE":
		t, err = newJSONBPE(f.Model, bytes)
	case "Unigram":
		t, err = newJSONUnigram(f.Model)
	default:
		return nil, fmt.Errorf("model %s: is not supported", quoteName(kind))
	}
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", kind, err)
	}
	if m, ok := t.model.(*bpe); bytes && (!ok || m.bytes == nil) {
		// The model could not take bytes.
		splitters = append(splitters, eachPiece(func(p piece) string { return toLetters(p.text) }))
	}
	t.normalizers, t.splitters, t.decoder = normalizers, splitters, decoder
	if err := t.addTokens(f.AddedTokens); err != nil {
		return nil, err
	}
	if err := t.newProcessor(f.PostProcessor); err != nil {
		return nil, err
	}
	t.bar()
	return t, nil
}

// addTokens adds tokens in the order of the file. The tokenizers library goes
// by their order alone and gives each the ID of its piece or the next free
// one; a file whose IDs are others contradicts itself.
func (t *Tokenizer) addTokens(tokens []addedToken) error {
	inVocab := int64(len(t.vocab.ids))
	highest := int64(-1)
	seen := map[string]addedToken{}
	for _, tok := range tokens {
		if tok.Content == "" {
			continue
		}
		if tok.ID < 0 || tok.ID > maxID {
			return fmt.Errorf("added token %s: ID %d is out of range", quote(tok.Content), tok.ID)
		}
		want := int64(t.vocab.id(tok.Content))
		if want < 0 {
			want = inVocab
			if highest >= inVocab {
				want = highest + 1
			}
		}
		if tok.ID != want {
			return fmt.Errorf("added token %s: the file gives it ID %d, its place is %d", quote(tok.Content), tok.ID, want)
		}
		highest = max(highest, want)
		if err := t.vocab.add(tok.Content, int32(tok.ID)); err != nil {
			return err
		}
		if old, ok := seen[tok.Content]; ok && old != tok {
			return fmt.Errorf("added token %s: is there twice", quote(tok.Content))
		}
		seen[tok.Content] = tok
	}
	// Of special and other tokens that are equal once normalized, the special
	// one counts.
	for _, special := range []bool{true, false} {
		for _, tok := range tokens {
			if tok.Special != special || tok.Content == "" {
				continue
			}
			to, pattern := &t.raw, tok.Content
			if tok.Normalized {
				to = &t.normalized
				for _, n := range t.normalizers {
					if len(pattern) <= maxAddedBytes {
						pattern = n(pattern, place{first: true, limit: &budget{}})
					}
				}
			}
			if err := t.recognise(to, pattern, tok); err != nil {
				return err
			}
		}
	}
	return nil
}

// recognise makes t find pattern as tok, in the text as it is or normalized.
func (t *Tokenizer) recognise(in *added, pattern string, tok addedToken) error {
	if tok.Special {
		t.special[int32(tok.ID)] = true
	}
	if !tok.plain() {
		t.barred[int32(tok.ID)] = true
	}
	return in.add(pattern, tok)
}

// newJSONBPE makes a BPE model. With bytes its words arrive as bytes, and its
// pieces are written in the letters of byte-level BPE; if it has properties
// for which that makes a difference, it is made for words written in letters,
// and its field bytes is nil.
func newJSONBPE(m *jsonModel, bytes bool) (*Tokenizer, error) {
	ids, err := vocabOf(m.Vocab)
	if err != nil {
		return nil, err
	}
	vocab, err := newVocabulary(ids)
	if err != nil {
		return nil, err
	}
	b := &bpe{vocab: ids, unk: none, fuseUnk: m.FuseUnk, whole: m.IgnoreMerges}
	kind := "BPE"
	if m.UnkToken != nil {
		// Some byte-level tokenizers name one that they do not have.
		b.unk = vocab.id(*m.UnkToken)
	}
	if m.Prefix != nil {
		b.prefix = *m.Prefix
	}
	if m.Suffix != nil {
		b.suffix = *m.Suffix
	}
	if m.ByteFallback {
		b.fallback = bytePieces(ids)
	}
	merges, err := mergesOf(m.Merges)
	if err != nil {
		return nil, err
	}
	if err := b.setMerges(merges); err != nil {
		return nil, err
	}
	if bytes {
		kind = "byte-level BPE"
	}
	if bytes && b.prefix == "" && b.suffix == "" && b.fallback == nil {
		b.useBytes()
	}
	if b.bytes == nil {
		b.vocab = maps.Clone(ids) // without the added tokens that vocab gets
		b.setCut(merges)
	}
	t := newTokenizer(kind, vocab)
	t.model, t.unk = b, b.unk
	return t, nil
}

// setMerges fills b.pairs from the merges in the order of their ranks.
func (m *bpe) setMerges(merges [][2]string) error {
	m.pairs = newHashTable(len(merges))
	for rank, pair := range merges {
		l, r := pair[0], pair[1]
		left, ok := m.vocab[l]
		if !ok {
			return fmt.Errorf("merge %d: %s is not in the vocabulary", rank, quote(l))
		}
		right, ok := m.vocab[r]
		if !ok {
			return fmt.Errorf("merge %d: %s is not in the vocabulary", rank, quote(r))
		}
		if len(r) < len(m.prefix) {
			return fmt.Errorf("merge %d: %s is shorter than the prefix of a continued word", rank, quote(r))
		}
		whole, ok := m.vocab[l+r[len(m.prefix):]]
		if !ok {
			return fmt.Errorf("merge %d: %s is not in the vocabulary", rank, quote(l+r[len(m.prefix):]))
		}
		// Of equal pairs the last one counts.
		m.pairs.set(uint64(left)<<32|uint64(right), uint64(rank)<<32|uint64(whole))
	}
	return nil
}

// useBytes makes m a model of words as bytes. Pieces that are not written in
// letters cannot arise from text.
func (m *bpe) useBytes() {
	raw := make(map[string]int32, len(m.vocab))
	for p, id := range m.vocab {
		if b, ok := fromLetters(p); ok && b != "" {
			raw[b] = id
		}
	}
	m.vocab = raw
	m.bytes = new([256]int32)
	for c := range m.bytes {
		m.bytes[c] = none
		if id, ok := raw[string([]byte{byte(c)})]; ok {
			m.bytes[c] = id
		}
	}
}

// setCut sets m.cut if no merge joins ▁ to another character before it. ▁ has
// to be known, so that it ends a run of unknown characters.
func (m *bpe) setCut(merges [][2]string) {
	if _, ok := m.vocab[meta]; !ok || m.prefix != "" || m.suffix != "" {
		return
	}
	for _, pair := range merges {
		if crossesMeta(pair[0] + pair[1]) {
			return
		}
	}
	m.cut = true
}

// crossesMeta reports whether in a piece ▁ follows another character.
func crossesMeta(piece string) bool {
	return strings.Contains(strings.TrimLeft(piece, meta), meta)
}

// bytePieces are the IDs of the pieces <0x00> to <0xFF>, or none.
func bytePieces(ids map[string]int32) *[256]int32 {
	var pieces [256]int32
	for c := range pieces {
		pieces[c] = none
		if id, ok := ids[fmt.Sprintf("<0x%02X>", c)]; ok {
			pieces[c] = id
		}
	}
	return &pieces
}

// vocabOf reads a vocabulary that is an object of pieces and IDs.
func vocabOf(b json.RawMessage) (map[string]int32, error) {
	var wide map[string]int64
	if err := json.Unmarshal(b, &wide); err != nil || wide == nil {
		return nil, errors.New("vocab is not an object of integers")
	}
	ids := make(map[string]int32, len(wide))
	for p, id := range wide {
		if id < 0 || id > maxID {
			return nil, fmt.Errorf("piece %s: ID %d is out of range", quote(p), id)
		}
		ids[p] = int32(id)
	}
	return ids, nil
}

// mergesOf reads merges, which are all strings "a b" or all pairs ["a", "b"].
func mergesOf(b json.RawMessage) ([][2]string, error) {
	var lines []string
	if json.Unmarshal(b, &lines) == nil && lines != nil {
		merges := make([][2]string, 0, len(lines))
		for _, line := range lines {
			if strings.HasPrefix(line, "#version") {
				continue
			}
			l, r, ok := strings.Cut(line, " ")
			if !ok || strings.Contains(r, " ") {
				return nil, fmt.Errorf("merge %d: %s is not two pieces", len(merges), quote(line))
			}
			merges = append(merges, [2]string{l, r})
		}
		return merges, nil
	}
	var pairs [][]string
	if err := json.Unmarshal(b, &pairs); err != nil || pairs == nil {
		return nil, errors.New("merges are not a list of strings or of pairs")
	}
	merges := make([][2]string, 0, len(pairs))
	for _, p := range pairs {
		if len(p) != 2 {
			return nil, fmt.Errorf("merge %d: is not two pieces", len(merges))
		}
		merges = append(merges, [2]string{p[0], p[1]})
	}
	return merges, nil
}

// A scoredPiece is ["piece", score].
type scoredPiece struct {
	piece string
	score float64
}

func (s *scoredPiece) UnmarshalJSON(b []byte) error {
	pair := []any{&s.piece, &s.score}
	if err := json.Unmarshal(b, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return errors.New("a piece is not a pair of text and score")
	}
	return nil
}

// newJSONUnigram makes a Unigram model.
func newJSONUnigram(m *jsonModel) (*Tokenizer, error) {
	var pieces []scoredPiece
	if err := json.Unmarshal(m.Vocab, &pieces); err != nil {
		return nil, errors.New("vocab is not a list of pieces with scores")
	}
	unk := none
	if m.UnkID != nil {
		if *m.UnkID < 0 || *m.UnkID >= int64(len(pieces)) {
			return nil, fmt.Errorf("unk_id %d: is not in the vocabulary", *m.UnkID)
		}
		unk = int32(*m.UnkID)
	}
	return newUnigram(pieces, unk, m.ByteFallback)
}

// newUnigram makes a Unigram model with the arithmetic of the tokenizers
// library.
func newUnigram(pieces []scoredPiece, unk int32, byteFallback bool) (*Tokenizer, error) {
	u := &unigram{trie: newTrie(), ids: make(map[string]int32, len(pieces)), scores: make([]float64, len(pieces)), unk: unk}
	lowest := 0.0
	for i, p := range pieces {
		if len(p.piece) > maxPieceBytes {
			return nil, fmt.Errorf("piece %d: is %d bytes long, at most %d are allowed", i, len(p.piece), maxPieceBytes)
		}
		if !utf8.ValidString(p.piece) {
			return nil, fmt.Errorf("piece %d: is not UTF-8", i)
		}
		u.ids[p.piece] = int32(i) // of equal pieces the last one counts
		u.trie.add(p.piece, int32(i))
		u.scores[i] = p.score
		if i == 0 || p.score < lowest {
			lowest = p.score
		}
	}
	u.unkScore = lowest - unkPenalty
	if byteFallback {
		u.fallback = bytePieces(u.ids)
	}
	vocab := &vocabulary{ids: make(map[string]int32, len(pieces)), size: len(pieces), dense: make([]string, len(pieces))}
	for i, p := range pieces {
		vocab.put(p.piece, int32(i))
	}
	t := newTokenizer("Unigram", vocab)
	t.model, t.unk = u, unk
	return t, nil
}

// bar tells the model which tokens EncodeOrdinary never gives for their text.
// That the unknown token stands for what is unknown is another matter.
func (t *Tokenizer) bar() {
	switch m := t.model.(type) {
	case *bpe:
		m.barred = t.barred
		if m.pairs == nil {
			return
		}
		for i, v := range m.pairs.vals {
			if m.pairs.keys[i] != 0 && t.barred[int32(v&(barredBit-1))] {
				m.pairs.vals[i] |= barredBit
			}
		}
	case *unigram:
		m.barred = t.barred
	}
}
