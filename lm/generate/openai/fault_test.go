package openai

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"expo/lm/chat"
	"expo/lm/generate"
)

func ask(text string) generate.Request {
	return generate.Request{Messages: []chat.Message{{Role: "user", Content: text}}, MaxTokens: 16}
}

// TestFaults asks a fleet whose servers fail in every way for 600 answers: all
// come, each to its question, and no server was asked again for one that had
// arrived.
func TestFaults(t *testing.T) {
	var servers []*fake
	for range 3 {
		s := newFake(t)
		// Every other request fails, all kinds in turn.
		s.fault = func(n int) fault {
			if n%2 == 0 {
				return none
			}
			f := fault(1 + n/2%int(faultKinds-1))
			if f == slow && n > 60 { // each takes the time that an answer has
				f = internal
			}
			return f
		}
		servers = append(servers, s)
	}
	var retries atomic.Int64
	f := fleet(t, func(o *Options) {
		o.Timeout = 1500 * time.Millisecond
		o.Attempts = 40
		o.OnRetry = func(error, time.Duration) { retries.Add(1) }
	}, servers...)
	const n = 600
	g, ctx := errgroup.WithContext(context.Background())
	texts := make([]string, n)
	for i := range n {
		g.Go(func() error {
			resp, err := f.Generate(ctx, ask(fmt.Sprint("q", i)))
			texts[i] = resp.Text
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	total, faults := 0, [faultKinds]int{}
	answered := map[string]int{}
	for _, s := range servers {
		total += s.n
		for k, v := range s.faults {
			faults[k] += v
		}
		for k, v := range s.answers {
			answered[k] += v
		}
	}
	for i, got := range texts {
		q := fmt.Sprint("q", i)
		if want := "[" + q + "]"; got != want {
			t.Errorf("%s was answered %q, want %q", q, got, want)
		}
		if answered[q] != 1 {
			t.Errorf("%s was answered %d times", q, answered[q])
		}
	}
	for k := none + 1; k < faultKinds; k++ {
		if faults[k] == 0 {
			t.Errorf("fault %d did not occur", k)
		}
	}
	stats := f.Stats()
	if stats.Requests != n || stats.Attempts != total || stats.Retries != total-n || int(retries.Load()) != stats.Retries {
		t.Errorf("counted %+v and %d calls of OnRetry; the servers saw %d requests", stats, retries.Load(), total)
	}
	if stats.PromptTokens != 7*n || stats.CompletionTokens != 3*n {
		t.Errorf("counted %d and %d tokens, want %d and %d", stats.PromptTokens, stats.CompletionTokens, 7*n, 3*n)
	}
	t.Logf("%d requests, %d faults, %d answers", total, total-faults[none], n)
}

// TestDeadServer checks that a server that is down is left alone, and taken
// back when it answers again.
func TestDeadServer(t *testing.T) {
	good, bad := newFake(t), newFake(t)
	var down atomic.Bool
	down.Store(true)
	bad.fault = func(int) fault {
		if down.Load() {
			return unavailable
		}
		return none
	}
	good.delay, bad.delay = 2*time.Millisecond, 2*time.Millisecond
	f := fleet(t, func(o *Options) { o.Jobs = 4; o.Backoff = 20 * time.Millisecond }, bad, good)
	round := func(n int) {
		t.Helper()
		var g errgroup.Group
		for i := range n {
			g.Go(func() error { _, err := f.Generate(context.Background(), ask(fmt.Sprint(i))); return err })
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	round(60)
	if bad.n > 20 {
		t.Errorf("a server that is down was asked %d times, want few", bad.n)
	}
	if len(good.answers) != 60 {
		t.Errorf("the good server answered %d of 60", len(good.answers))
	}
	down.Store(false)
	for deadline := time.Now().Add(10 * time.Second); len(bad.answers) == 0 && time.Now().Before(deadline); {
		round(8)
	}
	if len(bad.answers) == 0 {
		t.Error("a server that has recovered is not asked")
	}
}

func TestBalance(t *testing.T) {
	a, b := newFake(t), newFake(t)
	a.delay, b.delay = 10*time.Millisecond, 30*time.Millisecond
	f := fleet(t, func(o *Options) { o.Jobs = 8 }, a, b)
	var g errgroup.Group
	for i := range 80 {
		g.Go(func() error { _, err := f.Generate(context.Background(), ask(fmt.Sprint(i))); return err })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if a.n <= b.n || b.n < 8 {
		t.Errorf("a server three times as fast got %d requests, the slow one %d", a.n, b.n)
	}
	if a.most+b.most > 8 {
		t.Errorf("up to %d and %d requests at once, want 8 in all", a.most, b.most)
	}
}

func TestHardErrors(t *testing.T) {
	const key = "sk-secret-0123456789"
	tests := []struct {
		name   string
		status int
		body   string
		is     error
		says   []string
	}{
		{"wrong key", 401, `{"error":{"message":"Incorrect API key provided: ` + key + `. Or sk-abcd***wxyz.","code":"invalid_api_key"}}`, ErrKey, []string{"invalid_api_key", "[key]"}},
		{"no money", 429, `{"error":{"message":"You exceeded your quota","type":"insufficient_quota","code":"insufficient_quota"}}`, ErrBudget, []string{"quota"}},
		{"too long", 400, `{"error":{"message":"maximum context length is 4096","param":"messages","code":"context_length_exceeded"}}`, generate.ErrRequest, []string{"4096"}},
		{"FastAPI", 422, `{"detail":[{"loc":["body","prompt"],"msg":"field required"}]}`, generate.ErrRequest, []string{"field required"}},
		{"a text as error", 404, `{"error":"model 'm' not found"}`, nil, []string{"404", "model 'm' not found"}},
		{"page", 404, "<html>\n<body>nginx</body></html>", nil, []string{"404"}},
		{"redirect", 301, "", nil, []string{"redirects to https://elsewhere.example/v1/"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			s := newFake(t)
			s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n++
				if got := r.Header.Get("Authorization"); got != "Bearer "+key {
					t.Errorf("Authorization is %q", got)
				}
				if tt.status == 301 {
					w.Header().Set("Location", "https://elsewhere.example/v1/")
				}
				if strings.HasPrefix(tt.body, "<") {
					w.Header().Set("Content-Type", "text/html")
				}
				w.WriteHeader(tt.status)
				w.Write([]byte(tt.body))
			})
			f := fleet(t, func(o *Options) { o.APIKey = key }, s)
			_, err := f.Generate(context.Background(), ask("x"))
			contains(t, err, tt.says...)
			if n != 1 {
				t.Errorf("asked %d times, want once", n)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("error %q is not %q", err, tt.is)
			}
			for _, secret := range []string{key, "wxyz", "\n"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("error %q has %q in it", err, secret)
				}
			}
		})
	}
}

func TestGivingUp(t *testing.T) {
	t.Run("attempts", func(t *testing.T) {
		s := newFake(t)
		s.fault = func(int) fault { return internal }
		f := fleet(t, func(o *Options) { o.Attempts = 3 }, s)
		_, err := f.Generate(context.Background(), ask("x"))
		contains(t, err, "500", "out of memory", "gave up after 3 attempts")
		if s.n != 3 {
			t.Errorf("asked %d times, want 3", s.n)
		}
	})
	t.Run("patience", func(t *testing.T) {
		s := newFake(t)
		s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(429)
		})
		f := fleet(t, nil, s)
		start := time.Now()
		_, err := f.Generate(context.Background(), ask("x"))
		contains(t, err, "429", "1h0m0s until the next attempt")
		if time.Since(start) > 5*time.Second {
			t.Error("waited for what takes too long")
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		s := newFake(t)
		s.Close()
		f := fleet(t, func(o *Options) { o.Attempts = 2 }, s)
		_, err := f.Generate(context.Background(), ask("x"))
		contains(t, err, "127.0.0.1", "refused")
	})
	t.Run("cancelled", func(t *testing.T) {
		s := newFake(t)
		s.fault = func(int) fault { return slow }
		f := fleet(t, nil, s)
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if _, err := f.Generate(ctx, ask("x")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", err)
		}
	})
}

// TestRetryAfter checks that a server is left alone as long as it asks.
func TestRetryAfter(t *testing.T) {
	s := newFake(t)
	var times []time.Time
	handler := s.Config.Handler
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		times = append(times, time.Now())
		if len(times) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(503)
			return
		}
		handler.ServeHTTP(w, r)
	})
	f := fleet(t, nil, s)
	if _, err := f.Generate(context.Background(), ask("x")); err != nil {
		t.Fatal(err)
	}
	if d := times[1].Sub(times[0]); d < 900*time.Millisecond {
		t.Errorf("came back after %v, want a second", d)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, value string
		want        time.Duration
	}{
		{"Retry-After", "7", 7 * time.Second},
		{"Retry-After", "0.25", 250 * time.Millisecond},
		{"Retry-After", "Sun, 01 Mar 2026 12:00:30 GMT", 30 * time.Second},
		{"Retry-After", "Sun, 01 Mar 2026 11:00:00 GMT", 0},
		{"Retry-After", "soon", -1},
		{"Retry-After", "-5", -1},
		{"Retry-After", "NaN", -1},
		{"Retry-After", "1e300", 24 * time.Hour},
		{"Retry-After-Ms", "1500", 1500 * time.Millisecond},
		{"X", "1", -1},
	} {
		if got := retryAfter(http.Header{tt.name: {tt.value}}, now); got != tt.want {
			t.Errorf("%s: %s is %v, want %v", tt.name, tt.value, got, tt.want)
		}
	}
}

