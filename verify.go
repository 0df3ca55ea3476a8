package expo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"expo/internal/kernel"
	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// Verification is what Verify and Rebuild found.
type Verification struct {
	// Problems is empty if all is well; each is one line that names the file
	// or the tensor.
	Problems []string `json:"problems"`
	// Files had their digest or size checked, Tensors their values.
	Files   int `json:"files"`
	Tensors int `json:"tensors"`
	// NoDigest counts files of which the record knows no digest.
	NoDigest int `json:"no_digest,omitempty"`
}

// VerifyOptions says how much is looked at.
type VerifyOptions struct {
	// AllowNonFinite accepts NaN and infinite weights.
	AllowNonFinite bool
	Jobs           int
}

// Verify checks a directory: that it opens, that every file is what its
// record (if it has one) or the Hugging Face cache says, that no weight file
// is there that the record does not know, and that every weight is a finite
// number. Errors are for what kept it from looking.
func Verify(ctx context.Context, c *checkpoint.Checkpoint, opt VerifyOptions) (*Verification, error) {
	v := &Verification{Problems: []string{}}
	rec, err := ReadRecord(c.Files())
	if err != nil {
		return nil, err
	}
	if err := v.files(ctx, c, rec, opt.Jobs); err != nil {
		return nil, err
	}
	return v, v.finite(ctx, c, opt)
}

