package train

import "expo/lm/model"

// ropeTable holds the cosines and sines of the rotary embedding for positions
// [0, length), (length, head_dim/2) each, as package model computes them. The
// type dynamic is the default one up to max_position_embeddings, beyond which
// nothing is trained.
func ropeTable(r *model.Rope, dim, length int) (cos, sin []float32) {
	inv, factor := r.Frequencies(dim, 0)
	half := len(inv)
	cos, sin = make([]float32, length*half), make([]float32, length*half)
	for p := range length {
		model.Angles(cos[p*half:(p+1)*half], sin[p*half:(p+1)*half], inv, factor, p)
	}
	return cos, sin
}
