package search

import (
	"encoding/json"
	"math"
	"slices"
)

// Sample is one answer, measured. A NaN is a measure that is missing.
type Sample struct {
	Prompt     int     // which prompt; answers to one prompt are not independent
	Reward     float64 // NaN: the answer could not be made or judged
	Length     float64 // of the answer, in characters; NaN: it could not be made
	Finished   bool    // ended by itself rather than by a limit
	Repetition float64 // the share of the answer that repeats itself, 0 to 1
}

// Score is what was measured at one α. The i-th sample of every α has the same
// prompt and the same random numbers, and the i-th value of a task is for the
// same item.
type Score struct {
	Samples []Sample
	// Tasks holds other measurements by name, such as the right answers to
	// questions, for Gates.NoWorse. More is better. A NaN is missing.
	Tasks map[string][]float64
}

// Number is a float64 that JSON can hold: NaN and ±Inf, for what is not known,
// are null.
type Number float64

// MarshalJSON implements json.Marshaler.
func (n Number) MarshalJSON() ([]byte, error) {
	if f := float64(n); f-f != 0 {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = Number(math.NaN())
		return nil
	}
	return json.Unmarshal(b, (*float64)(n))
}

// Estimate is a mean and its standard error. N counts what is independent:
// prompts, or samples where there is one prompt.
type Estimate struct {
	Mean, SE float64
	N        int
}

// mean of independent values; the SE of fewer than two is NaN.
func mean(x []float64) Estimate {
	n := float64(len(x))
	if n == 0 {
		return Estimate{math.NaN(), math.NaN(), 0}
	}
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	m := sum / n
	sq := 0.0
	for _, v := range x {
		sq += (v - m) * (v - m)
	}
	return Estimate{m, math.Sqrt(sq / (n - 1) / n), len(x)}
}

// groups are the samples of each prompt: the indices of samples, by prompt, in
// the order of the prompts' numbers. With a single prompt each sample is a
// group.
func groups(s []Sample) [][]int {
	byPrompt := map[int][]int{}
	var order []int
	for i := range s {
		p := s[i].Prompt
		if byPrompt[p] == nil {
			order = append(order, p)
		}
		byPrompt[p] = append(byPrompt[p], i)
	}
	slices.Sort(order)
	var out [][]int
	if len(order) == 1 {
		for i := range s {
			out = append(out, []int{i})
		}
		return out
	}
	for _, p := range order {
		out = append(out, byPrompt[p])
	}
	return out
}

// groupMeans is the mean of f over each group's samples for which it is known;
// NaN where there are none.
func groupMeans(g [][]int, f func(i int) float64) []float64 {
	out := make([]float64, len(g))
	for k, idx := range g {
		sum, n := 0.0, 0
		for _, i := range idx {
			if v := f(i); !math.IsNaN(v) {
				sum += v
				n++
			}
		}
		out[k] = sum / float64(n)
	}
	return out
}

func known(x []float64) []float64 {
	return slices.DeleteFunc(slices.Clone(x), math.IsNaN)
}

// over is the mean of f over samples, by prompts.
func over(s []Sample, f func(Sample) float64) Estimate {
	return mean(known(groupMeans(groups(s), func(i int) float64 { return f(s[i]) })))
}

func reward(s Sample) float64 { return s.Reward }

// Paired is the mean of a's reward less b's over the samples that both have.
// Its error is that of the differences, prompt by prompt.
func Paired(a, b []Sample) Estimate {
	return paired(a, b, reward)
}

func paired(a, b []Sample, f func(Sample) float64) Estimate {
	n := min(len(a), len(b))
	return mean(known(groupMeans(groups(a[:n]), func(i int) float64 { return f(a[i]) - f(b[i]) })))
}

// pairedValues is the same for the items of a task.
func pairedValues(a, b []float64) Estimate {
	n := min(len(a), len(b))
	d := make([]float64, n)
	for i := range d {
		d[i] = a[i] - b[i]
	}
	return mean(known(d))
}

// Differs reports whether the mean is further from 0 than chance explains, at a
// two-sided confidence such as 0.95, by Student's t.
func (e Estimate) Differs(confidence float64) bool {
	switch {
	case e.Mean == 0 || e.N < 2 || math.IsNaN(e.SE):
		return false
	case e.SE == 0:
		return true
	}
	return math.Abs(e.Mean) > e.SE*quantile(confidence, e.N-1)
}

// quantile is the two-sided quantile of Student's t: the normal one, corrected
// for few degrees of freedom by the expansion of Cornish and Fisher
// (Abramowitz and Stegun, 26.7.5), to 1 % from 4 degrees of freedom on.
func quantile(confidence float64, freedom int) float64 {
	z := math.Sqrt2 * math.Erfinv(confidence)
	v := float64(freedom)
	z3, z5, z7 := z*z*z, z*z*z*z*z, z*z*z*z*z*z*z
	return z + (z3+z)/(4*v) + (5*z5+16*z3+3*z)/(96*v*v) + (3*z7+19*z5+17*z3-15*z)/(384*v*v*v)
}
