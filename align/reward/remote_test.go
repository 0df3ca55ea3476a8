package reward

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"expo/lm/chat"
)

// A fakeServer answers as vLLM does: the reward is the length of the response,
// or what faults say.
type fakeServer struct {
	t    testing.TB
	has  string // the endpoints, with bars between them
	mode string // the form of the answers

	mu     sync.Mutex
	fault  func(n int, w http.ResponseWriter) bool // for request n of a text; true: answered
	counts map[string]int
	busy   atomic.Int64
	most   atomic.Int64
	bodies []map[string]any
}

func (s *fakeServer) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if n := s.busy.Add(1); n > s.most.Load() {
		s.most.Store(n)
	}
	defer s.busy.Add(-1)
	time.Sleep(time.Millisecond)
	kind := strings.TrimPrefix(q.URL.Path, "/")
	if !strings.Contains("|"+s.has+"|", "|"+kind+"|") || q.Method != http.MethodPost {
		http.Error(w, `{"detail":"Not Found"}`, http.StatusNotFound)
		return
	}
	if q.Header.Get("Authorization") != "Bearer secret-key" {
		http.Error(w, `{"error":{"message":"wrong key `+q.Header.Get("Authorization")+`"}}`, http.StatusUnauthorized)
		return
	}
	var body map[string]any
	if err := json.NewDecoder(q.Body).Decode(&body); err != nil {
		s.t.Errorf("body: %v", err)
	}
	var text string
	switch {
	case body["input"] != nil:
		text = body["input"].(string)
	case body["messages"] != nil:
		for _, m := range body["messages"].([]any) {
			text += m.(map[string]any)["content"].(string)
		}
	default:
		text = body["text_1"].(string) + body["text_2"].(string)
	}
	s.mu.Lock()
	if s.counts == nil {
		s.counts = map[string]int{}
	}
	s.counts[text]++
	n := s.counts[text]
	s.bodies = append(s.bodies, body)
	fault := s.fault
	s.mu.Unlock()
	if fault != nil && fault(n, w) {
		return
	}
	if strings.Contains(text, "enormous") {
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"object":"error","message":"This model's maximum context length is 8 tokens.","code":400}`)
		return
	}
	r := float64(len(text))
	var row string
	switch s.mode {
	case "score":
		row = fmt.Sprintf(`{"index":0,"object":"score","score":%v}`, r)
	case "pooling":
		row = fmt.Sprintf(`{"index":0,"object":"reward","data":[%v]}`, r)
	case "pooling all":
		row = fmt.Sprintf(`{"index":0,"object":"reward","data":[[0.5],[-3],[%v]]}`, r)
	case "two":
		row = fmt.Sprintf(`{"index":0,"label":"good","probs":[7,%v],"num_classes":2}`, r)
	case "sigmoid":
		row = fmt.Sprintf(`{"index":0,"probs":[%v],"num_classes":1}`, 1/(1+math.Exp(-r/10)))
	case "softmax":
		row = `{"index":0,"probs":[1.0],"num_classes":1}`
	case "null":
		row = `{"index":0,"probs":[null],"num_classes":1}`
	default:
		row = fmt.Sprintf(`{"index":0,"label":null,"probs":[%v],"num_classes":1}`, r)
	}
	if s.mode == "sglang" {
		fmt.Fprintf(w, `[{"embedding":[%v],"meta_info":{"id":"x"}}]`, r)
		return
	}
	fmt.Fprintf(w, `{"id":"x","object":"list","created":1,"model":"rm","data":[%s],"usage":{"prompt_tokens":3}}`, row)
}

func startServer(t testing.TB, s *fakeServer) *httptest.Server {
	s.t = t
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return srv
}

func remote(t testing.TB, opt RemoteOptions) *Remote {
	t.Helper()
	if opt.APIKey == "" {
		opt.APIKey = "secret-key"
	}
	if opt.Backoff == 0 {
		opt.Backoff = time.Millisecond
	}
	r, err := NewRemote(opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// raw are items whose text has 1, 2, … n letters.
func raw(n int) []Item {
	items := make([]Item, n)
	for i := range items {
		items[i] = Item{Response: strings.Repeat("x", i+1)}
	}
	return items
}

func TestRemoteForms(t *testing.T) {
	for _, c := range []struct {
		has, mode, path, endpoint, label string
		sigmoid                          bool
		scale                            float64
	}{
		{"classify|pooling|score", "classify", "", "", "", false, 1},
		{"classify|pooling|score", "classify", "/v1/", "", "", false, 1},
		{"pooling|score", "pooling", "/v1", "", "", false, 1},
		{"pooling", "pooling all", "", "pooling", "", false, 1},
		{"score", "score", "", "", "", false, 1},
		{"v1/score", "score", "/v1/score", "", "", false, 1},
		{"deep/pooling", "pooling", "/deep", "pooling", "", false, 1},
		{"classify", "two", "/classify", "", "1", false, 1},
		{"classify", "sigmoid", "", "", "", true, 0.1},
		{"classify", "sglang", "", "", "", false, 1},
	} {
		t.Run(c.mode+c.path, func(t *testing.T) {
			s := &fakeServer{has: c.has, mode: c.mode}
			srv := startServer(t, s)
			r := remote(t, RemoteOptions{URL: srv.URL + c.path, Endpoint: c.endpoint, Label: c.label, Sigmoid: c.sigmoid, Model: "rm", Concurrency: 3})
			got, err := r.Score(context.Background(), raw(20))
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range got {
				if want := float64(i+1) * c.scale; math.Abs(v-want) > 1e-9 {
					t.Errorf("item %d: got %v, want %v", i, v, want)
				}
			}
			if s.most.Load() > 3 {
				t.Errorf("%d requests at once, want 3", s.most.Load())
			}
			b := s.bodies[0]
			if b["model"] != "rm" || b["use_activation"] != false || b["softmax"] != false || b["activation"] != false {
				t.Errorf("body %v", b)
			}
		})
	}
}

// TestRemoteText checks what the server is given to read.
func TestRemoteText(t *testing.T) {
	tmpl, err := chat.Parse("{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}")
	if err != nil {
		t.Fatal(err)
	}
	user := []chat.Message{{Role: "user", Content: "Hi"}}
	for _, c := range []struct {
		name, kind string
		opt        RemoteOptions
		item       Item
		want       string
	}{
		{"raw", "classify", RemoteOptions{EOS: "</s>"}, Item{Prompt: "a ", Response: "b"}, `"input":"a b"`},
		{"raw ended", "classify", RemoteOptions{EOS: "</s>"}, Item{Prompt: "a ", Response: "b", Ended: true}, `"input":"a b</s>"`},
		{"server's template", "classify", RemoteOptions{}, Item{Messages: user, Response: "b"},
			`"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"b"}]`},
		{"own template", "pooling", RemoteOptions{Template: tmpl, BOS: "<s>", EOS: "</s>"}, Item{Messages: user, Response: "b"},
			`"input":"[user]Hi</s>[assistant]b</s>"`},
		{"pair", "score", RemoteOptions{}, Item{Messages: user, Response: "b"}, `"text_1":"Hi","text_2":"b"`},
		{"empty pair", "score", RemoteOptions{}, Item{Prompt: "p"}, `"text_1":"p","text_2":""`},
	} {
		c.opt.URL = "http://localhost"
		b, err := remote(t, c.opt).request(context.Background(), c.kind, c.item)
		// chat.Message escapes as JSON does; compare without the brackets' escapes.
		got := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(string(b))
		if err != nil || !strings.Contains(got, c.want) || strings.Contains(got, "encoding_format") != (c.kind == "pooling") {
			t.Errorf("%s: got %s, %v, want %s", c.name, got, err, c.want)
		}
	}
}