// files compares sizes and digests.
func (v *Verification) files(ctx context.Context, c *checkpoint.Checkpoint, rec *Record, jobs int) error {
	var want []checkpoint.WrittenFile
	known := make(map[string]bool)
	if rec != nil {
		want = rec.Output
	} else {
		for _, s := range c.Sources() {
			if s.SHA256 != "" {
				want = append(want, checkpoint.WrittenFile{Name: s.File, Size: s.Size, SHA256: s.SHA256})
			}
		}
	}
	problems := make([]string, len(want))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers(jobs))
	for i, w := range want {
		known[w.Name] = true
		if w.SHA256 == "" {
			v.NoDigest++
		}
		g.Go(func() error {
			problem, err := checkFile(ctx, c.Files(), w)
			problems[i] = problem
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, p := range problems {
		if p != "" {
			v.Problems = append(v.Problems, p)
		}
	}
	v.Files = len(want)
	if rec != nil {
		for _, s := range c.Sources() {
			if !known[s.File] {
				v.Problems = append(v.Problems, fmt.Sprintf("%s: not in %s", s.File, RecordFile))
			}
		}
	}
	return nil
}

func checkFile(ctx context.Context, files fs.FS, w checkpoint.WrittenFile) (string, error) {
	f, err := files.Open(w.Name)
	if err != nil {
		return fmt.Sprintf("%s: missing (%v)", printable(w.Name), err), nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if info.Size() != w.Size {
		return fmt.Sprintf("%s: %d bytes, recorded %d", w.Name, info.Size(), w.Size), nil
	}
	if w.SHA256 == "" {
		return "", nil
	}
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		if err := context.Cause(ctx); err != nil {
			return "", err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", fmt.Errorf("expo: reading %s: %w", w.Name, err)
		}
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != w.SHA256 {
		return fmt.Sprintf("%s: SHA-256 is %s, recorded %s", w.Name, got, w.SHA256), nil
	}
	return "", nil
}

func workers(jobs int) int {
	if jobs > 0 {
		return jobs
	}
	return min(runtime.GOMAXPROCS(0), 16)
}

// finite counts NaN and infinities in every floating-point tensor, scales of
// FP8 weights included.
func (v *Verification) finite(ctx context.Context, c *checkpoint.Checkpoint, opt VerifyOptions) error {
	var ts []tensor.Tensor
	for t := range c.Tensors() {
		if t.DType.Float() {
			ts = append(ts, t)
		}
	}
	v.Tensors = len(ts)
	nan, inf := make([]atomic.Int64, len(ts)), make([]atomic.Int64, len(ts))
	err := eachBlock(ctx, ts, opt.Jobs, func(i int, first int64, n int, b *blockBuffers) error {
		x := b.x[:n]
		if err := ts[i].ReadFloat32(x, first); err != nil {
			return err
		}
		var st kernel.Stats
		kernel.Measure(&st, x, x, x)
		nan[i].Add(st.NaN)
		inf[i].Add(st.Inf)
		return nil
	})
	if err != nil {
		return err
	}
	for i, t := range ts {
		if n, f := nan[i].Load(), inf[i].Load(); n+f > 0 && !opt.AllowNonFinite {
			v.Problems = append(v.Problems, fmt.Sprintf("%s: %d NaN and %d infinite values among %d", printable(t.Name), n, f, t.Elements()))
		}
	}
	return nil
}

type blockBuffers struct {
	x    []float32
	a, b []byte
}

// eachBlock runs f over blocks of at most probeBlock elements of all tensors,
// side by side; f is told the tensor's index.
func eachBlock(ctx context.Context, ts []tensor.Tensor, jobs int, f func(i int, first int64, n int, b *blockBuffers) error) error {
	type job struct {
		i     int
		first int64
		n     int
	}
	next := make(chan job)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(next)
		for i, t := range ts {
			total := t.Elements()
			for first := int64(0); first < total; first += probeBlock {
				select {
				case next <- job{i, first, int(min(probeBlock, total-first))}:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
		}
		return nil
	})
	for range workers(jobs) {
		g.Go(func() error {
			b := &blockBuffers{make([]float32, probeBlock), make([]byte, 8*probeBlock), make([]byte, 8*probeBlock)}
			for j := range next {
				if err := f(j.i, j.first, j.n, b); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// RebuildOptions says how much of a directory is computed again.
type RebuildOptions struct {
	// Sample is the share of tensors to compute, chosen at random by Seed; 0
	// and 1 mean all.
	Sample float64
	Seed   uint64
	Jobs   int
}

// Rebuild computes a directory's tensors again from the pair that its record
// names, and compares byte by byte; also the small files. It fails if the
// record is missing or the pair is not the recorded one.
func Rebuild(ctx context.Context, c *checkpoint.Checkpoint, p Pair, opt RebuildOptions) (*Verification, error) {
	rec, err := ReadRecord(c.Files())
	if err != nil {
		return nil, err
	}
	if rec == nil {
		return nil, fmt.Errorf("expo: %s has no %s to rebuild it from", c.Name(), RecordFile)
	}
	if err := rec.SFT.Matches(p.SFT); err != nil {
		return nil, err
	}
	if err := rec.Aligned.Matches(p.Aligned); err != nil {
		return nil, err
	}
	options, err := rec.Recipe.Options()
	if err != nil {
		return nil, err
	}
	view, err := Extrapolate(p, options)
	if err != nil {
		return nil, err
	}
	v := &Verification{Problems: []string{}}
	var names []string
	for t := range view.Tensors() {
		s, ok := c.Tensor(t.Name)
		switch {
		case !ok:
			v.Problems = append(v.Problems, fmt.Sprintf("%s: missing", printable(t.Name)))
		case s.DType != t.DType || !slices.Equal(s.Shape, t.Shape):
			v.Problems = append(v.Problems, fmt.Sprintf("%s: is %s, should be %s", printable(t.Name), describe(s), describe(t)))
		default:
			names = append(names, t.Name)
		}
	}
	for t := range c.Tensors() {
		if _, ok := view.Tensor(t.Name); !ok {
			v.Problems = append(v.Problems, fmt.Sprintf("%s: not a tensor of the aligned model", printable(t.Name)))
		}
	}
	if opt.Sample > 0 && opt.Sample < 1 && len(names) > 0 {
		r := rand.New(rand.NewPCG(opt.Seed, 0))
		r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		names = names[:max(1, int(math.Ceil(opt.Sample*float64(len(names)))))]
	}
	if err := v.compare(ctx, c, view, names, opt.Jobs); err != nil {
		return nil, err
	}
	v.Tensors = len(names)
	return v, v.smallFiles(c, view)
}

// compare computes the named tensors and compares their bytes. The first
// element that differs is named.
func (v *Verification) compare(ctx context.Context, c, view *checkpoint.Checkpoint, names []string, jobs int) error {
	ts := make([]tensor.Tensor, len(names))
	type difference struct{ count, first int64 }
	found := make([]difference, len(names))
	var mu sync.Mutex
	for i, n := range names {
		ts[i], _ = view.Tensor(n)
	}
	err := eachBlock(ctx, ts, jobs, func(i int, first int64, n int, b *blockBuffers) error {
		have, _ := c.Tensor(names[i])
		// Sub-byte types count in bits; blocks begin at multiples of 8.
		off := first * int64(ts[i].DType.Bits()) / 8
		size := (first+int64(n))*int64(ts[i].DType.Bits())/8 - off
		x, y := b.a[:size], b.b[:size]
		if err := read(ts[i], x, off); err != nil {
			return err
		}
		if err := read(have, y, off); err != nil {
			return err
		}
		if bytes.Equal(x, y) {
			return nil
		}
		d := difference{0, math.MaxInt64}
		w := max(1, ts[i].DType.Bits()/8)
		for k := 0; k < len(x); k += w {
			if !bytes.Equal(x[k:k+w], y[k:k+w]) {
				d.count++
				d.first = min(d.first, first+int64(k/w))
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if found[i].count > 0 {
			d.first = min(d.first, found[i].first)
		}
		found[i] = difference{found[i].count + d.count, d.first}
		return nil
	})
	for i, d := range found {
		if d.count > 0 {
			v.Problems = append(v.Problems, fmt.Sprintf("%s: %d of %d elements differ, the first is element %d", printable(names[i]), d.count, ts[i].Elements(), d.first))
		}
	}
	return err
}

// smallFiles compares what was copied.
func (v *Verification) smallFiles(c, view *checkpoint.Checkpoint) error {
	want, err := view.SmallFiles()
	if err != nil {
		return err
	}
	for _, name := range want {
		w, err := fs.ReadFile(view.Files(), name)
		if err != nil {
			return fmt.Errorf("expo: %w", err)
		}
		h, err := fs.ReadFile(c.Files(), name)
		switch {
		case err != nil:
			v.Problems = append(v.Problems, fmt.Sprintf("%s: missing (%v)", printable(name), err))
		case !bytes.Equal(w, h):
			v.Problems = append(v.Problems, fmt.Sprintf("%s: differs from the aligned model's", printable(name)))
		}
		v.Files++
	}
	return nil
}
