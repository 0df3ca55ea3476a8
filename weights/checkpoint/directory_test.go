package checkpoint

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

const commit = "0123456789abcdef0123456789abcdef01234567"

var etagWeights = strings.Repeat("ab", 32)

// hubCache lays m out as the Hugging Face cache does and returns the snapshot.
// With shared, blobs are links into the store of all repositories.
func hubCache(t *testing.T, m checkpointtest.Model, shared bool) (cache, snapshot string) {
	t.Helper()
	plain := t.TempDir()
	m.Write(t, plain)
	cache = t.TempDir()
	repo := filepath.Join(cache, "models--org--name")
	snapshot = filepath.Join(repo, "snapshots", commit)
	checkpointtest.File(t, filepath.Join(repo, "refs", "main"), commit)
	for name, text := range checkpointtest.Tree(t, plain) {
		etag := fmt.Sprintf("%x", sha256.Sum256([]byte(name)))[:40]
		if strings.HasSuffix(name, ".safetensors") {
			etag = etagWeights
		}
		blob := filepath.Join(repo, "blobs", etag)
		if shared {
			hash := fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
			checkpointtest.File(t, filepath.Join(cache, "blobs", hash[:2], hash), text)
			symlink(t, "../../blobs/"+hash[:2]+"/"+hash, blob)
		} else {
			checkpointtest.File(t, blob, text)
		}
		up := strings.Repeat("../", 2+strings.Count(name, "/"))
		symlink(t, up+"blobs/"+etag, filepath.Join(snapshot, filepath.FromSlash(name)))
	}
	return cache, snapshot
}

func TestHubCache(t *testing.T) {
	for _, shared := range []bool{false, true} {
		m := pair(t, 1)
		m.Files["templates/long.jinja"] = "{{ messages }}"
		_, snapshot := hubCache(t, m, shared)
		c := mustOpen(t, snapshot)
		if got := c.Sources()[0].SHA256; got != etagWeights {
			t.Errorf("shared %v: SHA-256 %q, want %q", shared, got, etagWeights)
		}
		x := m.Tensors[3]
		got, ok := c.Tensor(x.Name)
		if !ok || string(checkpointtest.Bytes(got)) != string(checkpointtest.Bytes(x)) {
			t.Errorf("shared %v: %s differs", shared, x.Name)
		}
		for _, name := range []string{"tokenizer.json", "templates/long.jinja"} {
			b, err := fs.ReadFile(c.Files(), name)
			if err != nil || string(b) != m.Files[name] {
				t.Errorf("shared %v: %s: %q, %v", shared, name, b, err)
			}
		}
		if link, err := fs.ReadLink(c.Files(), "templates/long.jinja"); err != nil || !strings.HasPrefix(link, "../../../blobs/") {
			t.Errorf("shared %v: the link leads to %q, %v", shared, link, err)
		}
		small, err := c.SmallFiles()
		if want := "config.json generation_config.json templates/long.jinja tokenizer.json tokenizer_config.json"; err != nil || strings.Join(small, " ") != want {
			t.Errorf("shared %v: small files %v, %v, want %s", shared, small, err, want)
		}
		if err := fstest.TestFS(c.Files(), "config.json", "templates/long.jinja"); err != nil {
			t.Errorf("shared %v: %v", shared, err)
		}
		out := filepath.Join(t.TempDir(), "out")
		if _, err := Write(context.Background(), out, c, WriteOptions{}); err != nil {
			t.Errorf("shared %v: %v", shared, err)
		} else if got := checkpointtest.Tree(t, out)["templates/long.jinja"]; got != m.Files["templates/long.jinja"] {
			t.Errorf("shared %v: copied %q", shared, got)
		}
		// The snapshot by way of a link of the user's own.
		link := filepath.Join(t.TempDir(), "link")
		symlink(t, snapshot, link)
		if c := mustOpen(t, link); c.Len() != len(m.Tensors) {
			t.Errorf("shared %v: %d tensors through a link", shared, c.Len())
		}
	}
}

// TestHubCacheFolder opens a folder inside a snapshot.
func TestHubCacheFolder(t *testing.T) {
	m := pair(t, 1)
	_, snapshot := hubCache(t, m, false)
	repo := filepath.Dir(filepath.Dir(snapshot))
	symlink(t, "../../../blobs/"+etagWeights, filepath.Join(snapshot, "step100", "model.safetensors"))
	c := mustOpen(t, filepath.Join(snapshot, "step100"))
	if c.Len() != len(m.Tensors) || c.Sources()[0].SHA256 != etagWeights {
		t.Errorf("%d tensors, SHA-256 %q", c.Len(), c.Sources()[0].SHA256)
	}
	remove(t, filepath.Join(repo, "blobs", etagWeights))
	_, err := Open(snapshot)
	wantError(t, err, "model.safetensors", "incomplete")
}

