package checkpoint

import (
	"hash"
	"sync"

	"expo/internal/kernel"
)

// A digester computes the digests of the files that are being written. Their
// blocks come in any order and are hashed in that of the file, by whichever
// worker comes by: one block each of two files side by side where the processor
// gains by it, and nobody waits for another.
type digester struct {
	pairs bool          // two at a time are faster
	pool  chan<- []byte // where blocks go that have been hashed; has room for all

	mu   sync.Mutex
	open []*fileDigest // not complete
}

// fileDigest is the digest of one file. Everything but the hash itself, which
// belongs to whoever made it busy, is guarded by the digester.
type fileDigest struct {
	hash hash.Hash
	left int // blocks still to be hashed
	next int // the one that the hash wants next
	wait map[int][]byte
	busy bool
	done func() // called when left is 0
}

// start adds a file of blocks blocks, not 0, whose header h has taken in. done
// is called, by one worker, when all of them are hashed.
func (d *digester) start(h hash.Hash, blocks int, done func()) *fileDigest {
	f := &fileDigest{hash: h, left: blocks, wait: make(map[int][]byte), done: done}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = append(d.open, f)
	return f
}

// add hands over the block at position seq of a file.
func (d *digester) add(f *fileDigest, seq int, block []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.wait[seq] = block
}

// step hashes the next block of two files, or of one if must is set or no other
// file could follow; it reports whether there was anything to do. A worker
// calls it until there is not, after add; with must before it waits for a
// buffer, all of which might be waiting here, and when no blocks are left.
func (d *digester) step(must bool) bool {
	d.mu.Lock()
	x, y := d.pick()
	if x == nil || y == nil && d.pairs && !must && len(d.open) > 1 {
		d.mu.Unlock()
		return false
	}
	p := x.take()
	if y == nil {
		d.mu.Unlock()
		x.hash.Write(p)
		d.put(x, p)
		return true
	}
	q := y.take()
	d.mu.Unlock()
	kernel.SHA256Pair(x.hash, y.hash, p, q)
	d.put(x, p)
	d.put(y, q)
	return true
}

// pick gives the files with the most blocks waiting, of which the next is
// there and nobody is hashing: two, one, or none; one if pairs gain nothing.
func (d *digester) pick() (x, y *fileDigest) {
	for _, f := range d.open {
		if _, ok := f.wait[f.next]; !ok || f.busy {
			continue
		}
		switch {
		case x == nil || len(f.wait) > len(x.wait):
			x, y = f, x
		case y == nil || len(f.wait) > len(y.wait):
			y = f
		}
	}
	if !d.pairs {
		y = nil
	}
	return x, y
}

// take makes f busy with its next block. The digester is locked.
func (f *fileDigest) take() []byte {
	b := f.wait[f.next]
	delete(f.wait, f.next)
	f.busy = true
	return b
}

// put gives back what take took.
func (d *digester) put(f *fileDigest, block []byte) {
	d.pool <- block
	d.mu.Lock()
	f.busy = false
	f.next++
	f.left--
	complete := f.left == 0
	for i := 0; complete && i < len(d.open); i++ {
		if d.open[i] == f {
			d.open = append(d.open[:i], d.open[i+1:]...)
		}
	}
	d.mu.Unlock()
	if complete {
		f.done()
	}
}
