//go:build unix

package cli_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestTrainKill kills training runs as soon as they have saved something. The
// output must not be there until the end, and must be that of a run left alone.
func TestTrainKill(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	dir := t.TempDir()
	script, err := txtar.ParseFile(filepath.Join("testdata", "script", "train.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range script.Files {
		path := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	run := func(out string, kill os.Signal) (done bool) {
		cmd := program(t, "train", "sft", "--config", "tiny", "--data", "sft.jsonl", "-o", out, "--steps", "80", "--batch-size", "3", "--lr", "0.01", "--save-every", "4", "-q")
		cmd.Dir = dir
		var errs strings.Builder
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if kill != nil {
			states := func() []string {
				list, _ := filepath.Glob(filepath.Join(dir, "."+out+".train", "step-*"))
				return list
			}
			before := states()
			for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline) && slices.Equal(states(), before); {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
			cmd.Process.Signal(kill)
		}
		err := cmd.Wait()
		if err != nil && kill == nil {
			t.Fatalf("%v: %s", err, errs.String())
		}
		if err != nil && kill == os.Interrupt && cmd.ProcessState.ExitCode() != 130 {
			t.Errorf("interrupted, it ends with status %d, want 130: %s", cmd.ProcessState.ExitCode(), errs.String())
		}
		return err == nil
	}
	run("alone", nil)
	kills := 0
	for _, signal := range []os.Signal{os.Kill, os.Interrupt, os.Kill} {
		if run("killed", signal) {
			break
		}
		kills++
		if _, err := os.Stat(filepath.Join(dir, "killed")); err == nil {
			t.Fatal("a killed run has left an output")
		}
	}
	if kills == 0 {
		t.Error("the run was done before it could be killed")
	}
	if _, err := os.Stat(filepath.Join(dir, "killed")); err != nil {
		run("killed", nil)
	}
	for _, name := range []string{"model.safetensors", "config.json"} {
		a, err := os.ReadFile(filepath.Join(dir, "alone", name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, "killed", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs after %d kills", name, kills)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "killed", "train.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, fmt.Sprintf(`{"step":%d,`, i+1)) {
			t.Fatalf("line %d of train.jsonl is %s", i+1, line)
		}
	}
	if len(lines) != 80 {
		t.Errorf("train.jsonl has %d lines, want 80", len(lines))
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); left != nil {
		t.Errorf("left behind: %v", left)
	}
}
