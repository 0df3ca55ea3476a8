package local

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"expo/lm/generate"
)

// pageOf is the bytes of a page of the tiny model.
func pageOf(t testing.TB) int64 {
	return int64(tiny(t, Options{}, nil).Model().PageBytes())
}

// many are requests of all lengths, some of which begin alike.
func many(n int) []generate.Request {
	var rs []generate.Request
	for i := range n {
		r := generate.Request{Prompt: strings.Repeat(fmt.Sprintf("word %d ", i%5), 1+i%11), MaxTokens: 20 + 13*(i%12), IgnoreEOS: true}
		r.Temperature, r.Seed, r.Sample = float64(i%3)/2, 7, i
		rs = append(rs, r)
	}
	return rs
}

// watch fails the test if memory is ever over its limit, until the function
// that it returns is called.
func watch(t *testing.T, m *Memory) func() {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			if u := m.Usage(); u.Running+u.Kept > u.Limit {
				t.Errorf("%d and %d bytes held, limit %d", u.Running, u.Kept, u.Limit)
				return
			}
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Microsecond):
			}
		}
	}()
	return func() { close(stop); <-done }
}

// TestMemoryLimit sees that answers and scores are the same whatever the
// limit, that the limit holds, and that all is given back.
func TestMemoryLimit(t *testing.T) {
	page := pageOf(t)
	free := tiny(t, Options{MaxBatch: 4}, nil)
	rs := many(40)
	want := make([]generate.Response, len(rs))
	for i, r := range rs {
		want[i] = generateOne(t, free, r)
	}
	cs := []generate.Continuation{{Context: strings.Repeat("long ", 30), Text: "context"}, {Context: "short", Text: " one"}}
	wantScores, err := free.Score(context.Background(), cs)
	if err != nil {
		t.Fatal(err)
	}
	preempted := int64(0)
	for _, pages := range []int64{4, 5, 7, 11, 40} {
		t.Run(fmt.Sprint(pages), func(t *testing.T) {
			m := NewMemory(pages*page + page/2)
			// Two models of the same weights share the memory.
			engines := []*Engine{tiny(t, Options{MaxBatch: 8, Memory: m, KeepTokens: 300}, nil), tiny(t, Options{MaxBatch: 8, Memory: m}, nil)}
			stop := watch(t, m)
			var wg sync.WaitGroup
			for i, r := range rs {
				wg.Go(func() {
					got, err := engines[i%2].Generate(context.Background(), r)
					if err != nil {
						t.Error(err)
						return
					}
					if !reflect.DeepEqual(got.Tokens, want[i].Tokens) || got.Text != want[i].Text {
						t.Errorf("request %d: got %q, want %q", i, got.Text, want[i].Text)
					}
				})
			}
			wg.Go(func() {
				got, err := engines[0].Score(context.Background(), cs)
				if err != nil || !reflect.DeepEqual(got, wantScores) {
					t.Errorf("scores %v, %v; want %v", got, err, wantScores)
				}
			})
			wg.Wait()
			stop()
			u := m.Usage()
			if u.Running != 0 || u.Waiting != 0 || len(m.running) != 0 {
				t.Errorf("left behind: %+v", u)
			}
			preempted += u.Preempted
			m.dropOf(engines[0])
			m.dropOf(engines[1])
			if u := m.Usage(); u.Kept != 0 {
				t.Errorf("left behind: %+v", u)
			}
		})
	}
	if preempted == 0 {
		t.Error("no sequence has had to give up its memory: the test tests nothing")
	}
}

