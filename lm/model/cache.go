package model

import (
	"fmt"
	"slices"
	"sync"
)

// pageLen is how many positions of keys and values are allocated, and shared,
// together.
const pageLen = 64

// PageLen is how many positions of a sequence take memory together, see
// [Model.PageBytes].
const PageLen = pageLen

// A page holds the keys and values of pageLen positions, counted from a
// multiple of pageLen, in all layers: (num_hidden_layers,
// num_key_value_heads, 2, pageLen, head_dim), keys before values.
type page struct {
	data []byte
	refs int // caches that hold it; guarded by KVMemory.mu
	busy int // those of them that are not idle
}

// KVMemory counts the pages of keys and values that a model, or several that
// share it, have, and bounds them. A page that several caches share counts
// once.
type KVMemory struct {
	mu    sync.Mutex
	limit int64 // bytes; 0: none
	used  int64 // bytes of pages that a cache holds
	busy  int64 // bytes of those of them that a cache holds that is not idle
	spare int64 // bytes of pages that no cache holds any more
	pools []*pages
}

// NewKVMemory is memory of at most limit bytes; 0: no bound.
func NewKVMemory(limit int64) *KVMemory { return &KVMemory{limit: limit} }

// Limit is the bound in bytes, 0 for none.
func (k *KVMemory) Limit() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.limit
}

// SetLimit changes the bound; what is held already beyond it is not taken away.
func (k *KVMemory) SetLimit(limit int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.limit = limit
}

// Usage is what caches hold, in bytes: those in use, and those that are idle
// and share nothing with one in use.
func (k *KVMemory) Usage() (busy, idle int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.busy, k.used - k.busy
}

// pages are a model's pages that no cache holds any more.
type pages struct {
	own    KVMemory
	shared *KVMemory // in place of own, if it is set
	size   int       // bytes of a page
	free   []*page
}

func (ps *pages) memory() *KVMemory {
	if ps.shared != nil {
		return ps.shared
	}
	return &ps.own
}

// get is a page for a cache that is not idle. Without force it may be nil.
// The caller holds the memory's mu.
func (ps *pages) get(force bool) *page {
	k, size := ps.memory(), int64(ps.size)
	if k.limit > 0 && k.used+size > k.limit && !force {
		return nil
	}
	var p *page
	if n := len(ps.free); n > 0 {
		p = ps.free[n-1]
		ps.free[n-1] = nil
		ps.free = ps.free[:n-1]
		k.spare -= size
	} else {
		k.trim(size)
		p = &page{data: make([]byte, size)}
	}
	p.refs, p.busy = 1, 1
	k.used += size
	k.busy += size
	return p
}

// trim lets go of what models have to spare, until there is room for size
// more bytes within the limit or nothing is left.
func (k *KVMemory) trim(size int64) {
	for _, ps := range k.pools {
		for n := len(ps.free); n > 0 && k.limit > 0 && k.used+k.spare+size > k.limit; n-- {
			ps.free[n-1] = nil
			ps.free = ps.free[:n-1]
			k.spare -= int64(ps.size)
		}
	}
}

// put takes pages from a cache. The caller holds the memory's mu.
func (ps *pages) put(list []*page, idle bool) {
	k, size := ps.memory(), int64(ps.size)
	for _, p := range list {
		if !idle {
			if p.busy--; p.busy == 0 {
				k.busy -= size
			}
		}
		if p.refs--; p.refs == 0 {
			k.used -= size
			k.spare += size
			ps.free = append(ps.free, p)
		}
	}
}

// SetKVMemory has the model take the pages of its caches from k, which other
// models may share. Its caches must have been freed before.
func (m *Model) SetKVMemory(k *KVMemory) {
	if m.pages.memory() == k {
		return
	}
	m.pages.free = nil
	m.pages.shared = k
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pools = append(k.pools, &m.pages)
}

// KVMemory is what the model takes the pages of its caches from: memory of its
// own without a bound, unless SetKVMemory has given it another.
func (m *Model) KVMemory() *KVMemory { return m.pages.memory() }

// A Cache is the keys and values of one sequence: the tokens that Forward has
// read so far. It belongs to one model and may be in one Forward at a time.
type Cache struct {
	model *Model
	pages []*page
	n     int
	idle  bool
}

// NewCache is the cache of an empty sequence.
func (m *Model) NewCache() *Cache { return &Cache{model: m} }

// Len is the number of tokens that have been read.
func (c *Cache) Len() int { return c.n }

