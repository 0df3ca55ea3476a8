package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"expo/lm/generate/local"
)

func do(t *testing.T, method, url, body string, header map[string]string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		if k == "Host" {
			req.Host = v
		}
		req.Header.Set(k, v)
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Body.Close() })
	return r
}

func TestWhoMayAsk(t *testing.T) {
	_, open := testServer(t, func(o *Options) { o.Origins = []string{"https://friend.example"} })
	_, keyed := testServer(t, func(o *Options) { o.LocalHost, o.Keys = false, []string{"first", "second"} })
	type header = map[string]string
	ask := `{"model":"sft","prompt":"x","max_tokens":1}`
	for _, c := range []struct {
		method, url, path string
		header            header
		status            int
	}{
		{"POST", open, "/v1/completions", nil, 200},
		{"POST", open, "/v1/completions", header{"Host": "localhost:1"}, 200},
		{"POST", open, "/v1/completions", header{"Host": "[::1]:8080"}, 200},
		{"POST", open, "/v1/completions", header{"Host": "evil.example"}, 403},
		{"GET", open, "/", header{"Host": "evil.example"}, 403},
		{"POST", open, "/v1/completions", header{"Origin": "https://evil.example"}, 403},
		{"POST", open, "/api/votes", header{"Sec-Fetch-Site": "cross-site"}, 403},
		{"POST", open, "/v1/completions", header{"Origin": "https://friend.example", "Sec-Fetch-Site": "cross-site"}, 200},
		{"OPTIONS", open, "/v1/completions", header{"Origin": "https://friend.example"}, 204},
		{"OPTIONS", open, "/v1/completions", header{"Origin": "https://evil.example"}, 404},
		{"GET", open, "/v1/completions", nil, 404},
		{"POST", open, "/v1/embeddings", nil, 404},
		{"GET", open, "/../server.go", nil, 404},
		{"GET", open, "/%2e%2e/server.go", nil, 404},
		{"GET", keyed, "/health", nil, 200},
		{"GET", keyed, "/", nil, 200},
		{"GET", keyed, "/metrics", nil, 401},
		{"GET", keyed, "/api/info", nil, 401},
		{"POST", keyed, "/v1/completions", nil, 401},
		{"POST", keyed, "/v1/completions", header{"Authorization": "Bearer third"}, 401},
		{"POST", keyed, "/v1/completions", header{"Authorization": "second"}, 401},
		{"POST", keyed, "/v1/completions", header{"Authorization": "Bearer second"}, 200},
		{"POST", keyed, "/v1/completions", header{"Authorization": "Bearer first", "Host": "any.example"}, 200},
	} {
		r := do(t, c.method, c.url+c.path, ask, c.header)
		if r.StatusCode != c.status {
			b, _ := io.ReadAll(r.Body)
			t.Errorf("%s %s %v: %d, want %d: %s", c.method, c.path, c.header, r.StatusCode, c.status, b)
		}
		got, want := r.Header.Get("Access-Control-Allow-Origin"), ""
		if c.header["Origin"] == "https://friend.example" {
			want = "https://friend.example"
		}
		if got != want {
			t.Errorf("%s %s %v: lets %q in, want %q", c.method, c.path, c.header, got, want)
		}
	}
}

// held is a pair whose models are made only when the test says so.
func held(t *testing.T) (p *Pair, let func()) {
	p = tinyPair(t, true)
	gate := make(chan struct{})
	mix := p.Mix
	p.Mix = func(ctx context.Context, alpha float64, into *local.Engine) (*local.Engine, error) {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return mix(ctx, alpha, into)
	}
	var once sync.Once
	let = func() { once.Do(func() { close(gate) }) }
	t.Cleanup(let)
	return p, let
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestTooMany(t *testing.T) {
	var let func()
	s, url := testServer(t, func(o *Options) { o.Pair, let = held(t); o.Limits = Limits{Concurrent: 1, Queue: 1} })
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if r := do(t, "POST", url+"/v1/completions", `{"model":"expo","prompt":"x","max_tokens":2}`, nil); r.StatusCode != 200 {
				t.Errorf("status %d", r.StatusCode)
			}
		})
	}
	eventually(t, "both wait", func() bool { return s.scheduler.load().waiting == 2 })
	r := do(t, "POST", url+"/v1/completions", `{"model":"expo","prompt":"x","max_tokens":2}`, nil)
	if r.StatusCode != 429 {
		t.Errorf("status %d, want 429", r.StatusCode)
	}
	if after, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || after < 1 || after > 60 {
		t.Errorf("Retry-After %q", r.Header.Get("Retry-After"))
	}
	let()
	wg.Wait()
}