// TestRemoteFaults checks that what passes is tried again, and that one item's
// fault is its own.
func TestRemoteFaults(t *testing.T) {
	hijack := func(w http.ResponseWriter, partly string) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			io.WriteString(c, partly)
			c.Close()
		}
	}
	for name, fault := range map[string]func(n int, w http.ResponseWriter) bool{
		"429": func(n int, w http.ResponseWriter) bool {
			if n > 2 {
				return false
			}
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		},
		"500": func(n int, w http.ResponseWriter) bool {
			if n > 1 {
				return false
			}
			http.Error(w, "EngineCore died", http.StatusInternalServerError)
			return true
		},
		"dropped": func(n int, w http.ResponseWriter) bool {
			if n > 1 {
				return false
			}
			hijack(w, "")
			return true
		},
		"dropped within": func(n int, w http.ResponseWriter) bool {
			if n > 1 {
				return false
			}
			hijack(w, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"data\":")
			return true
		},
		"truncated": func(n int, w http.ResponseWriter) bool {
			if n > 1 {
				return false
			}
			io.WriteString(w, `{"object":"list","data":[{"index":0,"pro`)
			return true
		},
		"page": func(n int, w http.ResponseWriter) bool {
			if n > 1 {
				return false
			}
			io.WriteString(w, "<html>starting</html>")
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := startServer(t, &fakeServer{has: "classify", fault: fault})
			items := append(raw(5), Item{Response: "enormous"})
			got, err := remote(t, RemoteOptions{URL: srv.URL}).Score(context.Background(), items)
			var some *PartialError
			if !errors.As(err, &some) || some.Failed() != 1 || some.Errors[5] == nil || !strings.Contains(err.Error(), "maximum context length") {
				t.Fatalf("got %v, %v", got, err)
			}
			for i := range 5 {
				if got[i] != float64(i+1) {
					t.Errorf("item %d: got %v", i, got[i])
				}
			}
			if !math.IsNaN(got[5]) {
				t.Errorf("the one that is too long has %v", got[5])
			}
		})
	}
}

