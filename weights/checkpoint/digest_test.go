package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"expo/internal/kernel"
)

// recorder is a digest that notes what was written to it.
type recorder struct {
	hash.Hash
	calls *[]string
	name  string
}

func (r recorder) Write(p []byte) (int, error) {
	*r.calls = append(*r.calls, fmt.Sprintf("%s:%s", r.name, p))
	return len(p), nil
}

// TestDigesterSteps follows one worker: blocks are hashed in the order of their
// file, two files at a time where that is to be had.
func TestDigesterSteps(t *testing.T) {
	type event struct {
		add  string // such as "b1", the second block of b; empty for a step
		must bool
		want string
	}
	step, must := event{}, event{must: true}
	did := func(e event, want string) event { e.want = want; return e }
	tests := []struct {
		name   string
		pairs  bool
		files  string // a letter for each block of each file
		events []event
	}{
		{"a pair", true, "aabb", []event{
			{add: "a0"}, step, {add: "b0"}, did(step, "a:a0 b:b0"), step,
			{add: "b1"}, step, {add: "a1"}, did(step, "a:a1 b:b1"), step, must}},
		{"out of order", true, "aabb", []event{
			{add: "a1"}, must, {add: "b0"}, step, {add: "a0"}, did(step, "a:a0 b:b0"), step, did(must, "a:a1"), must,
			{add: "b1"}, did(step, "b:b1")}}, // nothing else is open
		{"when it must be", true, "aab", []event{
			{add: "a0"}, step, did(must, "a:a0"), must, {add: "b0"}, step, did(must, "b:b0"), {add: "a1"}, did(step, "a:a1"), step}},
		{"the longest queues", true, "aabbccc", []event{
			{add: "a0"}, {add: "b0"}, {add: "b1"}, {add: "c0"}, {add: "c1"}, {add: "c2"},
			did(step, "c:c0 b:b0"), did(step, "c:c1 a:a0"), did(step, "b:b1 c:c2"), step, {add: "a1"}, did(step, "a:a1")}},
		{"one by one", false, "aabb", []event{
			{add: "a0"}, did(step, "a:a0"), {add: "b0"}, {add: "a1"}, did(step, "a:a1"), did(step, "b:b0"), step, {add: "b1"}, did(step, "b:b1")}},
	}
	for _, tt := range tests {
		var calls, done []string
		d := &digester{pairs: tt.pairs, pool: make(chan []byte, len(tt.files))}
		files := make(map[string]*fileDigest)
		for _, r := range tt.files {
			if name := string(r); files[name] == nil {
				files[name] = d.start(recorder{sha256.New(), &calls, name}, strings.Count(tt.files, name), func() { done = append(done, name) })
			}
		}
		for i, e := range tt.events {
			if e.add != "" {
				d.add(files[e.add[:1]], int(e.add[1]-'0'), []byte(e.add))
				continue
			}
			calls = nil
			ok := d.step(e.must)
			slices.Sort(calls)
			want := strings.Fields(e.want)
			slices.Sort(want)
			if !slices.Equal(calls, want) || ok != (e.want != "") {
				t.Errorf("%s: event %d: step(%v) = %v hashed %v, want %q", tt.name, i, e.must, ok, calls, e.want)
			}
		}
		slices.Sort(done)
		if got, want := strings.Join(done, ""), string(slices.Compact([]byte(tt.files))); got != want || len(d.pool) != len(tt.files) || len(d.open) != 0 {
			t.Errorf("%s: %s are complete, want %s; %d blocks are back of %d; %d files are open", tt.name, got, want, len(d.pool), len(tt.files), len(d.open))
		}
	}
}

// TestDigesterWorkers has several workers add blocks of several files, of odd
// lengths, in any order.
func TestDigesterWorkers(t *testing.T) {
	const files, workers = 5, 3
	for _, pairs := range []bool{true, false} {
		rng := rand.New(rand.NewPCG(1, 2))
		type block struct {
			file, seq int
			data      []byte
		}
		var blocks []block
		var want, got [files][]byte
		d := &digester{pairs: pairs}
		var open [files]*fileDigest
		var complete sync.WaitGroup
		for f := range files {
			var text []byte
			n := 1 + rng.IntN(30)
			for seq := range n {
				b := bytes.Repeat([]byte{byte(f), byte(seq), byte(rng.Uint32())}, 1+rng.IntN(500))
				blocks = append(blocks, block{f, seq, b})
				text = append(text, b...)
			}
			sum := sha256.Sum256(text)
			want[f] = sum[:]
			h := sha256.New()
			complete.Add(1)
			open[f] = d.start(h, n, func() {
				got[f] = h.Sum(nil)
				complete.Done()
			})
		}
		rng.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
		pool := make(chan []byte, len(blocks))
		d.pool = pool
		var wg sync.WaitGroup
		for k := range workers {
			wg.Go(func() {
				for i := k; i < len(blocks); i += workers {
					d.add(open[blocks[i].file], blocks[i].seq, blocks[i].data)
					for d.step(false) {
					}
				}
				for d.step(true) {
				}
			})
		}
		wg.Wait()
		complete.Wait()
		for f := range files {
			if !bytes.Equal(got[f], want[f]) {
				t.Errorf("pairs %v: file %d: %x, want %x", pairs, f, got[f], want[f])
			}
		}
		if len(pool) != len(blocks) {
			t.Errorf("pairs %v: %d blocks are back of %d", pairs, len(pool), len(blocks))
		}
	}
}

// TestWriteImplementations writes several files at once, their digests side by
// side and not.
func TestWriteImplementations(t *testing.T) {
	c := openModel(t, wide())
	var want []WrittenFile
	for _, name := range kernel.Implementations() {
		restore, err := kernel.Use(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, jobs := range []int{1, 2, 3, 8} {
			out := filepath.Join(t.TempDir(), "out")
			w, err := Write(t.Context(), out, c, WriteOptions{Jobs: jobs, ShardSize: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			checkWritten(t, out, w, true)
			if want == nil {
				want = w.Files
			}
			if !slices.Equal(w.Files, want) {
				t.Errorf("%s, %d jobs: %v, want %v", name, jobs, w.Files, want)
			}
		}
		restore()
	}
}