// TestGone: whoever goes away, waiting or in the middle of an answer, leaves
// nothing behind.
func TestGone(t *testing.T) {
	before := runtime.NumGoroutine()
	var log bytes.Buffer
	var let func()
	s, url := testServer(t, func(o *Options) {
		o.Pair, let = held(t)
		o.Limits.Concurrent = 4
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	client := &http.Client{Transport: &http.Transport{}}
	for i := range 60 {
		ctx, cancel := context.WithCancel(context.Background())
		model := []string{"sft", "aligned", "expo"}[i%3]
		body := `{"model":"` + model + `","prompt":"secret words","max_tokens":400,"ignore_eos":true,"stream":true,"n":2}`
		req, err := http.NewRequestWithContext(ctx, "POST", url+"/v1/completions", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if model == "expo" && i < 30 {
			time.AfterFunc(time.Millisecond, cancel) // it waits for a model that does not come
		}
		if i == 30 {
			let()
		}
		r, err := client.Do(req)
		if err == nil {
			r.Body.Read(make([]byte, 10))
			cancel()
			r.Body.Close()
		} else if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		cancel()
	}
	eventually(t, "all places are free again", func() bool { l := s.scheduler.load(); return l.active == 0 && l.waiting == 0 })
	client.CloseIdleConnections()
	if r := do(t, "POST", url+"/v1/completions", `{"model":"sft","prompt":"x","max_tokens":2}`, nil); r.StatusCode != 200 {
		t.Errorf("status %d", r.StatusCode)
	}
	http.DefaultClient.CloseIdleConnections()
	eventually(t, "the goroutines have ended", func() bool { return runtime.NumGoroutine() < before+12 })
	eventually(t, "all is counted", func() bool { s.metrics.mu.Lock(); defer s.metrics.mu.Unlock(); return s.metrics.gone > 20 })
	s.inFlight.Wait()
	if strings.Contains(log.String(), "secret") {
		t.Error("the log has what was asked")
	}
	if !strings.Contains(log.String(), "status=499") {
		t.Errorf("the log does not tell who went away:\n%s", log.String())
	}
}

// TestLogContent: texts are in the log if that is asked for, and only then.
func TestLogContent(t *testing.T) {
	for _, content := range []bool{false, true} {
		var log bytes.Buffer
		s, url := testServer(t, func(o *Options) {
			o.Log, o.LogContent = slog.New(slog.NewTextHandler(&log, nil)), content
		})
		_, doc := post(t, url+"/v1/completions", `{"model":"sft","prompt":"secret","max_tokens":9,"temperature":0,"ignore_eos":true,"stop":["no such thing"]}`)
		answer, _ := json.Marshal(at(doc, "choices", 0, "text"))
		post(t, url+"/v1/completions", `{"model":"sft","prompt":"secret","temperature":9}`)
		s.inFlight.Wait()
		for _, text := range []string{"secret", string(answer[1:4])} {
			if strings.Contains(log.String(), text) != content {
				t.Errorf("content %v: %q in\n%s", content, text, log.String())
			}
		}
		if n := strings.Count(log.String(), "msg=request"); n != 2 {
			t.Errorf("%d lines, want 2:\n%s", n, log.String())
		}
	}
}

// TestEnd: at the end what is under way is finished, and what comes is refused.
func TestEnd(t *testing.T) {
	for _, patient := range []bool{true, false} {
		p, let := held(t)
		s, err := New(Options{Pair: p})
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		url := "http://" + l.Addr().String()
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		drain := time.Minute
		if !patient {
			drain = 50 * time.Millisecond
		}
		go func() { ended <- s.Serve(ctx, l, drain) }()
		answered := make(chan int, 1)
		go func() {
			r, err := http.Post(url+"/v1/completions", "", strings.NewReader(`{"prompt":"x","max_tokens":3,"ignore_eos":true}`))
			if err != nil {
				answered <- 0
				return
			}
			io.Copy(io.Discard, r.Body)
			r.Body.Close()
			answered <- r.StatusCode
		}()
		eventually(t, "it waits", func() bool { return s.scheduler.load().waiting == 1 })
		cancel()
		if patient {
			eventually(t, "nothing new is taken", func() bool {
				r, err := http.Get(url + "/health")
				if err != nil {
					return true
				}
				r.Body.Close()
				return r.StatusCode == 503
			})
			let()
			if got := <-answered; got != 200 {
				t.Errorf("what waited got status %d", got)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			continue
		}
		if got := <-answered; got != 503 {
			t.Errorf("what took too long got status %d, want 503", got)
		}
		if err := <-ended; err == nil {
			t.Error("nobody was told that a request was cut off")
		}
	}
}

// TestMetrics reads them as Prometheus does.
func TestMetrics(t *testing.T) {
	_, url := testServer(t, nil)
	for _, m := range []string{"sft", "expo@0.25"} {
		post(t, url+"/v1/completions", `{"model":"`+m+`","prompt":"abc","max_tokens":5,"ignore_eos":true}`)
	}
	post(t, url+"/v1/completions", `{"model":"nope","prompt":"abc"}`)
	r := do(t, "GET", url+"/metrics", "", nil)
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	line := regexp.MustCompile(`^([a-z_]+(?:\{[a-z]+="[^"]*"(?:,[a-z]+="[^"]*")*\})?) (\S+)$`)
	types := map[string]bool{}
	for _, l := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if rest, ok := strings.CutPrefix(l, "# TYPE "); ok {
			name, _, _ := strings.Cut(rest, " ")
			if types[name] {
				t.Errorf("two types of %s", name)
			}
			types[name] = true
			continue
		}
		if strings.HasPrefix(l, "# HELP ") {
			continue
		}
		m := line.FindStringSubmatch(l)
		if m == nil {
			t.Errorf("no metric: %q", l)
			continue
		}
		values[m[1]] = m[2]
	}
	for name, want := range map[string]string{
		`expo_requests_total{path="/v1/completions",status="200"}`: "2",
		`expo_requests_total{path="/v1/completions",status="404"}`: "1",
		`expo_prompt_tokens_total{model="sft"}`:                    "4",
		`expo_completion_tokens_total{model="expo"}`:               "5",
		`expo_answers_running`:                                     "0",
		`expo_models`:                                              "3",
		`expo_remix_seconds_count`:                                 "1",
		`expo_first_token_seconds_count`:                           "2",
		`expo_request_seconds_bucket{le="+Inf"}`:                   "2",
	} {
		if values[name] != want {
			t.Errorf("%s is %s, want %s", name, values[name], want)
		}
	}
}

func TestVotes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "votes.jsonl")
	v, err := OpenVotes(path)
	if err != nil {
		t.Fatal(err)
	}
	_, url := testServer(t, func(o *Options) { o.Votes = v })
	vote := func(best string) map[string]any {
		status, doc := post(t, url+"/api/votes", `{"instruction":"say <it> é","outputs":[{"generator":"expo@0.5","output":"x"},{"generator":"sft","output":"y"},{"generator":"aligned","output":"z"}],"best":`+best+`}`)
		if status != 200 {
			t.Fatalf("%d %v", status, doc)
		}
		return doc
	}
	vote("0")
	vote("0")
	vote("null")
	doc := vote("1")
	// expo against aligned: two won, one drawn; the last vote says nothing.
	var ea map[string]any
	for _, s := range doc["standings"].([]any) {
		if at(s, "model") == "expo@0.5" && at(s, "baseline") == "aligned" {
			ea = s.(map[string]any)
		}
	}
	if ea["n"] != 3.0 || ea["wins"] != 2.5 {
		t.Errorf("standings %v", doc)
	}
	// 2.5 of 3, by hand: centre (p + z²/2n)/(1 + z²/n) = 0.64616, half width 0.33618.
	if lo, hi := at(ea, "interval", 0).(float64), at(ea, "interval", 1).(float64); math.Abs(lo-30.998) > 0.01 || math.Abs(hi-98.234) > 0.01 {
		t.Errorf("interval %v to %v", lo, hi)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	if len(lines) != 2+2+3+2 {
		t.Errorf("%d rows", len(lines))
	}
	for _, l := range lines {
		var a annotation
		if err := json.Unmarshal(l, &a); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"sft": "y", "aligned": "z", "expo@0.5": "x"}
		if a.Output1 != want[a.Generator1] || a.Output2 != want[a.Generator2] || a.Generator1 == "expo@0.5" || a.Instruction != "say <it> é" {
			t.Errorf("row %s", l)
		}
	}
	r := do(t, "GET", url+"/api/votes.jsonl", "", nil)
	if got, _ := io.ReadAll(r.Body); !bytes.Equal(got, b) {
		t.Error("the download is not the file")
	}
	v.Close()

	// A row that was cut short is taken off, and the rest counts.
	if err := os.WriteFile(path, append(b, `{"instruction":"cu`...), 0o666); err != nil {
		t.Fatal(err)
	}
	again, err := OpenVotes(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := again.standings(); len(got) != 3 {
		t.Errorf("after a restart: %+v", got)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(after, b) {
		t.Error("the torn row is still there")
	}
	if err := os.WriteFile(path, []byte("not json\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenVotes(path); err == nil || !strings.Contains(err.Error(), "row 1") {
		t.Errorf("a file of something else: %v", err)
	}
}

// FuzzVotes opens files of anything.
func FuzzVotes(f *testing.F) {
	f.Add([]byte(`{"instruction":"i","output_1":"a","generator_1":"sft","output_2":"b","generator_2":"expo@1","preference":2}` + "\n"))
	f.Add([]byte("{\"preference\":null}\n\n{\"preference\":1.5}\n{"))
	f.Add([]byte("[]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "v")
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		v, err := OpenVotes(path)
		if err != nil {
			return
		}
		defer v.Close()
		// What was there to the last line's end stays, and one more fits behind.
		row := annotation{Instruction: "i", Generator1: "a", Generator2: "b", Preference: 1}
		if err := v.add([]annotation{row}); err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if whole := b[:bytes.LastIndexByte(b, '\n')+1]; !bytes.HasPrefix(after, whole) || !bytes.HasSuffix(after, []byte("}\n")) {
			t.Errorf("%q became %q", b, after)
		}
		for _, s := range v.standings() {
			if s.N < 1 || s.WinRate < 0 || s.WinRate > 100 || s.Interval[0] > s.WinRate || s.Interval[1] < s.WinRate {
				t.Errorf("standing %+v", s)
			}
		}
	})
}
