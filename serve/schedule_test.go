package serve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"expo/lm/generate/local"
)

// dial is a scheduler over engines that nobody computes with, and a log of what
// was made.
func dial(t *testing.T, concurrent, queue int, models int64) (*scheduler, func() []string) {
	t.Helper()
	e := tinyEngine(t, tinyCheckpoint(t, 0, false), nil)
	l := Limits{Concurrent: concurrent, Queue: queue}
	s := newScheduler(l)
	s.pin(modelName{name: nameSFT}, e)
	s.patience = 0
	s.cacheBytes = models * e.Model().Bytes()
	var mu sync.Mutex
	var made []string
	s.mix = func(ctx context.Context, alpha float64, into *local.Engine) (*local.Engine, error) {
		mu.Lock()
		defer mu.Unlock()
		how := "new"
		if into != nil {
			how = "into"
		}
		made = append(made, fmt.Sprint(how, " ", alpha))
		if alpha == 13 {
			return nil, errors.New("no such luck")
		}
		return opened(ctx, local.Open, tinyCheckpoint(t, 0, false), nil)
	}
	t.Cleanup(s.close)
	return s, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(made)
	}
}

func expoAt(alpha float64) modelName { return modelName{nameExPO, alpha} }

// take enqueues one ticket and waits for its model.
func take(t *testing.T, s *scheduler, client string, name modelName) *ticket {
	t.Helper()
	ts, err := s.enqueue(client, name, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.wait(context.Background(), ts[0]); err != nil {
		t.Fatal(err)
	}
	return ts[0]
}

func granted(t *ticket) bool {
	select {
	case <-t.ready:
		return true
	default:
		return false
	}
}

func TestBusy(t *testing.T) {
	s, _ := dial(t, 2, 3, 1)
	sft := modelName{name: nameSFT}
	if _, err := s.enqueue("a", sft, 6); !errors.Is(err, errBusy) {
		t.Errorf("six at once: %v", err)
	}
	ts, err := s.enqueue("a", sft, 5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.enqueue("b", sft, 1); !errors.Is(err, errBusy) {
		t.Errorf("one too many: %v", err)
	}
	s.release(ts[4]) // went away while it waited
	more, err := s.enqueue("b", sft, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range append(ts[:4], more...) {
		s.release(x)
	}
	if l := s.load(); l.active != 0 || l.waiting != 0 {
		t.Errorf("left over: %+v", l)
	}
	s.stop()
	if _, err := s.enqueue("b", sft, 1); !errors.Is(err, errClosing) {
		t.Errorf("after the end: %v", err)
	}
}

// TestFair: who sent a flood and who asks for little get the same share.
func TestFair(t *testing.T) {
	s, _ := dial(t, 1, 1000, 1)
	sft := modelName{name: nameSFT}
	flood, err := s.enqueue("flood", sft, 50)
	if err != nil {
		t.Fatal(err)
	}
	few, err := s.enqueue("few", sft, 10)
	if err != nil {
		t.Fatal(err)
	}
	all := map[*ticket]string{}
	for _, x := range flood {
		all[x] = "flood"
	}
	for _, x := range few {
		all[x] = "few"
	}
	var order []string
	for range 20 {
		for x, who := range all {
			if granted(x) {
				order = append(order, who)
				s.charge(x, 100, 10)
				s.release(x)
				delete(all, x)
				break
			}
		}
	}
	n := 0
	for _, who := range order {
		if who == "few" {
			n++
		}
	}
	if n < 9 || n > 10 {
		t.Errorf("of the first 20 turns the small client had %d: %v", n, order)
	}
	// One who comes later does not get back what it did not use before.
	late, err := s.enqueue("late", sft, 3)
	if err != nil {
		t.Fatal(err)
	}
	for x := range all {
		if granted(x) {
			s.charge(x, 0, 1)
			s.release(x)
			delete(all, x)
			break
		}
	}
	if !granted(late[0]) || granted(late[1]) {
		t.Error("the newcomer has no turn, or all of them")
	}
	for x := range all {
		s.release(x)
	}
	for _, x := range late {
		s.release(x)
	}
}

func TestCache(t *testing.T) {
	s, made := dial(t, 8, 100, 2)
	s.release(take(t, s, "a", expoAt(1)))
	s.release(take(t, s, "a", expoAt(2)))
	s.release(take(t, s, "a", expoAt(1))) // still there
	s.release(take(t, s, "a", expoAt(3))) // in the memory of 2
	s.release(take(t, s, "a", expoAt(1)))
	if got, want := made(), []string{"new 1", "new 2", "into 3"}; !slices.Equal(got, want) {
		t.Errorf("made %v, want %v", got, want)
	}
}

// TestTurns: a model that is in use all the time makes room for another one.
func TestTurns(t *testing.T) {
	s, made := dial(t, 4, 100, 1)
	one := take(t, s, "a", expoAt(1))
	other, err := s.enqueue("b", expoAt(2), 1)
	if err != nil {
		t.Fatal(err)
	}
	// What comes for the first model now has to wait behind.
	behind, err := s.enqueue("a", expoAt(1), 1)
	if err != nil {
		t.Fatal(err)
	}
	if granted(other[0]) || granted(behind[0]) {
		t.Error("a model has been given that is not there, or should go")
	}
	s.charge(one, 100, 100)
	s.release(one)
	if _, err := s.wait(context.Background(), other[0]); err != nil {
		t.Fatal(err)
	}
	s.release(other[0])
	if _, err := s.wait(context.Background(), behind[0]); err != nil {
		t.Fatal(err)
	}
	s.release(behind[0])
	if got, want := made(), []string{"new 1", "into 2", "into 1"}; !slices.Equal(got, want) {
		t.Errorf("made %v, want %v", got, want)
	}

	// If who wanted the memory goes away, the model is used on.
	one = take(t, s, "a", expoAt(1))
	other, _ = s.enqueue("b", expoAt(2), 1)
	s.release(other[0])
	behind, _ = s.enqueue("a", expoAt(1), 1)
	if !granted(behind[0]) {
		t.Error("the model waits for nobody")
	}
	s.release(one)
	s.release(behind[0])
	if n := len(made()); n != 3 {
		t.Errorf("made %v", made())
	}
}

// TestPatience: two clients who want different models do not make the server
// spend its time on making models.
func TestPatience(t *testing.T) {
	s, made := dial(t, 2, 1000, 1)
	s.patience = time.Minute
	mix := s.mix
	s.mix = func(ctx context.Context, alpha float64, into *local.Engine) (*local.Engine, error) {
		time.Sleep(100 * time.Millisecond)
		return mix(ctx, alpha, into)
	}
	var wg sync.WaitGroup
	start := time.Now()
	for alpha, name := range []string{"a", "b"} {
		ts, err := s.enqueue(name, expoAt(float64(alpha)), 60)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range ts {
			wg.Go(func() {
				if _, err := s.wait(context.Background(), x); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond)
				s.charge(x, 10, 10)
				s.release(x)
			})
		}
	}
	wg.Wait()
	n := len(made())
	if limit := int(time.Since(start)/(200*time.Millisecond)) + 2; n > limit {
		t.Errorf("%d models made in %v, want %d at most", n, time.Since(start), limit)
	}
	if n < 2 || n > 60 {
		t.Errorf("%d models made", n)
	}
}

func TestMixFails(t *testing.T) {
	s, _ := dial(t, 4, 100, 1)
	for range 2 {
		ts, err := s.enqueue("a", expoAt(13), 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range ts {
			if _, err := s.wait(context.Background(), x); err == nil || granted(x) == false {
				t.Errorf("a model that cannot be made: %v", err)
			}
			s.release(x)
		}
	}
	s.release(take(t, s, "a", expoAt(1)))
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	hold := take(t, s, "a", expoAt(1))
	ts, _ := s.enqueue("a", expoAt(2), 1)
	if _, err := s.wait(ctx, ts[0]); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting ended with %v", err)
	}
	s.release(ts[0])
	s.release(hold)
	if l := s.load(); l.active != 0 || l.waiting != 0 {
		t.Errorf("left over: %+v", l)
	}
}
