//go:build unix

package cli_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestAlpacaExtended has a run with more instructions than before, and others
// refused before anything is asked or written.
func TestAlpacaExtended(t *testing.T) {
	s := newPairServer(t)
	reference, prompt := alpacaFiles(t, 40)
	dir := filepath.Join(t.TempDir(), "run")
	args := []string{"eval", "alpaca", "--base-url", s.URL, "--judge-base-url", s.URL, "--reference", reference, "--judge-template", prompt, "--lc", "none", "-o", dir, "--json"}
	lines := func(name, part string) int { return strings.Count(filesOf(t, dir)[filepath.Join(dir, name)], part) }
	for _, tt := range []struct {
		more     []string
		status   int
		requests int
		total    int // comparisons that are there afterwards
		says     string
	}{
		{[]string{"--limit", "20"}, 0, 40, 20, ""},
		{[]string{"--limit", "30"}, 0, 20, 30, ""},
		{[]string{"--limit", "30"}, 0, 0, 30, ""},
		{[]string{"--limit", "25"}, 1, 0, 30, `limit \"30\", now \"25\"`},
		{[]string{"--limit", "35", "--swap", "both"}, 1, 0, 30, `swap \"one\", now \"both\"`},
		{[]string{"--limit", "35", "--judge-temperature", "0.5"}, 1, 0, 30, "judge_temperature"},
		{[]string{"--limit", "35", "--judge-id", "another"}, 1, 0, 30, "annotator"},
		{[]string{"--limit", "35", "--top-p", "0.5"}, 1, 0, 30, "top_p"},
		{[]string{"--limit", "35", "--name", "other"}, 1, 0, 30, "model served, now other"},
		{[]string{"--limit", "0"}, 2, 0, 30, "--limit 0"},
		{[]string{"--limit", "-1"}, 2, 0, 30, "--limit -1"},
		{nil, 0, 20, 40, ""},
		{[]string{"--limit", "30"}, 1, 0, 40, `limit \"none\", now \"30\"`},
		{[]string{"--limit", "30", "--force"}, 0, 0, 30, ""},
	} {
		before, _, _ := s.counts()
		var files map[string]string
		if tt.status != 0 {
			files = filesOf(t, dir)
		}
		status, stdout, stderr := run(t, program(t, slices.Concat(args, tt.more)...))
		after, _, _ := s.counts()
		if status != tt.status || after-before != tt.requests || !strings.Contains(stderr, tt.says) {
			t.Errorf("%q: exit status %d, %d requests, want %d and %d: %s", tt.more, status, after-before, tt.status, tt.requests, stderr)
		}
		if status == 0 && alpacaOf(t, stdout).N_total != tt.total {
			t.Errorf("%q: figures are %s", tt.more, stdout)
		}
		if files != nil && !maps.Equal(files, filesOf(t, dir)) {
			t.Errorf("%q: files change although it is refused", tt.more)
		}
		if a, o, l := lines("annotations.json", `"annotator"`), lines("model_outputs.json", `"generator"`), lines("samples.jsonl", "\n"); a != tt.total || o != tt.total || l != tt.total {
			t.Errorf("%q: %d judgments, %d outputs, %d samples, want %d", tt.more, a, o, l, tt.total)
		}
	}
	// Without a judge there is no result, and answers are kept all the same.
	answers := []string{"eval", "alpaca", "--base-url", s.URL, "--reference", reference, "--answers-only", "-o", filepath.Join(t.TempDir(), "answers")}
	for _, tt := range []struct {
		more     []string
		status   int
		requests int
	}{
		{[]string{"--limit", "5"}, 0, 5}, {[]string{"--limit", "5", "--temperature", "0"}, 1, 0}, {[]string{"--limit", "3"}, 1, 0}, {[]string{"--limit", "7"}, 0, 2}, {[]string{"--limit", "7"}, 0, 0},
	} {
		before, _, _ := s.counts()
		status, _, stderr := run(t, program(t, slices.Concat(answers, tt.more)...))
		if after, _, _ := s.counts(); status != tt.status || after-before != tt.requests {
			t.Errorf("%q: exit status %d, %d requests, want %d and %d: %s", tt.more, status, after-before, tt.status, tt.requests, stderr)
		}
	}
}

// TestAlpacaMoney checks --max-cost at its bounds.
func TestAlpacaMoney(t *testing.T) {
	s := newPairServer(t)
	reference, prompt := alpacaFiles(t, 4)
	prices := filepath.Join(t.TempDir(), "prices.json")
	writeJSON(t, prices, map[string]any{"served": map[string]float64{"input": 1, "output": 1}})
	for _, tt := range []struct {
		more   []string
		status int
	}{{[]string{"--max-cost", "-2"}, 2}, {[]string{"--max-cost", "0", "--prices", prices}, 1}} {
		status, _, stderr := run(t, program(t, slices.Concat([]string{"eval", "alpaca", "--base-url", s.URL, "--judge-base-url", s.URL, "--reference", reference,
			"--judge-template", prompt, "--lc", "none", "-o", filepath.Join(t.TempDir(), "run")}, tt.more)...))
		if n, _, _ := s.counts(); status != tt.status || n != 0 || !strings.Contains(stderr, "max-cost") {
			t.Errorf("%q: exit status %d after %d requests: %s", tt.more, status, n, stderr)
		}
	}
}

