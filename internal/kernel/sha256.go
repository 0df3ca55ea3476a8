package kernel

import "hash"

// SHA256Pair writes p to a and q to b, which are two digests from sha256.New. It
// is a.Write(p) and b.Write(q), and nothing else, for every hash.Hash; where
// SHA256Pairs is true it takes two thirds of their time, since a processor that
// computes one SHA-256 waits half of the time for its own last result.
//
// As much of p and q as both have is hashed side by side; whatever one has more
// follows alone. a and b must not be the same, and may be in use nowhere else
// meanwhile.
func SHA256Pair(a, b hash.Hash, p, q []byte) {
	p, q = fastSHA256Pair(a, b, p, q)
	a.Write(p)
	b.Write(q)
}

// SHA256Pairs reports whether SHA256Pair is faster than two calls of Write, so
// that it is worth keeping two messages at hand.
func SHA256Pairs() bool { return canSHA256Pair() }
