//go:build unix

package cli_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"expo/internal/cli"
)

const pairPrompt = "<|im_start|>system\nCompare.\n<|im_end|>\n<|im_start|>user\n{instruction}|{output_1}|{output_2}\n<|im_end|>"

// pairServer answers questions, and judges pairs by log-probabilities that
// prefer the longer output. It fails now and then, and some verdicts cannot be
// read.
type pairServer struct {
	*httptest.Server
	faulty, mute bool
	unreadable   string // part of instructions to which the verdict is none
	delay        time.Duration

	mu       sync.Mutex
	requests int
	faults   int
	answered map[string]int // whole answers, by the request's body
}

func newPairServer(t *testing.T) *pairServer {
	s := &pairServer{answered: map[string]int{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *pairServer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if req.Method == http.MethodGet {
		io.WriteString(w, `{"data":[{"id":"served","owned_by":"vllm"}]}`)
		return
	}
	raw, err := io.ReadAll(req.Body)
	s.mu.Lock()
	mute, unreadable := s.mute, s.unreadable
	s.mu.Unlock()
	var body struct {
		Messages []struct{ Content string }
		Logprobs bool
	}
	if err == nil {
		err = json.Unmarshal(raw, &body)
	}
	if err != nil || len(body.Messages) == 0 {
		http.Error(w, `{"error":{"message":"no"}}`, http.StatusBadRequest)
		return
	}
	last := body.Messages[len(body.Messages)-1].Content
	choice := map[string]any{"message": map[string]string{"content": "The answer to: " + last}, "finish_reason": "stop"}
	if part := strings.Split(last, "|"); len(part) == 3 {
		p := 1 / (1 + math.Exp(-float64(len(part[1])-len(part[2]))/20))
		top := []any{map[string]any{"token": "m", "logprob": math.Log(p)}, map[string]any{"token": "M", "logprob": math.Log(1 - p)}}
		if unreadable != "" && strings.Contains(part[0], unreadable) {
			top = []any{map[string]any{"token": "Both", "logprob": -0.1}}
		}
		text := "M"
		if p > 0.5 {
			text = "m"
		}
		choice["message"] = map[string]string{"content": text}
		if !mute && body.Logprobs {
			choice["logprobs"] = map[string]any{"content": []any{map[string]any{"token": text, "logprob": -0.1, "top_logprobs": top}}}
		}
	}
	doc, _ := json.Marshal(map[string]any{"model": "served", "choices": []any{choice}, "usage": map[string]int{"prompt_tokens": 10, "completion_tokens": 5}})
	s.mu.Lock()
	n := s.requests
	s.requests++
	fault := 0
	if s.faulty && n%4 == 3 {
		fault = 1 + n/4%4
		s.faults++
	}
	delay := s.delay
	s.mu.Unlock()
	time.Sleep(delay)
	switch fault {
	case 0:
		if w.Write(doc); req.Context().Err() == nil {
			s.mu.Lock()
			s.answered[string(raw)]++
			s.mu.Unlock()
		}
	case 1:
		w.Header().Set("Retry-After", "0.01")
		w.WriteHeader(http.StatusTooManyRequests)
	case 2:
		w.WriteHeader(http.StatusBadGateway)
	case 3:
		conn, _, _ := w.(http.Hijacker).Hijack()
		conn.Close()
	case 4:
		w.Write(doc[:len(doc)/2])
	}
}

func (s *pairServer) counts() (requests, different, twice int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.answered {
		different, twice = different+1, twice+n-1
	}
	return s.requests, different, twice
}

// alpacaFiles are n instructions with a baseline's answers, and a judge's
// prompt.
func alpacaFiles(t *testing.T, n int) (reference, prompt string) {
	t.Helper()
	dir := t.TempDir()
	var rows []any
	for i := range n {
		rows = append(rows, map[string]string{"instruction": fmt.Sprint("question ", i), "output": strings.Repeat("word ", 1+i*7%11), "generator": "base", "dataset": "d"})
	}
	reference, prompt = filepath.Join(dir, "reference.json"), filepath.Join(dir, "prompt.txt")
	writeJSON(t, reference, rows)
	if err := os.WriteFile(prompt, []byte(pairPrompt), 0o666); err != nil {
		t.Fatal(err)
	}
	return reference, prompt
}

func writeJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(path, b, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
}

type alpacaDoc struct {
	Model, Annotator, Version   string
	Win_rate, Standard_error    *float64
	N_wins, N_wins_base         int
	N_draws, N_total, N_missing int
	N_undecided                 int
	Discrete_win_rate           *float64
	Avg_length                  int
	LC                          *float64 `json:"length_controlled_winrate"`
	LCError                     *float64 `json:"lc_standard_error"`
	LCC                         *float64 `json:"lc_c"`
	Lc_folds                    string
	Win_rate_interval           *struct{ Low, High float64 }
	Versus                      *struct {
		Baseline string
		LC       float64 `json:"length_controlled_winrate"`
		Paired   float64 `json:"paired_difference"`
		PairedN  int     `json:"paired_n"`
	}
	Config   map[string]string
	Warnings []string
	Models   []alpacaDoc
}

func alpacaOf(t *testing.T, stdout string) alpacaDoc {
	t.Helper()
	var doc alpacaDoc
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil {
		t.Fatalf("%v in %q", err, stdout)
	}
	return doc
}

// TestAlpacaKilled lets one fleet answer and another judge, both of which fail
// now and then, and kills the program in the middle of each.
func TestAlpacaKilled(t *testing.T) {
	const n = 60
	model, judge := newPairServer(t), newPairServer(t)
	model.faulty, judge.faulty = true, true
	model.delay, judge.delay = 5*time.Millisecond, 5*time.Millisecond
	judge.unreadable = "question 7"
	reference, prompt := alpacaFiles(t, n)
	dir := filepath.Join(t.TempDir(), "run")
	args := []string{"eval", "alpaca", "--base-url", model.URL, "--judge-base-url", judge.URL, "--reference", reference, "--judge-template", prompt, "--lc", "minimal", "-o", dir, "--json",
		"--retry-wait", "10ms", "--judge-retry-wait", "10ms", "--attempts", "20", "--judge-attempts", "20", "-j", "4", "--judge-jobs", "4"}
	killed := 0
	for _, s := range []*pairServer{model, judge} {
		cmd := program(t, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for start := time.Now(); time.Since(start) < 20*time.Second; time.Sleep(time.Millisecond) {
			if _, different, _ := s.counts(); different >= n/3 {
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
	status, stdout, stderr := run(t, program(t, args...))
	if status != 4 || !strings.Contains(stderr, `"status":4`) { // the verdict to question 7 cannot be read
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	doc := alpacaOf(t, stdout)
	if doc.Model != "served" || doc.Annotator != "weighted_alpaca_eval_served" || doc.N_total != n-1 || doc.N_missing != 1 || doc.N_undecided != 1 || doc.LC == nil || doc.N_wins+doc.N_wins_base+doc.N_draws != n-1 {
		t.Errorf("figures are %s", stdout)
	}
	want := 0.0
	for i := range n {
		if i != 7 {
			a, b := len(strings.Repeat("word ", 1+i*7%11)), len(fmt.Sprint("The answer to: question ", i))
			want += 100 / float64(n-1) / (1 + math.Exp(float64(a-b)/20))
		}
	}
	if math.Abs(*doc.Win_rate-want) > 1e-9 {
		t.Errorf("win rate %v, want %v", *doc.Win_rate, want)
	}
	for name, c := range map[string]struct {
		s     *pairServer
		total int
	}{"answers": {model, n}, "judgments": {judge, n + 1}} { // one more try for what cannot be read
		requests, different, twice := c.s.counts()
		t.Logf("%s: %d requests, %d faults, %d different, %d twice", name, requests, c.s.faults, different, twice)
		// Only what was in flight when the program was killed may be asked
		// again; both tries for what cannot be read are the same request to
		// servers that are sent no seed.
		if different < n || twice > 4+1 {
			t.Errorf("%d different %s, want %d; %d were paid for twice", different, name, c.total, twice)
		}
	}

	// Once more: nothing is asked, and nothing changes.
	before, _, _ := model.counts()
	beforeJudge, _, _ := judge.counts()
	status, again, _ := run(t, program(t, args...))
	after, _, _ := model.counts()
	afterJudge, _, _ := judge.counts()
	if status != 4 || again != stdout || after != before || afterJudge != beforeJudge {
		t.Errorf("a further run: exit status %d, %d requests", status, after-before+afterJudge-beforeJudge)
	}
	// The files that it wrote say the same.
	file := filepath.Join(dir, "annotations.json")
	status, scored, _ := run(t, program(t, "eval", "alpaca", "--annotations", file, "--lc", "minimal", "--json"))
	if d := alpacaOf(t, scored); status != 4 || *d.Win_rate != *doc.Win_rate || *d.LC != *doc.LC || d.Avg_length != doc.Avg_length || d.N_total != n-1 {
		t.Errorf("exit status %d: %s", status, scored)
	}
	for _, name := range []string{"model_outputs.json", "result.json", "samples.jsonl", "leaderboard.csv", "weights.csv"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	// Another way of asking in the same place is refused before anything is
	// spent; elsewhere, judgments are taken over.
	status, _, stderr = run(t, program(t, append(args, "--temperature", "0")...))
	if requests, _, _ := model.counts(); status != 1 || !strings.Contains(stderr, "temperature") || requests != before {
		t.Errorf("other settings: exit status %d, %d requests, %s", status, requests-before, stderr)
	}
	status, _, stderr = run(t, program(t, "eval", "alpaca", "--outputs", filepath.Join(dir, "model_outputs.json"), "--keep-annotations", file, "--judge-base-url", judge.URL, "--reference", reference,
		"--judge-template", prompt, "--lc", "none", "-o", filepath.Join(t.TempDir(), "other"), "--judge-retry-wait", "10ms"))
	if !strings.Contains(stderr, "59 of 60 judgments are taken") || status != 4 {
		t.Errorf("exit status %d: %s", status, stderr)
	}
	if requests, _, _ := judge.counts(); requests > beforeJudge+8 {
		t.Errorf("%d requests for one judgment", requests-beforeJudge)
	}
	if requests, _, _ := model.counts(); requests != before {
		t.Errorf("--outputs asked the model %d times", requests-before)
	}
}

func TestAlpacaJudges(t *testing.T) {
	s := newPairServer(t)
	s.mu.Lock()
	s.mute = true
	s.mu.Unlock()
	reference, prompt := alpacaFiles(t, 10)
	outputs := filepath.Join(t.TempDir(), "outputs.json")
	var rows []any
	for i := range 9 {
		rows = append(rows, map[string]string{"instruction": fmt.Sprint("question ", i), "output": "some words of mine", "generator": "mine"})
	}
	writeJSON(t, outputs, rows)
	dir := t.TempDir()
	base := func(name string, more ...string) *exec.Cmd {
		return program(t, append([]string{"eval", "alpaca", "--outputs", outputs, "--reference", reference, "--judge-template", prompt, "--judge-base-url", s.URL, "--lc", "none", "--judge-retry-wait", "10ms", "-o", filepath.Join(dir, name)}, more...)...)
	}
	// An instruction without an output.
	if status, _, stderr := run(t, base("a")); status != 1 || !strings.Contains(stderr, "1 of 10 instructions have no output") {
		t.Errorf("exit status %d: %s", status, stderr)
	}
	// A judge without log-probabilities.
	status, _, stderr := run(t, base("a", "--allow-partial", "--judge-jobs", "1"))
	if requests, _, _ := s.counts(); status != 1 || !strings.Contains(stderr, "log-probabilities") || requests > 40 {
		t.Errorf("exit status %d after %d requests: %s", status, requests, stderr)
	}
	// It can vote.
	status, stdout, stderr := run(t, base("a", "--allow-partial", "--judge-reading", "votes", "--judge-samples", "3", "--json"))
	if status != 4 {
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	d := alpacaOf(t, stdout)
	if d.Annotator != "weighted_alpaca_eval_served+votes3" || d.N_total != 9 || d.N_missing != 1 || d.LC != nil || math.Abs(*d.Win_rate-*d.Discrete_win_rate) > 1e-9 || d.Model != "mine" {
		t.Errorf("figures are %s", stdout)
	}
	// Both orders, which is another judge; the first of them is known.
	s.mu.Lock()
	s.mute = false
	s.mu.Unlock()
	before, _, _ := s.counts()
	status, stdout, stderr = run(t, base("b", "--allow-partial", "--swap", "both", "--json", "--judge-id", "fair", "--limit", "5"))
	after, _, _ := s.counts()
	if d := alpacaOf(t, stdout); status != 0 || d.Annotator != "fair" || d.N_total != 5 || d.N_missing != 0 || after-before != 10 {
		t.Errorf("exit status %d, %d requests: %s %s", status, after-before, stdout, stderr)
	}
	// A dry run asks nothing and leaves nothing.
	status, stdout, _ = run(t, base("c", "--allow-partial", "--dry-run", "--json"))
	if requests, _, _ := s.counts(); status != 0 || requests != after || !strings.Contains(stdout, `"requests": 9`) {
		t.Errorf("exit status %d, %d requests: %s", status, requests-after, stdout)
	}
	if _, err := os.Stat(filepath.Join(dir, "c")); err == nil {
		t.Error("a dry run left a directory")
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "needs a MODEL"},
		{[]string{"--outputs", outputs}, "needs -o DIR"},
		{[]string{"--outputs", outputs, "-o", dir}, "needs a judge"},
		{[]string{"--annotations", outputs, "--base-url", s.URL}, "give one of them"},
		{[]string{"--annotations", outputs, "--lc-c", "-1"}, "--lc-c -1"},
		{[]string{"--annotations", outputs, "--lc", "v9"}, "--lc v9"},
		{[]string{"--annotations", outputs, "--align", "row"}, `"row"`},
		{[]string{"--annotations", outputs, "--lc-folds", "ten"}, `"ten"`},
		{[]string{"--weights", outputs}, "--baseline MODEL"},
		{[]string{"--outputs", outputs, "-o", dir, "--judge-base-url", s.URL, "--swap", "three"}, "--swap three"},
	} {
		if status, _, stderr := run(t, program(t, append([]string{"eval", "alpaca"}, c.args...)...)); status != 2 || !strings.Contains(stderr, c.want) {
			t.Errorf("%q: exit status %d: %s, want %q", c.args, status, stderr, c.want)
		}
	}
}

// lcFiles are difficulties of n instructions, by digest, and gamed rows with
// the sums that are checked.
func lcFiles(t *testing.T, n int) (gamed, difficulty string) {
	t.Helper()
	dir := t.TempDir()
	var d bytes.Buffer
	d.WriteString("instr,sha256_16,instruction_difficulty\n")
	hard := func(i int) float64 { return float64(i*37%100)/25 - 2 }
	for i := range n {
		sum := sha256.Sum256(fmt.Append(nil, "question ", i))
		fmt.Fprintf(&d, "%d,%s,%v\n", i, hex.EncodeToString(sum[:])[:16], hard(i))
	}
	const rows, label, wantT, wantD = 1610, 0.3, -182.6923898238, 413.0468487671
	ts, ds := make([]float64, rows), make([]float64, rows)
	var sumT, sumD, tt, td, dd float64
	for i := range rows {
		ts[i], ds[i] = 0.5, hard(i%n)
		if i%2 == 1 {
			ts[i] = -0.9
		}
		if i >= n {
			ds[i] = 2
		}
		sumT, sumD = sumT+ts[i]*label, sumD+ds[i]*label
		tt, td, dd = tt+ts[i]*ts[i], td+ts[i]*ds[i], dd+ds[i]*ds[i]
	}
	det := tt*dd - td*td
	a, b := ((wantT-sumT)*dd-(wantD-sumD)*td)/det, ((wantD-sumD)*tt-(wantT-sumT)*td)/det
	var g bytes.Buffer
	g.WriteString("instr,tanh_std_delta_len,instruction_difficulty,preference_surrogate\n")
	for i := range rows {
		fmt.Fprintf(&g, "%d,%v,%.17g,%.17g\n", i%805, ts[i], ds[i], label+a*ts[i]+b*ds[i])
	}
	gamed, difficulty = filepath.Join(dir, "gamed.csv"), filepath.Join(dir, "difficulty.csv")
	for path, b := range map[string][]byte{gamed: g.Bytes(), difficulty: d.Bytes()} {
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return gamed, difficulty
}

// TestAlpacaScore computes figures of files.
func TestAlpacaScore(t *testing.T) {
	const n = 805
	gamed, difficulty := lcFiles(t, n)
	dir := t.TempDir()
	annotations := func(model string, skip int, better float64) string {
		var rows []any
		for i := range n {
			if i == skip {
				continue
			}
			p := 1 + 1/(1+math.Exp(-better-math.Sin(float64(i))))
			rows = append(rows, map[string]any{"instruction": fmt.Sprint("question ", i), "output_1": strings.Repeat("b", 100+i%50), "generator_1": "gpt4_1106_preview",
				"output_2": strings.Repeat("é", 80+i%90), "generator_2": model, "annotator": "weighted_alpaca_eval_gpt4_turbo", "preference": p})
		}
		path := filepath.Join(dir, model+".json")
		writeJSON(t, path, rows)
		return path
	}
	good, bad, part := annotations("good", -1, 0.5), annotations("bad", -1, -0.5), annotations("part", 3, 0)
	ask := func(args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		status := cli.Main(context.Background(), append([]string{"eval", "alpaca", "--gamed", gamed, "--difficulty", difficulty, "--json"}, args...), strings.NewReader(""), &out, &errs)
		return status, out.String(), errs.String()
	}
	status, stdout, stderr := ask("--annotations", good, "--lc-c", "2.7825594022071258", "--align", "position")
	if status != 0 {
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	d := alpacaOf(t, stdout)
	if d.Model != "good" || d.N_total != n || *d.LCC != 2.7825594022071258 || d.LCError == nil || *d.Win_rate < 55 || math.Abs(*d.LC-*d.Win_rate) > 5 || d.Lc_folds != "" || d.Avg_length != 124 || d.Win_rate_interval == nil {
		t.Errorf("exit status %d: %s %s", status, stdout, stderr)
	}
	// By instruction it is the same, as nothing is missing.
	_, stdout, _ = ask("--annotations", good, "--lc-c", "2.7825594022071258")
	if e := alpacaOf(t, stdout); *e.LC != *d.LC {
		t.Errorf("by instruction %v, by position %v", *e.LC, *d.LC)
	}
	// Several models, one of which is not whole.
	status, _, stderr = ask("--annotations", good, bad, part)
	if status != 1 || !strings.Contains(stderr, "part lacks 1 of 805 instructions (3)") {
		t.Errorf("exit status %d: %s", status, stderr)
	}
	out := filepath.Join(dir, "out")
	status, stdout, stderr = ask("--annotations", good, bad, part, "--allow-partial", "--baseline", "bad", "-o", out)
	d = alpacaOf(t, stdout)
	if status != 4 || len(d.Models) != 3 || !strings.Contains(stderr, "1 of 2415") {
		t.Fatalf("exit status %d: %s %s", status, stdout, stderr)
	}
	g, b := d.Models[0], d.Models[1]
	if g.Versus == nil || g.Versus.Baseline != "bad" || g.Versus.LC <= *g.LC || b.Versus.LC != 50 || d.Models[2].N_missing != 1 || g.Lc_folds != "introsort" {
		t.Errorf("%+v against %+v", g, b)
	}
	if d := *g.Win_rate - *b.Win_rate; math.Abs(g.Versus.Paired-d) > 1e-9 || g.Versus.PairedN != n || d < 10 {
		t.Errorf("paired difference %v over %d, want %v over %d", g.Versus.Paired, g.Versus.PairedN, d, n)
	}
	// The weights that were written give the same.
	status, stdout, stderr = ask("--weights", filepath.Join(out, "weights.csv"), "--baseline", "bad", "good")
	if v := alpacaOf(t, stdout); status != 0 || math.Abs(*v.LC-g.Versus.LC) > 1e-9 || v.Model != "good" {
		t.Errorf("exit status %d: %s %s", status, stdout, stderr)
	}
	if status, _, stderr := ask("--weights", filepath.Join(out, "weights.csv"), "--baseline", "nobody", "good"); status != 1 || !strings.Contains(stderr, "no weights of nobody") {
		t.Errorf("exit status %d: %s", status, stderr)
	}
	// Results of others are not overwritten.
	if status, _, stderr := ask("--annotations", good, "-o", out); status != 1 || !strings.Contains(stderr, "another run") {
		t.Errorf("exit status %d: %s", status, stderr)
	}
	if status, _, _ := ask("--annotations", good, "-o", out, "--force"); status != 0 {
		t.Errorf("with --force: exit status %d", status)
	}
	// Files that are not whole.
	for _, c := range []struct {
		path, want string
		args       []string
	}{
		{gamed, "gamed rows", []string{"--annotations", good}},
		{difficulty, "difficulties", []string{"--annotations", good}},
		{good, "good.json", []string{"--annotations", good}},
	} {
		whole, err := os.ReadFile(c.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.path, whole[:len(whole)*2/3], 0o666); err != nil {
			t.Fatal(err)
		}
		if status, _, stderr := ask(c.args...); status != 1 || !strings.Contains(stderr, c.want) {
			t.Errorf("%s cut: exit status %d: %s", c.path, status, stderr)
		}
		if err := os.WriteFile(c.path, whole, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAlpacaView lets the view of a pair answer, and a model in this process
// judge.
func TestAlpacaView(t *testing.T) {
	sft, aligned := speakingPair(t)
	reference, prompt := alpacaFiles(t, 6)
	dir := t.TempDir()
	ask := func(name string, more ...string) (int, string, string) {
		var out, errs bytes.Buffer
		status := cli.Main(context.Background(), append([]string{"eval", "alpaca", "--sft", sft, "--aligned", aligned, "--reference", reference, "--judge", aligned, "--judge-template", prompt,
			"--judge-top-logprobs", "20", "--max-tokens", "12", "--lc", "minimal", "--lc-c", "1", "--json", "-o", filepath.Join(dir, name)}, more...), strings.NewReader(""), &out, &errs)
		return status, out.String(), errs.String()
	}
	outputs := func(name string) (texts []string) {
		b, err := os.ReadFile(filepath.Join(dir, name, "model_outputs.json"))
		if err != nil {
			t.Fatal(err)
		}
		var rows []struct{ Output, Generator, Dataset string }
		if err := json.Unmarshal(b, &rows); err != nil || len(rows) != 6 || rows[0].Dataset != "d" {
			t.Fatal(err, len(rows))
		}
		for _, r := range rows {
			texts = append(texts, r.Output)
		}
		return texts
	}
	status, first, stderr := ask("a", "--alpha", "0.5")
	if status != 0 && status != 4 {
		t.Fatalf("exit status %d: %s", status, stderr)
	}
	d := alpacaOf(t, first)
	if d.Model != "aligned-ExPO-0.5" || d.Annotator != "weighted_alpaca_eval_aligned" || d.N_total+d.N_missing != 6 || d.Config["temperature"] != "0.7" || d.Config["seed"] != "42" || d.Config["model_identity"] == "" {
		t.Errorf("figures are %s", first)
	}
	log, err := os.Stat(filepath.Join(dir, "a", "log.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	again, second, _ := ask("a", "--alpha", "0.5")
	if now, err := os.Stat(filepath.Join(dir, "a", "log.jsonl")); err != nil || again != status || second != first || now.Size() != log.Size() {
		t.Errorf("again: exit status %d, a log of %d bytes, was %d", again, now.Size(), log.Size())
	}
	if status, _, stderr := ask("a", "--alpha", "3"); status != 1 || !strings.Contains(stderr, "model aligned-ExPO-0.5, now aligned-ExPO-3") {
		t.Errorf("another α in the same place: exit status %d: %s", status, stderr)
	}
	if status, _, stderr := ask("b", "--alpha", "3", "--name", "beyond"); status != 0 && status != 4 {
		t.Errorf("exit status %d: %s", status, stderr)
	}
	if a, b := outputs("a"), outputs("b"); strings.Join(a, "\x00") == strings.Join(b, "\x00") {
		t.Errorf("α = 0.5 and 3 say the same: %q", a)
	}
	// Without a judge, and on from there.
	var out, errs bytes.Buffer
	args := []string{"eval", "alpaca", aligned, "--reference", reference, "--answers-only", "--max-tokens", "12", "-o", filepath.Join(dir, "c")}
	if status := cli.Main(context.Background(), args, strings.NewReader(""), &out, &errs); status != 0 || strings.TrimSpace(out.String()) != filepath.Join(dir, "c", "model_outputs.json") {
		t.Errorf("exit status %d: %s %s", status, out.String(), errs.String())
	}
	// A log that another run holds.
	lock := flock.New(filepath.Join(dir, "a", "log.jsonl.lock"))
	if ok, err := lock.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	defer lock.Close()
	if status, _, stderr := ask("a", "--alpha", "0.5"); status != 1 || !strings.Contains(stderr, "another run is using it") {
		t.Errorf("a second run at once: exit status %d: %s", status, stderr)
	}
}