// TestAlpacaOutputs judges outputs that are empty or whose model is not named.
func TestAlpacaOutputs(t *testing.T) {
	s := newPairServer(t)
	reference, prompt := alpacaFiles(t, 4)
	dir := t.TempDir()
	row := func(i int, output any, generator string) map[string]any {
		m := map[string]any{"instruction": fmt.Sprint("question ", i), "output": output}
		if generator != "" {
			m["generator"] = generator
		}
		return m
	}
	for i, tt := range []struct {
		rows   []any
		more   []string
		status int
		model  string
		says   string
	}{
		{[]any{row(0, "", "m"), row(1, nil, "m"), row(2, " ", "m"), row(3, "x", "m")}, nil, 0, "m", "3 answers are empty"},
		{[]any{row(0, "a", ""), row(1, "b", ""), row(2, "c", ""), row(3, "d", "")}, nil, 1, "", "no field generator"},
		{[]any{row(0, "a", ""), row(1, "b", ""), row(2, "c", ""), row(3, "d", "")}, []string{"--name", "mine"}, 0, "mine", ""},
		{[]any{row(0, "a", ""), row(1, "b", "m"), row(2, "c", "m"), row(3, "d", "m")}, nil, 0, "m", ""},
	} {
		outputs := filepath.Join(dir, fmt.Sprint(i, ".json"))
		writeJSON(t, outputs, tt.rows)
		before, _, _ := s.counts()
		status, stdout, stderr := run(t, program(t, slices.Concat([]string{"eval", "alpaca", "--outputs", outputs, "--reference", reference, "--judge-base-url", s.URL,
			"--judge-template", prompt, "--lc", "none", "-o", filepath.Join(dir, fmt.Sprint(i)), "--json"}, tt.more)...))
		after, _, _ := s.counts()
		if status != tt.status || !strings.Contains(stdout+stderr, tt.says) || tt.status != 0 && after != before {
			t.Errorf("%d: exit status %d, %d requests: %s %s", i, status, after-before, stdout, stderr)
		}
		if status == 0 {
			if d := alpacaOf(t, stdout); d.Model != tt.model || d.N_total != 4 {
				t.Errorf("%d: figures are %s", i, stdout)
			}
		}
	}
}

// TestAlpacaAnnotations scores judgments that contradict each other, and with
// outputs that are others.
func TestAlpacaAnnotations(t *testing.T) {
	dir := t.TempDir()
	row := func(i int, preference any) map[string]any {
		return map[string]any{"instruction": fmt.Sprint("question ", i), "output_1": "base", "generator_1": "b", "output_2": fmt.Sprint("mine ", i), "generator_2": "m", "annotator": "j", "preference": preference}
	}
	annotations := filepath.Join(dir, "annotations.json")
	writeJSON(t, annotations, []any{row(0, 1.2), row(1, 2), row(1, 1), row(0, 1.2), row(2, 1), row(1, 1.5), row(2, 2)})
	args := []string{"eval", "alpaca", "--annotations", annotations, "--lc", "none", "--json"}
	status, stdout, stderr := run(t, program(t, args...))
	d := alpacaOf(t, stdout)
	if status != 0 || d.N_total != 3 || *d.Win_rate < 39.9 || *d.Win_rate > 40.1 || !strings.Contains(stdout, `"n_contradicting": 3`) ||
		len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0], `3 rows contradict`) || !strings.Contains(d.Warnings[0], `"question 1"`) {
		t.Errorf("exit status %d: %s %s", status, stdout, stderr)
	}
	output := func(i int, generator string) map[string]any {
		return map[string]any{"instruction": fmt.Sprint("question ", i), "output": strings.Repeat("x", 10), "generator": generator}
	}
	for i, tt := range []struct {
		rows   []any
		more   []string
		status int
		says   string
	}{
		{[]any{output(0, "m"), output(1, "m"), output(2, "m"), output(3, "m")}, nil, 0, `"avg_length": 10`},
		{[]any{output(0, "n"), output(1, "n"), output(2, "n")}, nil, 1, "has outputs of n, and"},
		{[]any{output(0, "n"), output(1, "n"), output(2, "n")}, []string{"--name", "n"}, 0, `"avg_length": 10`},
		{[]any{output(0, "m"), output(7, "m"), output(8, "m")}, nil, 1, "lacks outputs to 2 of the 3 instructions"},
		{[]any{output(0, "m")}, []string{"--limit", "1"}, 2, "--annotations scores all"},
	} {
		path := filepath.Join(dir, fmt.Sprint("outputs", i, ".json"))
		writeJSON(t, path, tt.rows)
		status, stdout, stderr := run(t, program(t, slices.Concat(args, []string{"--outputs", path}, tt.more)...))
		if status != tt.status || !strings.Contains(stdout+stderr, tt.says) || status == 1 && (!strings.Contains(stderr, path) || !strings.Contains(stderr, annotations)) {
			t.Errorf("%d: exit status %d: %s %s", i, status, stdout, stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "result.json")); err == nil {
		t.Error("figures that were to be printed are written")
	}
}