func TestBudget(t *testing.T) {
	s := newFake(t)
	// An answer costs 7·1 + 3·2 = 13 millionths; at most 11 + 16·2 = 43.
	price := Price{Input: 1, Output: 2}
	budget := NewBudget(200e-6)
	two := []*Fleet{fleet(t, func(o *Options) { o.Price, o.Budget, o.Jobs = price, budget, 4 }, s), fleet(t, func(o *Options) { o.Price, o.Budget, o.Jobs = price, budget, 4 }, s)}
	var g errgroup.Group
	var refused atomic.Int64
	for i := range 40 {
		g.Go(func() error {
			_, err := two[i%2].Generate(context.Background(), ask(fmt.Sprint("question ", i)))
			if errors.Is(err, ErrBudget) {
				refused.Add(1)
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	// As long as 157 are spent at most, another fits.
	if want := 13; s.n != want || int(refused.Load()) != 40-want {
		t.Errorf("%d were asked and %d refused, want %d and %d", s.n, refused.Load(), want, 40-want)
	}
	if got := two[0].Stats().Cost + two[1].Stats().Cost; got < 13*13e-6-1e-12 || got > 13*13e-6+1e-12 {
		t.Errorf("cost %v, want %v", got, 13*13e-6)
	}
}

func TestPrices(t *testing.T) {
	list := ListPrices()
	for _, tt := range []struct {
		model string
		want  Price
		ok    bool
	}{
		{"gpt-4o-2024-08-06", Price{2.5, 10}, true},
		{"gpt-4o-2024-05-13", Price{5, 15}, true},
		{"openai/gpt-4o-mini", Price{0.15, 0.6}, true},
		{"gpt-4-1106-preview", Price{10, 30}, true},
		{"gpt-4-0613", Price{30, 60}, true},
		{"gpt-4-turbo-2024-04-09", Price{10, 30}, true},
		{"gpt-5-chat-latest", Price{}, false},
		{"gpt-4-vision-preview", Price{}, false},
		{"meta-llama/Llama-3-8B", Price{}, false},
		{"", Price{}, false},
	} {
		if got, ok := PriceOf(list, tt.model); got != tt.want || ok != tt.ok {
			t.Errorf("%s costs %v, %v, want %v, %v", tt.model, got, ok, tt.want, tt.ok)
		}
	}
	table, err := ParsePrices([]byte(`{"m": {"input": 3, "output": 4.5}}`))
	if err != nil || table["m"] != (Price{3, 4.5}) {
		t.Errorf("table is %v, %v", table, err)
	}
	for _, text := range []string{`{"m": {"input": 3}}`, `{"m": 3}`, `[]`, `{"m": {"input": -1, "output": 0}}`} {
		if _, err := ParsePrices([]byte(text)); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
	e := Price{1, 2}.Estimate(ask("12345678"), generate.Request{Tokens: []int{1, 2, 3}, MaxTokens: 4})
	if want := (Estimate{2, 13, 20, 53e-6}); e != want {
		t.Errorf("estimate is %+v, want %+v", e, want)
	}
}

func TestNew(t *testing.T) {
	for _, bad := range []string{"", "localhost:8000", "ftp://x/v1", "http://", "http://us er:pw@h/%zz"} {
		_, err := New(Options{BaseURLs: []string{bad}})
		if err == nil {
			t.Errorf("%q is accepted", bad)
		} else if strings.Contains(err.Error(), "pw") {
			t.Errorf("error %q shows the password", err)
		}
	}
	for in, want := range map[string]string{
		"http://h:1":                       "http://h:1/v1",
		"http://h:1/":                      "http://h:1/v1",
		"https://h/api/v3/":                "https://h/api/v3",
		"https://h/v1/chat/completions":    "https://h/v1",
		"https://h/v1?api-version=2024#x":  "https://h/v1?api-version=2024",
		"https://user:password@h/openai/x": "https://user:password@h/openai/x",
	} {
		u, err := baseURL(in)
		if err != nil || u.String() != want {
			t.Errorf("%s is %v (%v), want %s", in, u, err, want)
		}
	}
	if got := (&server{url: must(baseURL("https://user:password@h/v1?key=abc"))}).name(); strings.Contains(got, "password") || strings.Contains(got, "abc") {
		t.Errorf("errors would name %s", got)
	}
	if !slices.Equal([]Dialect{Detect, VLLM}, []Dialect{must(ParseDialect("auto")), must(ParseDialect("vllm"))}) {
		t.Error("dialects are not read")
	}
	if _, err := ParseDialect("VLLM2"); err == nil {
		t.Error("any dialect is accepted")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
