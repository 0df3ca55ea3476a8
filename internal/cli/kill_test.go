//go:build unix

package cli_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"expo/weights/safetensors"
	"expo/weights/tensor"
)

// program is expo, which is this test binary under another name.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Args[0] = "expo"
	return cmd
}

// largePair makes two models of 24 tensors, 24 MB each, that differ in the
// last place of a third of the elements.
func largePair(t *testing.T) (sft, aligned string) {
	t.Helper()
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	var s, a []tensor.Tensor
	for i := range 24 {
		const n = 1 << 19
		x, y := make([]byte, 2*n), make([]byte, 2*n)
		for j := 0; j < len(x); j += 2 {
			v := uint16(0x3c00 + r.Uint32()&0xff)
			binary.LittleEndian.PutUint16(x[j:], v)
			if r.Uint32()%3 == 0 {
				v++
			}
			binary.LittleEndian.PutUint16(y[j:], v)
		}
		name := fmt.Sprintf("layers.%d.weight", i)
		s = append(s, tensor.Tensor{Name: name, DType: tensor.BF16, Shape: []int{n}, Data: tensor.Bytes(x)})
		a = append(a, tensor.Tensor{Name: name, DType: tensor.BF16, Shape: []int{n}, Data: tensor.Bytes(y)})
	}
	for side, ts := range map[string][]tensor.Tensor{"sft": s, "aligned": a} {
		safetensors.Sort(ts)
		var b bytes.Buffer
		if err := safetensors.Write(&b, ts, map[string]string{"format": "pt"}); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, side), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, side, "model.safetensors"), b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "sft"), filepath.Join(dir, "aligned")
}

// sameTree compares two directories file by file.
func sameTree(t *testing.T, got, want string) {
	t.Helper()
	list := func(dir string) (out []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			out = append(out, e.Name())
		}
		return out
	}
	if g, w := list(got), list(want); strings.Join(g, " ") != strings.Join(w, " ") {
		t.Fatalf("files %v, want %v", g, w)
	}
	for _, name := range list(want) {
		g, err := os.ReadFile(filepath.Join(got, name))
		if err != nil {
			t.Fatal(err)
		}
		w, err := os.ReadFile(filepath.Join(want, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(g, w) {
			t.Fatalf("%s differs from an undisturbed run's", name)
		}
	}
}

// awaitShards waits until a run has finished n shards, or for two seconds.
func awaitShards(journal string, n int) {
	for range 2000 {
		if b, _ := os.ReadFile(journal); bytes.Count(b, []byte("safetensors")) >= n {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// TestKill kills runs at random moments. The target must be absent or
// complete each time, and what the next run resumes must come out as if
// nothing had happened.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	sft, aligned := largePair(t)
	dir := t.TempDir()
	args := func(out string) []string {
		return []string{"extrapolate", "-q", "--sft", sft, "--aligned", aligned, "--alpha", "0.3", "--shard-size", "3MB", "-o", out}
	}
	want := filepath.Join(dir, "want")
	start := time.Now()
	if out, err := program(t, args(want)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	took := time.Since(start)
	r := rand.New(rand.NewPCG(3, 4))
	resumed, complete := 0, 0
	for i := range 6 {
		out := filepath.Join(dir, fmt.Sprint("out", i))
		stage := filepath.Join(dir, fmt.Sprintf(".out%d.expo", i))
		journal := filepath.Join(stage, "journal")
		for kills := 0; ; kills++ {
			cmd := program(t, args(out)...)
			if kills == 2 {
				if b, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, b)
				}
				break
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if kills == 0 { // after some shards, on however slow a machine
				awaitShards(journal, 1+r.IntN(4))
			} else {
				time.Sleep(time.Duration(r.Int64N(int64(took))))
			}
			cmd.Process.Kill()
			cmd.Wait()
			if _, err := os.Stat(out); err == nil {
				complete++
				break
			} else if !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(journal); err == nil && bytes.Count(b, []byte("safetensors")) > 0 {
				resumed++
			}
		}
		sameTree(t, out, want)
		// A kill between the rename and the clean-up leaves an empty stage at
		// most.
		if _, err := os.Stat(filepath.Join(stage, "model")); err == nil {
			t.Error("the stage is still there")
		}
	}
	t.Logf("%d runs had shards to resume, %d kills came too late", resumed, complete)
	if resumed == 0 {
		t.Error("no kill left anything to resume: the test tests nothing")
	}
}

// TestInterrupt checks ^C: exit status 130, and the same command goes on.
func TestInterrupt(t *testing.T) {
	sft, aligned := largePair(t)
	dir := t.TempDir()
	args := []string{"extrapolate", "--sft", sft, "--aligned", aligned, "--alpha", "0.3", "--shard-size", "2MB", "-j", "1", "-o", filepath.Join(dir, "out")}
	journal := filepath.Join(dir, ".out.expo", "journal")
	for range 20 {
		cmd := program(t, args...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		awaitShards(journal, 1)
		cmd.Process.Signal(syscall.SIGINT)
		cmd.Wait()
		if cmd.ProcessState.ExitCode() == 0 {
			os.RemoveAll(filepath.Join(dir, "out")) // it was faster
			continue
		}
		if got := cmd.ProcessState.ExitCode(); got != 130 {
			t.Fatalf("exit status %d, want 130; %s", got, stderr.String())
		}
		if !strings.Contains(stderr.String(), "run the same command to go on") {
			t.Errorf("does not say how to go on: %s", stderr.String())
		}
		b, err := program(t, args...).CombinedOutput()
		if err != nil || !strings.Contains(string(b), "taken over from the interrupted run") {
			t.Fatalf("%v\n%s", err, b)
		}
		return
	}
	t.Fatal("never fast enough to interrupt it")
}

// TestBusy starts a second run while one is at work.
func TestBusy(t *testing.T) {
	sft, aligned := largePair(t)
	dir := t.TempDir()
	args := []string{"extrapolate", "--sft", sft, "--aligned", aligned, "--alpha", "0.3", "--shard-size", "2MB", "-j", "1", "-o", filepath.Join(dir, "out")}
	first := program(t, args...)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	defer first.Process.Kill()
	for range 2000 {
		if _, err := os.Stat(filepath.Join(dir, ".out.expo", "journal")); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	first.Process.Signal(syscall.SIGSTOP) // so that it cannot finish meanwhile
	b, err := program(t, args...).CombinedOutput()
	first.Process.Signal(syscall.SIGCONT)
	if err == nil || !strings.Contains(string(b), "another expo is writing it") {
		t.Errorf("second run: %v, %s", err, b)
	}
	if err := first.Wait(); err != nil {
		t.Errorf("first run: %v", err)
	}
}
