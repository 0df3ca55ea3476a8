package serve

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"expo/lm/generate/local"
)

// metrics are counters in the sense of Prometheus
// (https://prometheus.io/docs/concepts/metric_types/).
type metrics struct {
	mu         sync.Mutex
	requests   map[string]int64 // by labels
	prompt     map[string]int64 // tokens, by family
	completion map[string]int64
	cached     int64
	gone       int64
	average    float64 // seconds of an answer, recent ones counting more

	queued, first, total, remix histogram
}

// histogram counts values up to each bound, in seconds.
type histogram struct {
	mu     sync.Mutex
	counts [len(bounds) + 1]int64
	sum    float64
}

var bounds = [...]float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}

func newMetrics() *metrics {
	return &metrics{requests: map[string]int64{}, prompt: map[string]int64{}, completion: map[string]int64{}}
}

func (h *histogram) observe(x float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, _ := slices.BinarySearch(bounds[:], x)
	h.counts[i]++
	h.sum += x
}

// request counts a request that has ended.
func (m *metrics) request(pattern string, status int, e *entry, took time.Duration) {
	_, path, _ := strings.Cut(pattern, " ")
	if path == "" {
		path = "other"
	}
	m.mu.Lock()
	m.requests[fmt.Sprintf(`path=%q,status="%d"`, path, status)]++
	family := e.model.family()
	if e.usage.Total > 0 {
		m.prompt[family] += int64(e.usage.Prompt)
		m.completion[family] += int64(e.usage.Completion)
		m.cached += int64(e.usage.Details.Cached)
		seconds := took.Seconds()
		if m.average == 0 {
			m.average = seconds
		}
		m.average += (seconds - m.average) / 16
	}
	if status == statusClosed {
		m.gone++
	}
	m.mu.Unlock()
	if e.usage.Total > 0 {
		m.total.observe(took.Seconds())
	}
}

// retryAfter is when, in seconds, it may be worth asking again.
func (m *metrics) retryAfter(l load) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	seconds := m.average * float64(l.waiting) / float64(max(1, l.active)) / 2
	return int(math.Ceil(min(max(seconds, 1), 60)))
}

// memoryUsage is that of the engines together.
func (s *Server) memoryUsage() local.MemoryUsage {
	ms := []*local.Memory{s.reference(modelName{}).Memory()}
	if s.pair != nil {
		if m := s.pair.SFT.Memory(); m != ms[0] {
			ms = append(ms, m)
		}
	}
	var sum local.MemoryUsage
	for _, m := range ms {
		u := m.Usage()
		sum.Limit += u.Limit
		sum.Running += u.Running
		sum.Kept += u.Kept
		sum.Waiting += u.Waiting
		sum.Preempted += u.Preempted
	}
	return sum
}

// showMetrics is GET /metrics.
func (s *Server) showMetrics(w http.ResponseWriter, r *http.Request) {
	var b bytes.Buffer
	m, l := s.metrics, s.scheduler.load()
	head := func(name, kind, help string) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	}
	gauge := func(name, help string, v float64) {
		head(name, "gauge", help)
		fmt.Fprintf(&b, "%s %v\n", name, v)
	}
	byLabel := func(name, help, label string, values map[string]int64) {
		head(name, "counter", help)
		keys := make([]string, 0, len(values))
		for k := range values {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			labels := k
			if label != "" {
				labels = label + "=" + strconv.Quote(k)
			}
			fmt.Fprintf(&b, "%s{%s} %d\n", name, labels, values[k])
		}
	}
	m.mu.Lock()
	byLabel("expo_requests_total", "Requests that have ended, by path and status; 499: the client went away.", "", m.requests)
	byLabel("expo_prompt_tokens_total", "Tokens of prompts, by model.", "model", m.prompt)
	byLabel("expo_completion_tokens_total", "Tokens of answers, by model.", "model", m.completion)
	head("expo_cached_prompt_tokens_total", "counter", "Tokens of prompts that had been computed before.")
	fmt.Fprintf(&b, "expo_cached_prompt_tokens_total %d\n", m.cached)
	head("expo_disconnects_total", "counter", "Requests whose client went away.")
	fmt.Fprintf(&b, "expo_disconnects_total %d\n", m.gone)
	m.mu.Unlock()
	gauge("expo_answers_running", "Answers being computed.", float64(l.active))
	gauge("expo_answers_waiting", "Answers waiting for their turn.", float64(l.waiting))
	gauge("expo_clients", "Clients whose share of the machine is being kept.", float64(l.clients))
	gauge("expo_models", "Models in memory.", float64(len(l.models)))
	gauge("expo_model_bytes", "Memory of their weights, in bytes.", float64(l.bytes))
	u := s.memoryUsage()
	gauge("expo_kv_limit_bytes", "Most memory of keys and values, in bytes; 0: no limit.", float64(u.Limit))
	gauge("expo_kv_used_bytes", "Memory of the keys and values of answers under way, in bytes; what they share counts once.", float64(u.Running))
	gauge("expo_kv_kept_bytes", "Memory of those kept in case another prompt begins alike, in bytes; it is given up for answers.", float64(u.Kept))
	gauge("expo_kv_waiting", "Answers that wait for memory, of those next in turn.", float64(u.Waiting))
	head("expo_kv_preemptions_total", "counter", "How often an answer has had to give up its memory, to be computed again.")
	fmt.Fprintf(&b, "expo_kv_preemptions_total %d\n", u.Preempted)
	for _, h := range []struct {
		name, help string
		h          *histogram
	}{
		{"expo_queue_seconds", "Time answers waited for their turn, in seconds.", &m.queued},
		{"expo_first_token_seconds", "Time to the first token, waiting included, in seconds.", &m.first},
		{"expo_request_seconds", "Time of whole requests for answers, in seconds.", &m.total},
		{"expo_remix_seconds", "Time to make the model of an α, in seconds.", &m.remix},
	} {
		head(h.name, "histogram", h.help)
		h.h.mu.Lock()
		n := int64(0)
		for i, bound := range bounds {
			n += h.h.counts[i]
			fmt.Fprintf(&b, "%s_bucket{le=\"%v\"} %d\n", h.name, bound, n)
		}
		n += h.h.counts[len(bounds)]
		fmt.Fprintf(&b, "%s_bucket{le=\"+Inf\"} %d\n%s_sum %v\n%s_count %d\n", h.name, n, h.name, h.h.sum, h.name, n)
		h.h.mu.Unlock()
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	gauge("go_goroutines", "Goroutines.", float64(runtime.NumGoroutine()))
	gauge("go_memstats_heap_inuse_bytes", "Heap in use, in bytes; weights are not part of it.", float64(mem.HeapInuse))
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write(b.Bytes())
}
