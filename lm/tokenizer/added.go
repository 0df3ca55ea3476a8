package tokenizer

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// maxAddedBytes is the length of the longest added token. Finding them takes
// time in proportion to text length times token length in the worst case, and
// real ones have some twenty bytes.
const maxAddedBytes = 1024

// A trie finds the strings of a set that begin at a given place.
type trie struct {
	edges *hashTable // node<<8 | byte to node
	value []int32    // by node: the value of the string that ends there, or none
	first [256]bool  // the bytes with which some string begins
}

func newTrie() *trie {
	return &trie{edges: newHashTable(0), value: []int32{none}}
}

// add puts s with a value ≥ 0 into the set, replacing an earlier value.
func (t *trie) add(s string, value int32) {
	if s == "" {
		return
	}
	t.first[s[0]] = true
	node := uint64(0)
	for i := range len(s) {
		key := node<<8 | uint64(s[i])
		next, ok := t.edges.get(key)
		if !ok {
			next = uint64(len(t.value))
			t.value = append(t.value, none)
			t.edges.set(key, next)
		}
		node = next
	}
	t.value[node] = value
}

// step follows the edge c from a node; the root is 0.
func (t *trie) step(node uint64, c byte) (uint64, bool) {
	return t.edges.get(node<<8 | uint64(c))
}

// longest is the longest string of the set with which s begins: its length,
// or 0, and its value.
func (t *trie) longest(s string) (int, int32) {
	if s == "" || !t.first[s[0]] {
		return 0, none
	}
	n, value := 0, none
	node, ok := uint64(0), true
	for i := range len(s) {
		if node, ok = t.step(node, s[i]); !ok {
			break
		}
		if t.value[node] >= 0 {
			n, value = i+1, t.value[node]
		}
	}
	return n, value
}

// An addedToken is a token that is found in the text before the model sees it.
type addedToken struct {
	Content    string `json:"content"`
	ID         int64  `json:"id"`
	SingleWord bool   `json:"single_word"` // only where no word character is beside it
	LStrip     bool   `json:"lstrip"`      // takes the white space to its left along
	RStrip     bool   `json:"rstrip"`      // and to its right
	Normalized bool   `json:"normalized"`  // sought in the normalized text
	Special    bool   `json:"special"`     // left out by a decoder that skips special tokens
}

// plain reports whether a token is no more than a character, word or white
// space that the vocabulary got later, such as DeepSeek's "ü" or Gemma's "\n\n".
// It has no power over a model, unlike a special token or one such as
// "<tool_call>".
func (tok *addedToken) plain() bool {
	if tok.Special {
		return false
	}
	if utf8.RuneCountInString(tok.Content) == 1 {
		return true
	}
	for _, r := range tok.Content {
		if !isSpace(r) && !unicode.In(r, unicode.L, unicode.M, unicode.N) && string(r) != meta {
			return false
		}
	}
	return true
}

// added are the tokens that are cut out of a text: all for Encode, the plain
// ones for EncodeOrdinary.
type added struct{ all, plain matcher }

// add makes a find pattern as tok.
func (a *added) add(pattern string, tok addedToken) error {
	if tok.plain() {
		if err := a.plain.add(pattern, tok); err != nil {
			return err
		}
	}
	return a.all.add(pattern, tok)
}

func (a *added) matcher(ordinary bool) *matcher {
	if ordinary {
		return &a.plain
	}
	return &a.all
}

// A matcher finds added tokens: leftmost first, then longest.
type matcher struct {
	trie   *trie
	tokens []addedToken
}

// add makes m find pattern as tok. An empty pattern is never found.
func (m *matcher) add(pattern string, tok addedToken) error {
	if len(pattern) > maxAddedBytes {
		return fmt.Errorf("added token %s: is %d bytes long, at most %d are allowed", quote(pattern), len(pattern), maxAddedBytes)
	}
	if m.trie == nil {
		m.trie = newTrie()
	}
	// Of equal patterns the first one counts.
	if n, _ := m.trie.longest(pattern); pattern == "" || n == len(pattern) {
		return nil
	}
	m.trie.add(pattern, int32(len(m.tokens)))
	m.tokens = append(m.tokens, tok)
	return nil
}

// A cut is a part of a text: an added token, or text between such.
type cut struct {
	start, end int
	id         int32 // none for text
}

// cut appends the parts of text to cuts. They are in order and not empty, and
// between them cover it, but a token may take white space that an earlier one
// has taken already.
func (m *matcher) cut(cuts []cut, text string) []cut {
	done := 0
	spaceFrom, spaceTo := 0, -1 // a run of white space
	if m.trie != nil {
		for at := 0; at < len(text); {
			if !m.trie.first[text[at]] {
				at++
				continue
			}
			n, k := m.trie.longest(text[at:])
			if n == 0 {
				at++
				continue
			}
			tok := &m.tokens[k]
			start, end := at, at+n
			at = end
			if tok.SingleWord {
				before, _ := utf8.DecodeLastRuneInString(text[:start])
				after, _ := utf8.DecodeRuneInString(text[end:])
				if start > 0 && isWord(before) || end < len(text) && isWord(after) {
					continue
				}
			}
			if tok.LStrip {
				for start > done {
					r, w := utf8.DecodeLastRuneInString(text[:start])
					if !isSpace(r) {
						break
					}
					start -= w
				}
			}
			if tok.RStrip {
				// Tokens that are white space themselves can stand in the run
				// that an earlier one has taken.
				if end < spaceFrom || end > spaceTo {
					spaceFrom, spaceTo = end, end
					for spaceTo < len(text) {
						r, w := utf8.DecodeRuneInString(text[spaceTo:])
						if !isSpace(r) {
							break
						}
						spaceTo += w
					}
				}
				end = spaceTo
			}
			if done < start {
				cuts = append(cuts, cut{done, start, none})
			}
			cuts = append(cuts, cut{start, end, int32(tok.ID)})
			done = end
		}
	}
	if done < len(text) {
		cuts = append(cuts, cut{done, len(text), none})
	}
	return cuts
}

// isWord reports whether r is matched by the \w of a Unicode regular
// expression (https://www.unicode.org/reports/tr18/, annex C).
func isWord(r rune) bool {
	if r < 0x80 {
		return r == '_' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z'
	}
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control)
}
