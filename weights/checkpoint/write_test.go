package checkpoint

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

// wide is a model with tensors of several blocks, and small ones between, in
// three shards.
func wide() checkpointtest.Model {
	noise := func(name string, d tensor.DType, n int) tensor.Tensor {
		b := make([]byte, n*d.Bits()/8)
		x := uint64(len(b)) + uint64(len(name))
		for i := 0; i+8 <= len(b); i += 8 {
			x = x*6364136223846793005 + 1442695040888963407
			binary.LittleEndian.PutUint64(b[i:], x)
		}
		return checkpointtest.Raw(name, d, []int{n}, b)
	}
	return checkpointtest.Model{
		Tensors: []tensor.Tensor{
			noise("a.big", tensor.F32, 700001), noise("a.small", tensor.BF16, 3),
			noise("b.big", tensor.BF16, 800000), noise("b.small", tensor.F32, 5), noise("b.tiny", tensor.U8, 1),
			noise("c.small", tensor.F32, 1), noise("c.exact", tensor.F16, BlockBytes/2),
		},
		Config: `{"torch_dtype": "bfloat16"}`,
		Files:  map[string]string{"tokenizer.json": "{}", "sub/x.txt": "x", "README.md": "a card"},
		Shards: 3,
	}
}

func openModel(t *testing.T, m checkpointtest.Model) *Checkpoint {
	t.Helper()
	dir := t.TempDir()
	m.Write(t, dir)
	return mustOpen(t, dir)
}

// leftBeside lists what Write left beside the target, the target not counted.
func leftBeside(t *testing.T, target string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(target))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != filepath.Base(target) {
			names = append(names, e.Name())
		}
	}
	return names
}

func mustBeAlone(t *testing.T, target string) {
	t.Helper()
	if left := leftBeside(t, target); len(left) != 0 {
		t.Errorf("left beside the target: %v", left)
	}
}

// checkWritten compares what Write reports with what is there.
func checkWritten(t *testing.T, dir string, w *Written, digests bool) {
	t.Helper()
	tree := checkpointtest.Tree(t, dir)
	for _, f := range w.Files {
		text, ok := tree[f.Name]
		if !ok || int64(len(text)) != f.Size {
			t.Errorf("%s: there: %v, %d bytes, want %d", f.Name, ok, len(text), f.Size)
		}
		sum := sha256.Sum256([]byte(text))
		want := hex.EncodeToString(sum[:])
		if !digests && strings.HasSuffix(f.Name, ".safetensors") {
			want = ""
		}
		if f.SHA256 != want {
			t.Errorf("%s: SHA-256 %q, want %q", f.Name, f.SHA256, want)
		}
		delete(tree, f.Name)
	}
	if len(tree) != 0 {
		t.Errorf("not reported: %s", keysOf(tree))
	}
}

func TestWrite(t *testing.T) {
	m := wide()
	c := openModel(t, m)
	want := checkpointtest.Tree(t, c.Name())
	delete(want, "README.md")
	index := want[indexName]
	delete(want, indexName)
	for jobs := range 5 {
		for _, noDigest := range []bool{false, true} {
			out := filepath.Join(t.TempDir(), "out")
			var mu sync.Mutex
			var most, total int64
			w, err := Write(t.Context(), out, c, WriteOptions{Jobs: jobs, NoDigest: noDigest, Progress: func(done, all int64) {
				mu.Lock()
				defer mu.Unlock()
				most, total = max(most, done), all
			}})
			if err != nil {
				t.Fatal(err)
			}
			if w.Resumed != 0 {
				t.Errorf("%d files resumed", w.Resumed)
			}
			checkWritten(t, out, w, !noDigest)
			got := checkpointtest.Tree(t, out)
			x, err := parseIndex([]byte(got[indexName]))
			if err != nil {
				t.Fatal(err)
			}
			if y, err := parseIndex([]byte(index)); err != nil || !mapsEqual(x.weights, y.weights) {
				t.Errorf("weight_map %v, want %v", x.weights, y.weights)
			}
			delete(got, indexName)
			if keysOf(got) != keysOf(want) {
				t.Errorf("files %s, want %s", keysOf(got), keysOf(want))
			}
			var size int64
			for name, text := range want {
				if got[name] != text {
					t.Errorf("%d jobs: %s differs from the source", jobs, name)
				}
				if strings.HasSuffix(name, ".safetensors") {
					size += int64(len(text))
				}
			}
			if most != size || total != size {
				t.Errorf("progress went to %d of %d, want %d", most, total, size)
			}
			mustBeAlone(t, out)
		}
	}
}

