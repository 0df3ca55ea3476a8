package tokenizer

// Decode is the text of ids. With skipSpecial special tokens are left out. IDs
// that the vocabulary does not have are left out always.
func (t *Tokenizer) Decode(ids []int, skipSpecial bool) string {
	s := t.NewStream(skipSpecial)
	for _, id := range ids {
		s.push(id)
	}
	s.head.flush()
	return s.out.take()
}

// A Stream decodes tokens as they arrive. It belongs to one goroutine.
type Stream struct {
	t           *Tokenizer
	skipSpecial bool
	head        stage
	pieces      pieceStage // head, if it wants to know more than the text
	out         *textStage
}

// A pieceStage takes tokens by ID. A token that is left out has no text, but it
// still ends what it stands after.
type pieceStage interface {
	stage
	piece(id int32, text string)
}

// NewStream begins to decode a text. What its Push and its Flush return makes,
// taken together, exactly what [Tokenizer.Decode] gives for the same IDs.
func (t *Tokenizer) NewStream(skipSpecial bool) *Stream {
	s := &Stream{t: t, skipSpecial: skipSpecial, out: &textStage{}}
	s.head = t.decoder(s.out)
	s.pieces, _ = s.head.(pieceStage)
	return s
}

// Push adds a token and returns the text that is certain now: whole characters
// only, and nothing while what follows can still change it. So it may be empty.
func (s *Stream) Push(id int) string {
	s.push(id)
	return s.out.take()
}

func (s *Stream) push(id int) {
	p, ok := s.t.Token(id)
	if !ok {
		return
	}
	skip := s.skipSpecial && s.t.special[int32(id)]
	switch {
	case s.pieces != nil && skip:
		s.pieces.piece(int32(id), "")
		return
	case s.pieces != nil:
		s.pieces.piece(int32(id), p)
		return
	case skip:
		return
	}
	s.head.text(p)
	s.head.end()
}

// Flush ends the text and returns what was held back. The stream is then as
// new.
func (s *Stream) Flush() string {
	s.head.flush()
	text := s.out.take()
	s.head = s.t.decoder(s.out)
	s.pieces, _ = s.head.(pieceStage)
	return text
}
