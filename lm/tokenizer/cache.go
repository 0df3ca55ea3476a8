package tokenizer

import (
	"hash/maphash"
	"strings"
)

const (
	// cacheSlots is the number of words that a cache holds; the text of a
	// language uses its frequent words so often that more gains little.
	cacheSlots = 1 << 14

	// maxCachedBytes is the length of the longest word that is cached.
	maxCachedBytes = 48
)

// A wordCache remembers the IDs of words. A word has one slot, which it takes
// from another: so the cache is bounded, and needs no bookkeeping. Its zero
// value with a seed is empty; it belongs to one state and takes no locks.
type wordCache struct {
	seed  maphash.Seed
	slots []cacheSlot
}

type cacheSlot struct {
	word string
	ids  []int32
}

// get appends the IDs of word to ids, if they are there. slot is where put
// takes them, or nil for a word that is not cached.
func (c *wordCache) get(ids []int, word string) (_ []int, slot *cacheSlot, ok bool) {
	if len(word) > maxCachedBytes {
		return ids, nil, false
	}
	if c.slots == nil {
		c.slots = make([]cacheSlot, cacheSlots)
	}
	slot = &c.slots[maphash.String(c.seed, word)%cacheSlots]
	if slot.word != word || slot.ids == nil {
		return ids, slot, false
	}
	return appendIDs(ids, slot.ids), slot, true
}

// put remembers that word has the given IDs.
func (s *cacheSlot) put(word string, ids []int) {
	if s == nil {
		return
	}
	s.word = strings.Clone(word) // not to keep the whole text
	s.ids = make([]int32, len(ids))
	for i, id := range ids {
		s.ids[i] = int32(id)
	}
}
