package openai

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"expo/lm/generate"
)

// refusing is a server that answers everything with one status.
func refusing(t *testing.T, status int, body string) *fake {
	s := newFake(t)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		s.mu.Lock()
		s.n++
		s.mu.Unlock()
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
	return s
}

// TestGiveUp has a fleet whose servers refuse everybody but one: they are left
// out, once each, and all requests are answered.
func TestGiveUp(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		body   string
		is     error // of a fleet that has no other server
	}{
		{"wrong key", 401, `{"error":{"message":"bad key"}}`, ErrKey},
		{"forbidden", 403, `{"error":{"message":"not you"}}`, ErrKey},
		{"no such model", 404, `{"error":{"message":"model m not found"}}`, nil},
		{"account empty", 429, `{"error":{"code":"insufficient_quota"}}`, ErrBudget},
		{"moved", 308, ``, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, dialect := range []Dialect{Standard, Detect} { // Detect begins with a list of models
				bad, good, worse := refusing(t, tt.status, tt.body), newFake(t), refusing(t, tt.status, tt.body)
				var mu sync.Mutex
				given := map[string]int{}
				f := fleet(t, func(o *Options) {
					o.Dialect, o.Attempts = dialect, 1
					o.OnGiveUp = func(err *Error) {
						mu.Lock()
						defer mu.Unlock()
						given[err.Server]++
						if err.Status != tt.status {
							t.Errorf("given up for %v, want status %d", err, tt.status)
						}
					}
				}, bad, good, worse)
				var g errgroup.Group
				const n = 50
				for i := range n {
					g.Go(func() error {
						resp, err := f.Generate(context.Background(), ask(fmt.Sprint("q", i)))
						if err == nil && resp.Text != fmt.Sprintf("[q%d]", i) {
							err = fmt.Errorf("q%d is answered %q", i, resp.Text)
						}
						return err
					})
				}
				if err := g.Wait(); err != nil {
					t.Fatal(err)
				}
				if len(given) != 2 || given[bad.URL+"/v1"] != 1 || given[worse.URL+"/v1"] != 1 {
					t.Errorf("given up are %v, want %s and %s once each", given, bad.URL, worse.URL)
				}
				before := bad.n + worse.n
				if _, err := f.Generate(context.Background(), ask("again")); err != nil || bad.n+worse.n != before {
					t.Errorf("error %v; %d further requests to servers that are given up", err, bad.n+worse.n-before)
				}
				if s := f.Stats(); s.Requests != n+1 || s.Attempts != s.Requests+s.Retries {
					t.Errorf("counted %+v", s)
				}
			}
			// All of them: an error, as of one.
			f := fleet(t, nil, refusing(t, tt.status, tt.body), refusing(t, tt.status, tt.body))
			_, err := f.Generate(context.Background(), ask("q"))
			contains(t, err, fmt.Sprint(tt.status))
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("error %v is not %v", err, tt.is)
			}
		})
	}
}

// TestGiveUpNot checks what leaves a server in the fleet: a request that is at
// fault, and a refusal of one request's content by a server that works.
func TestGiveUpNot(t *testing.T) {
	for _, status := range []int{400, 403, 413, 422, 404} {
		var servers []*fake
		for range 2 {
			s := newFake(t)
			inner := s.Config.Handler
			s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				rec := httptest.NewRecorder()
				inner.ServeHTTP(rec, req)
				if strings.Contains(rec.Body.String(), "wicked") {
					w.WriteHeader(status)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				w.Write(rec.Body.Bytes())
			})
			servers = append(servers, s)
		}
		f := fleet(t, func(o *Options) { o.OnGiveUp = func(err *Error) { t.Errorf("given up: %v", err) } }, servers...)
		for _, s := range f.servers { // either may be picked
			s.worked = true
		}
		_, err := f.Generate(context.Background(), ask("wicked"))
		contains(t, err, fmt.Sprint(status))
		if status == 400 && !errors.Is(err, generate.ErrRequest) {
			t.Errorf("error %v is not of the request", err)
		}
		if sent := servers[0].n + servers[1].n; sent != 1 {
			t.Errorf("status %d: %d requests, want 1", status, sent)
		}
	}
	// A request that is at fault says nothing about a server, be it the first.
	bad, good := refusing(t, 400, `{"error":{"message":"context length"}}`), newFake(t)
	f := fleet(t, func(o *Options) { o.OnGiveUp = func(err *Error) { t.Errorf("given up: %v", err) } }, bad, good)
	failed := 0
	for i := range 20 {
		if _, err := f.Generate(context.Background(), ask(fmt.Sprint("q", i))); err != nil {
			failed++
		}
	}
	if failed == 0 || bad.n != failed {
		t.Errorf("%d requests failed, and %d went to the server that refuses them", failed, bad.n)
	}
}
