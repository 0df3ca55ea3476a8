package tokenizer

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"strconv"
)

// maxID is the largest ID: token IDs are held as int32, and one value is left
// to mean none.
const maxID = math.MaxInt32 - 1

// none stands for an ID that does not exist.
const none = int32(-1)

// A vocabulary is the pieces of a tokenizer and their IDs, one to one.
type vocabulary struct {
	ids map[string]int32

	// The pieces by ID: in a slice when the IDs fill it, and otherwise in a
	// map, so that one large ID does not take memory for those below it.
	dense  []string
	sparse map[int32]string

	size int // one more than the largest ID
}

// newVocabulary makes a vocabulary of pieces with their IDs.
func newVocabulary(ids map[string]int32) (*vocabulary, error) {
	v := &vocabulary{ids: ids}
	for p, id := range ids {
		if id < 0 || id > maxID {
			return nil, fmt.Errorf("piece %s: ID %d is out of range", quote(p), id)
		}
		v.size = max(v.size, int(id)+1)
	}
	if v.size <= 2*len(ids)+1024 {
		v.dense = make([]string, v.size)
	} else {
		v.sparse = make(map[int32]string, len(ids))
	}
	for p, id := range ids {
		if q, ok := v.piece(id); ok {
			return nil, fmt.Errorf("pieces %s and %s both have ID %d", quote(min(p, q)), quote(max(p, q)), id)
		}
		v.put(p, id)
	}
	return v, nil
}

// put makes p the piece of the free ID id, which is less than v.size.
func (v *vocabulary) put(p string, id int32) {
	v.ids[p] = id
	if v.sparse != nil {
		v.sparse[id] = p
		return
	}
	v.dense[id] = p
}

// add appends or renames: afterwards p is the piece of id, and a piece that
// had that ID before has none.
func (v *vocabulary) add(p string, id int32) error {
	if id < 0 || id > maxID {
		return fmt.Errorf("token %s: ID %d is out of range", quote(p), id)
	}
	if have, ok := v.ids[p]; ok {
		if have == id {
			return nil
		}
		return fmt.Errorf("token %s: has ID %d and is to have %d", quote(p), have, id)
	}
	if old, ok := v.piece(id); ok {
		delete(v.ids, old)
	}
	if int(id) >= v.size {
		v.size = int(id) + 1
		switch {
		case v.sparse != nil:
		case v.size <= 2*len(v.ids)+1024:
			v.dense = append(v.dense, make([]string, v.size-len(v.dense))...)
		default:
			v.sparse = make(map[int32]string, len(v.ids))
			for q, i := range v.ids {
				v.sparse[i] = q
			}
			v.dense = nil
		}
	}
	v.put(p, id)
	return nil
}

// piece is the piece of id.
func (v *vocabulary) piece(id int32) (string, bool) {
	if v.sparse != nil {
		p, ok := v.sparse[id]
		return p, ok
	}
	if id < 0 || int(id) >= len(v.dense) {
		return "", false
	}
	p := v.dense[id]
	if p != "" {
		return p, true
	}
	// The empty string marks a gap, and is a piece where it is in the map.
	have, ok := v.ids[""]
	return "", ok && have == id
}

// id is the ID of p, or none.
func (v *vocabulary) id(p string) int32 {
	if id, ok := v.ids[p]; ok {
		return id
	}
	return none
}

// maxQuoted is the length in bytes from which on a piece or pattern is cut in
// a message: a file may hold some of many megabytes.
const maxQuoted = 80

// quote is s in Go's quotes, cut when it is long.
func quote(s string) string {
	if len(s) > maxQuoted {
		return strconv.QuoteToGraphic(s[:maxQuoted]) + "…"
	}
	return strconv.QuoteToGraphic(s)
}

// A hashTable maps 64-bit keys to 64-bit values: pairs of symbols to their
// merge, trie edges to their node. It is filled once and then only read.
type hashTable struct {
	mul   uint64 // odd, drawn for this table: a file cannot choose its collisions
	shift int
	keys  []uint64 // key+1, so that 0 is an empty slot
	vals  []uint64
	n     int
}

// newHashTable has room for n keys; more make it grow.
func newHashTable(n int) *hashTable {
	k := max(4, bits.Len(uint(2*n)))
	return &hashTable{mul: rand.Uint64() | 1, shift: 64 - k, keys: make([]uint64, 1<<k), vals: make([]uint64, 1<<k)}
}

func (h *hashTable) get(key uint64) (uint64, bool) {
	for i := key * h.mul >> h.shift; ; i = (i + 1) & uint64(len(h.keys)-1) {
		switch h.keys[i] {
		case key + 1:
			return h.vals[i], true
		case 0:
			return 0, false
		}
	}
}

// set gives key a value, in place of one it has. The key 2⁶⁴−1 is not allowed.
func (h *hashTable) set(key, val uint64) {
	if h.n*2 >= len(h.keys) {
		old := *h
		*h = *newHashTable(len(old.keys))
		for i, k := range old.keys {
			if k != 0 {
				h.set(k-1, old.vals[i])
			}
		}
	}
	for i := key * h.mul >> h.shift; ; i = (i + 1) & uint64(len(h.keys)-1) {
		if h.keys[i] == 0 {
			h.n++
		} else if h.keys[i] != key+1 {
			continue
		}
		h.keys[i], h.vals[i] = key+1, val
		return
	}
}
