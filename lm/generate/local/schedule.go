package local

import (
	"context"
	"slices"
	"time"

	"expo/lm/model"
)

// kept is the cache of a finished sequence.
type kept struct {
	engine *Engine
	tokens []int
	cache  *model.Cache
}

// worthwhile is how many tokens sharing must save for a sequence to wait for
// another's prefix.
const worthwhile = 32

// collect takes over what has been asked for.
func (e *Engine) collect() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting = append(e.waiting, e.arrived...)
	e.arrived = nil
}

// step computes one batch: the next token of every answer under way, and
// pieces of prompts. The caller has the turn. It reports false if there was
// nothing to compute, for lack of memory.
func (e *Engine) step(ctx context.Context) bool {
	e.collect()
	e.yield()
	e.admit()
	type part struct {
		s *sequence
		n int
	}
	var parts []part
	left := e.opt.StepTokens
	for _, s := range e.running {
		if s.pending() == 1 {
			left--
		}
	}
	// Who was asked for first comes first to prompts and to memory.
	for _, s := range slices.Clone(e.running) {
		if s.cache == nil {
			continue // it has given up its memory for one before
		}
		n := s.pending()
		if n > 1 && !e.model.FeedWhole(len(s.tokens)) {
			n = min(n, left)
		}
		if n > 0 && e.take(s, s.held()+n) {
			parts = append(parts, part{s, n})
			if s.pending() > 1 {
				left -= n
			}
		}
	}
	parts = slices.DeleteFunc(parts, func(p part) bool { return p.s.cache == nil })
	if len(parts) == 0 {
		return len(e.running)+len(e.waiting) == 0
	}
	batch := make([]model.Step, len(parts))
	for i, p := range parts {
		batch[i] = p.s.step(p.n)
	}
	errs := make([]error, len(batch))
	if err := e.model.Forward(ctx, batch); err != nil {
		// Find out whose fault it is; the caches are as they were.
		for i, p := range parts {
			errs[i] = err
			if len(batch) > 1 {
				errs[i] = e.model.Forward(ctx, []model.Step{p.s.step(p.n)})
			}
		}
	}
	now := time.Now()
	for i, p := range parts {
		e.settle(p.s, errs[i], now)
	}
	return true
}

// take makes room for s to have n tokens. Where there is none others give up
// theirs, those asked for last first, or s itself if it is the last. It reports
// false if s has to wait.
func (e *Engine) take(s *sequence, n int) bool {
	m := e.memory
	for {
		ok, yields := m.reserve(s, n)
		if ok {
			return true
		}
		last := m.youngest()
		switch {
		case last == s:
			e.preempt(s)
			return false
		case yields || last == nil || last.age < s.age:
			m.starve(s, n)
			return false
		case last.engine == e:
			e.preempt(last)
			continue
		}
		// Whoever holds that engine's turn sees, at its end or with its next
		// step, that s waits.
		m.starve(s, n)
		select {
		case last.engine.turn <- struct{}{}:
			last.engine.preempt(last)
			<-last.engine.turn
		default:
			return false
		}
	}
}

// preempt takes a sequence's memory and puts it back among those that wait. The
// caller has the engine's turn.
func (e *Engine) preempt(s *sequence) {
	at := slices.Index(e.running, s)
	if at < 0 {
		return
	}
	e.running = slices.Delete(e.running, at, at+1)
	e.memory.leave(s, false)
	e.waiting = inserted(e.waiting, s)
}

// yield has sequences give up their memory for some in other engines that were
// asked for before.
func (e *Engine) yield() {
	for {
		i := len(e.running) - 1
		for i >= 0 && e.running[i].fixed {
			i--
		}
		if i < 0 || !e.memory.wants(e.running[i]) {
			return
		}
		e.preempt(e.running[i])
	}
}

// inserted is a list in the order in which sequences were asked for, with s.
func inserted(list []*sequence, s *sequence) []*sequence {
	at := len(list)
	for at > 0 && list[at-1].age > s.age {
		at--
	}
	return slices.Insert(list, at, s)
}

// settle draws the conclusions of a step for one sequence.
func (e *Engine) settle(s *sequence, err error, now time.Time) {
	switch {
	case err != nil:
		s.end(err)
		e.remove(s)
	case s.pending() > 0:
		s.told = max(s.told, s.held())
	case s.scoring():
		e.remove(s)
		s.end(nil)
	case s.stuck:
		s.end(ErrStuck)
		e.remove(s)
	case s.next < 0:
		s.end(errNaN)
		e.remove(s)
	case s.advance(now):
		e.remove(s)
	}
}

// admit starts waiting sequences as far as there is room. One that shares a
// prefix with a sequence that is computing it waits for that. Where memory is
// missing nobody overtakes.
func (e *Engine) admit() {
	answers, scores := 0, 0
	for _, s := range e.running {
		if s.scoring() {
			scores++
		} else {
			answers++
		}
	}
	// Far back in a long queue nothing can be admitted anyway.
	window := min(len(e.waiting), 8*e.opt.MaxBatch)
	full := false
	var stay []*sequence
	for _, s := range e.waiting[:window] {
		count, room := &answers, e.opt.MaxBatch
		if s.scoring() {
			count, room = &scores, 4*e.opt.MaxBatch
		}
		if full || *count >= room {
			stay = append(stay, s)
			continue
		}
		began := false
		if began, full = e.begin(s); !began {
			stay = append(stay, s)
			continue
		}
		*count++
		e.running = inserted(e.running, s)
	}
	e.waiting = append(stay, e.waiting[window:]...)
}

// begin gives a sequence its cache, from another that begins alike where there
// is one. If it does not, it is better to wait, or memory is full.
func (e *Engine) begin(s *sequence) (began, full bool) {
	var from *model.Cache
	best, soon := 0, 0
	if most := s.sharable(); most > 0 && !e.model.FeedWhole(len(s.tokens)) {
		best = e.memory.keeps(s)
		for _, r := range e.running {
			n := common(s.tokens[:most], r.tokens)
			soon = max(soon, n)
			if n = min(n, r.cache.Len()); n > best {
				best, from = n, r.cache
			}
		}
	}
	if soon >= best+worthwhile {
		return false, false
	}
	if !e.memory.begin(s, from, best) {
		e.memory.starve(s, len(s.tokens))
		return false, true
	}
	if s.begun.IsZero() {
		s.begun = time.Now()
	}
	return true, false
}

// common is the length of the common prefix.
func common(a, b []int) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// remove takes a sequence off, keeping what it has computed for a while.
func (e *Engine) remove(s *sequence) {
	e.waiting = slices.DeleteFunc(e.waiting, func(o *sequence) bool { return o == s })
	e.running = slices.DeleteFunc(e.running, func(o *sequence) bool { return o == s })
	e.memory.leave(s, true)
}
