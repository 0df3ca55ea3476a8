package serve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"expo/lm/generate/local"
)

// errBusy says that too many requests wait already.
var errBusy = errors.New("too many requests are waiting")

// errClosing says that the server takes no more requests.
var errClosing = errors.New("the server is shutting down")

// A slot is a model in memory, or on its way there.
type slot struct {
	name   modelName
	engine *local.Engine // nil until it has been made
	pinned bool          // never replaced
	busy   int           // tickets that use it
	making bool          // a goroutine works on its weights
	wanted bool          // somebody waits for its memory: it takes no more tickets
	used   time.Time
	until  time.Time // until when it may not be wanted by others while it is of use
}

// A ticket is one answer's, or one score's, place in the queue.
type ticket struct {
	name     modelName
	client   *client
	ready    chan struct{} // closed when slot or err is set
	slot     *slot
	err      error
	enqueued time.Time
	waited   time.Duration
}

// A client is who shares the machine with others.
type client struct {
	id      string
	used    float64 // tokens, as the scheduler counts them
	waiting []*ticket
	active  int // tickets that hold a slot
}

// outputWeight is what a token of an answer counts for beside one of a prompt:
// prompts are computed many tokens at a time.
const outputWeight = 4

// scheduler decides who computes next, and which models are in memory.
type scheduler struct {
	concurrent int   // tickets that hold a slot, at most
	queue      int   // tickets that wait, at most
	cacheBytes int64 // of models that are not pinned; one may always be there
	mix        func(ctx context.Context, alpha float64, into *local.Engine) (*local.Engine, error)
	remixed    func(time.Duration)

	// patience bounds how long a model that has been made stays against others'
	// will: as long as making it took, so that no more than half of the time
	// goes into making models, but no longer than this.
	patience time.Duration
	again    *time.Timer // dispatches when the first such time is over

	mu      sync.Mutex
	ctx     context.Context // of making models; ends with close
	cancel  context.CancelFunc
	closing bool
	slots   []*slot
	clients map[string]*client
	floor   float64 // the least that a client who waits has had
	active  int
	waiting int
	working sync.WaitGroup
}

