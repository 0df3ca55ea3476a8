package checkpoint

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sync/errgroup"

	"expo/internal/kernel"
	"expo/weights/tensor"
)

// WriteOptions says how a checkpoint is written. The zero value keeps the
// shards, uses all cores, and records digests.
type WriteOptions struct {
	// ShardSize is in bytes; zero keeps the checkpoint's own shards.
	ShardSize int64
	// Jobs is the number of workers; zero is the number of cores, 16 at most:
	// the disk is the limit long before.
	Jobs int
	// NoDigest leaves out the SHA-256 of the weight files.
	NoDigest bool
	// NoSync leaves it to the system when the weights reach the disk: Write
	// then returns at the speed of memory, a killed process still leaves
	// nothing half done, but a power cut may.
	NoSync bool
	// Force replaces an existing target.
	Force bool
	// Key identifies what is written. A run that finds unfinished work with the
	// same key beside the target goes on with it; an empty key starts over.
	Key string
	// Read fills p with the bytes of t from off on, in place of
	// t.Data.ReadAt. It is called from many goroutines, once for each byte, with
	// whole elements and at most BlockBytes; the pieces depend on the layout of
	// the files alone.
	Read func(t tensor.Tensor, p []byte, off int64) error
	// FileDone is called when a weight file is complete, for one file at a time;
	// what it returns is kept in the journal and given to FileResumed if a later
	// run takes the file over. If FileResumed fails the file is written again.
	FileDone    func(file string, ts []tensor.Tensor) (json.RawMessage, error)
	FileResumed func(file string, ts []tensor.Tensor, note json.RawMessage) error
	// Finish is called when all weights are written and returns further files
	// by slash-separated name; one of a small file's name replaces that. An
	// error refuses the result: all work is thrown away, unless ctx has ended.
	Finish func(w *Written) (map[string][]byte, error)
	// Progress is told how many bytes of how many are done, from many
	// goroutines.
	Progress func(done, total int64)
}

// Written says what Write has written.
type Written struct {
	Files   []WrittenFile // weights first, then the index, then the rest by name
	Resumed int           // weight files taken over from an earlier run
}

// WrittenFile is one file of the target. SHA256 is empty where digests were
// not asked for.
type WrittenFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"`
}

// Write writes c to the directory dir as safetensors, with its index and its
// small files. The directory is put together beside dir and renamed, so dir
// is absent (or, with Force, the old one) until everything is durable. Missing
// directories above it are made. When ctx ends, the disk is full or the process
// is killed, finished shards stay beside dir and the same call goes on with
// them, given a Key.
//
// The error wraps ErrExists if dir is there already (or is, in spite of Force,
// no directory) and ErrBusy if another process is writing it.
//
// Memory is bounded by Jobs times a few blocks of BlockBytes.
func Write(ctx context.Context, dir string, c *Checkpoint, opt WriteOptions) (*Written, error) {
	p, err := newPlan(c, opt.ShardSize)
	if err != nil {
		return nil, err
	}
	small, err := c.SmallFiles()
	if err != nil {
		return nil, err
	}
	if err := c.checkSmall(small); err != nil {
		return nil, err
	}
	st, err := openStage(dir, opt.Key, opt.Force)
	if err != nil {
		return nil, err
	}
	w := &writer{ctx: ctx, opt: opt, plan: p, stage: st}
	if err := w.weights(); err != nil {
		return nil, w.abandon(err)
	}
	if err := w.rest(c, small); err != nil {
		return nil, w.abandon(err)
	}
	if err := ctx.Err(); err != nil {
		return nil, w.abandon(fmt.Errorf("checkpoint: %w", context.Cause(ctx)))
	}
	if err := st.publish(opt.Force); err != nil {
		return nil, w.abandon(err)
	}
	return &w.out, nil
}

// refusal marks an error after which nothing is worth keeping.
type refusal struct{ error }

