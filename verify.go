package expo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
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

// Verify checks an opened directory: that every file is what its record (if it
// has one) or the Hugging Face cache says, that no weight file and no index is
// there that the record does not know, and that every weight is a finite
// number in float32. Errors are for what kept it from looking.
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
	if rec == nil {
		return nil
	}
	// Readers differ in which weights they take where there are several, so
	// one file too many can be another model.
	entries, err := fs.ReadDir(c.Files(), ".")
	if err != nil {
		return fmt.Errorf("expo: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() && weightFile(e.Name()) && !known[e.Name()] {
			v.Problems = append(v.Problems, fmt.Sprintf("%s: not in %s", printable(e.Name()), RecordFile))
		}
	}
	return nil
}

// weightFile tells weights and their indexes by name.
func weightFile(name string) bool {
	for _, suffix := range []string{".safetensors", ".bin", ".pt", ".pth", ".gguf", ".safetensors.index.json", ".bin.index.json"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

func checkFile(ctx context.Context, files fs.FS, w checkpoint.WrittenFile) (string, error) {
	// Looked at before it is opened: a record may name anything, and opening a
	// pipe would wait for somebody to write into it.
	info, err := fs.Stat(files, w.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("%s: missing", printable(w.Name)), nil
	case err != nil:
		return fmt.Sprintf("%s: not a file of this directory", printable(w.Name)), nil
	case !info.Mode().IsRegular():
		return fmt.Sprintf("%s: not a regular file", printable(w.Name)), nil
	case info.Size() != w.Size:
		return fmt.Sprintf("%s: %d bytes, recorded %d", printable(w.Name), info.Size(), w.Size), nil
	case w.SHA256 == "":
		return "", nil
	}
	f, err := files.Open(w.Name)
	if err != nil {
		return "", fmt.Errorf("expo: %w", err)
	}
	defer f.Close()
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
			return "", fmt.Errorf("expo: reading %s: %w", printable(w.Name), err)
		}
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != w.SHA256 {
		return fmt.Sprintf("%s: SHA-256 is %s, recorded %s", printable(w.Name), got, printable(w.SHA256)), nil
	}
	return "", nil
}

func workers(jobs int) int {
	if jobs > 0 {
		return jobs
	}
	return min(runtime.GOMAXPROCS(0), 16)
}

// finite counts NaN and infinities in every floating-point tensor. FP8 codes
// and their scales, unless these are bare exponents, are looked at one by one.
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
