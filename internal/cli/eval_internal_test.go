package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPriorResults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "result.json")
	if old, err := priorResults(path); old != nil || err != nil {
		t.Errorf("without a file: %v, %v", old, err)
	}
	for _, tt := range []struct {
		file string
		want []string // models; nil: refused
	}{
		{`{"model": "a"}`, []string{"a"}},
		{`[{"model": "a"}, {"model": "b"}]`, []string{"a", "b"}},
		{`[]`, nil},
		{`[1]`, nil},
		{`x`, nil},
	} {
		if err := os.WriteFile(path, []byte(tt.file), 0o666); err != nil {
			t.Fatal(err)
		}
		old, err := priorResults(path)
		if tt.want == nil {
			if err == nil || !strings.Contains(err.Error(), "is no result") {
				t.Errorf("%s: error %v, want one that says so", tt.file, err)
			}
			continue
		}
		if err != nil || len(old) != len(tt.want) {
			t.Errorf("%s: %d results, %v", tt.file, len(old), err)
			continue
		}
		for i, name := range tt.want {
			if old[i].Model != name {
				t.Errorf("%s: result %d is of %q, want %q", tt.file, i, old[i].Model, name)
			}
		}
	}
}
