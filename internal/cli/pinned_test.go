package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFetch(t *testing.T) {
	cache := t.TempDir()
	for _, name := range []string{"XDG_CACHE_HOME", "HOME", "LocalAppData"} {
		t.Setenv(name, cache)
	}
	t.Setenv("HF_HUB_OFFLINE", "")
	const text = "what is meant"
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		switch r.URL.Path {
		case "/file":
			io.WriteString(w, text)
		case "/other":
			io.WriteString(w, "something else")
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	sum := sha256.Sum256([]byte(text))
	var errs bytes.Buffer
	a := &app{err: &errs}
	file := pinned{"file.txt", s.URL + "/file", hex.EncodeToString(sum[:]), "file"}
	ctx := context.Background()
	for range 2 { // fetched once
		path, err := a.fetch(ctx, file)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != text || asked != 1 {
			t.Errorf("%q (%v) after %d requests", b, err, asked)
		}
	}
	t.Setenv("HF_HUB_OFFLINE", "1")
	path, err := a.fetch(ctx, file)
	if err != nil {
		t.Errorf("offline, from the cache: %v", err)
	}
	// A file that was damaged is not used.
	if err := os.WriteFile(path, []byte("damaged"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := a.fetch(ctx, file); err == nil || !strings.Contains(err.Error(), "HF_HUB_OFFLINE") || !strings.Contains(err.Error(), "--file FILE") {
		t.Errorf("damaged, offline: %v", err)
	}
	t.Setenv("HF_HUB_OFFLINE", "0")
	if _, err := a.fetch(ctx, file); err != nil || asked != 2 {
		t.Errorf("damaged: %v after %d requests", err, asked)
	}
	for path, want := range map[string]string{"/other": "want " + file.sha256, "/none": "404"} {
		other := pinned{"other.txt", s.URL + path, strings.Repeat("0", 64), "file"}
		if path == "/other" {
			other.sha256 = file.sha256
			os.RemoveAll(filepath.Join(cache))
		}
		if _, err := a.fetch(ctx, other); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}
