package reward

import (
	"math"

	"expo/internal/kernel"
)

// distances tells which row of the table of relative positions belongs to a
// distance.
type distances struct {
	buckets int // 0 or less: every distance up to span has its own row
	longest int // max_relative_positions
	span    int // the table has 2·span rows
}

// bucket is the class of the distance p between a query and a key: the distance
// itself up to half the number of buckets, and beyond that logarithmic. The
// arithmetic is float32 as in transformers' make_log_bucket_position, since the
// result is rounded up.
func (d *distances) bucket(p int) int {
	mid := d.buckets / 2
	if d.buckets <= 0 || p <= mid && p >= -mid {
		return p
	}
	abs := p
	if p < 0 {
		abs = -p
	}
	ratio := log32(float32(abs)/float32(mid)) / log32(float32(float64(d.longest-1)/float64(mid)))
	b := int(float32(math.Ceil(float64(ratio*float32(mid-1)))) + float32(mid))
	if p < 0 {
		return -b
	}
	return b
}

func log32(x float32) float32 { return float32(math.Log(float64(x))) }

// rows is the row for each distance from −(n−1) to n−1, at index distance + n−1.
func (d *distances) rows(n int) []int32 {
	t := make([]int32, 2*n-1)
	for i := range t {
		t[i] = int32(min(max(d.bucket(i-n+1)+d.span, 0), 2*d.span-1))
	}
	return t
}

// attentionQueries is how many queries of a head are computed at once.
const attentionQueries = 32

// A head computes the disentangled attention of one head over one sequence: of
// content to content, of content to position and of position to content. It is
// a thread's memory for that.
type head struct {
	q, k          []float32
	kb, vb        []byte
	scores, out   []float32
	c2p, p2c      []float32
	queries, keys *kernel.Activations
}

// attend computes the rows of out that belong to head at of a sequence of n
// tokens. q, k, v and out are (n, stride); the head's columns begin at column
// at·d. rows are those of the distances, nil without relative attention.
func (w *head) attend(l *encoderLayer, at, d, n, stride int, q, k, v, out []float32, rows []int32, scale float32) {
	w.q, w.k = sized(&w.q, n*d), sized(&w.k, n*d)
	if len(w.kb) < 4*n*d {
		w.kb, w.vb = make([]byte, 4*n*d), make([]byte, 4*n*d)
	}
	if w.queries == nil || w.queries.N != d {
		w.queries = kernel.NewActivations(attentionQueries, d, kernel.F32)
		w.keys = kernel.NewActivations(chunkRows, d, kernel.F32)
	}
	for i := range n {
		from := i*stride + at*d
		copy(w.q[i*d:(i+1)*d], q[from:from+d])
		copy(w.k[i*d:(i+1)*d], k[from:from+d])
		kernel.Narrow(w.kb[4*i*d:], k[from:from+d], kernel.F32)
		kernel.Narrow(w.vb[4*i*d:], v[from:from+d], kernel.F32)
	}

	// The rows that occur are neighbours: first to last.
	var first, used int
	if rows != nil {
		first, used = int(rows[0]), int(rows[len(rows)-1])-int(rows[0])+1
	}
	if rows != nil && l.queries != nil {
		w.p2c = sized(&w.p2c, n*used)
		for from := 0; from < n; from += chunkRows {
			m := min(chunkRows, n-from)
			w.keys.Set(w.k[from*d:(from+m)*d], m)
			kernel.MatMul(w.p2c[from*used:], used, w.keys, l.queries[at][4*first*d:4*(first+used)*d], used)
		}
	}

	// An odd number of cache lines from row to row, or a column of them would
	// compete for one set of the cache.
	step := (n+15)/16*16 | 16
	w.scores = sized(&w.scores, attentionQueries*step)
	w.out = sized(&w.out, attentionQueries*d)
	for from := 0; from < n; from += attentionQueries {
		m := min(attentionQueries, n-from)
		w.queries.Set(w.q[from*d:(from+m)*d], m)
		kernel.MatMul(w.scores, step, w.queries, w.kb[:4*n*d], n)
		if rows != nil && l.keys != nil {
			w.c2p = sized(&w.c2p, m*used)
			kernel.MatMul(w.c2p, used, w.queries, l.keys[at][4*first*d:4*(first+used)*d], used)
			w.addC2P(m, n, step, used, from, first, rows)
		}
		if rows != nil && l.queries != nil {
			w.addP2C(m, n, step, used, from, first, rows)
		}
		clear(w.out)
		for i := range m {
			s := w.scores[i*step : i*step+n]
			for j := range s {
				s[j] *= scale
			}
			kernel.Softmax(s)
		}
		kernel.WeightedSumBatch(w.out[:m*d], m, w.scores, step, w.vb[:4*n*d], kernel.F32, n, d)
		for i := range m {
			to := (from+i)*stride + at*d
			copy(out[to:to+d], w.out[i*d:(i+1)*d])
		}
	}
}

// addC2P adds, to the scores of m queries from query from on, the product of
// each with the key of the distance to each token.
func (w *head) addC2P(m, n, step, used, from, first int, rows []int32) {
	for i := range m {
		s := w.scores[i*step : i*step+n]
		p := w.c2p[i*used : (i+1)*used]
		t := rows[from+i : from+i+n] // of distance (from+i) − j, backwards
		for j := range s {
			s[j] += p[int(t[n-1-j])-first]
		}
	}
}

// addP2C adds the product of each token's key with the query of its distance.
func (w *head) addP2C(m, n, step, used, from, first int, rows []int32) {
	for j := range n {
		p := w.p2c[j*used : (j+1)*used]
		t := rows[from-j+n-1:]
		t = t[:m]
		at := j
		for _, r := range t {
			w.scores[at] += p[int(r)-first]
			at += step
		}
	}
}
