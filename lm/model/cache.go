package model

import (
	"fmt"
	"sync"
)

// pageLen is how many positions of keys and values are allocated, and shared,
// together.
const pageLen = 64

// A page holds the keys and values of pageLen positions, counted from a
// multiple of pageLen, in all layers: (num_hidden_layers,
// num_key_value_heads, 2, pageLen, head_dim), keys before values.
type page struct {
	data []byte
	refs int // guarded by pages.mu
}

// pages are a model's pages that no cache holds any more.
type pages struct {
	mu   sync.Mutex
	size int // bytes of a page
	free []*page
}

func (ps *pages) get() *page {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if n := len(ps.free); n > 0 {
		p := ps.free[n-1]
		ps.free = ps.free[:n-1]
		p.refs = 1
		return p
	}
	return &page{data: make([]byte, ps.size), refs: 1}
}

func (ps *pages) put(list []*page) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range list {
		if p.refs--; p.refs == 0 {
			ps.free = append(ps.free, p)
		}
	}
}

// A Cache is the keys and values of one sequence: the tokens that Forward has
// read so far. It belongs to one model and may be in one Forward at a time.
type Cache struct {
	model *Model
	pages []*page
	n     int
}

// NewCache is the cache of an empty sequence.
func (m *Model) NewCache() *Cache { return &Cache{model: m} }

// Len is the number of tokens that have been read.
func (c *Cache) Len() int { return c.n }

// Fork is a new cache that has read the first n of c's tokens. Whole pages are
// shared and never copied. c must not be in a Forward meanwhile.
func (c *Cache) Fork(n int) *Cache {
	if n < 0 || n > c.n {
		panic(fmt.Sprintf("model: fork at %d of a cache of %d tokens", n, c.n))
	}
	f := &Cache{model: c.model, n: n}
	ps := &c.model.pages
	whole := n / pageLen
	ps.mu.Lock()
	for _, p := range c.pages[:whole] {
		p.refs++
		f.pages = append(f.pages, p)
	}
	ps.mu.Unlock()
	if n%pageLen != 0 {
		p := ps.get()
		copy(p.data, c.pages[whole].data)
		f.pages = append(f.pages, p)
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
	c.model.pages.put(c.pages[keep:])
	clear(c.pages[keep:])
	c.pages = c.pages[:keep]
}

// Free gives the memory back to the model, for other sequences. The cache is
// empty afterwards.
func (c *Cache) Free() { c.Truncate(0) }

// grow makes room for positions up to n, and sole ownership of the pages that
// positions from c.n on are written to.
func (c *Cache) grow(n int) {
	ps := &c.model.pages
	if c.n%pageLen != 0 {
		last := c.n / pageLen
		ps.mu.Lock()
		shared := c.pages[last].refs > 1
		ps.mu.Unlock()
		if shared {
			p := ps.get()
			copy(p.data, c.pages[last].data)
			ps.put(c.pages[last : last+1])
			c.pages[last] = p
		}
	}
	for len(c.pages)*pageLen < n {
		c.pages = append(c.pages, ps.get())
	}
}

// PageBytes is the memory that 64 positions of one sequence take.
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
