package torchbin

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestGoldens reads what torch wrote: testdata/make_goldens.py.
func TestGoldens(t *testing.T) {
	b, err := os.ReadFile("testdata/goldens.json")
	if err != nil {
		t.Fatal(err)
	}
	var goldens []struct {
		File    string
		Error   string // alternatives, with | between
		Skipped []string
		Tensors []struct {
			Name, DType, Hex string
			Shape            []int
		}
	}
	if err := json.Unmarshal(b, &goldens); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/*.bin")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(goldens) {
		t.Errorf("testdata has %d files, goldens.json %d", len(files), len(goldens))
	}
	for _, g := range goldens {
		t.Run(g.File, func(t *testing.T) {
			f, err := os.Open(filepath.Join("testdata", g.File))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			r, err := NewReader(f, info.Size())
			if g.Error != "" {
				if err == nil {
					t.Fatalf("no error, want %q", g.Error)
				}
				t.Log(err)
				if !slices.ContainsFunc(strings.Split(g.Error, "|"), func(s string) bool { return strings.Contains(err.Error(), s) }) {
					t.Errorf("error %q, want %q in it", err, g.Error)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Skipped(); !slices.Equal(got, g.Skipped) {
				t.Errorf("Skipped() = %q, want %q", got, g.Skipped)
			}
			if r.Len() != len(g.Tensors) {
				t.Fatalf("Len() = %d, want %d", r.Len(), len(g.Tensors))
			}
			i := 0
			for got := range r.Tensors() {
				want := g.Tensors[i]
				i++
				if got.Name != want.Name || got.DType.String() != want.DType || !slices.Equal(got.Shape, want.Shape) {
					t.Errorf("tensor %d is %s %v %v, want %s %v %v", i, got.Name, got.DType, got.Shape, want.Name, want.DType, want.Shape)
					continue
				}
				b, err := io.ReadAll(io.NewSectionReader(got.Data, 0, got.Size()))
				if err != nil {
					t.Errorf("%s: %v", got.Name, err)
				}
				if h := hex.EncodeToString(b); h != want.Hex {
					t.Errorf("%s: %s, want %s", got.Name, h, want.Hex)
				}
			}
		})
	}
}
