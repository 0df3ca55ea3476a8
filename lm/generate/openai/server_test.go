package openai

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// fault is what a test server does in place of answering.
type fault int

const (
	none fault = iota
	tooMany
	internal
	unavailable
	drop       // the connection is closed
	slow       // the body does not end in time
	truncated  // the JSON breaks off
	html       // a page, with status 200
	hidden     // an error, with status 200
	noChoices  // an answer without one
	cutBody    // fewer bytes than announced
	faultKinds // their number
)

// fake is a server that answers a chat with the last message in brackets.
// Prompts begin with a key; how often each was answered is counted.
type fake struct {
	*httptest.Server
	owner string // of its model
	// fault chooses what to do with the nth request, from 0.
	fault func(n int) fault
	// answer, if not nil, makes the document of an answer.
	answer func(path string, body map[string]any) any

	mu      sync.Mutex
	n       int
	bodies  []map[string]any
	faults  [faultKinds]int
	answers map[string]int
	headers []http.Header
	inside  int
	most    int // requests at once
	delay   time.Duration
}

func newFake(t testing.TB) *fake {
	s := &fake{answers: map[string]int{}, owner: "someone"}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *fake) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method == http.MethodGet && req.URL.Path == "/v1/models" {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"object":"list","data":[{"id":"m","owned_by":%q}]}`, s.owner)
		return
	}
	raw, _ := io.ReadAll(req.Body)
	var body map[string]any
	if err := json.Unmarshal(raw, &body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	f := none
	if s.fault != nil {
		f = s.fault(s.n)
	}
	s.n++
	s.faults[f]++
	s.bodies = append(s.bodies, body)
	s.headers = append(s.headers, req.Header)
	s.inside++
	s.most = max(s.most, s.inside)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.inside--
		s.mu.Unlock()
	}()
	time.Sleep(s.delay)

	text := prompt(body)
	doc, _ := json.Marshal(map[string]any{
		"model":   "m-2026",
		"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "text": "[" + text + "]", "message": map[string]any{"role": "assistant", "content": "[" + text + "]"}}},
		"usage":   map[string]any{"prompt_tokens": 7, "completion_tokens": 3},
	})
	if s.answer != nil {
		doc, _ = json.Marshal(s.answer(req.URL.Path, body))
	}
	w.Header().Set("Content-Type", "application/json")
	switch f {
	case none:
		s.mu.Lock()
		s.answers[text]++
		s.mu.Unlock()
		w.Write(doc)
	case tooMany:
		w.Header().Set("Retry-After", "0.005")
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, `{"error":{"message":"slow down","code":"rate_limit_exceeded"}}`)
	case internal:
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, `{"error":{"message":"out of memory"}}`)
	case unavailable:
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "<html>bad gateway</html>")
	case drop:
		conn, _, _ := w.(http.Hijacker).Hijack()
		conn.Close()
	case slow:
		w.Write(doc[:len(doc)/2])
		w.(http.Flusher).Flush()
		select {
		case <-req.Context().Done():
		case <-time.After(10 * time.Second):
		}
	case truncated:
		w.Write(doc[:len(doc)/2])
	case html:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, "<html><body>sign in</body></html>")
	case hidden:
		io.WriteString(w, `{"error":{"message":"upstream failed","code":502}}`)
	case noChoices:
		io.WriteString(w, `{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":0}}`)
	case cutBody:
		w.Header().Set("Content-Length", fmt.Sprint(len(doc)))
		w.Write(doc[:len(doc)/2])
	}
}

// prompt is the text of a request.
func prompt(body map[string]any) string {
	if s, ok := body["prompt"].(string); ok {
		return s
	}
	messages, _ := body["messages"].([]any)
	if len(messages) == 0 {
		return ""
	}
	s, _ := messages[len(messages)-1].(map[string]any)["content"].(string)
	return s
}

// fleet makes a fleet of servers that waits hardly ever.
func fleet(t testing.TB, change func(*Options), servers ...*fake) *Fleet {
	t.Helper()
	opt := Options{Model: "m", Dialect: Standard, Backoff: time.Millisecond, Timeout: 5 * time.Second}
	for _, s := range servers {
		opt.BaseURLs = append(opt.BaseURLs, s.URL)
	}
	if change != nil {
		change(&opt)
	}
	f, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func contains(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}
