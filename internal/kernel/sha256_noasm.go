//go:build !amd64 || purego

package kernel

import "hash"

func canSHA256Pair() bool { return false }

func fastSHA256Pair(a, b hash.Hash, p, q []byte) (restP, restQ []byte) { return p, q }