func mapsEqual(a, b map[string]string) bool {
	return fmt.Sprint(a) == fmt.Sprint(b) // fmt sorts keys
}

// TestWriteNames checks the order of what Write reports.
func TestWriteNames(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	c := openModel(t, wide())
	w, err := Write(t.Context(), out, c, WriteOptions{ShardSize: 2 << 20, Finish: func(w *Written) (map[string][]byte, error) {
		if n := len(w.Files); n != 3+1+3 {
			t.Errorf("Finish is told of %d files", n)
		}
		return map[string][]byte{"expo.json": []byte("{}"), "tokenizer.json": []byte("changed"), "deep/er.txt": nil}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range w.Files {
		names = append(names, f.Name)
	}
	want := "model-00001-of-00003.safetensors model-00002-of-00003.safetensors model-00003-of-00003.safetensors " +
		"model.safetensors.index.json config.json deep/er.txt expo.json sub/x.txt tokenizer.json"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	checkWritten(t, out, w, true)
	if got := checkpointtest.Tree(t, out)["tokenizer.json"]; got != "changed" {
		t.Errorf("tokenizer.json is %q", got)
	}
	d := mustOpen(t, out)
	if d.Len() != c.Len() {
		t.Errorf("%d tensors, want %d", d.Len(), c.Len())
	}
	for x := range c.Tensors() {
		y, _ := d.Tensor(x.Name)
		if string(checkpointtest.Bytes(y)) != string(checkpointtest.Bytes(x)) {
			t.Errorf("%s differs", x.Name)
		}
	}
}

// TestWriteFromTorch checks that a torch source gives the very file that the
// official writer would.
func TestWriteFromTorch(t *testing.T) {
	m, _ := checkpointtest.Pair(2, tensor.F16)
	m.Set(checkpointtest.Ints("model.rotary.position_ids", tensor.I64, []int{2}, []int64{0, 1}))
	want, bin := t.TempDir(), t.TempDir()
	m.Write(t, want)
	m.WriteBin(t, bin)
	for _, size := range []int64{0, 1 << 30} {
		out := filepath.Join(t.TempDir(), "out")
		if _, err := Write(t.Context(), out, mustOpen(t, bin), WriteOptions{ShardSize: size}); err != nil {
			t.Fatal(err)
		}
		got := checkpointtest.Tree(t, out)
		for name, text := range checkpointtest.Tree(t, want) {
			if got[name] != text {
				t.Errorf("%s differs", name)
			}
			delete(got, name)
		}
		if len(got) != 0 {
			t.Errorf("also there: %s", keysOf(got))
		}
	}
}

func TestWriteOddTensors(t *testing.T) {
	f4 := checkpointtest.Raw("f4", tensor.F4, []int{3, 2}, []byte{1, 2, 3})
	f6 := checkpointtest.Raw("f6", tensor.F6E3M2, []int{4}, []byte{4, 5, 6})
	tests := map[string][]tensor.Tensor{
		"nothing":  nil,
		"empty":    {checkpointtest.Raw("e", tensor.F32, []int{3, 0}, nil)},
		"scalar":   {checkpointtest.Floats("s", tensor.F64, nil, []float32{1})},
		"sub-byte": {f4, f6},
		"integers": {checkpointtest.Ints("b", tensor.BOOL, []int{3}, []int64{1, 0, 1}), checkpointtest.Ints("i", tensor.I64, []int{1}, []int64{-5}), checkpointtest.Ints("u", tensor.U16, []int{2}, []int64{1, 65535})},
		"all at once": {checkpointtest.Raw("e", tensor.F32, []int{0}, nil), f4, checkpointtest.Ints("b", tensor.BOOL, nil, []int64{1}), f6,
			checkpointtest.Raw("c", tensor.C64, []int{1}, []byte("12345678")), checkpointtest.Raw("e2", tensor.F8E8M0, []int{0, 5}, nil)},
	}
	for name, ts := range tests {
		for _, size := range []int64{0, 1} {
			c := computed(t, "", ts)
			out := filepath.Join(t.TempDir(), "out")
			w, err := Write(t.Context(), out, c, WriteOptions{ShardSize: size})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			checkWritten(t, out, w, true)
			d := mustOpen(t, out)
			if d.Len() != len(ts) {
				t.Errorf("%s: %d tensors, want %d", name, d.Len(), len(ts))
			}
			for _, x := range ts {
				y, ok := d.Tensor(x.Name)
				if !ok || y.DType != x.DType || !slices.Equal(y.Shape, x.Shape) || string(checkpointtest.Bytes(y)) != string(checkpointtest.Bytes(x)) {
					t.Errorf("%s: %s became %v %v", name, x.Name, y.DType, y.Shape)
				}
			}
		}
	}
}

func TestWriteModes(t *testing.T) {
	c := openModel(t, wide())
	for _, mask := range []int{0o022, 0o077, 0o002} {
		umask(t, mask)
		out := filepath.Join(t.TempDir(), "out")
		if _, err := Write(t.Context(), out, c, WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		err := filepath.WalkDir(out, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			want := fs.FileMode(0o666 &^ mask)
			if e.IsDir() {
				want = fs.FileMode(0o777 &^ mask)
			}
			info, err := e.Info()
			if err == nil && info.Mode().Perm() != want {
				t.Errorf("umask %03o: %s has mode %v, want %v", mask, path, info.Mode().Perm(), want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestWriteTarget(t *testing.T) {
	c := openModel(t, pair(t, 1))
	parent := t.TempDir()
	file, dir, link := filepath.Join(parent, "file"), filepath.Join(parent, "dir"), filepath.Join(parent, "link")
	checkpointtest.File(t, file, "precious")
	checkpointtest.File(t, filepath.Join(dir, "sub", "old.bin"), "old")
	symlink(t, "dir", link)
	model := filepath.Join(t.TempDir(), "model")
	if _, err := Write(t.Context(), model, c, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		target string
		force  bool
		want   string
	}{
		// --force is suggested only where it would help.
		{file, false, "not a directory"}, {file, true, "not a directory"}, {dir, false, "not a model"}, {link, false, "not a directory"}, {link, true, "not a directory"},
		{dir + "/", false, "not a model"}, {dir + "/.", false, "not a model"}, {dir, true, "not a model"}, {model, false, "use --force"}, {model + "/.", false, "use --force"},
	} {
		_, err := Write(t.Context(), tt.target, c, WriteOptions{Force: tt.force})
		wantError(t, err, filepath.Clean(tt.target), tt.want)
		if !errors.Is(err, ErrExists) {
			t.Errorf("%s: %v does not wrap ErrExists", tt.target, err)
		}
	}
	if got := keysOf(checkpointtest.Tree(t, parent)); got != "dir/sub/old.bin file link" && got != "dir/sub/old.bin file" {
		t.Errorf("there are %s", got)
	}
	checkpointtest.File(t, filepath.Join(dir, "config.json"), "{}")
	if _, err := Write(t.Context(), dir, c, WriteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if got := keysOf(checkpointtest.Tree(t, dir)); got != "config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json" {
		t.Errorf("the old directory became %s", got)
	}
	if left := leftBeside(t, dir); !slices.Equal(left, []string{"file", "link"}) {
		t.Errorf("beside it lie %v", left)
	}
	deep := filepath.Join(parent, "a", "b", "c")
	if _, err := Write(t.Context(), deep, c, WriteOptions{Force: true}); err != nil {
		t.Error(err)
	}
	mustOpen(t, deep)
	_, err := Write(t.Context(), filepath.Join(file, "x"), c, WriteOptions{})
	wantError(t, err, "file")
	t.Chdir(parent)
	if _, err := Write(t.Context(), "relative", c, WriteOptions{}); err != nil {
		t.Error(err)
	}
	mustOpen(t, filepath.Join(parent, "relative"))
}

// TestWriteRead checks what the hook is promised: every byte once, whole
// elements, blocks that do not depend on the number of workers.
func TestWriteRead(t *testing.T) {
	c := openModel(t, wide())
	var want string
	for _, jobs := range []int{1, 2, 4} {
		var mu sync.Mutex
		calls := make(map[string]int)
		_, err := Write(t.Context(), filepath.Join(t.TempDir(), "out"), c, WriteOptions{Jobs: jobs, Read: func(x tensor.Tensor, p []byte, off int64) error {
			w := int64(x.DType.Bits() / 8)
			if off%w != 0 || int64(len(p))%w != 0 || len(p) > BlockBytes || len(p) == 0 {
				t.Errorf("%s: %d bytes at %d", x.Name, len(p), off)
			}
			mu.Lock()
			calls[fmt.Sprintf("%s@%d+%d", x.Name, off, len(p))]++
			mu.Unlock()
			return tensor.ReadFull(x.Data, p, off)
		}})
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(calls)
		if want == "" {
			want = got
		}
		if got != want || strings.Contains(got, ":2") {
			t.Errorf("%d jobs: %s, want %s", jobs, got, want)
		}
	}
}

// TestWriteMemory holds up one block until no other is taken on: there must be
// no more of them than a few for each worker.
func TestWriteMemory(t *testing.T) {
	const jobs, blocks = 2, 40
	big := tensor.Tensor{Name: "big", DType: tensor.U8, Shape: []int{blocks * BlockBytes}}
	var others atomic.Int64
	release := make(chan struct{})
	go func() {
		defer close(release)
		for n := int64(-1); n != others.Load() || n == 0; time.Sleep(100 * time.Millisecond) {
			n = others.Load()
		}
		if n := others.Load(); n > 3*jobs+3 {
			t.Errorf("%d blocks are held in memory", n)
		}
	}()
	out := filepath.Join(t.TempDir(), "out")
	_, err := Write(t.Context(), out, computed(t, "", []tensor.Tensor{big}), WriteOptions{Jobs: jobs, Read: func(x tensor.Tensor, p []byte, off int64) error {
		if off == 0 {
			<-release
		} else {
			others.Add(1)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if n := others.Load(); n != blocks { // and the first: the header shifts all by a little
		t.Errorf("%d blocks after the first, want %d", n, blocks)
	}
}

func TestWriteReadError(t *testing.T) {
	broken := errors.New("broken disk")
	c := openModel(t, wide())
	for _, key := range []string{"", "key"} {
		out := filepath.Join(t.TempDir(), "out")
		_, err := Write(t.Context(), out, c, WriteOptions{Jobs: 1, Key: key, Read: func(x tensor.Tensor, p []byte, off int64) error {
			if x.Name == "a.big" {
				return fmt.Errorf("reading %s: %w", x.Name, broken)
			}
			return tensor.ReadFull(x.Data, p, off)
		}})
		if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "reading a.big") {
			t.Errorf("%v", err)
		}
		if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the target is there: %v", err)
		}
		mustBeAlone(t, out) // nothing was finished, so nothing is kept
	}
	x := checkpointtest.Floats("x", tensor.F32, []int{2}, []float32{1, 2})
	x.Data = tensor.Section(tensor.Bytes("1234567"), 0, 8) // a file that shrank
	out := filepath.Join(t.TempDir(), "out")
	_, err := Write(t.Context(), out, computed(t, "", []tensor.Tensor{x}), WriteOptions{})
	wantError(t, err, "x:", "unexpected EOF")
	mustBeAlone(t, out)
}

func TestWriteFinish(t *testing.T) {
	refused := errors.New("refused")
	c := openModel(t, wide())
	out := filepath.Join(t.TempDir(), "out")
	finish := func(files map[string][]byte, err error) error {
		_, err = Write(t.Context(), out, c, WriteOptions{Key: "key", Finish: func(*Written) (map[string][]byte, error) { return files, err }})
		return err
	}
	if err := finish(nil, refused); err != refused {
		t.Errorf("%v, want the error that Finish gave", err)
	}
	for _, name := range []string{"../x", "/x", "", ".", "a/../b", "model-00001-of-00003.safetensors", "model.safetensors.index.json"} {
		wantError(t, finish(map[string][]byte{name: nil}, nil), "further file")
		if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: the target is there: %v", name, err)
		}
		mustBeAlone(t, out)
	}
	// A user who gives up during Finish finds the weights again.
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Write(ctx, out, c, WriteOptions{Key: "key", Finish: func(*Written) (map[string][]byte, error) {
		cancel()
		return nil, fmt.Errorf("checkpoint: %w", ctx.Err())
	}})
	wantError(t, err, "3 of 3 shards are finished", "run the same command")
	w, err := Write(t.Context(), out, c, WriteOptions{Key: "key"})
	if err != nil || w.Resumed != 3 {
		t.Fatalf("%+v, %v", w, err)
	}
	mustBeAlone(t, out)
}

// TestWriteCanceled ends the context before and at the end.
func TestWriteCanceled(t *testing.T) {
	c := openModel(t, wide())
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("had enough"))
	out := filepath.Join(t.TempDir(), "out")
	_, err := Write(ctx, out, c, WriteOptions{Key: "key"})
	wantError(t, err, "had enough")
	mustBeAlone(t, out)

	ctx, cancel = context.WithCancelCause(t.Context())
	_, err = Write(ctx, out, c, WriteOptions{Key: "key", Finish: func(*Written) (map[string][]byte, error) {
		cancel(errors.New("at the last moment"))
		return nil, nil
	}})
	wantError(t, err, "at the last moment", "3 of 3 shards")
	if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the target is there: %v", err)
	}
}
