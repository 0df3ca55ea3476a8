package eval

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestResultJSON(t *testing.T) {
	r := Result{Suite: "s", Version: "1", Model: "m", Metrics: []Metric{
		{"win_rate", 12.25, 805, 0.5, &Interval{0.95, 11, 13, "bootstrap"}},
		{"none", math.NaN(), 0, math.Inf(1), nil},
	}}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"suite":"s","version":"1","model":"m","metrics":[` +
		`{"name":"win_rate","value":12.25,"n":805,"standard_error":0.5,"interval":{"level":0.95,"low":11,"high":13,"method":"bootstrap"}},` +
		`{"name":"none","value":null,"n":0,"standard_error":null}]}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var back Result
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	m, ok := back.Metric("win_rate")
	if !ok || m.Value != 12.25 || m.N != 805 || m.StdErr != 0.5 || *m.CI != *r.Metrics[0].CI {
		t.Errorf("win_rate came back as %v", m)
	}
	if m, ok := back.Metric("none"); !ok || !math.IsNaN(m.Value) || !math.IsNaN(m.StdErr) {
		t.Errorf("none came back as %v", m)
	}
	if _, ok := back.Metric("other"); ok {
		t.Error("found what is not there")
	}
}

func TestMean(t *testing.T) {
	m := Mean("x", []float64{1, 2, 3, 6})
	// sd² = (4 + 1 + 0 + 9)/3
	if m.Value != 3 || m.N != 4 || math.Abs(m.StdErr-math.Sqrt(14.0/3)/2) > 1e-15 {
		t.Errorf("got %v", m)
	}
	if m := Mean("x", nil); !math.IsNaN(m.Value) || !math.IsNaN(m.StdErr) {
		t.Errorf("of nothing: %v", m)
	}
	if m := Mean("x", []float64{2}); m.Value != 2 || !math.IsNaN(m.StdErr) {
		t.Errorf("of one: %v", m)
	}
}

func TestSamples(t *testing.T) {
	score := 0.5
	in := []Sample{
		{ID: "1", Model: "m", Category: "koala", Turn: 2, Score: &score, Details: map[string]any{"reply": "<m>\n"}},
		{ID: "2", Model: "m", Error: "no answer"},
	}
	var b bytes.Buffer
	if err := WriteSamples(&b, in); err != nil {
		t.Fatal(err)
	}
	out, err := ReadSamples(strings.NewReader(b.String() + "\n"))
	if err != nil || len(out) != 2 {
		t.Fatal(out, err)
	}
	if *out[0].Score != score || out[0].Turn != 2 || out[0].Details["reply"] != "<m>\n" || out[1].Score != nil || out[1].Error != "no answer" {
		t.Errorf("came back as %+v", out)
	}
	if _, err := ReadSamples(strings.NewReader("{}\n{")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a torn line: %v", err)
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	write := func(text string, fail error) error {
		return WriteFile(path, func(w io.Writer) error {
			io.WriteString(w, text)
			return fail
		})
	}
	if err := write("one", nil); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if err := write("two", broken); !errors.Is(err, broken) {
		t.Error(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || string(b) != "one" {
		t.Errorf("%q %v after a failure, want the old content", b, err)
	}
	if err := write("three", nil); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "three" {
		t.Errorf("%q", b)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left behind: %v", list)
	}
}
