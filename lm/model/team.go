package model

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A team is the threads of one Forward: the caller and size−1 helpers, which
// live from newTeam to end. A layer has half a dozen steps of some ten
// microseconds each, so helpers wait for the next step by looking rather than
// by sleeping, for as long as steps follow each other closely.
type team struct {
	size    int
	current atomic.Pointer[job]
	idle    atomic.Int32
	wake    chan struct{}
	ended   sync.WaitGroup
}

// A job is one step: f over [0, n) in pieces. Whoever is free takes the next
// piece; which thread computes what never changes a result. worker, below the
// team's size, tells threads apart that need memory of their own.
type job struct {
	f        func(worker, lo, hi int)
	n, piece int
	next     atomic.Int64 // first item nobody has taken
	done     atomic.Int64 // items computed
}

func newTeam(size int) *team {
	t := &team{size: max(size, 1)}
	t.wake = make(chan struct{}, t.size)
	for i := range t.size - 1 {
		t.ended.Go(func() { t.help(i + 1) })
	}
	return t
}

// end lets the helpers go.
func (t *team) end() {
	t.publish(&job{n: -1})
	t.ended.Wait()
}

func (t *team) publish(j *job) {
	t.current.Store(j)
	for range t.idle.Load() {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// do computes f over all of [0, n), in pieces of whole units. cost is the
// multiplications per item, roughly; what is not worth sharing is not shared.
func (t *team) do(n, unit, cost int, f func(worker, lo, hi int)) {
	const worth = 1 << 15
	if n <= 0 {
		return
	}
	if t.size == 1 || n <= unit || n*cost < worth {
		f(0, 0, n)
		return
	}
	// A few pieces per thread, so that one that is held up elsewhere delays the
	// rest by little.
	piece := (n + 4*t.size - 1) / (4 * t.size)
	piece = (piece + unit - 1) / unit * unit
	j := &job{f: f, n: n, piece: piece}
	t.publish(j)
	j.work(0)
	for spin := 0; j.done.Load() < int64(n); spin++ {
		switch {
		case spin > spins+2000:
			// The other thread has lost its processor to another program, and may
			// want ours.
			time.Sleep(20 * time.Microsecond)
		case spin > spins:
			runtime.Gosched()
		}
	}
}

// spins is how often to look before letting other goroutines run; some µs.
const spins = 4000

func (j *job) work(worker int) {
	for {
		lo := int(j.next.Add(int64(j.piece))) - j.piece
		if lo >= j.n {
			return
		}
		hi := min(lo+j.piece, j.n)
		j.f(worker, lo, hi)
		j.done.Add(int64(hi - lo))
	}
}

func (t *team) help(worker int) {
	var last *job
	for {
		j := t.await(last)
		if j.n < 0 {
			return
		}
		j.work(worker)
		last = j
	}
}

// await returns the job after last.
func (t *team) await(last *job) *job {
	for spin := 0; spin < spins+200; spin++ {
		if j := t.current.Load(); j != last {
			return j
		}
		if spin > spins {
			runtime.Gosched()
		}
	}
	for {
		t.idle.Add(1)
		j := t.current.Load()
		if j == last {
			<-t.wake
			j = t.current.Load()
		}
		t.idle.Add(-1)
		if j != last {
			return j
		}
	}
}