// TestCacheEscapes makes the links of a cache lead elsewhere.
func TestCacheEscapes(t *testing.T) {
	secret := func(cache string) {
		checkpointtest.File(t, filepath.Join(cache, "secret"), "{}")
		checkpointtest.File(t, filepath.Join(cache, "blobs", "ab", "secret"), "{}")
		checkpointtest.File(t, filepath.Join(cache, "blobs", "ab", "cd"), "{}")
	}
	tests := []struct {
		name   string
		target string // of snapshots/commit/generation_config.json
		blob   string // of blobs/1234, where that is the target
		ok     bool
	}{
		{"a blob of the shared store", "../../blobs/1234", "../../blobs/ab/cd", true},
		{"another repository", "../../../models--other--one/blobs/12", "", false},
		{"beside the repositories", "../../../secret", "", false},
		{"the store without a blob between", "../../../blobs/ab/cd", "", false},
		{"a blob beside the store", "../../blobs/1234", "../../secret", false},
		{"a blob up from the store", "../../blobs/1234", "../../blobs/ab/../../secret", false},
		{"a blob with an odd name", "../../blobs/1234", "../../blobs/ab/secret", false},
		{"a blob too deep", "../../blobs/1234", "../../blobs/ab/cd/ef", false},
		{"absolute", "/etc/hostname", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cache, snapshot := hubCache(t, pair(t, 1), false)
			secret(cache)
			checkpointtest.File(t, filepath.Join(cache, "models--other--one", "blobs", "12"), "{}")
			link := filepath.Join(snapshot, "generation_config.json")
			remove(t, link)
			symlink(t, tt.target, link)
			if tt.blob != "" {
				symlink(t, tt.blob, filepath.Join(cache, "models--org--name", "blobs", "1234"))
			}
			c := mustOpen(t, snapshot)
			b, err := fs.ReadFile(c.Files(), "generation_config.json")
			if tt.ok {
				if err != nil || string(b) != "{}" {
					t.Fatalf("%q, %v", b, err)
				}
				return
			}
			if err == nil {
				t.Fatalf("read %q", b)
			}
			out := filepath.Join(t.TempDir(), "out")
			_, err = Write(context.Background(), out, c, WriteOptions{})
			wantError(t, err, "generation_config.json", "inside its own directory")
			if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the output is there: %v", err)
			}
		})
	}
}

func TestLinksOutside(t *testing.T) {
	outside := t.TempDir()
	pair(t, 3).Write(t, outside)
	pair(t, 1).Write(t, outside)
	files := []string{"model.safetensors", "model.safetensors.index.json", "model-00001-of-00003.safetensors", "config.json"}
	for _, name := range files {
		for _, relative := range []bool{false, true} {
			dir := filepath.Join(filepath.Dir(outside), strings.NewReplacer(".", "", "-", "").Replace(name))
			os.RemoveAll(dir)
			if name == "model.safetensors" {
				one("x", 1).Write(t, dir)
			} else {
				pair(t, 3).Write(t, dir)
			}
			path := filepath.Join(dir, name)
			remove(t, path)
			target := filepath.Join(outside, name)
			if relative {
				target = filepath.Join("..", filepath.Base(outside), name)
			}
			symlink(t, target, path)
			c, err := Open(dir)
			if err == nil {
				c.Close()
			}
			wantError(t, err, name, "inside its own directory")
		}
	}
	// Inside the directory links are as good as files.
	dir := t.TempDir()
	one("x", 5).Write(t, dir)
	rename(t, filepath.Join(dir, "model.safetensors"), filepath.Join(dir, "real"))
	symlink(t, "real", filepath.Join(dir, "model.safetensors"))
	if x, _ := mustOpen(t, dir).Tensor("x"); checkpointtest.Values(x)[0] != 5 {
		t.Error("a link inside the directory leads elsewhere")
	}
	// But one that looks like a blob's proves no digest here.
	if got := mustOpen(t, dir).Sources()[0].SHA256; got != "" {
		t.Errorf("SHA-256 %q", got)
	}
}

// TestSmallFilesChecked checks that what cannot be copied is found before
// anything is written.
func TestSmallFilesChecked(t *testing.T) {
	tests := []struct {
		name, target string
		want         string
	}{
		{"file outside", "../secret", "inside its own directory"},
		{"directory outside", "..", "inside its own directory"},
		{"directory inside", "sub", "link to a directory"},
		{"nothing", "absent", "no such file"},
		{"itself", "odd.txt", "odd.txt"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			parent := t.TempDir()
			checkpointtest.File(t, filepath.Join(parent, "secret"), "secret")
			dir := filepath.Join(parent, "model")
			m := one("x", 1)
			m.Files = map[string]string{"sub/a.txt": ""}
			m.Write(t, dir)
			symlink(t, tt.target, filepath.Join(dir, "odd.txt"))
			read := false
			_, err := Write(context.Background(), filepath.Join(parent, "out"), mustOpen(t, dir), WriteOptions{
				Read: func(x tensor.Tensor, p []byte, off int64) error { read = true; return nil },
			})
			wantError(t, err, "odd.txt", tt.want)
			if entries, _ := os.ReadDir(parent); len(entries) != 2 || read {
				t.Errorf("%d entries beside the model, tensors read: %v", len(entries)-2, read)
			}
		})
	}
}

func TestPipe(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no named pipes")
	}
	for _, name := range []string{"model.safetensors", "config.json", "tokenizer.json"} {
		dir := t.TempDir()
		one("x", 1).Write(t, dir)
		os.Remove(filepath.Join(dir, name))
		mkfifo(t, filepath.Join(dir, name))
		c, err := Open(dir)
		if name == "tokenizer.json" {
			if err != nil {
				t.Fatal(err)
			}
			_, err = Write(context.Background(), filepath.Join(t.TempDir(), "out"), c, WriteOptions{})
			c.Close()
		}
		wantError(t, err, name, "not a regular file")
	}
}