// abandon leaves the stage as it is to be after err, and says so in the error.
func (w *writer) abandon(err error) error {
	w.closeFiles()
	refused, ok := err.(*refusal)
	switch {
	case ok:
		w.stage.remove()
		return refused.error
	case w.opt.Key != "" && w.finishedAny():
		w.stage.release()
	default:
		w.stage.remove()
	}
	return w.explain(err)
}

type writer struct {
	ctx     context.Context
	opt     WriteOptions
	plan    *plan
	stage   *stage
	files   []*openFile
	digests *digester
	group   *errgroup.Group
	out     Written
	bytes   atomic.Int64 // done
	mu      sync.Mutex   // journal, out
}

// openFile is a weight file while it is being written.
type openFile struct {
	plan   *plannedFile
	mu     sync.Mutex
	f      *os.File
	left   atomic.Int64 // units still to be written, without a digest
	digest *fileDigest
	hash   hash.Hash
	sum    string
}

func (w *writer) weights() error {
	jobs := w.opt.Jobs
	if jobs <= 0 {
		jobs = min(runtime.GOMAXPROCS(0), 16)
	}
	skip := make(map[int]bool)
	resumed := make(map[string]journalEntry)
	for i := range w.plan.files {
		pf := &w.plan.files[i]
		of := &openFile{plan: pf}
		of.left.Store(int64(len(pf.units)))
		w.files = append(w.files, of)
		if e, ok := w.stage.finished(pf.name, pf.layout.Size(), !w.opt.NoDigest); ok {
			if w.opt.FileResumed != nil && w.opt.FileResumed(pf.name, pf.tensors, e.Note) != nil {
				continue
			}
			resumed[pf.name] = e
			skip[i], of.sum = true, e.SHA256
			w.out.Resumed++
			w.bytes.Add(pf.layout.Size())
		}
	}
	w.stage.done = resumed
	if err := w.clean(); err != nil { // before space is counted
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := enoughSpace(w.stage.dir, w.plan.bytes-w.bytes.Load()); err != nil {
		return err
	}
	w.progress(0)
	for i, of := range w.files {
		if !skip[i] && len(of.plan.units) == 0 {
			if err := w.open(of); err != nil {
				return err
			}
			if err := w.finish(of); err != nil {
				return err
			}
		}
	}
	// Every worker owns a buffer before it takes a unit, so whatever unit a
	// digest waits for is being worked on, and the others cannot use up the
	// pool in front of it.
	buffers := make(chan []byte, 2*jobs+2)
	for range cap(buffers) {
		buffers <- make([]byte, 0, w.plan.unitBytes())
	}
	units := w.plan.schedule(jobs, skip)
	g, ctx := errgroup.WithContext(w.ctx)
	w.group, w.digests = g, &digester{pairs: kernel.SHA256Pairs(), pool: buffers}
	for range jobs {
		g.Go(func() error {
			for {
				buf, err := w.buffer(ctx, buffers)
				if err != nil {
					return err
				}
				u := units.take()
				if u == nil {
					buffers <- buf
					for w.digests.step(true) {
					}
					return nil
				}
				if err := w.unit(u, buf[:u.n]); err != nil {
					return err
				}
				units.done(u)
				if !w.hash(u, buf[:u.n]) {
					buffers <- buf
				}
				for w.digests.step(false) {
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, of := range w.files {
		w.out.Files = append(w.out.Files, WrittenFile{of.plan.name, of.plan.layout.Size(), of.sum})
	}
	return nil
}

// buffer takes a buffer from the pool. While there is none it hashes what they
// hold, if nobody else does.
func (w *writer) buffer(ctx context.Context, pool <-chan []byte) ([]byte, error) {
	for ctx.Err() == nil {
		select {
		case buf := <-pool:
			return buf, nil
		default:
		}
		if w.digests.step(true) {
			continue
		}
		select {
		case buf := <-pool:
			return buf, nil
		case <-ctx.Done():
		}
	}
	return nil, fmt.Errorf("checkpoint: %w", context.Cause(ctx))
}

func (w *writer) progress(n int64) {
	done := w.bytes.Add(n)
	if w.opt.Progress != nil {
		w.opt.Progress(done, w.plan.bytes)
	}
}

// unit computes one unit and writes it.
func (w *writer) unit(u *unit, buf []byte) error {
	of := w.files[u.file]
	if err := w.open(of); err != nil {
		return err
	}
	for at, i := int64(0), 0; i < len(u.pieces); i++ {
		p := u.pieces[i]
		if err := w.read(p, buf[at:at+p.n]); err != nil {
			return err
		}
		at += p.n
	}
	if _, err := of.f.WriteAt(buf, u.off); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if !w.opt.NoSync {
		startWriteback(of.f, u.off, u.n)
	}
	w.progress(u.n)
	return nil
}

// hash hands a unit that is written to the digester, which will give buf back
// to the pool. Without digests it reports false.
func (w *writer) hash(u *unit, buf []byte) bool {
	of := w.files[u.file]
	if of.digest != nil {
		w.digests.add(of.digest, u.seq, buf)
		return true
	}
	if of.left.Add(-1) == 0 {
		w.complete(of)
	}
	return false
}

// complete has a file finished beside the work on others, which do not wait
// for the disk.
func (w *writer) complete(of *openFile) {
	w.group.Go(func() error { return w.finish(of) })
}

func (w *writer) read(p piece, buf []byte) error {
	if w.opt.Read != nil {
		return w.opt.Read(p.tensor, buf, p.off)
	}
	if err := tensor.ReadFull(p.tensor.Data, buf, p.off); err != nil {
		return fmt.Errorf("checkpoint: %s: %w", p.tensor.Name, err)
	}
	return nil
}

// open creates the file on its first use and writes the header.
func (w *writer) open(of *openFile) error {
	of.mu.Lock()
	defer of.mu.Unlock()
	if of.f != nil {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(w.stage.model, of.plan.name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	of.f = f
	if err := reserve(f, of.plan.layout.Size()); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	header := of.plan.layout.Header()
	if !w.opt.NoDigest {
		of.hash = sha256.New()
		of.hash.Write(header)
		if n := len(of.plan.units); n > 0 {
			of.digest = w.digests.start(of.hash, n, func() { w.complete(of) })
		}
	}
	if _, err := f.WriteAt(header, 0); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	w.progress(int64(len(header)))
	return nil
}

// finish makes a complete file durable and enters it in the journal.
func (w *writer) finish(of *openFile) error {
	if of.hash != nil {
		of.sum = hex.EncodeToString(of.hash.Sum(nil))
	}
	var err error
	if !w.opt.NoSync {
		err = of.f.Sync()
	}
	if err := cmp.Or(err, of.f.Close()); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	e := journalEntry{File: of.plan.name, Size: of.plan.layout.Size(), SHA256: of.sum}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.opt.FileDone != nil {
		var err error
		if e.Note, err = w.opt.FileDone(of.plan.name, of.plan.tensors); err != nil {
			return err
		}
	}
	if err := w.stage.append(e); err != nil {
		return err
	}
	w.stage.done[e.File] = e
	return nil
}

func (w *writer) finishedAny() bool { return len(w.stage.done) > 0 }

func (w *writer) closeFiles() {
	for _, of := range w.files {
		if of.f != nil {
			of.f.Close()
		}
	}
}

// explain adds what the user can do.
func (w *writer) explain(err error) error {
	kept := ""
	if w.finishedAny() && w.opt.Key != "" {
		kept = fmt.Sprintf("; %d of %d shards are finished and kept in %s: ", len(w.stage.done), len(w.plan.files), w.stage.dir)
	}
	switch full := errors.Is(err, syscall.ENOSPC); {
	case full && kept == "":
		return fmt.Errorf("%w; nothing is kept: free %d bytes and run the same command again", err, w.plan.bytes)
	case full:
		return fmt.Errorf("%w%sfree some space and run the same command again", err, kept)
	case w.ctx.Err() != nil && kept != "":
		return fmt.Errorf("%w%srun the same command to go on", err, kept)
	}
	return err
}
