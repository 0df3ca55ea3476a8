package train

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// A team is the threads of one training run: the caller and helpers that live
// from newTeam to end. Which of them computes what never shows in a result: every
// piece of work writes elements that no other piece touches, and its sums are
// taken in an order of their own.
type team struct {
	size int
	jobs chan *job
}

// A job is f over [0, n) in pieces. worker tells threads apart that need memory
// of their own.
type job struct {
	f        func(worker, lo, hi int)
	n, piece int
	next     atomic.Int64
	wait     sync.WaitGroup
}

func newTeam(size int) *team {
	if size <= 0 {
		size = runtime.GOMAXPROCS(0)
	}
	t := &team{size: size, jobs: make(chan *job)}
	for i := range size - 1 {
		go func() {
			for j := range t.jobs {
				j.work(i + 1)
				j.wait.Done()
			}
		}()
	}
	return t
}

func (t *team) end() { close(t.jobs) }

// worth is the work, in multiplications or so, below which another thread is not
// asked to help.
const worth = 1 << 16

// do computes f over all of [0, n) in pieces of at least piece items that cost
// about cost each.
func (t *team) do(n, piece, cost int, f func(worker, lo, hi int)) {
	if n <= 0 {
		return
	}
	if t.size == 1 || n <= piece || n*cost < worth {
		f(0, 0, n)
		return
	}
	// A few pieces per thread, so that one that is held up delays the rest little.
	piece = max(piece, n/(8*t.size))
	j := &job{f: f, n: n, piece: piece}
	for range min(t.size, (n+piece-1)/piece) - 1 {
		j.wait.Add(1)
		t.jobs <- j
	}
	j.work(0)
	j.wait.Wait()
}

func (j *job) work(worker int) {
	for {
		lo := int(j.next.Add(int64(j.piece))) - j.piece
		if lo >= j.n {
			return
		}
		j.f(worker, lo, min(lo+j.piece, j.n))
	}
}
