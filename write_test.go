package expo_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"expo"
	"expo/weights/checkpoint"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

// sharded is a pair whose aligned side has a shard per tensor, so that an
// interrupted run has finished some.
func sharded(t *testing.T, d tensor.DType) (expo.Pair, string) {
	t.Helper()
	sft, aligned := checkpointtest.Pair(9, d)
	aligned.Shards = len(aligned.Tensors)
	p := disk(t, sft, aligned)
	return p, filepath.Join(t.TempDir(), "out")
}

// interrupt runs Write until a third of the bytes are done.
func interrupt(t *testing.T, dir string, p expo.Pair, opt expo.Options, w expo.WriteOptions) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.Jobs = 1
	w.Progress = func(done, total int64) {
		if done > total/3 {
			cancel()
		}
	}
	if _, err := expo.Write(ctx, dir, p, opt, w); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want context.Canceled", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%s is there after an interruption: %v", dir, err)
	}
}

// TestResume checks that an interrupted run goes on, and ends as one that was
// never interrupted, record and all.
func TestResume(t *testing.T) {
	for _, opt := range []expo.Options{
		{Alpha: 0.3, Rules: []expo.Rule{{Pattern: "model.layers.0.*", Alpha: 0.1}}},
		{Alpha: 0.3, Rounding: expo.Stochastic, Seed: 5, DType: tensor.F16},
		{Alpha: 0.1}, // far from honest, so that alternatives are recorded
		{},
	} {
		p, dir := sharded(t, tensor.BF16)
		whole, _ := write(t, p, opt, expo.WriteOptions{})
		interrupt(t, dir, p, opt, expo.WriteOptions{})
		w, err := expo.Write(t.Context(), dir, p, opt, expo.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if w.Resumed == 0 || w.Resumed == p.Aligned.Len() {
			t.Errorf("%d shards resumed of %d", w.Resumed, p.Aligned.Len())
		}
		sameTree(t, dir, whole)
		if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 1 {
			t.Errorf("left beside the output: %v, %v", left, err)
		}
	}
}

// TestResumeStartsOver lists what must not go on from an interrupted run.
func TestResumeStartsOver(t *testing.T) {
	base := expo.Options{Alpha: 0.3}
	for name, change := range map[string]func(p *expo.Pair, opt *expo.Options, w *expo.WriteOptions){
		"α":          func(_ *expo.Pair, opt *expo.Options, _ *expo.WriteOptions) { opt.Alpha = 0.4 },
		"rounding":   func(_ *expo.Pair, opt *expo.Options, _ *expo.WriteOptions) { opt.Rounding = expo.PerOp },
		"version":    func(_ *expo.Pair, _ *expo.Options, w *expo.WriteOptions) { w.Version = "v2" },
		"shard size": func(_ *expo.Pair, _ *expo.Options, w *expo.WriteOptions) { w.ShardSize = 1 },
		"digests":    func(_ *expo.Pair, _ *expo.Options, w *expo.WriteOptions) { w.NoDigest = true },
		"a weight file": func(p *expo.Pair, _ *expo.Options, _ *expo.WriteOptions) {
			path := filepath.Join(p.SFT.Name(), p.SFT.Sources()[0].File)
			if err := os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			p.SFT = open(t, p.SFT.Name())
		},
		"config.json": func(p *expo.Pair, _ *expo.Options, _ *expo.WriteOptions) {
			path := filepath.Join(p.Aligned.Name(), "config.json")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			checkpointtest.File(t, path, strings.Replace(string(b), `"use_cache": true`, `"use_cache": false`, 1))
			p.Aligned = open(t, p.Aligned.Name())
		},
	} {
		p, dir := sharded(t, tensor.BF16)
		interrupt(t, dir, p, base, expo.WriteOptions{})
		opt, w := base, expo.WriteOptions{}
		change(&p, &opt, &w)
		out, err := expo.Write(t.Context(), dir, p, opt, w)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if out.Resumed != 0 {
			t.Errorf("%s: %d shards taken over", name, out.Resumed)
		}
		whole, _ := write(t, p, opt, w)
		sameTree(t, dir, whole)
	}
}

// TestInputChanges checks that an input that changes during the run is
// noticed, and that nothing comes of the run.
func TestInputChanges(t *testing.T) {
	for _, side := range []string{"sft", "aligned"} {
		p, dir := sharded(t, tensor.F32)
		c := p.SFT
		if side == "aligned" {
			c = p.Aligned
		}
		path := filepath.Join(c.Name(), c.Sources()[0].File)
		var once atomic.Bool
		w := expo.WriteOptions{Progress: func(done, total int64) {
			if done < total/3 || once.Swap(true) {
				return
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err == nil {
				_, err = f.WriteAt([]byte{1}, c.Sources()[0].Size-1)
			}
			if err == nil {
				err = f.Close()
			}
			if err == nil {
				err = os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour))
			}
			if err != nil {
				t.Error(err)
			}
		}}
		_, err := expo.Write(t.Context(), dir, p, expo.Options{Alpha: 0.3}, w)
		if err == nil || !strings.Contains(err.Error(), "was changed") || !strings.Contains(err.Error(), c.Sources()[0].File) {
			t.Errorf("%s: error %v", side, err)
		}
		if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind: %v, %v", side, left, err)
		}
	}
}