func TestRemoteFails(t *testing.T) {
	always := func(status int) func(int, http.ResponseWriter) bool {
		return func(_ int, w http.ResponseWriter) bool {
			http.Error(w, "key is secret-key", status)
			return true
		}
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, c := range []struct {
		name   string
		s      *fakeServer
		opt    RemoteOptions
		want   string
		called int // requests at most, 0: any
	}{
		{"no endpoint", &fakeServer{has: "v1/chat/completions"}, RemoteOptions{}, "no endpoint for rewards", 3},
		{"other endpoint", &fakeServer{has: "classify"}, RemoteOptions{Endpoint: "score", Concurrency: 1}, "404", 1},
		{"wrong key", &fakeServer{has: "classify"}, RemoteOptions{APIKey: "other-key", Concurrency: 1}, "401", 1},
		{"always 503", &fakeServer{has: "classify", fault: always(503)}, RemoteOptions{Attempts: 3}, "503 Service Unavailable: key is [key] (3 attempts)", 3},
		{"gone", &fakeServer{has: "classify", fault: always(502)}, RemoteOptions{Endpoint: "classify", Attempts: 2, Concurrency: 1}, "seems to be gone", 2 * givenUp},
		{"softmax", &fakeServer{has: "classify", mode: "softmax"}, RemoteOptions{}, "softmax", 0},
		{"not there", nil, RemoteOptions{URL: closed.URL, Attempts: 2}, "refused", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.s != nil {
				c.opt.URL = strings.Replace(startServer(t, c.s).URL, "http://", "http://user:pass-word@", 1)
				// The basic credentials give way to the key.
			}
			got, err := remote(t, c.opt).Score(context.Background(), raw(40))
			var some *PartialError
			if got != nil || err == nil || errors.As(err, &some) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, %v, want %q", got, err, c.want)
			}
			if strings.Contains(err.Error(), "-key") || strings.Contains(err.Error(), "pass-word") || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error tells too much: %v", err)
			}
			if c.s != nil && c.called > 0 {
				n := 0
				for _, k := range c.s.counts {
					n += k
				}
				if n > c.called {
					t.Errorf("%d requests, want at most %d", n, c.called)
				}
			}
		})
	}
}