func newScheduler(limits Limits) *scheduler {
	s := &scheduler{concurrent: limits.Concurrent, queue: limits.Queue, patience: 30 * time.Second, clients: map[string]*client{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// pin puts a model in memory for good.
func (s *scheduler) pin(name modelName, e *local.Engine) {
	s.slots = append(s.slots, &slot{name: name, engine: e, pinned: true})
}

// enqueue takes places for n answers of one model, all or none.
func (s *scheduler) enqueue(clientID string, name modelName, n int) ([]*ticket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil, errClosing
	}
	// Places that are free now do not count as waiting.
	if s.waiting+n > s.queue+max(0, s.concurrent-s.active) {
		return nil, errBusy
	}
	c := s.clients[clientID]
	if c == nil {
		c = &client{id: clientID}
		s.clients[clientID] = c
	}
	if len(c.waiting) == 0 && c.active == 0 {
		// Who comes back has no claim from the time of absence.
		c.used = max(c.used, s.floor)
	}
	out := make([]*ticket, n)
	now := time.Now()
	for i := range out {
		out[i] = &ticket{name: name, client: c, ready: make(chan struct{}), enqueued: now}
	}
	c.waiting = append(c.waiting, out...)
	s.waiting += n
	s.dispatch()
	return out, nil
}

// wait waits until a ticket has its model.
func (s *scheduler) wait(ctx context.Context, t *ticket) (*local.Engine, error) {
	select {
	case <-t.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if t.err != nil {
		return nil, t.err
	}
	return t.slot.engine, nil
}

// charge counts tokens that have been computed for a ticket's client.
func (s *scheduler) charge(t *ticket, prompt, output int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.client.used += float64(prompt + outputWeight*output)
}

// release gives a ticket back, wherever it is.
func (s *scheduler) release(t *ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := t.client
	if i := slices.Index(c.waiting, t); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
		s.waiting--
	} else if t.slot != nil {
		t.slot.busy--
		t.slot.used = time.Now()
		t.slot = nil
		c.active--
		s.active--
	}
	s.dispatch()
	s.forget()
}

// forget drops clients that neither wait nor are ahead of the others.
func (s *scheduler) forget() {
	idle := 0
	for _, c := range s.clients {
		if len(c.waiting) == 0 && c.active == 0 {
			idle++
		}
	}
	for id, c := range s.clients {
		if len(c.waiting) == 0 && c.active == 0 && (c.used <= s.floor || idle > 1000) {
			delete(s.clients, id)
			idle--
		}
	}
}

// dispatch gives out what is free. The caller holds mu.
func (s *scheduler) dispatch() {
	for s.active < s.concurrent && s.waiting > 0 {
		t := s.next()
		if t == nil {
			return
		}
		c := t.client
		s.floor = max(s.floor, c.used)
		c.waiting = slices.Delete(c.waiting, slices.Index(c.waiting, t), slices.Index(c.waiting, t)+1)
		c.active++
		t.slot.busy++
		t.waited = time.Since(t.enqueued)
		s.waiting--
		s.active++
		close(t.ready)
	}
}

// next is the first ticket, of the client that has had least, whose model is in
// memory. Models that are missing on the way are sent for.
func (s *scheduler) next() *ticket {
	var order []*client
	missing := false
	for _, c := range s.clients {
		if len(c.waiting) > 0 {
			order = append(order, c)
		}
		missing = missing || slices.ContainsFunc(c.waiting, func(t *ticket) bool {
			return !slices.ContainsFunc(s.slots, func(sl *slot) bool { return sl.name == t.name })
		})
	}
	for _, sl := range s.slots {
		sl.wanted = sl.wanted && missing
	}
	slices.SortFunc(order, func(a, b *client) int {
		switch {
		case a.used < b.used:
			return -1
		case a.used > b.used:
			return 1
		}
		return a.waiting[0].enqueued.Compare(b.waiting[0].enqueued)
	})
	for _, c := range order {
		for _, t := range c.waiting {
			sl := s.find(t.name)
			if sl == nil {
				s.send(t.name)
				sl = s.find(t.name)
			}
			if sl != nil && !sl.making {
				t.slot = sl
				return t
			}
		}
	}
	return nil
}

// find is the slot that holds a model, or will.
func (s *scheduler) find(name modelName) *slot {
	for _, sl := range s.slots {
		if sl.name == name && !sl.wanted {
			return sl
		}
	}
	return nil
}

// send makes a model: in new memory if there is room, otherwise in that of the
// one not used for longest, which gets no more work until it is free.
func (s *scheduler) send(name modelName) {
	var bytes, largest int64
	var oldest *slot
	for _, sl := range s.slots {
		if sl.making {
			return // one at a time; dispatch comes back when it is done
		}
		if sl.engine != nil {
			largest = max(largest, sl.engine.Model().Bytes())
		}
		if sl.pinned {
			continue
		}
		bytes += sl.engine.Model().Bytes()
		if sl.wanted {
			oldest = sl
			break
		}
		if oldest == nil || oldest.busy > 0 && sl.busy == 0 || (oldest.busy > 0) == (sl.busy > 0) && sl.used.Before(oldest.used) {
			oldest = sl
		}
	}
	switch {
	case oldest == nil || !oldest.wanted && bytes+largest <= s.cacheBytes:
		sl := &slot{name: name, making: true, used: time.Now()}
		s.slots = append(s.slots, sl)
		s.make(sl, nil)
	case s.staying(oldest):
	case oldest.busy > 0:
		oldest.wanted = true
	case oldest.name == name:
		oldest.wanted = false // who wanted its memory has gone, or comes later
	default:
		oldest.name, oldest.wanted, oldest.making, oldest.used = name, false, true, time.Now()
		s.make(oldest, oldest.engine)
	}
}

// staying reports whether it is too early to take a model's memory. Then what
// wants it is looked at again in time.
func (s *scheduler) staying(sl *slot) bool {
	left := time.Until(sl.until)
	if left <= 0 || sl.wanted {
		return false
	}
	of := func(t *ticket) bool { return t.name == sl.name }
	useful := sl.busy > 0
	for _, c := range s.clients {
		useful = useful || slices.ContainsFunc(c.waiting, of)
	}
	if useful && s.again == nil {
		s.again = time.AfterFunc(left, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.again = nil
			s.dispatch()
		})
	}
	return useful
}

// warm makes a model before anybody asks for it.
func (s *scheduler) warm(name modelName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.find(name) == nil && !s.closing {
		s.send(name)
	}
}

// make computes a slot's weights and then hands out work again.
func (s *scheduler) make(sl *slot, into *local.Engine) {
	s.working.Go(func() {
		start := time.Now()
		e, err := s.mix(s.ctx, sl.name.alpha, into)
		took := time.Since(start)
		if s.remixed != nil && err == nil {
			s.remixed(took)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		now := time.Now()
		sl.making, sl.engine, sl.used, sl.until = false, e, now, now.Add(min(took, s.patience))
		if err != nil {
			// What is left in the memory is no model.
			s.slots = slices.DeleteFunc(s.slots, func(o *slot) bool { return o == sl })
			if into != nil {
				into.Model().Close()
			}
			s.fail(sl.name, fmt.Errorf("making %s: %w", sl.name, err))
		}
		s.dispatch()
	})
}

// fail ends all tickets that wait for a model.
func (s *scheduler) fail(name modelName, err error) {
	for _, c := range s.clients {
		c.waiting = slices.DeleteFunc(c.waiting, func(t *ticket) bool {
			if t.name != name {
				return false
			}
			t.err = err
			s.waiting--
			close(t.ready)
			return true
		})
	}
}

// load is what the scheduler has to do now.
type load struct {
	active, waiting, clients int
	models                   []string
	bytes                    int64
	closing                  bool
}

func (s *scheduler) load() load {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := load{active: s.active, waiting: s.waiting, clients: len(s.clients), closing: s.closing}
	for _, sl := range s.slots {
		if sl.engine != nil && !sl.making {
			l.models = append(l.models, sl.name.String())
			l.bytes += sl.engine.Model().Bytes()
		}
	}
	return l
}

// stop refuses what comes from now on; what waits is still answered.
func (s *scheduler) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
}

// close ends the making of models and gives back those that it made. All
// tickets must have been released.
func (s *scheduler) close() {
	s.stop()
	s.cancel()
	s.working.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.slots {
		if !sl.pinned && sl.engine != nil {
			sl.engine.Model().Close()
		}
	}
	s.slots = nil
	if s.again != nil {
		s.again.Stop()
	}
}
