package checkpoint

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"expo/weights/checkpoint/checkpointtest"
)

func TestBusy(t *testing.T) {
	c := openModel(t, pair(t, 1))
	out := filepath.Join(t.TempDir(), "out")
	s, err := openStage(out, "key", false)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Write(t.Context(), out, c, WriteOptions{Key: "key"})
	wantError(t, err, out, "another expo")
	if !errors.Is(err, ErrBusy) {
		t.Errorf("%v does not wrap ErrBusy", err)
	}
	s.release()
	if _, err := Write(t.Context(), out, c, WriteOptions{Key: "key"}); err != nil {
		t.Error(err)
	}
}

// TestRace lets many writers of one target loose: one succeeds, the others are
// told why they do not.
func TestRace(t *testing.T) {
	c := openModel(t, pair(t, 2))
	out := filepath.Join(t.TempDir(), "out")
	errs := make([]error, 12)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { _, errs[i] = Write(t.Context(), out, c, WriteOptions{Jobs: 1}) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, ErrBusy) && !errors.Is(err, ErrExists):
			t.Errorf("%v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d writers succeeded", won)
	}
	mustOpen(t, out)
	mustBeAlone(t, out)
	// With Force each may succeed, but what is there is always one of them.
	for i := range errs {
		wg.Go(func() { _, errs[i] = Write(t.Context(), out, c, WriteOptions{Jobs: 1, Force: true}) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, ErrBusy) {
			t.Errorf("%v", err)
		}
	}
	if d := mustOpen(t, out); d.Len() != c.Len() {
		t.Errorf("%d tensors, want %d", d.Len(), c.Len())
	}
	mustBeAlone(t, out)
}

