package model

import (
	"fmt"
	"math"
	"slices"
)

// Rope is the rotary position embedding: which angles a head's pairs turn by
// at each position. Names and defaults are those of transformers'
// modeling_rope_utils.py.
type Rope struct {
	Theta float64
	// Type is "default", "linear", "dynamic", "yarn" or "llama3".
	Type   string
	Factor float64

	// LowFreqFactor and HighFreqFactor are llama3's.
	LowFreqFactor, HighFreqFactor float64
	// OriginalMaxPositionEmbeddings is the length before scaling: llama3, yarn
	// and (max_position_embeddings there) dynamic.
	OriginalMaxPositionEmbeddings int

	// BetaFast, BetaSlow, Truncate and AttentionFactor are yarn's.
	BetaFast, BetaSlow float64
	Truncate           bool
	AttentionFactor    float64

	// Divisors divide the unscaled frequencies, one per pair. GGUF files store
	// llama3's this way; where they are given, Type is "default".
	Divisors []float32
}

var ropeTypes = []string{"default", "linear", "dynamic", "yarn", "llama3"}

// rope reads rope_parameters (transformers 5), or rope_theta and rope_scaling.
func (p *configParser) rope(cfg *Config) Rope {
	r := Rope{Type: "default", Factor: 1}
	r.Theta = p.float("rope_theta", 1e4)
	o, ok := p.c.Object("rope_parameters")
	if !ok {
		o, ok = p.c.Object("rope_scaling")
	}
	if !ok {
		return r
	}
	for _, kind := range []string{"full_attention", "sliding_attention"} {
		if _, nested := o[kind]; nested {
			p.fail("rope_parameters differ by layer kind, which no supported model does")
			return r
		}
	}
	get := func(key string, def float64) float64 {
		v := o[key]
		if v == nil {
			return def
		}
		f, ok := number(v)
		if !ok || math.IsNaN(f) || math.IsInf(f, 0) {
			p.fail("%s of rope is %s, want a number", key, show(v))
			return def
		}
		return f
	}
	r.Theta = get("rope_theta", r.Theta)
	for _, key := range []string{"type", "rope_type"} {
		if s, ok := o[key].(string); ok {
			r.Type = s
		}
	}
	if !slices.Contains(ropeTypes, r.Type) {
		if p.err == nil {
			p.err = &UnsupportedError{"rope_type", r.Type, ropeTypes}
		}
		return r
	}
	if get("partial_rotary_factor", 1) != 1 {
		p.fail("partial_rotary_factor is not 1, which no supported model has")
	}
	if r.Type == "default" {
		return r
	}
	r.Factor = get("factor", 0)
	if r.Factor <= 0 {
		p.fail("rope_type %s needs a factor above 0", r.Type)
		return r
	}
	r.OriginalMaxPositionEmbeddings = cfg.MaxPositionEmbeddings
	if r.Type == "llama3" || r.Type == "yarn" {
		l := get("original_max_position_embeddings", float64(cfg.MaxPositionEmbeddings))
		if l < 1 || l > maxCount {
			p.fail("original_max_position_embeddings is %v, want a length", l)
			return r
		}
		r.OriginalMaxPositionEmbeddings = int(l)
	}
	switch r.Type {
	case "llama3":
		r.LowFreqFactor, r.HighFreqFactor = get("low_freq_factor", 1), get("high_freq_factor", 4)
	case "yarn":
		r.BetaFast, r.BetaSlow = get("beta_fast", 32), get("beta_slow", 1)
		r.Truncate = true
		if b, ok := o["truncate"].(bool); ok {
			r.Truncate = b
		}
		r.AttentionFactor = yarnFactor(r.Factor, get("attention_factor", 0), get("mscale", 0), get("mscale_all_dim", 0))
	}
	return r
}

// yarnFactor is what yarn multiplies cosine and sine by.
func yarnFactor(factor, given, mscale, mscaleAllDim float64) float64 {
	scale := func(m float64) float64 {
		if factor <= 1 {
			return 1
		}
		return 0.1*m*math.Log(factor) + 1
	}
	switch {
	case given != 0:
		return given
	case mscale != 0 && mscaleAllDim != 0:
		return scale(mscale) / scale(mscaleAllDim)
	}
	return scale(1)
}

