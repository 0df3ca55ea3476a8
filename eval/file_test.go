package eval

import (
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// TestWriteFileNames checks that errors name the file that was asked for and
// not the one that was to become it.
func TestWriteFileNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent", "r.md")
	err := WriteFile(path, func(io.Writer) error { return nil })
	if err == nil || !strings.Contains(err.Error(), path+": ") || strings.Contains(err.Error(), ".r.md.") {
		t.Errorf("error %v, want one about %s", err, path)
	}
}
