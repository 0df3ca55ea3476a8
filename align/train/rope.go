package train

import (
	"math"

	"expo/lm/model"
)

// ropeTable holds the cosines and sines of the rotary embedding for positions
// [0, length), (length, head_dim/2) each, as package model computes them. The
// type dynamic is the default one up to max_position_embeddings, beyond which
// nothing is trained.
func ropeTable(r *model.Rope, dim, length int) (cos, sin []float32) {
	inv, factor := frequencies(r, dim)
	cos, sin = make([]float32, length*len(inv)), make([]float32, length*len(inv))
	for p := range length {
		for i, f := range inv {
			s, c := math.Sincos(float64(float32(p) * f))
			cos[p*len(inv)+i], sin[p*len(inv)+i] = float32(c)*factor, float32(s)*factor
		}
	}
	return cos, sin
}

// frequencies are the angles per position, float32 as in transformers'
// modeling_rope_utils.py, and the factor of cosine and sine.
func frequencies(r *model.Rope, dim int) (inv []float32, factor float32) {
	inv = make([]float32, dim/2)
	for i := range inv {
		inv[i] = 1 / float32(math.Pow(r.Theta, float64(float32(2*i)/float32(dim))))
	}
	factor = 1
	original := float64(r.OriginalMaxPositionEmbeddings)
	switch r.Type {
	case "linear":
		for i := range inv {
			inv[i] /= float32(r.Factor)
		}
	case "llama3":
		for i, f := range inv {
			wavelen := 2 * math.Pi / float64(f)
			switch {
			case wavelen > original/r.LowFreqFactor:
				inv[i] = f / float32(r.Factor)
			case wavelen >= original/r.HighFreqFactor:
				s := (original/wavelen - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
				inv[i] = float32((1-s)*float64(f)/r.Factor + s*float64(f))
			}
		}
	case "yarn":
		at := func(rotations float64) float64 {
			return float64(dim) * math.Log(original/(rotations*2*math.Pi)) / (2 * math.Log(r.Theta))
		}
		low, high := at(r.BetaFast), at(r.BetaSlow)
		if r.Truncate {
			low, high = math.Floor(low), math.Ceil(high)
		}
		low, high = max(low, 0), min(high, float64(dim)-1)
		if low == high {
			high += 0.001
		}
		for i, f := range inv {
			ramp := min(max((float64(i)-low)/(high-low), 0), 1)
			inv[i] = float32(float64(f)/r.Factor*ramp + float64(f)*(1-ramp))
		}
		factor = float32(r.AttentionFactor)
	}
	for i, d := range r.Divisors {
		inv[i] /= d
	}
	return inv, factor
}
