package local

import (
	"context"
	"slices"
	"time"

	"expo/lm/model"
)

// kept is the cache of a finished sequence.
type kept struct {
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
// pieces of prompts. The caller has the turn.
func (e *Engine) step(ctx context.Context) {
	e.collect()
	e.admit()
	var batch []model.Step
	var who []*sequence
	add := func(s *sequence, n int) {
		batch = append(batch, s.step(n))
		who = append(who, s)
	}
	left := e.opt.StepTokens
	for _, s := range e.running {
		if s.pending() == 1 {
			add(s, 1)
			left--
		}
	}
	for _, s := range e.running {
		n := s.pending()
		if n == 1 {
			continue
		}
		if !e.model.FeedWhole(len(s.tokens)) {
			n = min(n, left)
		}
		if n > 0 {
			add(s, n)
			left -= n
		}
	}
	if len(batch) == 0 {
		return
	}
	errs := make([]error, len(batch))
	if err := e.model.Forward(ctx, batch); err != nil {
		// Find out whose fault it is; the caches are as they were.
		for i, s := range who {
			errs[i] = err
			if len(batch) > 1 {
				errs[i] = e.model.Forward(ctx, []model.Step{s.step(len(batch[i].Tokens))})
			}
		}
	}
	now := time.Now()
	for i, s := range who {
		e.settle(s, errs[i], now)
	}
}

// settle draws the conclusions of a step for one sequence.
func (e *Engine) settle(s *sequence, err error, now time.Time) {
	switch {
	case err != nil:
		s.end(err)
		e.remove(s)
	case s.pending() > 0:
	case s.scoring():
		e.remove(s)
		s.end(nil)
	case s.next < 0:
		s.end(errNaN)
		e.remove(s)
	case s.advance(now):
		e.remove(s)
	}
}

// admit starts waiting sequences as far as there is room. One that shares a
// prefix with a sequence that is computing it waits for that.
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
	var stay []*sequence
	for _, s := range e.waiting[:window] {
		count, room := &answers, e.opt.MaxBatch
		if s.scoring() {
			count, room = &scores, 4*e.opt.MaxBatch
		}
		if *count >= room || !e.begin(s) {
			stay = append(stay, s)
			continue
		}
		*count++
		e.running = append(e.running, s)
	}
	e.waiting = append(stay, e.waiting[window:]...)
}

// begin gives a sequence its cache, from another that begins alike where there
// is one. It reports false if it is better to wait.
func (e *Engine) begin(s *sequence) bool {
	var from *model.Cache
	best, soon, at := 0, 0, -1
	if most := s.sharable(); most > 0 && !e.model.FeedWhole(len(s.tokens)) {
		for i, k := range e.kept {
			if n := common(s.tokens[:most], k.tokens); n > best {
				best, from, at = n, k.cache, i
			}
		}
		for _, r := range e.running {
			n := common(s.tokens[:most], r.tokens)
			soon = max(soon, n)
			if n = min(n, r.cache.Len()); n > best {
				best, from, at = n, r.cache, -1
			}
		}
	}
	if soon >= best+worthwhile {
		return false
	}
	if from == nil {
		s.cache = e.model.NewCache()
	} else {
		s.cache, s.cached = from.Fork(best), best
	}
	if at >= 0 {
		// Used last, dropped last.
		k := e.kept[at]
		e.kept = append(slices.Delete(e.kept, at, at+1), k)
	}
	s.begun = time.Now()
	return true
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
	if s.cache == nil {
		return
	}
	k := kept{s.tokens[:s.cache.Len()], s.cache}
	s.cache = nil
	// What is the beginning of the new one is of no more use.
	e.kept = slices.DeleteFunc(e.kept, func(o kept) bool {
		if common(o.tokens, k.tokens) < len(o.tokens) {
			return false
		}
		o.cache.Free()
		return true
	})
	e.kept = append(e.kept, k)
	e.drop(max(e.opt.KeepTokens, 0))
}

// drop forgets what was kept longest, down to a number of tokens.
func (e *Engine) drop(tokens int) {
	n := 0
	for i := len(e.kept) - 1; i >= 0; i-- {
		if n += len(e.kept[i].tokens); n > tokens {
			for _, k := range e.kept[:i+1] {
				k.cache.Free()
			}
			e.kept = slices.Delete(e.kept, 0, i+1)
			return
		}
	}
}
