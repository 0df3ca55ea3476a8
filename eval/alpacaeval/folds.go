package alpacaeval

import "fmt"

// Folds is a rule that deals rows into the five folds of cross-validation.
// sklearn's GroupKFold sorts groups of equal size with an unstable sort, so
// its folds depend on which of numpy's sorts a machine runs.
type Folds string

const (
	// Introsort deals as numpy's scalar sort leaves equal keys. It chooses the
	// published C for most rows of the public leaderboards.
	Introsort Folds = "introsort"
	// Mod5 puts row i into fold i mod 5: numpy with AVX2 or AVX-512, and what
	// later rows look like.
	Mod5 Folds = "mod5"
)

const foldCount = 5

// ParseFolds reads a rule's name; empty is Introsort.
func ParseFolds(s string) (Folds, error) {
	switch f := Folds(s); f {
	case "":
		return Introsort, nil
	case Mod5, Introsort:
		return f, nil
	}
	return "", fmt.Errorf("alpacaeval: fold rule %q: use introsort or mod5", s)
}

// deal gives the fold of each of n rows.
func (f Folds) deal(n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	if f == Introsort {
		introsortEqual(order)
	}
	fold := make([]int, n)
	for k := range order {
		fold[order[n-1-k]] = k % foldCount
	}
	return fold
}

// introsortEqual does to t what numpy's argsort, in its quicksort with median
// of three and intervals of up to 16 left to insertion sort, does to the
// indices of equal keys.
func introsortEqual(t []int) {
	type interval struct{ l, r int }
	todo := []interval{{0, len(t) - 1}}
	for len(todo) > 0 {
		v := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if v.r-v.l <= 15 {
			continue
		}
		m := v.l + (v.r-v.l)/2
		t[m], t[v.r-1] = t[v.r-1], t[m]
		i, j := v.l, v.r-1
		for {
			i++
			j--
			if i >= j {
				break
			}
			t[i], t[j] = t[j], t[i]
		}
		t[i], t[v.r-1] = t[v.r-1], t[i]
		todo = append(todo, interval{v.l, i - 1}, interval{i + 1, v.r})
	}
}
