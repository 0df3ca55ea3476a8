//go:build unix

package cli_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// chatServer answers chats by a function of the messages' texts, and fails now
// and then: every third request in one of six ways, in turn.
type chatServer struct {
	*httptest.Server
	answer func(texts []string) string
	faulty bool
	delay  time.Duration

	mu       sync.Mutex
	requests int
	faults   int
	answered map[string]int // whole answers, by all texts
	keys     map[string]bool
}

func newChatServer(t *testing.T, answer func(texts []string) string) *chatServer {
	s := &chatServer{answer: answer, answered: map[string]int{}, keys: map[string]bool{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// seen is how many requests there have been.
func (s *chatServer) seen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

func (s *chatServer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if req.Method == http.MethodGet {
		io.WriteString(w, `{"data":[{"id":"org/served","owned_by":"vllm"}]}`)
		return
	}
	var body struct {
		Messages []struct{ Content string }
	}
	if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var texts []string
	for _, m := range body.Messages {
		texts = append(texts, m.Content)
	}
	s.mu.Lock()
	answer := s.answer
	s.mu.Unlock()
	doc, _ := json.Marshal(map[string]any{
		"model": "served-2026", "choices": []any{map[string]any{"message": map[string]string{"content": answer(texts)}, "finish_reason": "stop"}},
		"usage": map[string]int{"prompt_tokens": 10, "completion_tokens": 5},
	})
	s.mu.Lock()
	n := s.requests
	s.requests++
	s.keys[req.Header.Get("Authorization")] = true
	fault := 0
	if s.faulty && n%3 == 2 {
		if fault = 1 + n/3%6; fault == 6 && n > 40 { // each takes the time that an answer has
			fault = 2
		}
		s.faults++
	}
	delay := s.delay
	s.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-req.Context().Done():
	}
	switch fault {
	case 0:
		w.Write(doc)
		if req.Context().Err() == nil {
			s.mu.Lock()
			s.answered[strings.Join(texts, "\x00")]++
			s.mu.Unlock()
		}
	case 1:
		w.Header().Set("Retry-After", "0.01")
		w.WriteHeader(http.StatusTooManyRequests)
	case 2:
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, `{"error":{"message":"boom"}}`)
	case 3:
		conn, _, _ := w.(http.Hijacker).Hijack()
		conn.Close()
	case 4:
		w.Write(doc[:len(doc)/2])
	case 5:
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<html>sign in</html>")
	case 6:
		w.Write(doc[:len(doc)/2])
		w.(http.Flusher).Flush()
		select {
		case <-req.Context().Done():
		case <-time.After(10 * time.Second):
		}
	}
}

// benchFiles are a small MT-Bench: n questions of each category, prompts that
// show what they judge, references.
func benchFiles(t *testing.T, n int) []string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, rows ...any) string {
		var b bytes.Buffer
		for _, r := range rows {
			line, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(append(line, '\n'))
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	type object = map[string]any
	var questions, references, prompts []any
	for c, category := range []string{"writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"} {
		for i := range n {
			id := 81 + 10*c + i
			questions = append(questions, object{"question_id": id, "category": category, "turns": []string{fmt.Sprint("ask ", id), fmt.Sprint("more ", id)}})
			references = append(references, object{"question_id": id, "choices": []object{{"turns": []string{"ref one", "ref two"}}}})
		}
	}
	for _, name := range []string{"single-v1", "single-math-v1", "pair-v2", "pair-math-v1"} {
		one, two := "{question}|{answer}", "{question_1}|{answer_1}|{question_2}|{answer_2}"
		if strings.HasPrefix(name, "pair") {
			one, two = "{question}|{answer_a}|{answer_b}", "{question_1}|{question_2}|{answer_a_1}|{answer_a_2}|{answer_b_1}|{answer_b_2}"
		}
		prompts = append(prompts, object{"name": name, "system_prompt": "judge", "prompt_template": one, "output_format": "[[A]]"},
			object{"name": name + "-multi-turn", "system_prompt": "judge", "prompt_template": two, "output_format": "[[A]]"})
	}
	return []string{"--questions", write("question.jsonl", questions...), "--judge-prompts", write("prompts.jsonl", prompts...),
		"--reference-answers", write("references.jsonl", references...)}
}

// run runs expo and gives its exit status.
func run(t *testing.T, cmd *exec.Cmd) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

type benchDoc struct {
	Models map[string]struct {
		Turn1, Turn2, All *float64
		N, Unparsed       int
		Categories        map[string]float64
		Complete          bool
	}
	Comparisons []struct {
		Model, Than string
		Difference  float64
		P           float64
	}
	Pairs *struct {
		Games, Dropped, Inconsistent int
		Models                       map[string]struct{ Wins, Losses, Ties int }
	}
	Config   map[string]string
	Warnings []string
}

func parse(t *testing.T, stdout string) benchDoc {
	t.Helper()
	var doc benchDoc
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	return doc
}

// TestMTBenchKilled lets one fleet answer and another judge, both of which fail
// every third time, kills the program twice, and wants every judgment once.
func TestMTBenchKilled(t *testing.T) {
	const key = "sk-test-0123456789abcdef"
	model := newChatServer(t, func(texts []string) string { return fmt.Sprint("answer ", len(texts), " to ", texts[len(texts)-1]) })
	grade := newChatServer(t, func(texts []string) string {
		if strings.Contains(texts[1], "more") {
			return "Rating: [[6]]"
		}
		return "Rating: [[8]]"
	})
	model.faulty, grade.faulty = true, true
	model.delay, grade.delay = 5*time.Millisecond, 5*time.Millisecond
	dir := filepath.Join(t.TempDir(), "run")
	args := append([]string{"eval", "mtbench", "--base-url", model.URL, "--judge-base-url", grade.URL, "-o", dir, "--json",
		"--timeout", "1500ms", "--judge-timeout", "1500ms", "--retry-wait", "10ms", "--judge-retry-wait", "10ms", "--attempts", "20", "--judge-attempts", "20", "-j", "4"}, benchFiles(t, 5)...)
	command := func() *exec.Cmd {
		cmd := program(t, args...)
		cmd.Env = append(os.Environ(), "OPENAI_API_KEY="+key)
		return cmd
	}
	// Kill it in the middle of the answers, and of the judgments.
	killed := 0
	for _, s := range []*chatServer{model, grade} {
		cmd := command()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for start := time.Now(); time.Since(start) < 20*time.Second; time.Sleep(time.Millisecond) {
			s.mu.Lock()
			n := len(s.answered)
			s.mu.Unlock()
			if n >= 30 {
				break
			}
		}
		cmd.Process.Signal(syscall.SIGKILL)
		if cmd.Wait() != nil {
			killed++
		}
	}
	if killed != 2 {
		t.Fatalf("killed %d times, want twice", killed)
	}
	// Cut the last line, as a crash of the machine may.
	log := filepath.Join(dir, "log.jsonl")
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(log, append(b, []byte(`{"key":"abc`)...), 0o666); err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := run(t, command())
	if status != 0 {
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	doc := parse(t, stdout)
	m, ok := doc.Models["org_served"]
	if !ok || m.N != 80 || m.Unparsed != 0 || *m.Turn1 != 8 || *m.Turn2 != 6 || *m.All != 7 || m.Complete || len(m.Categories) != 8 {
		t.Errorf("figures are %s", stdout)
	}
	if doc.Config["judge_reported"] != "served-2026" {
		t.Errorf("configuration is %v", doc.Config)
	}
	for name, s := range map[string]*chatServer{"answers": model, "judgments": grade} {
		twice, total := 0, 0
		for _, n := range s.answered {
			total += n
			twice += n - 1
		}
		if len(s.answered) != 80 {
			t.Errorf("%d different %s, want 80", len(s.answered), name)
		}
		// Only what was in flight when the program was killed may be asked
		// again; each of the two had four requests at most.
		if twice > 4 {
			t.Errorf("%d %s were paid for twice", twice, name)
		}
		t.Logf("%s: %d requests, %d faults, %d answered, %d twice", name, s.seen(), s.faults, total, twice)
		if len(s.keys) != 1 || !s.keys["Bearer "+key] {
			t.Errorf("keys sent are %v", s.keys)
		}
	}
	// The key is nowhere.
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("0123456789abcdef")) {
			t.Errorf("%s has the key in it", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	// Once more: nothing is asked, and nothing changes.
	before := model.seen() + grade.seen()
	files := []string{"result.json", "samples.jsonl", "report.html", "model_answer/org_served.jsonl", "model_judgment/org_served_single.jsonl"}
	read := func() (out []string) {
		for _, f := range files {
			b, err := os.ReadFile(filepath.Join(dir, f))
			if err != nil {
				t.Error(err)
			}
			out = append(out, string(b))
		}
		return out
	}
	was := read()
	status, again, stderr := run(t, command())
	if status != 0 || again != stdout || model.seen()+grade.seen() != before {
		t.Errorf("a further run: exit status %d, %d requests, %s", status, model.seen()+grade.seen()-before, stderr)
	}
	for i, now := range read() {
		if now != was[i] {
			t.Errorf("%s changes when nothing is new", files[i])
		}
	}
	if n := strings.Count(was[3], "\n"); n != 40 || !strings.Contains(was[3], `"turns":["answer 1 to ask 81","answer 3 to more 81"]`) {
		t.Errorf("%d answers: %.300s", n, was[3])
	}
	// The files that it wrote say the same.
	status, scored, _ := run(t, program(t, "eval", "mtbench", "--json", "--judgments", filepath.Join(dir, files[4])))
	if d := parse(t, scored); status != 0 || *d.Models["org_served"].All != 7 || d.Models["org_served"].N != 80 {
		t.Errorf("exit status %d: %s", status, scored)
	}
}

// TestMTBenchPairs compares models whose answers are in files.
func TestMTBenchPairs(t *testing.T) {
	judge := newChatServer(t, func(texts []string) string {
		f := strings.Split(texts[1], "|")
		switch {
		case len(f) <= 4 && strings.HasPrefix(texts[1], "ask 81"):
			return "I cannot decide."
		case strings.Contains(texts[1], "ask 91|"): // whatever comes first
			return "[[A]]"
		case len(f) <= 4 && f[1] == "good", len(f) > 4 && f[2] == "good":
			return "[[A]]"
		}
		return "[[B]]"
	})
	bench := benchFiles(t, 1)
	answers := t.TempDir()
	for _, name := range []string{"bad", "good"} {
		var b strings.Builder
		for c := range 8 {
			fmt.Fprintf(&b, `{"question_id": %d, "choices": [{"index": 0, "turns": ["%s", "%s"]}]}`+"\n", 81+10*c, name, name)
		}
		if err := os.WriteFile(filepath.Join(answers, name+".jsonl"), []byte(b.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(t.TempDir(), "run")
	args := append([]string{"eval", "mtbench", "--answers", answers, "--mode", "pair", "--baseline", "bad", "--judge-base-url", judge.URL, "-o", dir, "--json"}, bench...)

	status, stdout, _ := run(t, program(t, append(args, "--dry-run")...))
	if _, err := os.Stat(dir); err == nil || judge.seen() != 0 {
		t.Errorf("a dry run leaves %s or makes %d requests", dir, judge.seen())
	}
	if status != 0 || !strings.Contains(stdout, `"requests": 32`) {
		t.Errorf("exit status %d: %s", status, stdout)
	}

	status, stdout, stderr := run(t, program(t, args...))
	if status != 4 || !strings.Contains(stderr, "judge-tries") {
		t.Errorf("exit status %d, want 4: %s", status, stderr)
	}
	doc := parse(t, stdout)
	if p := doc.Pairs; p == nil || p.Games != 15 || p.Dropped != 1 || p.Inconsistent != 2 || p.Models["good"].Wins != 13 || p.Models["bad"].Losses != 13 || p.Models["bad"].Ties != 2 {
		t.Errorf("games are %s", stdout)
	}
	n := judge.seen()
	if n != 34 { // 32 and a second try for both verdicts of a game
		t.Errorf("%d requests, want 34", n)
	}
	status, _, _ = run(t, program(t, args...))
	if status != 4 || judge.seen() != n {
		t.Errorf("a further run: exit status %d, %d requests", status, judge.seen()-n)
	}
	// Rated instead, into the same directory.
	judge.mu.Lock()
	judge.answer = func(texts []string) string {
		if strings.Contains(texts[1], "good") {
			return "[[9]]"
		}
		return "[[4.5]]"
	}
	judge.mu.Unlock()
	args = append([]string{"eval", "mtbench", "--answers", answers, "--judge-base-url", judge.URL, "-o", dir, "--json"}, bench...)
	status, stdout, stderr = run(t, program(t, args...))
	doc = parse(t, stdout)
	if status != 0 || *doc.Models["good"].All != 9 || *doc.Models["bad"].All != 4.5 || len(doc.Comparisons) != 1 || doc.Comparisons[0].Difference != 4.5 {
		t.Errorf("exit status %d: %s %s", status, stdout, stderr)
	}
	// Another judge's settings are another run.
	status, _, stderr = run(t, program(t, append(args, "--judge-temperature", "0.5")...))
	if status != 1 || !strings.Contains(stderr, "another run") {
		t.Errorf("exit status %d: %s", status, stderr)
	}
}

// TestMTBenchRefusals checks what is refused, before anything is asked.
func TestMTBenchRefusals(t *testing.T) {
	s := newChatServer(t, func([]string) string { return "[[5]]" })
	bench := benchFiles(t, 1)
	dir := t.TempDir()
	prices := filepath.Join(dir, "prices.json")
	if err := os.WriteFile(prices, []byte(`{"org/served": {"input": 1, "output": 1000000}}`), 0o666); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "key")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	full := filepath.Join(dir, "full")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o777); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	for _, tt := range []struct {
		args   []string
		status int
		says   string
	}{
		{nil, 2, "needs a MODEL"},
		{[]string{"--base-url", s.URL, "--judge-base-url", s.URL}, 2, "-o DIR"},
		{[]string{"--base-url", s.URL, "-o", out}, 2, "needs a judge"},
		{[]string{"--mode", "triple"}, 2, "single, pair or both"},
		{[]string{"--judgments", "nowhere"}, 1, "nowhere"},
		{[]string{"--judgments", prices, "--answers", dir}, 2, "contradict|one of them"},
		{[]string{"--judgments", prices}, 1, "neither a score nor a winner"},
		{[]string{"--answers", empty, "--judge-base-url", s.URL, "-o", out, "--api-key-file", empty, "--judge-api-key-file", empty}, 1, "one key"},
		{[]string{"--base-url", "localhost:1", "--judge-base-url", s.URL, "-o", out}, 2, "http://localhost:8000/v1"},
		{[]string{"--base-url", s.URL, "--judge-base-url", s.URL, "-o", out, "--dialect", "x"}, 2, "dialect"},
		{[]string{"--base-url", s.URL, "--judge-base-url", s.URL, "-o", out, "--extra-body", "[]"}, 2, "JSON object"},
		{[]string{"--base-url", s.URL, "--judge-base-url", s.URL, "-o", full}, 1, "of no run"},
		{[]string{"--base-url", s.URL, "--judge-base-url", s.URL, "-o", out, "--temperature", "7"}, 2, "temperature"},
		{[]string{"--base-url", s.URL, "--judge-base-url", s.URL, "-o", out, "--mode", "pair"}, 2, "two models"},
		{[]string{"--base-url", s.URL, "--judge-base-url", s.URL, "-o", out, "--prices", prices, "--max-cost", "0.5"}, 1, "money"},
	} {
		status, stdout, stderr := run(t, program(t, append(append([]string{"eval", "mtbench"}, tt.args...), bench...)...))
		ok := false
		for _, word := range strings.Split(tt.says, "|") {
			ok = ok || strings.Contains(stderr, word)
		}
		if status != tt.status || !ok || stdout != "" {
			t.Errorf("%q: exit status %d, want %d; %q does not say %q", tt.args, status, tt.status, stderr, tt.says)
		}
	}
	if s.seen() != 0 {
		t.Errorf("%d requests were made", s.seen())
	}
}

// TestMTBenchBudget checks that a run stops before it spends too much, and that
// what it bought is kept.
func TestMTBenchBudget(t *testing.T) {
	s := newChatServer(t, func(texts []string) string { return "[[5]]" })
	dir := t.TempDir()
	prices := filepath.Join(dir, "prices.json")
	// An answer costs 0.05, and 0.16 at most.
	if err := os.WriteFile(prices, []byte(`{"org/served": {"input": 0, "output": 10000}}`), 0o666); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"eval", "mtbench", "--base-url", s.URL, "--answers-only", "-o", filepath.Join(dir, "run"), "--prices", prices, "--max-tokens", "16", "-j", "1"}, benchFiles(t, 1)...)
	status, _, stderr := run(t, program(t, append(args, "--max-cost", "0.5")...))
	if status != 1 || !strings.Contains(stderr, "no money left") || !strings.Contains(stderr, "is kept") || s.seen() != 7 {
		t.Errorf("exit status %d after %d requests, want 1 after 7: %s", status, s.seen(), stderr)
	}
	status, stdout, stderr := run(t, program(t, append(args, "--max-cost", "1")...))
	if status != 0 || s.seen() != 16 || !strings.HasSuffix(strings.TrimSpace(stdout), "org_served.jsonl") {
		t.Errorf("exit status %d after %d requests in all, want 0 after 16: %s %s", status, s.seen(), stdout, stderr)
	}
}

// TestMTBenchServed has a pair answer in this process, and through a server of
// its own: the answers are the same, sampled ones included.
func TestMTBenchServed(t *testing.T) {
	sft, aligned := speakingPair(t)
	bench := benchFiles(t, 1)
	dir := t.TempDir()
	local := append([]string{"eval", "mtbench", "--sft", sft, "--aligned", aligned, "--alpha", "0.5", "--name", "m", "--max-tokens", "12", "-o", filepath.Join(dir, "local")}, bench...)
	if status, _, stderr := run(t, program(t, append(local, "--answers-only")...)); status != 0 {
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	server := program(t, "serve", "--sft", sft, "--aligned", aligned, "--listen", "127.0.0.1:0", "-q")
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Wait()
	defer server.Process.Kill()
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	served := append([]string{"eval", "mtbench", "--base-url", strings.TrimSpace(url), "--model", "expo@0.5", "--name", "m", "--max-tokens", "12", "--answers-only", "-o", filepath.Join(dir, "served")}, bench...)
	if status, _, stderr := run(t, program(t, served...)); status != 0 {
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	var turns [2][]string
	for i, where := range []string{"local", "served"} {
		b, err := os.ReadFile(filepath.Join(dir, where, "model_answer", "m.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			var a struct{ Choices []struct{ Turns []string } }
			if err := json.Unmarshal([]byte(line), &a); err != nil || len(a.Choices) != 1 {
				t.Fatalf("%s: %v", line, err)
			}
			turns[i] = append(turns[i], a.Choices[0].Turns...)
		}
	}
	if len(turns[0]) != 16 || !slices.Equal(turns[0], turns[1]) {
		t.Errorf("answers in this process are\n%q, served ones\n%q", turns[0], turns[1])
	}
	// A judge that cannot judge: everything is counted, nothing averaged in.
	status, stdout, stderr := run(t, program(t, append(local, "--judge", aligned, "--judge-max-tokens", "2", "--json")...))
	doc := parse(t, stdout)
	if m := doc.Models["m"]; status != 4 || m.All != nil || m.N != 0 || m.Unparsed != 16 {
		t.Errorf("exit status %d: %s %s", status, stdout, stderr)
	}
}

// TestMTBenchInterrupted ends a run by ^C, while a request is under way and
// while one waits to be tried again.
func TestMTBenchInterrupted(t *testing.T) {
	for _, fails := range []bool{false, true} {
		s := newChatServer(t, func([]string) string { return "x" })
		s.delay = 10 * time.Second
		if fails {
			s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s.mu.Lock()
				s.requests++
				s.mu.Unlock()
				w.WriteHeader(http.StatusServiceUnavailable)
			})
		}
		args := append([]string{"eval", "mtbench", "--base-url", s.URL, "--model", "m", "--dialect", "openai", "--answers-only", "-o", filepath.Join(t.TempDir(), "run")}, benchFiles(t, 1)...)
		cmd := program(t, args...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for start := time.Now(); time.Since(start) < 20*time.Second; time.Sleep(5 * time.Millisecond) {
			s.mu.Lock()
			n := s.requests
			s.mu.Unlock()
			if n > 0 {
				break
			}
		}
		start := time.Now()
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != 130 || time.Since(start) > 5*time.Second || !strings.Contains(stderr.String(), "is kept") {
			t.Errorf("exit status %d after %v, want 130 at once: %s", got, time.Since(start), stderr.String())
		}
	}
}