// TestMemoryAbandoned ends requests at all stages.
func TestMemoryAbandoned(t *testing.T) {
	m := NewMemory(5 * pageOf(t))
	engines := []*Engine{tiny(t, Options{MaxBatch: 8, Memory: m}, nil), tiny(t, Options{MaxBatch: 8, Memory: m}, nil)}
	defer watch(t, m)()
	var wg sync.WaitGroup
	var finished atomic.Int64
	for i, r := range many(200) {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if i%4 != 0 {
				time.AfterFunc(time.Duration(i%50)*time.Millisecond, cancel)
			}
			n := 0
			for _, err := range engines[i%2].Stream(ctx, r) {
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
					return
				}
				if n++; i%4 == 1 && n == i%30 {
					return // its reader goes away
				}
			}
			finished.Add(1)
		})
	}
	wg.Wait()
	if u := m.Usage(); u.Running != 0 || u.Waiting != 0 || len(m.running) != 0 {
		t.Errorf("left behind: %+v", u)
	}
	if finished.Load() < 50 {
		t.Errorf("%d finished, want at least those that nobody ended", finished.Load())
	}
}

// TestMemoryStalled sees that a reader who does not read holds up nobody.
func TestMemoryStalled(t *testing.T) {
	page := pageOf(t)
	m := NewMemory(4 * page)
	engines := []*Engine{tiny(t, Options{Memory: m}, nil), tiny(t, Options{Memory: m}, nil)}
	first := generate.Request{Prompt: "one", MaxTokens: 240, IgnoreEOS: true}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if _, err := engines[1].Generate(context.Background(), generate.Request{Prompt: "other", MaxTokens: 200, IgnoreEOS: true}); err != nil {
			t.Error(err)
		}
	})
	for range engines[0].Stream(context.Background(), first) {
		// A younger one of its own engine drives it to its end.
		r := generateOne(t, engines[0], generate.Request{Prompt: "two", MaxTokens: 200, IgnoreEOS: true})
		if len(r.Tokens) != 200 {
			t.Errorf("%d tokens", len(r.Tokens))
		}
		break
	}
}

func TestMemoryNever(t *testing.T) {
	page := pageOf(t)
	e := tiny(t, Options{Memory: NewMemory(2*page + 1)}, nil)
	if got := e.Capacity(); got != 129 {
		t.Errorf("capacity %d, want 129", got)
	}
	r := generate.Request{Tokens: make([]int, 100), MaxTokens: 30}
	_, err := e.Generate(context.Background(), r)
	if !errors.Is(err, ErrMemory) || !strings.Contains(err.Error(), "130 tokens") || !strings.Contains(err.Error(), "hold 129") {
		t.Errorf("%v", err)
	}
	for r.MaxTokens = range 2 {
		r.IgnoreEOS = true
		if r.MaxTokens == 1 {
			r.MaxTokens = 29
		}
		if got := generateOne(t, e, r); len(got.Tokens) != 29 || got.FinishReason != generate.Length {
			t.Errorf("max_tokens %d: %d tokens, %s", r.MaxTokens, len(got.Tokens), got.FinishReason)
		}
	}
	if _, err := e.Score(context.Background(), []generate.Continuation{{Context: strings.Repeat("x", 140), Text: "y"}}); !errors.Is(err, ErrMemory) {
		t.Errorf("score: %v", err)
	}
}

// TestMemoryOrder sees that those who wait for memory get it in the order in
// which they asked, large or small.
func TestMemoryOrder(t *testing.T) {
	m := NewMemory(4 * pageOf(t))
	e := tiny(t, Options{Memory: m}, nil)
	var all []*sequence
	for i := range 12 {
		n := 200 // of 256: one at a time
		if i%4 == 3 {
			n = 20
		}
		tokens := make([]int, n)
		for k := range tokens {
			tokens[k] = 4 + (i+k)%90
		}
		s, err := e.start(context.Background(), generate.Request{Tokens: tokens, MaxTokens: 10, IgnoreEOS: true})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	var wg sync.WaitGroup
	for _, s := range all {
		wg.Go(func() {
			if err := s.engine.wait(context.Background(), s, s.finished); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, s := range all[1:] {
		if s.begun.Before(all[i].begun) {
			t.Errorf("sequence %d began before sequence %d", i+1, i)
		}
	}
}
