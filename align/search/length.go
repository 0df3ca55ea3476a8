package search

import "math"

// lengthEffect is the slope of reward on length, in reward per character, with
// the effects of prompt and α taken out: what a longer answer gains among
// answers of the same model, to prompts that are as hard. The slope is 0 where
// lengths do not vary.
func lengthEffect(rows [][]Sample) float64 {
	var x, y []float64
	var prompt, row []int
	index := map[int]int{}
	for k, samples := range rows {
		for _, s := range samples {
			if math.IsNaN(s.Reward) || math.IsNaN(s.Length) {
				continue
			}
			p, ok := index[s.Prompt]
			if !ok {
				p = len(index)
				index[s.Prompt] = p
			}
			x, y = append(x, s.Length), append(y, s.Reward)
			prompt, row = append(prompt, p), append(row, k)
		}
	}
	// One pass over each factor is exact where no sample is missing; the rest
	// are for the holes.
	for range 20 {
		for _, v := range [][]float64{x, y} {
			center(v, prompt, len(index))
			center(v, row, len(rows))
		}
	}
	xx, xy := 0.0, 0.0
	for i := range x {
		xx += x[i] * x[i]
		xy += x[i] * y[i]
	}
	if xx <= 1e-9*float64(len(x)) {
		return 0
	}
	return xy / xx
}

// center takes the mean of each group off.
func center(v []float64, group []int, groups int) {
	sum, n := make([]float64, groups), make([]float64, groups)
	for i, g := range group {
		sum[g] += v[i]
		n[g]++
	}
	for i, g := range group {
		v[i] -= sum[g] / n[g]
	}
}