// TestKilledPublishing starts from every state in which a kill can leave the
// last steps.
func TestKilledPublishing(t *testing.T) {
	c := openModel(t, wide())
	complete := checkpointtest.Tree(t, c.Name())
	delete(complete, "README.md")
	tests := []struct {
		name    string
		arrange func(t *testing.T, out, stage string)
		force   bool
		resumed int
		exists  bool // the target, as it was before: Write must refuse it
	}{
		{"ready, not yet renamed", func(t *testing.T, out, stage string) {
			rename(t, filepath.Join(stage, "model"), filepath.Join(stage, "ready"))
		}, false, 0, false},
		{"ready, not yet exchanged", func(t *testing.T, out, stage string) {
			rename(t, filepath.Join(stage, "model"), filepath.Join(stage, "ready"))
			checkpointtest.File(t, filepath.Join(out, "old.safetensors"), "old")
		}, true, 0, false},
		// What lies in ready now is the old model, of the same size and name.
		{"exchanged, old one not yet removed", func(t *testing.T, out, stage string) {
			os.RemoveAll(filepath.Join(stage, "model"))
			old := checkpointtest.Tree(t, c.Name())
			for name, text := range old {
				b := []byte(text)
				b[len(b)-1] ^= 1
				checkpointtest.File(t, filepath.Join(stage, "ready", name), string(b))
				checkpointtest.File(t, filepath.Join(out, name), text)
			}
		}, true, 0, false},
		{"the old one moved away", func(t *testing.T, out, stage string) {
			rename(t, filepath.Join(stage, "model"), filepath.Join(stage, "ready"))
			checkpointtest.File(t, filepath.Join(stage, "old", "old.safetensors"), "old")
		}, true, 2, false},
		{"the old one moved away, without Force now", func(t *testing.T, out, stage string) {
			rename(t, filepath.Join(stage, "model"), filepath.Join(stage, "ready"))
			checkpointtest.File(t, filepath.Join(stage, "old", "old.safetensors"), "old")
		}, false, 0, true},
		{"the old one not yet removed", func(t *testing.T, out, stage string) {
			os.RemoveAll(filepath.Join(stage, "model"))
			checkpointtest.File(t, filepath.Join(stage, "old", "old.safetensors"), "old")
			checkpointtest.File(t, filepath.Join(out, "new.safetensors"), "new")
		}, true, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			stage := interrupt(t, c, out, "key", "c.exact")
			tt.arrange(t, out, stage)
			w, err := Write(t.Context(), out, c, WriteOptions{Key: "key", Force: tt.force})
			if tt.exists {
				if !errors.Is(err, ErrExists) {
					t.Fatalf("%v, want that the target exists", err)
				}
				if got := checkpointtest.Tree(t, out)["old.safetensors"]; got != "old" {
					t.Errorf("the old target is lost")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if w.Resumed != tt.resumed {
				t.Errorf("%d files resumed, want %d", w.Resumed, tt.resumed)
			}
			got := checkpointtest.Tree(t, out)
			for _, name := range []string{shard1, shard2, shard3} {
				if got[name] != complete[name] {
					t.Errorf("%s differs", name)
				}
			}
			if keysOf(got) != keysOf(complete) {
				t.Errorf("files %s, want %s", keysOf(got), keysOf(complete))
			}
			mustBeAlone(t, out)
		})
	}
}

// TestSwapInTwo is what happens where names cannot be exchanged.
func TestSwapInTwo(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	checkpointtest.File(t, filepath.Join(out, "old.safetensors"), "old")
	s, err := openStage(out, "key", true)
	if err != nil {
		t.Fatal(err)
	}
	// Without anything to put there the old one comes back.
	if err := s.swapInTwo(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if got := keysOf(checkpointtest.Tree(t, out)); got != "old.safetensors" {
		t.Errorf("the target holds %q", got)
	}
	checkpointtest.File(t, filepath.Join(s.ready, "new.safetensors"), "new")
	if err := s.swapInTwo(); err != nil {
		t.Fatal(err)
	}
	s.remove()
	if got := keysOf(checkpointtest.Tree(t, out)); got != "new.safetensors" {
		t.Errorf("the target holds %q", got)
	}
	mustBeAlone(t, out)
}

// TestTargetAppears makes the target while the work is going on.
func TestTargetAppears(t *testing.T) {
	c := openModel(t, wide())
	out := filepath.Join(t.TempDir(), "out")
	_, err := Write(t.Context(), out, c, WriteOptions{Key: "key", Finish: func(*Written) (map[string][]byte, error) {
		checkpointtest.File(t, filepath.Join(out, "x.safetensors"), "x")
		return nil, nil
	}})
	if !errors.Is(err, ErrExists) {
		t.Fatalf("%v, want that the target exists", err)
	}
	wantError(t, err, out)
	if got := keysOf(checkpointtest.Tree(t, out)); got != "x.safetensors" {
		t.Errorf("the target holds %q", got)
	}
	w, err := Write(t.Context(), out, c, WriteOptions{Key: "key", Force: true})
	if err != nil || w.Resumed != 3 {
		t.Errorf("%+v, %v, want the work of the run before", w, err)
	}
}

// TestDiskFull writes to a small file system of its own, where that can be
// mounted.
func TestDiskFull(t *testing.T) {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("needs root on Linux")
	}
	disk := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=5m", "none", disk).CombinedOutput(); err != nil {
		t.Skipf("cannot mount a tmpfs: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := exec.Command("umount", disk).Run(); err != nil {
			t.Errorf("umount: %v", err)
		}
	})
	c := openModel(t, wide()) // 6.4 MB
	out := filepath.Join(disk, "out")
	_, err := Write(t.Context(), out, c, WriteOptions{Key: "key"})
	wantError(t, err, "no space left", "nothing is kept")
	mustBeAlone(t, out)

	// The disk fills up on the way: the shards that were finished stay.
	filler := filepath.Join(disk, "filler")
	small := wide()
	small.Remove("c.exact")
	c = openModel(t, small) // 4.4 MB
	_, err = Write(t.Context(), out, c, WriteOptions{Jobs: 1, Key: "key", Progress: func(done, _ int64) {
		if done > 2<<20 {
			os.WriteFile(filler, make([]byte, 1<<20), 0o666)
		}
	}})
	wantError(t, err, "no space left", "of 3 shards are finished and kept", "free some space")
	if left := leftBeside(t, out); !slices.Contains(left, ".out.expo") {
		t.Errorf("left: %v", left)
	}
	remove(t, filler)
	w, err := Write(t.Context(), out, c, WriteOptions{Key: "key"})
	if err != nil || w.Resumed == 0 {
		t.Fatalf("%+v, %v", w, err)
	}
	checkWritten(t, out, w, true)
	mustBeAlone(t, out)
}

func TestReadJournal(t *testing.T) {
	const a = `{"file":"a","size":1,"sha256":"x","note":{"k":[1]}}` + "\n"
	tests := []struct {
		text, key string
		want      string
		ok        bool
	}{
		{"{\"key\":\"k\"}\n" + a, "k", "a", true},
		{"{\"key\":\"k\"}\n\n\n" + a + "{\"file\":\"b\"", "k", "a", true},
		{"{\"key\":\"k\"}\n{\"fi\n" + a, "k", "a", true},
		{"{\"key\":\"k\"}\n", "k", "", true},
		{"{\"key\":\"k\"}\n" + a, "other", "", false},
		{"{}\n" + a, "", "", false},
		{"{\"key\":\"k\"}\n" + a, "", "", false},
		{"", "k", "", false},
		{"null\n", "k", "", false},
	}
	for _, tt := range tests {
		path := filepath.Join(t.TempDir(), "journal")
		checkpointtest.File(t, path, tt.text)
		done := readJournal(path, tt.key)
		if (done != nil) != tt.ok || keysOf(done) != tt.want {
			t.Errorf("%q with key %q: %v", tt.text, tt.key, done)
		}
	}
	if readJournal(filepath.Join(t.TempDir(), "none"), "k") != nil {
		t.Error("a journal that is not there was read")
	}
}