func (r *Rope) check(headDim int) error {
	switch {
	case !(r.Theta > 0) || math.IsInf(r.Theta, 0):
		return fmt.Errorf("model: rope_theta %v is not a number above 0", r.Theta)
	case r.Type == "llama3" && !(r.HighFreqFactor > r.LowFreqFactor && r.LowFreqFactor > 0):
		return fmt.Errorf("model: rope: high_freq_factor %v is not above low_freq_factor %v", r.HighFreqFactor, r.LowFreqFactor)
	case r.Type == "dynamic" && headDim <= 2:
		return fmt.Errorf("model: rope: dynamic scaling needs a head_dim above 2")
	case r.Divisors != nil && len(r.Divisors) != headDim/2:
		return fmt.Errorf("model: rope: %d divisors for head_dim %d", len(r.Divisors), headDim)
	}
	return nil
}

// dependsOnLength reports whether a call that reaches position length−1 turns
// by angles of its own.
func (r *Rope) dependsOnLength(length int) bool {
	return r.Type == "dynamic" && length > r.OriginalMaxPositionEmbeddings
}

// Frequencies are the angles per position of a head's dim/2 pairs, and the
// factor of cosine and sine, for a sequence of the given length (which matters to
// the type "dynamic" alone). They are float32, as transformers has them.
func (r *Rope) Frequencies(dim, length int) (inv []float32, factor float32) {
	theta := r.Theta
	if r.dependsOnLength(length) {
		n, m, d := float64(length), float64(r.OriginalMaxPositionEmbeddings), float64(dim)
		theta *= math.Pow(r.Factor*n/m-(r.Factor-1), d/(d-2))
	}
	inv = make([]float32, dim/2)
	for i := range inv {
		inv[i] = 1 / float32(math.Pow(theta, float64(float32(2*i)/float32(dim))))
	}
	factor = 1
	switch r.Type {
	case "linear":
		for i := range inv {
			inv[i] /= float32(r.Factor)
		}
	case "llama3":
		r.llama3(inv)
	case "yarn":
		r.yarn(inv, dim)
		factor = float32(r.AttentionFactor)
	}
	for i, d := range r.Divisors {
		inv[i] /= d
	}
	return inv, factor
}

// llama3 divides the frequencies of wavelengths above the original length by
// factor, keeps short ones, and blends between.
func (r *Rope) llama3(inv []float32) {
	l := float64(r.OriginalMaxPositionEmbeddings)
	for i, f := range inv {
		wavelen := 2 * math.Pi / float64(f)
		switch {
		case wavelen > l/r.LowFreqFactor:
			inv[i] = f / float32(r.Factor)
		case wavelen >= l/r.HighFreqFactor:
			s := (l/wavelen - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
			inv[i] = float32((1-s)*float64(f)/r.Factor + s*float64(f))
		}
	}
}

// yarn is "NTK-by-parts" of https://arxiv.org/abs/2309.00071.
func (r *Rope) yarn(inv []float32, dim int) {
	d := float64(dim)
	at := func(rotations float64) float64 {
		return d * math.Log(float64(r.OriginalMaxPositionEmbeddings)/(rotations*2*math.Pi)) / (2 * math.Log(r.Theta))
	}
	low, high := at(r.BetaFast), at(r.BetaSlow)
	if r.Truncate {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = max(low, 0), min(high, d-1)
	if low == high {
		high += 0.001
	}
	for i, f := range inv {
		ramp := min(max((float64(i)-low)/(high-low), 0), 1)
		inv[i] = float32(float64(f)/r.Factor*ramp + float64(f)*(1-ramp))
	}
}

// Angles fills cos and sin, dim/2 each, for one position, from what
// [Rope.Frequencies] gives: the product of position and frequency is float32, as
// in transformers, its cosine and sine are exact to the last bit.
func Angles(cos, sin, inv []float32, factor float32, position int) {
	for i, f := range inv {
		s, c := math.Sincos(float64(float32(position) * f))
		cos[i], sin[i] = float32(c)*factor, float32(s)*factor
	}
}
