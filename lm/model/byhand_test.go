package model

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestByHand compares with what another program computed for a model that is
// not part of this module: EXPO_MODEL is its directory or GGUF file, EXPO_GOLD
// a JSON file, which scripts/against_transformers_text.py writes. last are the
// logits after ids, greedy the tokens that follow, margins the differences
// between the two largest logits each time. Logits may differ by tolerance, as
// a part of the largest magnitude among them, and greedy tokens where the margin
// is not above margin.
func TestByHand(t *testing.T) {
	path, gold := os.Getenv("EXPO_MODEL"), os.Getenv("EXPO_GOLD")
	if path == "" || gold == "" {
		t.Skip("EXPO_MODEL, EXPO_GOLD: not set")
	}
	b, err := os.ReadFile(gold)
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Tolerance, Margin float64
		Cases             []struct {
			IDs     []int
			Last    []float64
			Greedy  []int
			Margins []float64
		}
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	var m *Model
	if strings.HasSuffix(path, ".gguf") {
		m = loadGGUF(t, path, LoadOptions{})
	} else {
		m = loadDir(t, path, LoadOptions{})
	}
	for i, c := range want.Cases {
		got := all(t, m, c.IDs)
		d := furthest(got[len(got)-1], c.Last)
		t.Logf("case %d: logits differ by %.4f of their scale", i, d)
		if !(d <= want.Tolerance) {
			t.Errorf("case %d: logits may differ by %.4f", i, want.Tolerance)
		}
		equal := true
		for k, id := range greedy(t, m, c.IDs, len(c.Greedy)) {
			if id == c.Greedy[k] {
				continue
			}
			t.Logf("case %d: greedy token %d is %d, want %d; margin there %.3g", i, k, id, c.Greedy[k], c.Margins[k])
			if c.Margins[k] > want.Margin {
				t.Errorf("case %d: a margin above %.3g is no tie", i, want.Margin)
			}
			equal = false
			break
		}
		if equal {
			t.Logf("case %d: %d greedy tokens are equal", i, len(c.Greedy))
		}
	}
}
