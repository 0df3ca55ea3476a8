//go:build unix

package cli_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"expo/eval"
)

// filesOf are the contents of all files in a directory but logs.
func filesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), "log.jsonl") {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// resultsOf are those of a result.json, by model and judge.
func resultsOf(t *testing.T, dir string) map[string]eval.Result {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "result.json"))
	if err != nil {
		t.Fatal(err)
	}
	list := make([]eval.Result, 1)
	if strings.HasPrefix(string(b), "[") {
		err = json.Unmarshal(b, &list)
	} else {
		err = json.Unmarshal(b, &list[0])
	}
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]eval.Result{}
	for _, r := range list {
		out[r.Model+" by "+r.Config["judge"]] = r
	}
	if len(out) != len(list) {
		t.Errorf("%d results of %d models and judges", len(list), len(out))
	}
	return out
}

// TestMTBenchFolder lets several models and judges work into one directory, and
// has everything refused that would replace what is there.
func TestMTBenchFolder(t *testing.T) {
	s := newChatServer(t, func(texts []string) string {
		if texts[0] == "judge" {
			return "[[7]]"
		}
		return fmt.Sprint("answer ", len(texts), " to ", texts[len(texts)-1])
	})
	bench, wider := benchFiles(t, 2), benchFiles(t, 3)
	dir := filepath.Join(t.TempDir(), "run")
	command := func(bench []string, more ...string) []string {
		return slices.Concat([]string{"eval", "mtbench", "--base-url", s.URL, "--judge-base-url", s.URL, "-o", dir, "--json"}, bench, more)
	}
	do := func(want int, says string, args []string) (requests int) {
		t.Helper()
		before := s.seen()
		status, _, stderr := run(t, program(t, args...))
		if status != want || !strings.Contains(stderr, says) {
			t.Errorf("%q: exit status %d, want %d: %q does not say %q", args, status, want, stderr, says)
		}
		return s.seen() - before
	}
	const turns = 32
	if n := do(0, "", command(bench, "--name", "a", "--judge-name", "j")); n != 2*turns {
		t.Errorf("%d requests, want %d", n, 2*turns)
	}
	first := resultsOf(t, dir)
	do(0, "", command(bench, "--name", "b", "--judge-name", "j"))
	do(0, "", command(bench, "--name", "a", "--judge-name", "k"))
	results := resultsOf(t, dir)
	if got, want := slices.Sorted(maps.Keys(results)), []string{"a by j", "a by k", "b by j"}; !slices.Equal(got, want) {
		t.Errorf("results are %q, want %q", got, want)
	}
	if was, is := fmt.Sprint(first["a by j"].Config, first["a by j"].Metrics), fmt.Sprint(results["a by j"].Config, results["a by j"].Metrics); len(was) != len(is) {
		t.Errorf("the first result was\n%s, is\n%s", was, is)
	}
	files := filesOf(t, dir)
	for name, want := range map[string]int{
		"model_answer/a.jsonl": turns / 2, "model_answer/b.jsonl": turns / 2, "model_judgment/j_single.jsonl": 2 * turns, "model_judgment/k_single.jsonl": turns, "samples.jsonl": 3 * turns,
	} {
		if n := strings.Count(files[filepath.Join(dir, name)], "\n"); n != want {
			t.Errorf("%s has %d lines, want %d", name, n, want)
		}
	}
	if page := files[filepath.Join(dir, "report.html")]; !strings.Contains(page, "a [k]") || !strings.Contains(page, "a [j]") || !strings.Contains(page, ">b") {
		t.Error("report.html is not of all models and judges")
	}
	status, stdout, stderr := run(t, program(t, "report", dir, "--format", "text", "--pair", "a=b"))
	if status != 0 || !strings.Contains(stdout, "judge j") || !strings.Contains(stdout, "judge k") || !strings.Contains(stdout, "16 / 16") && !strings.Contains(stdout, "32") {
		t.Errorf("report: exit status %d: %s %s", status, stdout, stderr)
	}
	// Once more: nothing is asked, nothing changes.
	for _, more := range [][]string{{"--name", "a", "--judge-name", "j"}, {"--name", "b", "--judge-name", "j"}, {"--name", "a", "--judge-name", "k"}} {
		if n := do(0, "", command(bench, more...)); n != 0 {
			t.Errorf("%q again: %d requests", more, n)
		}
		if !maps.Equal(filesOf(t, dir), files) {
			t.Errorf("%q again changes files", more)
		}
	}
	// The answers that lie there, by another judge: the same model.
	do(0, "", slices.Concat([]string{"eval", "mtbench", "--answers", filepath.Join(dir, "model_answer"), "--judge-base-url", s.URL, "--judge-name", "l", "-o", dir, "--json"}, bench))
	if r := resultsOf(t, dir); r["a by l"].Config["temperature"] != "by category" || r["b by l"].Config["model_identity"] == "" || len(r) != 5 {
		t.Errorf("results are %v", r)
	}
	files = filesOf(t, dir)
	other := filepath.Join(t.TempDir(), "a.jsonl")
	if err := os.WriteFile(other, []byte(`{"question_id": 81, "choices": [{"index": 0, "turns": ["x", "y"]}]}`+"\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		says string
		args []string
	}{
		{`temperature \"by category\", now \"0.3\"`, command(bench, "--name", "a", "--judge-name", "j", "--temperature", "0.3")},
		{`temperature \"by category\", now \"0.3\"`, command(bench, "--name", "a", "--judge-name", "new", "--temperature", "0.3")},
		{`temperature \"by category\", now \"0.3\"`, command(bench, "--name", "b", "--answers-only", "--temperature", "0.3")},
		{`seed \"0\", now \"5\"`, command(bench, "--name", "b", "--judge-name", "j", "--sampling-seed", "5")},
		{`stop \"\", now`, command(bench, "--name", "b", "--judge-name", "j", "--stop", "x")},
		{`judge_temperature \"0\", now \"0.5\"`, command(bench, "--name", "b", "--judge-name", "j", "--judge-temperature", "0.5")},
		{"questions_sha256", command(wider, "--name", "a", "--judge-name", "j")},
		{"to questions that this run leaves out", command(bench, "--name", "a", "--judge-name", "j", "--limit", "3")},
		{"answers_sha256", slices.Concat([]string{"eval", "mtbench", "--answers", other, "--judge-base-url", s.URL, "--judge-name", "j", "-o", dir, "--json"}, bench)},
	} {
		if n := do(1, tt.says, tt.args); n != 0 {
			t.Errorf("%q: %d requests before it is refused", tt.args, n)
		}
		do(1, "--force", tt.args)
		if !maps.Equal(filesOf(t, dir), files) {
			t.Errorf("%q: files change although it is refused", tt.args)
		}
	}
	// With --force: a's figures by every judge were of other answers; b's stay.
	do(0, "", command(bench, "--name", "a", "--judge-name", "j", "--temperature", "0.3", "--force"))
	results = resultsOf(t, dir)
	if got, want := slices.Sorted(maps.Keys(results)), []string{"a by j", "b by j", "b by l"}; !slices.Equal(got, want) || results["a by j"].Config["temperature"] != "0.3" {
		t.Errorf("results are %q, want %q", got, want)
	}
	if n := strings.Count(filesOf(t, dir)[filepath.Join(dir, "model_judgment/j_single.jsonl")], "\n"); n != 2*turns {
		t.Errorf("%d judgments of j, want %d", n, 2*turns)
	}
}

// TestMTBenchGames adds games, and ratings, to those of a directory.
func TestMTBenchGames(t *testing.T) {
	s := newChatServer(t, func(texts []string) string {
		if strings.Contains(texts[1], "|best") && strings.Contains(texts[1], "|base") { // whichever is shown first
			if strings.Index(texts[1], "|best") < strings.Index(texts[1], "|base") {
				return "[[A]] [[9]]"
			}
			return "[[B]] [[9]]"
		}
		return "[[C]] [[5]]"
	})
	bench := benchFiles(t, 1)
	answers := t.TempDir()
	file := func(name string) string {
		var b strings.Builder
		for c := range 8 {
			fmt.Fprintf(&b, `{"question_id": %d, "choices": [{"index": 0, "turns": ["%s", "%s"]}]}`+"\n", 81+10*c, name, name)
		}
		path := filepath.Join(answers, name+".jsonl")
		if err := os.WriteFile(path, []byte(b.String()), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	dir := filepath.Join(t.TempDir(), "run")
	command := func(mode string, models ...string) {
		t.Helper()
		args := slices.Concat([]string{"eval", "mtbench", "--judge-base-url", s.URL, "--judge-name", "j", "-o", dir, "--mode", mode}, bench)
		if mode == "pair" {
			args = append(args, "--baseline", "base")
		}
		for _, m := range models {
			args = append(args, "--answers", file(m))
		}
		if status, _, stderr := run(t, program(t, args...)); status != 0 {
			t.Fatalf("%q: exit status %d: %s", args, status, stderr)
		}
	}
	command("pair", "base", "best")
	command("single", "base")
	command("pair", "base", "same")
	for range 2 {
		results := resultsOf(t, dir)
		for _, want := range []struct {
			model, metric string
			value         float64
			n             int
		}{
			{"base", "win_rate_adjusted", 0.25, 32}, // 16 lost, 16 drawn
			{"base", "all", 5, 16},
			{"best", "win_rate_adjusted", 1, 16},
			{"same", "win_rate_adjusted", 0.5, 16},
		} {
			r := results[want.model+" by j"]
			if m, ok := r.Metric(want.metric); !ok || m.Value != want.value || m.N != want.n {
				t.Errorf("%s of %s is %v of %d, want %v of %d", want.metric, want.model, m.Value, m.N, want.value, want.n)
			}
		}
		if n := strings.Count(filesOf(t, dir)[filepath.Join(dir, "model_judgment/j_pair.jsonl")], "\n"); n != 32 {
			t.Errorf("%d games, want 32", n)
		}
		before := s.seen()
		command("pair", "base", "best") // again, which changes nothing
		if s.seen() != before {
			t.Errorf("%d requests, want none", s.seen()-before)
		}
	}
}

// TestMTBenchExtended has a run with more questions than before.
func TestMTBenchExtended(t *testing.T) {
	s := newChatServer(t, func(texts []string) string { return "[[7]]" })
	dir := filepath.Join(t.TempDir(), "run")
	args := append([]string{"eval", "mtbench", "--base-url", s.URL, "--answers-only", "-o", dir}, benchFiles(t, 2)...)
	for _, tt := range []struct {
		more     []string
		status   int
		requests int
	}{
		{[]string{"--limit", "3"}, 0, 6}, {[]string{"--limit", "5"}, 0, 4}, {[]string{"--limit", "4"}, 1, 0}, {nil, 0, 22}, {[]string{"--temperature", "0.2"}, 1, 0}, {nil, 0, 0},
		{[]string{"--limit", "0"}, 2, 0}, {[]string{"--limit", "-3"}, 2, 0},
	} {
		before := s.seen()
		status, _, stderr := run(t, program(t, slices.Concat(args, tt.more)...))
		if n := s.seen() - before; status != tt.status || n != tt.requests {
			t.Errorf("%q: exit status %d, %d requests, want %d and %d: %s", tt.more, status, n, tt.status, tt.requests, stderr)
		}
	}
}

// TestMTBenchMissingAnswers judges answers to some of the questions.
func TestMTBenchMissingAnswers(t *testing.T) {
	s := newChatServer(t, func(texts []string) string { return "[[7]]" })
	answers := filepath.Join(t.TempDir(), "m.jsonl")
	if err := os.WriteFile(answers, []byte(`{"question_id": 81, "choices": [{"index": 0, "turns": ["x", "y"]}]}`+"\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"eval", "mtbench", "--answers", answers, "--judge-base-url", s.URL, "-o", filepath.Join(t.TempDir(), "run"), "--json"}, benchFiles(t, 1)...)
	status, stdout, stderr := run(t, program(t, args...))
	if doc := parse(t, stdout); status != 4 || !strings.Contains(stderr, "14 of 16") || !strings.Contains(strings.Join(doc.Warnings, "\n"), "m: 7 of 8 questions have no answer: 91, 101, 111, 121, 131 and 2 more") || doc.Models["m"].Complete {
		t.Errorf("exit status %d: %s %s", status, stdout, stderr)
	}
	// Asked for no more than that, it is whole; but in a directory of its own.
	if status, _, stderr := run(t, program(t, append(args, "--limit", "1", "-o", filepath.Join(t.TempDir(), "other"))...)); status != 0 {
		t.Errorf("--limit 1: exit status %d: %s", status, stderr)
	}
}

// refusingServer answers everything with one status.
func refusingServer(t *testing.T, status int) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, `{"error":{"message":"no"}}`)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestMTBenchCostAndKeys checks --max-cost at its bounds, and a fleet of which
// one server refuses the key.
func TestMTBenchCostAndKeys(t *testing.T) {
	s := newChatServer(t, func(texts []string) string { return "x" })
	bench := benchFiles(t, 1)
	prices := filepath.Join(t.TempDir(), "prices.json")
	if err := os.WriteFile(prices, []byte(`{"org/served": {"input": 1, "output": 1}}`), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		more     []string
		status   int
		requests int
		says     string
	}{
		{[]string{"--max-cost", "-1"}, 2, 0, "max-cost"},
		{[]string{"--max-cost", "nan"}, 2, 0, "max-cost"},
		{[]string{"--max-cost", "0", "--prices", prices}, 1, 0, "--max-cost 0"},
		{[]string{"--max-cost", "0"}, 0, 16, ""}, // servers on this machine are free
	} {
		before := s.seen()
		args := slices.Concat([]string{"eval", "mtbench", "--base-url", s.URL, "--answers-only", "-o", filepath.Join(t.TempDir(), "run")}, bench, tt.more)
		status, _, stderr := run(t, program(t, args...))
		if n := s.seen() - before; status != tt.status || n != tt.requests || !strings.Contains(stderr, tt.says) {
			t.Errorf("%q: exit status %d, %d requests, want %d and %d: %s", tt.more, status, n, tt.status, tt.requests, stderr)
		}
	}
	bad := refusingServer(t, 401)
	for _, urls := range [][]string{{bad, s.URL}, {s.URL, bad}} {
		args := slices.Concat([]string{"eval", "mtbench", "--base-url", urls[0], "--base-url", urls[1], "--answers-only", "-o", filepath.Join(t.TempDir(), "run")}, bench)
		status, _, stderr := run(t, program(t, args...))
		if status != 0 || strings.Count(stderr, "is asked no more") != 1 || !strings.Contains(stderr, bad) || !strings.Contains(stderr, "401") {
			t.Errorf("exit status %d: %s", status, stderr)
		}
	}
	args := slices.Concat([]string{"eval", "mtbench", "--base-url", bad, "--base-url", refusingServer(t, 401), "--answers-only", "-o", filepath.Join(t.TempDir(), "run")}, bench)
	if status, _, stderr := run(t, program(t, args...)); status != 1 || !strings.Contains(stderr, "API key") && !strings.Contains(stderr, "401") {
		t.Errorf("exit status %d: %s", status, stderr)
	}
}