// Fork is a new cache that has read the first n of c's tokens. Whole pages are
// shared and never copied; up to 64 positions are, whatever the limit of the
// memory. c must not be in a Forward meanwhile.
func (c *Cache) Fork(n int) *Cache { return c.fork(n, true) }

// TryFork is Fork, or nil if the memory of keys and values is full.
func (c *Cache) TryFork(n int) *Cache { return c.fork(n, false) }

func (c *Cache) fork(n int, force bool) *Cache {
	if n < 0 || n > c.n {
		panic(fmt.Sprintf("model: fork at %d of a cache of %d tokens", n, c.n))
	}
	f := &Cache{model: c.model, n: n}
	ps := &c.model.pages
	k := ps.memory()
	whole := n / pageLen
	k.mu.Lock()
	defer k.mu.Unlock()
	var last *page
	if n%pageLen != 0 {
		if last = ps.get(force); last == nil {
			return nil
		}
	}
	for _, p := range c.pages[:whole] {
		if p.busy == 0 {
			k.busy += int64(ps.size)
		}
		p.refs++
		p.busy++
		f.pages = append(f.pages, p)
	}
	if last != nil {
		copy(last.data, c.pages[whole].data)
		f.pages = append(f.pages, last)
	}
	return f
}

// Truncate forgets all tokens but the first n.
func (c *Cache) Truncate(n int) {
	if n < 0 || n > c.n {
		panic(fmt.Sprintf("model: truncation to %d of a cache of %d tokens", n, c.n))
	}
	c.n = n
	keep := (n + pageLen - 1) / pageLen
	k := c.model.pages.memory()
	k.mu.Lock()
	c.model.pages.put(c.pages[keep:], c.idle)
	k.mu.Unlock()
	clear(c.pages[keep:])
	c.pages = c.pages[:keep]
}

// Free gives the memory back to the model, for other sequences. The cache is
// empty afterwards.
func (c *Cache) Free() { c.Truncate(0) }

// SetIdle says that the cache is only kept in case another is forked from it,
// and counts as such. An idle cache must not be in a Forward.
func (c *Cache) SetIdle() {
	if c.idle {
		return
	}
	c.idle = true
	ps := &c.model.pages
	k := ps.memory()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range c.pages {
		if p.busy--; p.busy == 0 {
			k.busy -= int64(ps.size)
		}
	}
}

// Reserve makes room for n tokens altogether. It reports false, and changes
// nothing, if the memory's limit does not allow it. Forward takes what has not
// been reserved whatever the limit: who is to stay below it reserves first. An
// error of Forward, and Truncate, give back what is reserved and not used.
func (c *Cache) Reserve(n int) bool { return c.room(n, false) }

// grow makes room for positions up to n, and sole ownership of the pages that
// positions from c.n on are written to.
func (c *Cache) grow(n int) { c.room(n, true) }

func (c *Cache) room(n int, force bool) bool {
	ps := &c.model.pages
	k := ps.memory()
	k.mu.Lock()
	defer k.mu.Unlock()
	var news []*page
	var own *page // in place of a shared one
	last := c.n / pageLen
	if c.n%pageLen != 0 && c.pages[last].refs > 1 && n > c.n {
		if own = ps.get(force); own == nil {
			return false
		}
	}
	for (len(c.pages)+len(news))*pageLen < n {
		p := ps.get(force)
		if p == nil {
			ps.put(news, false)
			if own != nil {
				ps.put([]*page{own}, false)
			}
			return false
		}
		news = append(news, p)
	}
	if own != nil {
		copy(own.data, c.pages[last].data)
		ps.put(c.pages[last:last+1], false)
		c.pages[last] = own
	}
	c.pages = append(slices.Grow(c.pages, len(news)), news...)
	return true
}

// PageBytes is the memory that PageLen positions of one sequence take.
func (m *Model) PageBytes() int { return m.pages.size }

// keys and values are the two halves of a page's part for one layer and
// key-value head, each (pageLen, head_dim).
func (m *Model) keys(p *page, layer, head int) []byte {
	half := pageLen * m.cfg.HeadDim * m.kv.Bytes()
	at := 2 * half * (layer*m.cfg.NumKeyValueHeads + head)
	return p.data[at : at+half]
}

func (m *Model) values(p *page, layer, head int) []byte {
	half := pageLen * m.cfg.HeadDim * m.kv.Bytes()
	at := half * (2*(layer*m.cfg.NumKeyValueHeads+head) + 1)
	return p.data[at : at+half]
}
