package tokenizer

import "unicode/utf8"

// unkPenalty is what an unknown character scores below the worst piece.
const unkPenalty = 10

// maxPieceBytes is the length of the longest piece of a Unigram vocabulary:
// each place of a text is compared with pieces of this length in the worst
// case. SentencePiece has the same limit.
const maxPieceBytes = 8000

// unigram chooses the pieces of a word whose scores have the largest sum.
type unigram struct {
	trie     *trie
	ids      map[string]int32
	scores   []float64 // by ID
	skip     []bool    // by ID: pieces that never arise from text; may be nil
	user     []bool    // by ID: user-defined pieces, which always win; may be nil
	maxScore float32   // for them
	unkScore float64
	unk      int32
	fallback *[256]int32
	barred   map[int32]bool // what EncodeOrdinary must not give

	// sentencePiece says whose arithmetic decides between equal sums:
	// SentencePiece keeps float32 sums, the tokenizers library float64.
	sentencePiece bool
}

// A bestPath is the best way to write a word up to some place.
type bestPath struct {
	score float64
	start int // of its last piece, or −1 when there is no path
	id    int32
}

func (m *unigram) encode(st *state, word string) {
	ids, slot, ok := st.words.get(st.ids, word)
	st.ids = ids
	if ok {
		return
	}
	from := len(st.ids)
	m.search(st, word)
	m.emit(st, word)
	slot.put(word, st.ids[from:])
}

// round is a sum as the reference stores it.
func (m *unigram) round(score float64) float64 {
	if m.sentencePiece {
		return float64(float32(score))
	}
	return score
}

// search fills st.best: at i the best path for the first i bytes of word.
func (m *unigram) search(st *state, word string) {
	best := append(st.best[:0], bestPath{start: 0})
	for range len(word) {
		best = append(best, bestPath{start: -1})
	}
	reach := func(end, start int, score float64, id int32) {
		score = m.round(score)
		if b := &best[end]; b.start < 0 || score > b.score {
			*b = bestPath{score, start, id}
		}
	}
	for i := 0; i < len(word); {
		_, w := utf8.DecodeRuneInString(word[i:])
		till := best[i].score
		whole := false // a piece is just this character
		node, ok := uint64(0), true
		for j := i; j < len(word); j++ {
			if node, ok = m.trie.step(node, word[j]); !ok {
				break
			}
			id := m.trie.value[node]
			if id < 0 || m.skip != nil && m.skip[id] || st.ordinary && m.barred[id] {
				continue
			}
			n := j + 1 - i
			score := m.scores[id]
			if m.user != nil && m.user[id] {
				score = float64(float32(n)*m.maxScore) - 0.1
			}
			reach(j+1, i, till+score, id)
			whole = whole || n == w
		}
		if !whole {
			reach(i+w, i, till+m.unkScore, m.unk)
		}
		i += w
	}
	st.best = best
}

// emit appends the pieces of the best path. Neighbouring unknown characters
// are one token, except that with a fallback they are their bytes.
func (m *unigram) emit(st *state, word string) {
	from := len(st.ids)
	for end := len(word); end > 0; {
		start, id := st.best[end].start, st.best[end].id
		if id != m.unk {
			st.ids = append(st.ids, int(id))
			end = start
			continue
		}
		for start > 0 && st.best[start].id == m.unk {
			start = st.best[start].start
		}
		text := word[start:end]
		end = start
		known, ok := m.ids[text]
		switch {
		case ok && !(st.ordinary && m.barred[known]):
			st.ids = append(st.ids, int(known))
		case hasBytes(m.fallback, text):
			for i := len(text) - 1; i >= 0; i-- {
				st.ids = append(st.ids, int(m.fallback[text[i]]))
			}
		case m.unk != none:
			st.ids = append(st.ids, int(m.unk))
		}
	}
	for i, j := from, len(st.ids)-1; i < j; i, j = i+1, j-1 {
		st.ids[i], st.ids[j] = st.ids[j], st.ids[i]
	}
}
