package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"expo/internal/cli"
)

// What is computed from published raw data has to be what was published, and
// every other figure has to say where it is quoted from.
func TestReportPaper(t *testing.T) {
	dir := testdata()
	if _, err := os.Stat(filepath.Join(dir, "alpacaeval", "published.csv")); err != nil {
		t.Skip("no published data; EXPO_TESTDATA names their directory")
	}
	paper := t.TempDir()
	for _, name := range []string{"alpacaeval", filepath.Join("leaderboard", "mtbench", "judgments")} {
		if err := os.Symlink(filepath.Join(dir, name), filepath.Join(paper, filepath.Base(name))); err != nil {
			t.Skip(err)
		}
	}
	type figure struct {
		Value, Published *float64
		N                *int
		Interval         *struct{ Low, High float64 }
		Origin           struct {
			Status, Source string
			Published      *float64
		}
	}
	type set struct{ Metrics map[string]figure }
	var doc struct {
		Suites []struct {
			Suite  string
			Models []struct {
				Model          string
				Original, ExPO *set
			}
		}
		Origins map[string]int
		Checks  []struct {
			What, Judge  string
			Rows, Differ int
			Max          *float64 `json:"max_deviation"`
		}
	}
	for _, dir := range []string{filepath.Join(paper, "alpacaeval"), filepath.Join(paper, "judgments")} {
		var out, errs bytes.Buffer
		if status := cli.Main(context.Background(), []string{"report", "--paper", dir, "--json", "--bootstrap", "200"}, nil, &out, &errs); status != 0 {
			t.Fatalf("exit status %d: %s", status, &errs)
		}
		doc.Checks = nil
		if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		if len(doc.Suites) != 2 || len(doc.Suites[0].Models) != 12 || len(doc.Suites[1].Models) != 12 {
			t.Fatalf("%d suites, want two of 12 models", len(doc.Suites))
		}
		seen := map[string]int{}
		for _, s := range doc.Suites {
			for _, m := range s.Models {
				for _, set := range []*set{m.Original, m.ExPO} {
					for name, f := range set.Metrics {
						seen[f.Origin.Status]++
						if f.Value == nil || f.Origin.Source == "" {
							t.Errorf("%s %s: value %v from %q", m.Model, name, f.Value, f.Origin.Source)
							continue
						}
						if f.Origin.Status == "quoted" {
							continue
						}
						if f.Origin.Published == nil || math.Abs(*f.Value-*f.Origin.Published) > 1e-6 || f.N == nil || *f.N != 805 {
							t.Errorf("%s %s is %v over %v, published as %v", m.Model, name, *f.Value, f.N, f.Origin.Published)
						}
						if f.Origin.Status == "recomputed" && !(f.Interval != nil && f.Interval.Low < *f.Value && *f.Value < f.Interval.High) {
							t.Errorf("%s %s: %v is not within %v", m.Model, name, *f.Value, f.Interval)
						}
					}
				}
			}
		}
		for status, n := range seen {
			if doc.Origins[status] != n {
				t.Errorf("%d figures are %s, counted %d", n, status, doc.Origins[status])
			}
		}
		rows := 0
		for _, c := range doc.Checks {
			rows += c.Rows
			if c.Differ != 0 || c.Max != nil && strings.HasPrefix(c.What, "win rate") && *c.Max > 1e-9 {
				t.Errorf("%s by %s: %d of %d rows differ, by up to %v", c.What, c.Judge, c.Differ, c.Rows, c.Max)
			}
		}
		want := 75 + 67 // win rates; those of them that have a length-controlled one
		if filepath.Base(dir) == "judgments" {
			want = 1760
		}
		if rows != want {
			t.Errorf("%s: %d published figures are computed again, want %d", filepath.Base(dir), rows, want)
		}
	}
}
