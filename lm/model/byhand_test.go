package model

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestByHand compares with what another program computed for a model that is
// not part of this module: EXPO_MODEL is its directory or GGUF file, EXPO_GOLD
// a JSON file {"any name": [{"ids", "last", "greedy", "margins"}, …]}, margins
// being those between the two largest logits.
func TestByHand(t *testing.T) {
	path, gold := os.Getenv("EXPO_MODEL"), os.Getenv("EXPO_GOLD")
	if path == "" || gold == "" {
		t.Skip("EXPO_MODEL, EXPO_GOLD: not set")
	}
	b, err := os.ReadFile(gold)
	if err != nil {
		t.Fatal(err)
	}
	var want map[string][]struct {
		IDs     []int
		Last    []float64
		Greedy  []int
		Margins []float64
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
	for kind, cases := range want {
		for i, c := range cases {
			got := all(t, m, c.IDs)
			t.Logf("%s %d: logits differ by %.2g of their scale", kind, i, furthest(got[len(got)-1], c.Last))
			text := greedy(t, m, c.IDs, len(c.Greedy))
			equal := true
			for k, id := range c.Greedy {
				if text[k] != id {
					t.Logf("%s %d: greedy token %d is %d, want %d; margin there %.3g", kind, i, k, text[k], id, c.Margins[k])
					equal = false
					break
				}
			}
			if equal {
				t.Logf("%s %d: %d greedy tokens are equal", kind, i, len(text))
			}
		}
	}
}
