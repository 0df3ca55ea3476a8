package generate

import (
	"math"
	"sort"
)

// LogSumExp is log Σ e^x of logits, in float64.
func LogSumExp(logits []float32) float64 {
	best := math.Inf(-1)
	for _, v := range logits {
		best = max(best, float64(v))
	}
	sum := 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v) - best)
	}
	return best + math.Log(sum)
}

// Top lists the IDs of the n largest logits, largest first, lower IDs first
// among equals.
func Top(logits []float32, n int) []int {
	var ids []int
	for id, v := range logits {
		if len(ids) == n && (n == 0 || !(v > logits[ids[n-1]])) {
			continue
		}
		at := sort.Search(len(ids), func(i int) bool { return logits[ids[i]] < v })
		if len(ids) < n {
			ids = append(ids, 0)
		}
		copy(ids[at+1:], ids[at:])
		ids[at] = id
	}
	return ids
}