func TestRemoteItemFaults(t *testing.T) {
	for mode, want := range map[string]string{"two": "2 outputs", "null": "null", "sigmoid": ""} {
		srv := startServer(t, &fakeServer{has: "classify", mode: mode})
		_, err := remote(t, RemoteOptions{URL: srv.URL, Endpoint: "classify"}).Score(context.Background(), raw(2))
		var some *PartialError
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", mode, err)
			}
		} else if !errors.As(err, &some) || some.Failed() != 2 || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", mode, err, want)
		}
	}
	srv := startServer(t, &fakeServer{has: "classify"})
	_, err := remote(t, RemoteOptions{URL: srv.URL, Sigmoid: true}).Score(context.Background(), raw(2)[1:])
	if err == nil || !strings.Contains(err.Error(), "no sigmoid") {
		t.Errorf("a logit as a probability: %v", err)
	}
}

// TestRemoteRetryAfter checks that the server's wish counts.
func TestRemoteRetryAfter(t *testing.T) {
	var first time.Time
	srv := startServer(t, &fakeServer{has: "classify", fault: func(n int, w http.ResponseWriter) bool {
		if n > 1 {
			if d := time.Since(first); d < time.Second {
				t.Errorf("came back after %v", d)
			}
			return false
		}
		first = time.Now()
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	}})
	if _, err := remote(t, RemoteOptions{URL: srv.URL, Endpoint: "classify"}).Score(context.Background(), raw(1)); err != nil {
		t.Error(err)
	}

	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for h, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-3": 0, "x": 0, "99999999999999999999": 0,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second, "Fri, 02 Jan 2026 03:00:00 GMT": 0,
	} {
		if got := retryAfter(h, now); got != want {
			t.Errorf("%q: got %v, want %v", h, got, want)
		}
	}
}

func TestRemoteCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	srv := startServer(t, &fakeServer{has: "classify", fault: func(_ int, w http.ResponseWriter) bool {
		cancel()
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}})
	start := time.Now()
	_, err := remote(t, RemoteOptions{URL: srv.URL, Backoff: time.Minute}).Score(ctx, raw(30))
	if !errors.Is(err, context.Canceled) || time.Since(start) > 10*time.Second {
		t.Errorf("got %v after %v", err, time.Since(start))
	}
}

func TestNewRemote(t *testing.T) {
	for _, c := range []struct {
		opt  RemoteOptions
		want string
	}{
		{RemoteOptions{URL: "localhost:8000"}, "address of a server"},
		{RemoteOptions{URL: "ftp://x"}, "address of a server"},
		{RemoteOptions{URL: ""}, "address of a server"},
		{RemoteOptions{URL: "http://u:pw@[::1"}, "the given text"},
		{RemoteOptions{URL: "http://x", Endpoint: "rerank"}, "none of classify"},
		{RemoteOptions{URL: "http://x/score", Endpoint: "classify"}, "is not the endpoint"},
		{RemoteOptions{URL: "http://x", APIKey: "a\nb"}, "API key"},
		{RemoteOptions{URL: "http://x", Label: "good"}, "not a number"},
	} {
		_, err := NewRemote(c.opt)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "pw") {
			t.Errorf("%+v: got %v, want %q", c.opt, err, c.want)
		}
	}
}

func FuzzReadScore(f *testing.F) {
	for _, s := range []string{
		`{"data":[{"score":1}]}`, `{"data":[{"probs":[0.5]}]}`, `{"data":[{"data":[[1],[2]]}]}`, `[{"embedding":[1]}]`,
		`{"data":[{"data":"AAA="}]}`, `{"data":[]}`, `{"data":[null]}`, `{"score":1e999}`, `[]`, `{}`, `null`, `{"data":[{"probs":[null]}]}`, `{"data":[[]]}`,
	} {
		f.Add([]byte(s), 0)
	}
	f.Fuzz(func(t *testing.T, b []byte, label int) {
		if label < -1 {
			label = -1
		}
		if s, err := readScore(b, label); err == nil && (math.IsNaN(s) || math.IsInf(s, 0)) {
			t.Errorf("a score of %v", s)
		}
		if s := reason(b); strings.ContainsAny(s, "\n\r") {
			t.Errorf("a reason in several lines: %q", s)
		}
	})
}
