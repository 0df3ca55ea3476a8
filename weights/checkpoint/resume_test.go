package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

// interrupt writes c and gives up when the tensor is read; it returns the
// stage that is left.
func interrupt(t *testing.T, c *Checkpoint, out, key, name string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := Write(ctx, out, c, WriteOptions{Jobs: 1, Key: key,
		Read: func(x tensor.Tensor, p []byte, off int64) error {
			if x.Name == name {
				cancel()
				return ctx.Err()
			}
			return tensor.ReadFull(x.Data, p, off)
		},
		FileDone: func(file string, ts []tensor.Tensor) (json.RawMessage, error) {
			return json.Marshal(fmt.Sprint(file, " ", len(ts)))
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, want that it was canceled", err)
	}
	if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the target is there: %v", err)
	}
	return filepath.Join(filepath.Dir(out), "."+filepath.Base(out)+".expo")
}

const shard1, shard2, shard3 = "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"

func TestResume(t *testing.T) {
	c := openModel(t, wide())
	whole := filepath.Join(t.TempDir(), "whole")
	if _, err := Write(t.Context(), whole, c, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	want := checkpointtest.Tree(t, whole)
	tests := []struct {
		name    string
		at      string                           // the tensor at which the first run ends
		damage  func(t *testing.T, stage string) // what happens to the stage then
		key     string
		options func(o *WriteOptions)
		resumed int
	}{
		{"in the second shard", "b.big", nil, "key", nil, 1},
		{"in the third shard", "c.exact", nil, "key", nil, 2},
		{"by several workers", "c.exact", nil, "key", func(o *WriteOptions) { o.Jobs = 4 }, 2},
		{"without digests", "c.exact", nil, "key", func(o *WriteOptions) { o.NoDigest = true }, 2},
		{"another key", "c.exact", nil, "other", nil, 0},
		{"no key", "c.exact", nil, "", nil, 0},
		{"refused by the caller", "c.exact", nil, "key", func(o *WriteOptions) {
			o.FileResumed = func(file string, _ []tensor.Tensor, _ json.RawMessage) error {
				if file == shard1 {
					return errors.New("odd note")
				}
				return nil
			}
		}, 1},
		{"a last line cut short", "c.exact", func(t *testing.T, stage string) {
			journal := filepath.Join(stage, "journal")
			b, err := os.ReadFile(journal)
			if err != nil {
				t.Fatal(err)
			}
			checkpointtest.File(t, journal, strings.TrimRight(string(b), "\n")[:len(b)-30])
		}, "key", nil, 1},
		{"the first line is cut short", "c.exact", func(t *testing.T, stage string) {
			checkpointtest.File(t, filepath.Join(stage, "journal"), `{"key":"ke`)
		}, "key", nil, 0},
		{"the first line is missing", "c.exact", func(t *testing.T, stage string) {
			journal := filepath.Join(stage, "journal")
			b, err := os.ReadFile(journal)
			if err != nil {
				t.Fatal(err)
			}
			_, rest, _ := strings.Cut(string(b), "\n")
			checkpointtest.File(t, journal, rest)
		}, "key", nil, 0},
		{"an empty journal", "c.exact", func(t *testing.T, stage string) { checkpointtest.File(t, filepath.Join(stage, "journal"), "") }, "key", nil, 0},
		{"a journal of junk", "c.exact", func(t *testing.T, stage string) {
			checkpointtest.File(t, filepath.Join(stage, "journal"), "\x00\xff\n[1]\n{}\n")
		}, "key", nil, 0},
		{"no journal", "c.exact", func(t *testing.T, stage string) { remove(t, filepath.Join(stage, "journal")) }, "key", nil, 0},
		{"a file is missing", "c.exact", func(t *testing.T, stage string) { remove(t, filepath.Join(stage, "model", shard1)) }, "key", nil, 1},
		{"a file is short", "c.exact", func(t *testing.T, stage string) {
			if err := os.Truncate(filepath.Join(stage, "model", shard2), 1000); err != nil {
				t.Fatal(err)
			}
		}, "key", nil, 1},
		{"a file is a directory", "c.exact", func(t *testing.T, stage string) {
			remove(t, filepath.Join(stage, "model", shard2))
			checkpointtest.File(t, filepath.Join(stage, "model", shard2, "x"), "")
		}, "key", nil, 1},
		{"all files are missing", "c.exact", func(t *testing.T, stage string) { os.RemoveAll(filepath.Join(stage, "model")) }, "key", nil, 0},
		{"stale files", "c.exact", func(t *testing.T, stage string) {
			for _, name := range []string{"config.json", "old.txt", "model-00004-of-00004.safetensors", "sub/deep/x"} {
				checkpointtest.File(t, filepath.Join(stage, "model", name), "stale")
			}
		}, "key", nil, 2},
		{"a lock of a dead process", "c.exact", func(t *testing.T, stage string) { checkpointtest.File(t, filepath.Join(stage, "lock"), "") }, "key", nil, 2},
		{"no lock", "c.exact", func(t *testing.T, stage string) { os.Remove(filepath.Join(stage, "lock")) }, "key", nil, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			stage := interrupt(t, c, out, "key", tt.at)
			if tt.damage != nil {
				tt.damage(t, stage)
			}
			var notes []string
			var mu sync.Mutex
			done := make(map[string]bool)
			o := WriteOptions{Key: tt.key,
				FileResumed: func(file string, ts []tensor.Tensor, note json.RawMessage) error {
					notes = append(notes, file)
					if want := fmt.Sprintf("%q", fmt.Sprint(file, " ", len(ts))); string(note) != want {
						t.Errorf("the note of %s is %s, want %s", file, note, want)
					}
					return nil
				},
				FileDone: func(file string, ts []tensor.Tensor) (json.RawMessage, error) {
					mu.Lock()
					defer mu.Unlock()
					done[file] = true
					return nil, nil
				},
			}
			if tt.options != nil {
				tt.options(&o)
			}
			w, err := Write(t.Context(), out, c, o)
			if err != nil {
				t.Fatal(err)
			}
			if w.Resumed != tt.resumed || len(done) != 3-tt.resumed {
				t.Errorf("%d files were resumed, %d written, want %d, %d", w.Resumed, len(done), tt.resumed, 3-tt.resumed)
			}
			if tt.name != "refused by the caller" && len(notes) != tt.resumed {
				t.Errorf("told of %v", notes)
			}
			got := checkpointtest.Tree(t, out)
			if keysOf(got) != keysOf(want) {
				t.Errorf("files %s, want %s", keysOf(got), keysOf(want))
			}
			for name, text := range want {
				if got[name] != text {
					t.Errorf("%s differs from that of one run", name)
				}
			}
			if !o.NoDigest {
				checkWritten(t, out, w, true)
			}
			mustBeAlone(t, out)
		})
	}
}

// TestResumeTwice interrupts one run after another.
func TestResumeTwice(t *testing.T) {
	c := openModel(t, wide())
	out := filepath.Join(t.TempDir(), "out")
	interrupt(t, c, out, "key", "b.big")
	interrupt(t, c, out, "key", "c.exact")
	w, err := Write(t.Context(), out, c, WriteOptions{Key: "key"})
	if err != nil || w.Resumed != 2 {
		t.Fatalf("%+v, %v, want two files from the runs before", w, err)
	}
	checkWritten(t, out, w, true)
}

// TestResumeDigests finds files that an earlier run wrote without digests.
func TestResumeDigests(t *testing.T) {
	c := openModel(t, wide())
	out := filepath.Join(t.TempDir(), "out")
	finish := func(*Written) (map[string][]byte, error) { return nil, context.Canceled }
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Write(ctx, out, c, WriteOptions{Key: "key", NoDigest: true, Finish: func(w *Written) (map[string][]byte, error) {
		cancel()
		return finish(w)
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	w, err := Write(t.Context(), out, c, WriteOptions{Key: "key"})
	if err != nil || w.Resumed != 0 {
		t.Fatalf("%+v, %v, want all files anew", w, err)
	}
	checkWritten(t, out, w, true)
}

// TestResumeError checks what the user is told.
func TestResumeError(t *testing.T) {
	c := openModel(t, wide())
	out := filepath.Join(t.TempDir(), "out")
	broken := errors.New("broken disk")
	read := func(x tensor.Tensor, p []byte, off int64) error {
		if x.Name == "c.exact" {
			return fmt.Errorf("checkpoint: %w", broken)
		}
		return tensor.ReadFull(x.Data, p, off)
	}
	_, err := Write(t.Context(), out, c, WriteOptions{Jobs: 1, Key: "key", Read: read})
	wantError(t, err, "broken disk")
	if left := leftBeside(t, out); !slices.Equal(left, []string{".out.expo"}) {
		t.Errorf("left: %v", left)
	}
	// Without a key nothing could find it again.
	_, err = Write(t.Context(), out, c, WriteOptions{Jobs: 1, Read: read})
	wantError(t, err, "broken disk")
	mustBeAlone(t, out)

	ctx, cancel := context.WithCancel(t.Context())
	_, err = Write(ctx, out, c, WriteOptions{Jobs: 1, Key: "key", Read: func(x tensor.Tensor, p []byte, off int64) error {
		if x.Name == "b.big" {
			cancel()
		}
		return tensor.ReadFull(x.Data, p, off)
	}})
	wantError(t, err, "context canceled", "1 of 3 shards are finished and kept in "+filepath.Dir(out), "run the same command to go on")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not wrap context.Canceled", err)
	}
}

func TestFileDoneError(t *testing.T) {
	c := openModel(t, wide())
	out := filepath.Join(t.TempDir(), "out")
	broken := errors.New("no note")
	_, err := Write(t.Context(), out, c, WriteOptions{Key: "key", FileDone: func(string, []tensor.Tensor) (json.RawMessage, error) { return nil, broken }})
	if err != broken {
		t.Errorf("%v, want %v", err, broken)
	}
	mustBeAlone(t, out)
}
