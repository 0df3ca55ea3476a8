package openai

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// server is one of a fleet.
type server struct {
	url *url.URL

	// What greet finds out; constant after that.
	greeting sync.Mutex
	greeted  bool
	dialect  Dialect
	model    string

	// completionTokens is set when the server wants max_completion_tokens in
	// place of max_tokens.
	completionTokens atomic.Bool

	// What follows is guarded by Fleet.mu.
	busy     int       // requests under way
	failures int       // in a row
	failedAt time.Time // the last of them
	last     error
	until    time.Time // set aside up to then
	worked   bool      // it has answered
	given    error     // up, for this reason; nil if it may be asked
}

// name is the server's URL for errors.
func (s *server) name() string {
	u := *s.url
	u.RawQuery = "" // some gateways take the key there
	return u.Redacted()
}

// onTrial reports whether a server has failed so often that it gets one
// request at a time until it answers.
func (s *server) onTrial() bool { return s.failures >= 2 }

// pick waits for a server that is not set aside and takes the one with the
// least work, rather not the one called avoid. patience is what is left of
// the time to wait.
func (f *Fleet) pick(ctx context.Context, avoid *server, patience *time.Duration) (*server, error) {
	for {
		f.mu.Lock()
		now := time.Now()
		var best *server
		wake := now.Add(*patience)
		var last error
		for _, s := range f.servers {
			if s.given != nil {
				continue
			}
			if now.Before(s.until) {
				last = s.last
				if s.until.Before(wake) {
					wake = s.until
				}
				continue
			}
			if s.onTrial() && s.busy > 0 {
				last = s.last
				continue
			}
			if best == nil || best == avoid || s != avoid && s.busy < best.busy {
				best = s
			}
		}
		if best != nil {
			best.busy++
			f.stats.Attempts++
			f.mu.Unlock()
			return best, nil
		}
		changed := f.changed
		f.mu.Unlock()
		if *patience <= 0 {
			return nil, fmt.Errorf("openai: no server is available: %w", last)
		}
		timer := time.NewTimer(wake.Sub(now))
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
		}
		timer.Stop()
		*patience -= time.Since(now)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// release gives a server back and judges it by how the request ended.
func (f *Fleet) release(s *server, started time.Time, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.busy--
	s.worked = s.worked || err == nil
	now := time.Now()
	var e *Error
	switch {
	case err == nil, errors.As(err, &e) && !e.again: // it works
		s.failures, s.until = 0, time.Time{}
	case e == nil: // cancelled: says nothing about it
	case e.retryAfter >= 0 && e.Status != 0:
		s.last = err
		if until := now.Add(e.retryAfter); until.After(s.until) {
			s.until = until
		}
	case e.Status == 429: // it works; the request waits by itself
	case started.After(s.failedAt):
		// Requests that were under way together fail together, and count once.
		s.failures++
		s.failedAt, s.last = now, err
		if s.onTrial() || e.Status == 0 && !e.answered {
			s.until = now.Add(f.backoff(s.failures))
		}
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// giveUp takes a server out of the fleet for good if its failure tells that it
// will answer nobody, and reports whether the request can go to another one.
// The last server stays, so that there is someone whose error is the fleet's.
func (f *Fleet) giveUp(s *server, e *Error) bool {
	f.mu.Lock()
	left := 0
	for _, o := range f.servers {
		if o != s && o.given == nil {
			left++
		}
	}
	if left == 0 || s.given == nil && !e.hopeless(s.worked) {
		f.mu.Unlock()
		return false
	}
	first := s.given == nil
	if first {
		s.given = e
		close(f.changed)
		f.changed = make(chan struct{})
	}
	f.mu.Unlock()
	if first && f.opt.OnGiveUp != nil {
		f.opt.OnGiveUp(e)
	}
	return true
}

// others reports whether another server than s can be asked at once.
func (f *Fleet) others(s *server) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for _, o := range f.servers {
		if o != s && o.given == nil && !now.Before(o.until) && !(o.onTrial() && o.busy > 0) {
			return true
		}
	}
	return false
}

// aside gives the failure for which a server is set aside, or nil.
func (f *Fleet) aside(s *server) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Now().Before(s.until) {
		return s.last
	}
	return nil
}

// backoff is the wait after n failures in a row: doubled with each up to 64
// times the first, and then half of it at random, so that those who failed
// together do not come back together.
func (f *Fleet) backoff(n int) time.Duration {
	d := f.opt.Backoff << min(max(n-1, 0), 6)
	return d/2 + time.Duration(rand.Int64N(int64(d/2)+1))
}
