package generate

import (
	"math"
)

// Sampler chooses the tokens of one answer.
type Sampler struct {
	s        Sampling
	position int
	prompt   map[int]bool // for the repetition penalty
	counts   map[int]int  // in the answer
	heap     []candidate
}

type candidate struct {
	id     int
	logit  float64 // divided by the temperature
	weight float64 // e^(logit − largest)
}

// NewSampler makes the sampler of an answer to prompt.
func NewSampler(s Sampling, prompt []int) *Sampler {
	if s.RepetitionPenalty == 0 {
		s.RepetitionPenalty = 1
	}
	if s.TopP == 0 {
		s.TopP = 1
	}
	if s.TopK < 0 {
		s.TopK = 0
	}
	p := &Sampler{s: s}
	if p.penalizes() {
		p.counts = make(map[int]int)
		p.prompt = make(map[int]bool)
		for _, id := range prompt {
			p.prompt[id] = true
		}
	}
	return p
}

func (p *Sampler) penalizes() bool {
	return p.s.PresencePenalty != 0 || p.s.FrequencyPenalty != 0 || p.s.RepetitionPenalty != 1
}

// Next chooses the next token by its logits, (vocab_size), which it may
// change. It returns −1 if one of them is NaN.
func (p *Sampler) Next(logits []float32) int {
	p.penalize(logits)
	best := first(logits)
	id := best
	if best >= 0 && p.s.Temperature >= 1e-5 {
		id = p.draw(logits, float64(logits[best]))
	}
	p.position++
	if p.counts != nil && id >= 0 {
		p.counts[id]++
	}
	return id
}

// penalize applies the repetition penalty first, then frequency and presence.
func (p *Sampler) penalize(logits []float32) {
	if p.counts == nil {
		return
	}
	if r := float32(p.s.RepetitionPenalty); r != 1 {
		repeat := func(id int) {
			if id >= len(logits) {
				return
			}
			if logits[id] > 0 {
				logits[id] /= r
			} else {
				logits[id] *= r
			}
		}
		for id := range p.prompt {
			repeat(id)
		}
		for id := range p.counts {
			if !p.prompt[id] {
				repeat(id)
			}
		}
	}
	for id, n := range p.counts {
		logits[id] -= float32(p.s.FrequencyPenalty) * float32(n)
		logits[id] -= float32(p.s.PresencePenalty)
	}
}

// first is the index of the first of the largest, −1 if there is a NaN.
func first(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		} else if v != v {
			return -1
		}
	}
	if x[best] != x[best] {
		return -1
	}
	return best
}

// negligible is how far below the largest a scaled logit is left out: all of
// them together would not move a sum of float64.
const negligible = 60

// draw samples with temperature, min-p, top-k and top-p.
func (p *Sampler) draw(logits []float32, largest float64) int {
	t := max(p.s.Temperature, 0.01)
	top := largest / t
	least := top - negligible
	if p.s.MinP > 0 {
		least = max(least, top+math.Log(p.s.MinP))
	}
	c := p.heap[:0]
	total := 0.0
	for id, v := range logits {
		if x := float64(v) / t; x >= least || x == top {
			w := math.Exp(x - top)
			c = append(c, candidate{id, x, w})
			total += w
		}
	}
	p.heap = c
	u := Uniform(p.s.Seed, p.s.Sample, p.position)
	if p.s.TopK == 0 && p.s.TopP == 1 {
		return pick(c, u*total)
	}

	// What is kept comes off the heap, largest first.
	heapify(c)
	n := 0 // c[len(c)−n:] is what has come off
	pop := func() candidate {
		last := len(c) - n - 1
		c[0], c[last] = c[last], c[0]
		sift(c[:last], 0)
		n++
		return c[last]
	}
	if k := p.s.TopK; k > 0 && k < len(c) {
		total = 0
		var border float64
		for n < len(c) && (n < k || c[0].logit == border) {
			x := pop()
			total += x.weight
			if n == k {
				border = x.logit
			}
		}
		c = c[len(c)-n:]
		heapify(c)
		n = 0
	}
	if p.s.TopP < 1 {
		mass := 0.0
		for n < len(c) && (n == 0 || mass < p.s.TopP*total) {
			mass += pop().weight
		}
		c, total = c[len(c)-n:], mass
	}
	return pick(c, u*total)
}

// pick walks through the weights until it has passed at.
func pick(c []candidate, at float64) int {
	sum := 0.0
	for _, x := range c {
		if sum += x.weight; sum > at {
			return x.id
		}
	}
	return c[len(c)-1].id
}

// before orders candidates: larger first, then lower IDs.
func (a candidate) before(b candidate) bool {
	return a.logit > b.logit || a.logit == b.logit && a.id < b.id
}

func heapify(c []candidate) {
	for i := len(c)/2 - 1; i >= 0; i-- {
		sift(c, i)
	}
}

func sift(c []candidate, i int) {
	for {
		j := 2*i + 1
		if j >= len(c) {
			return
		}
		if j+1 < len(c) && c[j+1].before(c[j]) {
			j++
		}
		if !c[j].before(c[i]) {
			return
		}
		c[i], c[j] = c[j], c[i]
		i = j
	}
}

// Uniform is the random number in [0, 1) of one token: the upper 53 bits of
// SplitMix64's finalizer, applied three times with seed, sample and position
// added in turn. It is a function of the three alone.
func Uniform(seed uint64, sample, position int) float64 {
	x := mix(seed)
	x = mix(x + uint64(sample))
	x = mix(x + uint64(position))
	return float64(x>>11) / (1 << 53)
}

// mix is a step of SplitMix64 (https://prng.di.unimi.it/splitmix64.c).
func mix(x uint64) uint64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}
