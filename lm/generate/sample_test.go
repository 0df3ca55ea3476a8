package generate

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
)

func logits() []float32 {
	x := make([]float32, 50)
	for i := range x {
		x[i] = float32(4 * math.Sin(float64(3*i)))
	}
	return x
}

// expected are the probabilities that a request's parameters define, computed
// by sorting everything.
func expected(x []float32, s Sampling) []float64 {
	type one struct {
		id int
		x  float64
	}
	var all []one
	for id, v := range x {
		all = append(all, one{id, float64(v) / s.Temperature})
	}
	slices.SortFunc(all, func(a, b one) int {
		if a.x != b.x {
			if a.x > b.x {
				return -1
			}
			return 1
		}
		return a.id - b.id
	})
	keep := len(all)
	for keep > 1 && s.MinP > 0 && all[keep-1].x < all[0].x+math.Log(s.MinP) {
		keep--
	}
	if k := s.TopK; k > 0 && k < keep {
		border := all[k-1].x
		for keep > k && all[keep-1].x < border {
			keep--
		}
	}
	p := make([]float64, len(x))
	sum := 0.0
	for _, o := range all[:keep] {
		p[o.id] = math.Exp(o.x - all[0].x)
		sum += p[o.id]
	}
	if s.TopP > 0 && s.TopP < 1 {
		mass := 0.0
		for _, o := range all[:keep] {
			if mass >= s.TopP*sum {
				p[o.id] = 0
				continue
			}
			mass += p[o.id]
		}
		sum = mass
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

// TestDistribution draws many samples and compares frequencies.
func TestDistribution(t *testing.T) {
	for _, s := range []Sampling{
		{Temperature: 1},
		{Temperature: 0.7},
		{Temperature: 2},
		{Temperature: 1, TopK: 5},
		{Temperature: 1, TopK: 1000},
		{Temperature: 1, TopP: 0.8},
		{Temperature: 1, TopP: 1e-9},
		{Temperature: 1.3, TopK: 12, TopP: 0.6},
		{Temperature: 1, MinP: 0.1},
		{Temperature: 1.5, MinP: 0.05, TopK: 8, TopP: 0.9},
	} {
		t.Run(fmt.Sprintf("%+v", s), func(t *testing.T) {
			const n = 40000
			want := expected(logits(), s)
			got := make([]float64, len(want))
			for i := range n {
				s.Sample = i
				got[NewSampler(s, nil).Next(logits())]++
			}
			for id := range want {
				// Five standard deviations.
				if d := math.Abs(got[id] - n*want[id]); d > 5*math.Sqrt(n*want[id])+1e-9 {
					t.Errorf("token %d drawn %v times, want about %v", id, got[id], n*want[id])
				}
			}
		})
	}
}

func TestTies(t *testing.T) {
	x := []float32{1, 3, 3, 2, 2, 2, 0}
	if id := NewSampler(Sampling{}, nil).Next(slices.Clone(x)); id != 1 {
		t.Errorf("greedy: %d, want the first of the largest", id)
	}
	// All that tie with the third best stay.
	seen := map[int]bool{}
	for i := range 2000 {
		seen[NewSampler(Sampling{Temperature: 1, TopK: 3, Sample: i}, nil).Next(slices.Clone(x))] = true
	}
	if len(seen) != 5 || seen[0] || seen[6] {
		t.Errorf("top 3 with ties drew %v, want 1 to 5", seen)
	}
}

func TestPenalties(t *testing.T) {
	base := []float32{2, -2, 1, 0}
	for _, c := range []struct {
		s      Sampling
		prompt []int
		answer []int
		want   []float32
	}{
		{Sampling{RepetitionPenalty: 2}, []int{0, 1}, nil, []float32{1, -4, 1, 0}},
		{Sampling{RepetitionPenalty: 2}, []int{0}, []int{0, 1}, []float32{1, -4, 1, 0}},
		{Sampling{FrequencyPenalty: 0.5}, []int{0, 1}, []int{2, 2}, []float32{2, -2, 0, 0}},
		{Sampling{PresencePenalty: 0.5}, []int{0}, []int{2, 2}, []float32{2, -2, 0.5, 0}},
		{Sampling{RepetitionPenalty: 2, FrequencyPenalty: 1, PresencePenalty: 0.25}, nil, []int{0, 0}, []float32{-1.25, -2, 1, 0}},
		{Sampling{RepetitionPenalty: 2}, []int{1 << 40}, nil, base},
	} {
		p := NewSampler(c.s, c.prompt)
		for _, id := range c.answer {
			p.counts[id]++
		}
		got := slices.Clone(base)
		p.penalize(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v, prompt %v, answer %v: %v, want %v", c.s, c.prompt, c.answer, got, c.want)
		}
	}
}

func TestNaN(t *testing.T) {
	for _, at := range []int{0, 1, 2} {
		x := []float32{0, 1, 2}
		x[at] = float32(math.NaN())
		if id := NewSampler(Sampling{Temperature: 1}, nil).Next(x); id != -1 {
			t.Errorf("NaN at %d: %d, want -1", at, id)
		}
	}
}

// TestUniform fixes the numbers: a change would change everybody's texts.
func TestUniform(t *testing.T) {
	seen := map[float64]bool{}
	sum := 0.0
	for seed := range uint64(20) {
		for sample := range 20 {
			for position := range 20 {
				u := Uniform(seed, sample, position)
				if u < 0 || u >= 1 || seen[u] {
					t.Fatalf("Uniform(%d, %d, %d) = %v", seed, sample, position, u)
				}
				seen[u] = true
				sum += u
			}
		}
	}
	if mean := sum / 8000; math.Abs(mean-0.5) > 5*0.2887/math.Sqrt(8000) {
		t.Errorf("mean %v", mean)
	}
	if got, want := Uniform(1, 2, 3), 0.4175580595044027; got != want {
		t.Errorf("Uniform(1, 2, 3) = %v, want %v", got, want)
	}
}

func TestTop(t *testing.T) {
	x := []float32{1, 5, 3, 5, 2, 3}
	for n, want := range [][]int{nil, {1}, {1, 3}, {1, 3, 2}, {1, 3, 2, 5}, {1, 3, 2, 5, 4}, {1, 3, 2, 5, 4, 0}, {1, 3, 2, 5, 4, 0}} {
		if got := Top(x, n); !slices.Equal(got, want) {
			t.Errorf("Top %d: %v, want %v", n, got, want)
		}
	}
	if got, want := LogSumExp([]float32{1000, 1000}), 1000+math.Log(2); math.Abs(got-want) > 1e-9 {
		t.Errorf("LogSumExp %v, want %v", got, want)
	}
}

func TestCheck(t *testing.T) {
	for _, r := range []Request{
		{Prompt: "a", Tokens: []int{1}},
		{MaxTokens: -1},
		{Sampling: Sampling{Temperature: 2.1}},
		{Sampling: Sampling{Temperature: math.NaN()}},
		{Sampling: Sampling{TopP: 1.1}},
		{Sampling: Sampling{TopK: -2}},
		{Sampling: Sampling{MinP: -0.1}},
		{Sampling: Sampling{PresencePenalty: 3}},
		{Sampling: Sampling{FrequencyPenalty: -3}},
		{Sampling: Sampling{RepetitionPenalty: -1}},
		{TopLogprobs: 21},
		{Stop: []string{""}},
	} {
		if err := r.Check(); !errors.Is(err, ErrRequest) {
			t.Errorf("%+v: %v, want a bad request", r, err)
		}
	}
	if err := (&Request{Prompt: "a", Sampling: Sampling{Temperature: 1, TopP: 1, TopK: -1}}).Check(); err != nil {
		t.Error(err)
	}
}

func BenchmarkSample(b *testing.B) {
	x := make([]float32, 128256)
	for i := range x {
		x[i] = float32(5 * math.Sin(float64(7*i)))
	}
	for _, s := range []Sampling{{}, {Temperature: 1}, {Temperature: 1, TopP: 0.9}, {Temperature: 0.7, TopK: 50}} {
		b.Run(fmt.Sprintf("T=%v,top_p=%v,top_k=%v", s.Temperature, s.TopP, s.TopK), func(b *testing.B) {
			p := NewSampler(s, nil)
			for b.Loop() {
				p.Next(x)
			}
		})
	}
}
