package local

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"expo/lm/model"
)

// ErrMemory is in the chain of the error for a request that is longer than the
// memory for keys and values would hold even if it were alone.
var ErrMemory = errors.New("too long for the memory of keys and values")

// A Memory bounds the keys and values of the engines that are given it, see
// [Options.Memory].
//
// Sequences take memory as they grow. Each begins when there is room for its
// prompt and a page more for everyone under way, and none overtakes one that was
// asked for before and has been found to lack memory, in whatever engine. When
// none is left, keys and values that are only kept in case are dropped, those not
// used for longest first; then the sequence that was asked for last gives up what
// it has, and is computed again, to the same bits, when its turn comes. So the one
// asked for first always goes on, and every one comes to be the first.
type Memory struct {
	kv *model.KVMemory

	mu        sync.Mutex
	clock     uint64             // sequences asked for
	running   map[*sequence]bool // under way, in any engine
	starved   map[*sequence]int  // wait for memory: of how many bytes
	kept      []kept             // of finished sequences, used last at the end
	freed     chan struct{}      // closed when it may be worth another try
	preempted int64
}

// NewMemory is memory of at most limit bytes; 0: no bound.
func NewMemory(limit int64) *Memory { return newMemory(model.NewKVMemory(limit)) }

func newMemory(kv *model.KVMemory) *Memory {
	return &Memory{kv: kv, running: map[*sequence]bool{}, starved: map[*sequence]int{}, freed: make(chan struct{})}
}

// SetLimit changes the bound before anything is asked for.
func (m *Memory) SetLimit(limit int64) { m.kv.SetLimit(limit) }

// MemoryUsage is what a Memory holds. A page that several sequences share
// counts once.
type MemoryUsage struct {
	Limit     int64 // bytes; 0: none
	Running   int64 // bytes of answers and scores under way
	Kept      int64 // bytes that are only kept in case another begins alike
	Waiting   int   // sequences that wait for memory, of those next in turn
	Preempted int64 // how often a sequence has had to give up its memory
}

// Usage says what is held now.
func (m *Memory) Usage() MemoryUsage {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := MemoryUsage{Limit: m.kv.Limit(), Waiting: len(m.starved), Preempted: m.preempted}
	u.Running, u.Kept = m.kv.Usage()
	return u
}

// notify wakes those who wait for memory. The caller holds mu.
func (m *Memory) notify() {
	close(m.freed)
	m.freed = make(chan struct{})
}

// changes is closed when memory has come free after this call.
func (m *Memory) changes() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.freed
}

// older reports whether someone who was asked for before s waits for memory,
// in an engine that somebody drives: among the running ones, or any. The caller
// holds mu.
func (m *Memory) older(s *sequence, running bool) bool {
	for o := range m.starved {
		if o.age < s.age && o.engine.drivers.Load() > 0 && (m.running[o] || !running) {
			return true
		}
	}
	return false
}

// starve notes that s waits for memory, to have n tokens.
func (m *Memory) starve(s *sequence, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.starved[s] = max(pagesFor(n)-s.pages, 1) * s.engine.model.PageBytes()
}

// fed takes s off those who wait. The caller holds mu.
func (m *Memory) fed(s *sequence) {
	if _, ok := m.starved[s]; ok {
		delete(m.starved, s)
		m.notify()
	}
}

// reserve makes room for s to have n tokens, at the cost of what is only kept.
// It says whether someone else comes before s.
func (m *Memory) reserve(s *sequence, n int) (ok, yields bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if pagesFor(n) > s.pages && m.older(s, true) {
		return false, true
	}
	for !s.cache.Reserve(n) {
		if !m.dropOldest() {
			return false, false
		}
	}
	s.pages = max(s.pages, pagesFor(n))
	m.fed(s)
	return true, false
}

// begin gives s its cache and room for its tokens: for all it will ever have
// if it must be computed at once. What the first of its tokens have in common
// with from, n of them, or if from is nil with what is kept, it shares. It
// reports false if there is no memory.
func (m *Memory) begin(s *sequence, from *model.Cache, n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.older(s, false) {
		return false
	}
	c := m.fork(s, from, n)
	if c == nil {
		return false
	}
	want := len(s.tokens)
	if s.fixed && m.kv.Limit() > 0 {
		want = s.most()
	}
	spare := int64(len(m.running) * s.engine.model.PageBytes())
	for !c.Reserve(want) || !m.spare(spare) {
		if !m.dropOldest() {
			c.Free()
			return false
		}
	}
	if s.begun.IsZero() {
		s.cached = c.Len()
	}
	s.cache, s.pages = c, pagesFor(want)
	m.running[s] = true
	m.fed(s)
	return true
}

// fork is the cache that s begins with, nil if there is no memory.
func (m *Memory) fork(s *sequence, from *model.Cache, n int) *model.Cache {
	for {
		source := from
		if from == nil {
			n, source = m.longest(s, true)
		}
		if source == nil {
			return s.engine.model.NewCache()
		}
		if c := source.TryFork(n); c != nil {
			return c
		}
		if !m.dropOldest() {
			return nil
		}
	}
}

// spare reports whether there are as many bytes left.
func (m *Memory) spare(bytes int64) bool {
	busy, idle := m.kv.Usage()
	return m.kv.Limit() == 0 || busy+idle+bytes <= m.kv.Limit()
}

