package serve

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"expo/lm/generate/local"
)

// gaugeOf reads a number off /metrics.
func gaugeOf(t *testing.T, url, name string) float64 {
	t.Helper()
	r, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	for line := range strings.Lines(string(b)) {
		var v float64
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			if _, err := fmt.Sscan(rest, &v); err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("no %s on /metrics", name)
	return 0
}

// TestMemory has many clients of three models, half of whom go away in the
// middle, in memory for a few of them.
func TestMemory(t *testing.T) {
	m := local.NewMemory(0)
	s, url := testServer(t, func(o *Options) {
		o.Pair = tinyPairIn(t, true, m)
		o.Limits.Queue = 1000
	})
	page := int64(s.pair.SFT.Model().PageBytes())
	m.SetLimit(9 * page)
	ask := func(i int) string {
		return fmt.Sprintf(`{"model":%q,"prompt":%q,"max_tokens":%d,"temperature":1,"seed":%d,"ignore_eos":true,"stream":true,"stream_options":{"include_usage":true}}`,
			[]string{"sft", "aligned", "expo"}[i%3], strings.Repeat("abc ", 1+i%20), 40+5*(i%40), i)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			if u := m.Usage(); u.Running+u.Kept > u.Limit {
				t.Errorf("over the limit: %+v", u)
				return
			}
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Microsecond):
			}
		}
	}()
	var wg sync.WaitGroup
	for i := range 120 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			r, _ := http.NewRequestWithContext(ctx, "POST", url+"/v1/completions", strings.NewReader(ask(i)))
			if i%2 == 0 {
				time.AfterFunc(time.Duration(5*(i%60))*time.Millisecond, cancel)
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				if i%2 == 1 {
					t.Error(err)
				}
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if i%2 == 0 {
				return
			}
			if want := fmt.Sprintf(`"completion_tokens":%d`, 40+5*(i%40)); err != nil || resp.StatusCode != 200 || !strings.Contains(string(b), want) {
				t.Errorf("request %d: status %d, %v: no %s in the answer", i, resp.StatusCode, err, want)
			}
		})
	}
	wg.Wait()
	close(stop)
	<-done
	// The server may still be about to notice the last who went.
	for until := time.Now().Add(10 * time.Second); gaugeOf(t, url, "expo_kv_used_bytes") != 0 && time.Now().Before(until); {
		time.Sleep(10 * time.Millisecond)
	}
	for name, want := range map[string]float64{"expo_kv_used_bytes": 0, "expo_kv_waiting": 0, "expo_answers_running": 0, "expo_kv_limit_bytes": float64(9 * page)} {
		if got := gaugeOf(t, url, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if gaugeOf(t, url, "expo_kv_preemptions_total") == 0 {
		t.Error("nobody had to give up memory: the test tests nothing")
	}
}

func TestMemoryNever(t *testing.T) {
	m := local.NewMemory(0)
	s, url := testServer(t, func(o *Options) { o.Pair = tinyPairIn(t, true, m) })
	m.SetLimit(2 * int64(s.pair.SFT.Model().PageBytes()))
	status, doc := post(t, url+"/v1/completions", `{"model":"sft","prompt":"abc","max_tokens":200}`)
	text := fmt.Sprint(at(doc, "error", "message"))
	if status != 400 || !strings.Contains(text, "204 tokens") || !strings.Contains(text, "hold 129") || at(doc, "error", "param") != "max_tokens" {
		t.Errorf("%d %v", status, doc)
	}
	status, doc = post(t, url+"/v1/completions", fmt.Sprintf(`{"model":"sft","prompt":%q,"max_tokens":1}`, strings.Repeat("x", 150)))
	if status != 400 || !strings.Contains(fmt.Sprint(doc), "hold 129") {
		t.Errorf("%d %v", status, doc)
	}
	// Without max_tokens an answer ends where the memory does.
	status, doc = post(t, url+"/v1/chat/completions", `{"model":"sft","messages":[{"role":"user","content":"x"}],"ignore_eos":true}`)
	if status != 200 || at(doc, "usage", "total_tokens") != 129.0 || at(doc, "choices", 0, "finish_reason") != "length" {
		t.Errorf("%d %v", status, doc)
	}
}