func TestWriteExisting(t *testing.T) {
	sft, aligned := checkpointtest.Pair(1, tensor.BF16)
	p := disk(t, sft, aligned)
	dir, _ := write(t, p, expo.Options{Alpha: 0.3}, expo.WriteOptions{})
	before := checkpointtest.Tree(t, dir)
	_, err := expo.Write(t.Context(), dir, p, expo.Options{Alpha: 0.5}, expo.WriteOptions{})
	if !errors.Is(err, checkpoint.ErrExists) {
		t.Errorf("error %v, want ErrExists", err)
	}
	if after := checkpointtest.Tree(t, dir); after["expo.json"] != before["expo.json"] || after["model.safetensors"] != before["model.safetensors"] {
		t.Error("the existing model was changed")
	}
	if _, err := expo.Write(t.Context(), dir, p, expo.Options{Alpha: 0.5}, expo.WriteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	other, _ := write(t, p, expo.Options{Alpha: 0.5}, expo.WriteOptions{})
	sameTree(t, dir, other)
}

// TestWriteRefuses checks that a pair that cannot be extrapolated costs
// nothing.
func TestWriteRefuses(t *testing.T) {
	sft, aligned := checkpointtest.Pair(1, tensor.BF16)
	sft.Remove("model.norm.weight")
	p := disk(t, sft, aligned)
	parent := t.TempDir()
	var bad *expo.IncompatibleError
	if _, err := expo.Write(t.Context(), filepath.Join(parent, "out"), p, expo.Options{Alpha: 0.3}, expo.WriteOptions{}); !errors.As(err, &bad) {
		t.Errorf("error %v, want an IncompatibleError", err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestWriteEqualsView checks that writing and reading are one and the same,
// from torch files too.
func TestWriteEqualsView(t *testing.T) {
	sft, aligned := checkpointtest.Pair(4, tensor.F16)
	dir := t.TempDir()
	sft.Shards = 2
	sft.WriteBin(t, filepath.Join(dir, "sft"))
	aligned.WriteBin(t, filepath.Join(dir, "aligned"))
	p := expo.Pair{SFT: open(t, filepath.Join(dir, "sft")), Aligned: open(t, filepath.Join(dir, "aligned"))}
	for _, rounding := range roundings {
		opt := expo.Options{Alpha: 0.3, Rounding: rounding}
		out, w := write(t, p, opt, expo.WriteOptions{})
		sameTensors(t, open(t, out), extrapolate(t, p, opt))
		sameTensors(t, open(t, out), extrapolate(t, memoryPair(t, sft, aligned), opt))
		if w.Record.Output[0].Name != "model.safetensors" {
			t.Errorf("weights are in %s", w.Record.Output[0].Name)
		}
		for _, name := range []string{"tokenizer.json", "generation_config.json"} {
			if got, err := os.ReadFile(filepath.Join(out, name)); err != nil || string(got) != aligned.Files[name] {
				t.Errorf("%s: %v, other contents than the aligned model's", name, err)
			}
		}
	}
}