// dropOldest forgets what was kept and has not been used for longest. The
// caller holds mu.
func (m *Memory) dropOldest() bool {
	if len(m.kept) == 0 {
		return false
	}
	m.kept[0].cache.Free()
	m.kept = slices.Delete(m.kept, 0, 1)
	return true
}

// youngest is the sequence under way that was asked for last, of those that may
// give up their memory.
func (m *Memory) youngest() *sequence {
	m.mu.Lock()
	defer m.mu.Unlock()
	var last *sequence
	for s := range m.running {
		if !s.fixed && (last == nil || s.age > last.age) {
			last = s
		}
	}
	return last
}

// leave takes s off those under way and off those who wait, and gives up its
// cache or, if it has finished, holds on to it in case another begins alike.
func (m *Memory) leave(s *sequence, finished bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.running, s)
	delete(m.starved, s)
	defer m.notify()
	if s.cache == nil {
		return
	}
	if !finished {
		m.preempted++
	}
	c := s.cache
	s.cache, s.pages = nil, 0
	most := s.engine.opt.KeepTokens
	if !finished || c.Len() == 0 || c.Len() > most {
		c.Free()
		return
	}
	c.Truncate(c.Len()) // what is reserved and not used
	c.SetIdle()
	k := kept{s.engine, s.tokens[:c.Len()], c}
	// What is the beginning of the new one is of no more use.
	m.forget(func(o kept) bool { return o.engine == k.engine && common(o.tokens, k.tokens) == len(o.tokens) })
	m.kept = append(m.kept, k)
	n := 0
	for i := len(m.kept) - 1; i >= 0; i-- {
		if o := m.kept[i]; o.engine == k.engine {
			if n += len(o.tokens); n > most {
				o.cache.Free()
				m.kept = slices.Delete(m.kept, i, i+1)
			}
		}
	}
}

// forget drops kept caches. The caller holds mu.
func (m *Memory) forget(which func(kept) bool) {
	m.kept = slices.DeleteFunc(m.kept, func(k kept) bool {
		if which(k) {
			k.cache.Free()
			return true
		}
		return false
	})
}

// dropOf forgets what is kept of an engine.
func (m *Memory) dropOf(e *Engine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(func(k kept) bool { return k.engine == e })
	m.notify()
}

// longest finds the kept cache that begins most like s; use moves it behind
// those that are dropped before it. The caller holds mu.
func (m *Memory) longest(s *sequence, use bool) (best int, from *model.Cache) {
	most := s.sharable()
	if most <= 0 || s.engine.model.FeedWhole(len(s.tokens)) {
		return 0, nil
	}
	at := -1
	for i, k := range m.kept {
		if k.engine != s.engine {
			continue
		}
		if n := common(s.tokens[:most], k.tokens); n > best {
			best, from, at = n, k.cache, i
		}
	}
	if use && at >= 0 {
		k := m.kept[at]
		m.kept = append(slices.Delete(m.kept, at, at+1), k)
	}
	return best, from
}

// keeps is how many tokens of s are the first of something kept.
func (m *Memory) keeps(s *sequence) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, _ := m.longest(s, false)
	return n
}

// asked gives sequences their place in the order.
func (m *Memory) asked(ss []*sequence) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range ss {
		m.clock++
		s.age = m.clock
	}
}

// stepped wakes who waits for memory after a step: the engine's turn may be
// taken.
func (m *Memory) stepped() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.starved) > 0 {
		m.notify()
	}
}

// undriven wakes others when nobody drives an engine any more that waits for
// memory: they need not wait for it.
func (m *Memory) undriven(e *Engine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.starved {
		if s.engine == e {
			m.notify()
			return
		}
	}
}

// wants reports whether a sequence under way in another engine, asked for
// before s, lacks memory that is not there.
func (m *Memory) wants(s *sequence) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for o, bytes := range m.starved {
		if m.running[o] && o.engine != s.engine && o.age < s.age && o.engine.drivers.Load() > 0 && !m.spare(int64(bytes)) {
			return true
		}
	}
	return false
}

// pagesFor is how many pages n tokens take.
func pagesFor(n int) int { return (n + model.PageLen - 1) / model.PageLen }

// Memory is what bounds the engine's keys and values.
func (e *Engine) Memory() *Memory { return e.memory }

// Capacity is the most tokens of prompt and answer together that the memory of
// keys and values can hold, 0 for no bound.
func (e *Engine) Capacity() int {
	limit := e.memory.kv.Limit()
	if limit == 0 {
		return 0
	}
	// What is sampled last is never read.
	return int(min(limit/int64(e.model.PageBytes()), 1<<40))*model.PageLen + 1
}

// Fits says whether the memory could hold a prompt and an answer of so many
// tokens if they were alone in it.
func (e *Engine) Fits(prompt, answer int) error {
	c := e.Capacity()
	if limit := e.memory.kv.Limit(); limit > 0 && prompt+answer > c {
		return fmt.Errorf("local: prompt and answer may take %d tokens (%d and %d), and the %d bytes of memory for keys and values hold %d (%w)",
			prompt+answer, prompt, answer, limit, c, ErrMemory)
	}
	return nil
}
