package grammar

import (
	"bytes"
	"slices"
	"sync"
)

// A Vocabulary is an index of a model's tokens by their bytes. It may be used
// by several goroutines at once.
type Vocabulary struct {
	size  int
	bytes [][]byte // of each token, nil for none
	nodes []place  // a trie, each place before what lies below it
	ids   []int32  // tokens, in the order of the places where they end

	mu     sync.Mutex
	shared []*reach // by state, of those that all networks have
}

// A place is a node of the trie. That at 0 is the root.
type place struct {
	b        byte
	depth    int32
	next     int32 // the first that is not below
	ids, end int32 // of ids, the tokens that end here
}

// NewVocabulary makes the index of tokens 0 to size−1, whose bytes are those
// that they add in the middle of a text. Tokens that have none, such as control
// tokens, are never allowed.
func NewVocabulary(size int, bytesOf func(id int) []byte) *Vocabulary {
	v := &Vocabulary{size: size, bytes: make([][]byte, size), shared: make([]*reach, builtinStates())}
	for id := range v.bytes {
		if b := bytesOf(id); len(b) > 0 {
			v.bytes[id] = b
			v.ids = append(v.ids, int32(id))
		}
	}
	slices.SortFunc(v.ids, func(a, b int32) int {
		if c := bytes.Compare(v.bytes[a], v.bytes[b]); c != 0 {
			return c
		}
		return int(a - b)
	})
	v.nodes = append(v.nodes, place{})
	path := []int32{0} // from the root to where the last token ended
	var last []byte
	for at, id := range v.ids {
		b := v.bytes[id]
		same := 0
		for same < len(last) && same < len(b) && last[same] == b[same] {
			same++
		}
		for len(path) > same+1 {
			v.nodes[path[len(path)-1]].next = int32(len(v.nodes))
			path = path[:len(path)-1]
		}
		for _, c := range b[same:] {
			path = append(path, int32(len(v.nodes)))
			v.nodes = append(v.nodes, place{b: c, depth: int32(len(path) - 1)})
		}
		n := &v.nodes[path[len(path)-1]]
		if n.end == 0 {
			n.ids = int32(at)
		}
		n.end = int32(at) + 1
		last = b
	}
	for _, p := range path {
		v.nodes[p].next = int32(len(v.nodes))
	}
	return v
}

// Size is the number of tokens.
func (v *Vocabulary) Size() int { return v.size }

// tokens are those that end at a place.
func (v *Vocabulary) tokens(at int32) []int32 {
	n := &v.nodes[at]
	return v.ids[n.ids:n.end]
}

// A Set is some of a vocabulary's tokens, a bit each.
type Set []uint64

func (v *Vocabulary) newSet() Set { return make(Set, (v.size+63)/64) }

// Has reports whether a token is in the set.
func (s Set) Has(id int) bool { return id >= 0 && id < 64*len(s) && s[id>>6]>>(id&63)&1 != 0 }

// Empty reports whether there is none.
func (s Set) Empty() bool {
	for _, w := range s {
		if w != 0 {
			return false
		}
	}
	return true
}

func (s Set) add(id int32) { s[id>>6] |= 1 << (id & 63) }

// A reach is where the tokens lead that are read from a state of some rule.
type reach struct {
	few   []int32 // tokens that do not leave the rule, or
	many  Set     // the same
	exits []int32 // places at which the rule may have ended
}

// addTo adds the tokens to a set.
func (r *reach) addTo(s Set) {
	for _, id := range r.few {
		s.add(id)
	}
	for i, w := range r.many {
		s[i] |= w
	}
}

// tidied keeps a set of tokens as a list if that is smaller.
func (r *reach) tidied() *reach {
	if len(r.many) > 0 && len(r.few) < 2*len(r.many) {
		r.many = nil
		return r
	}
	for _, id := range r.few {
		r.many.add(id)
	}
	r.few = nil
	return r
}
