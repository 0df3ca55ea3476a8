package expo

import (
	"cmp"
	"math"
	"slices"
	"sync"

	"expo/internal/kernel"
)

// meter collects the statistics of a run by tensor. The map is complete before
// the first element is computed; afterwards it is only read.
type meter struct {
	sums map[string]*sums
}

func newMeter() *meter { return &meter{sums: make(map[string]*sums)} }

func (m *meter) tensor(s *step) *sums {
	t := new(sums)
	m.sums[s.name] = t
	return t
}

// sums are the statistics of a tensor's pieces, which come in any order and
// are added in that of their elements, so that the result does not depend on
// the workers. (Files cut elsewhere make other pieces, and sums that differ in
// their last bits.)
type sums struct {
	mu     sync.Mutex
	pieces []pieceSum
}

type pieceSum struct {
	first int64
	stats kernel.Stats
}

func (s *sums) add(first int64, st kernel.Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pieces = append(s.pieces, pieceSum{first, st})
}

func (s *sums) total() (total kernel.Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(s.pieces, func(a, b pieceSum) int { return cmp.Compare(a.first, b.first) })
	for _, p := range s.pieces {
		total.Add(p.stats)
	}
	return total
}

// sum is a tensor's total.
func (m *meter) sum(name string) (kernel.Stats, bool) {
	s, ok := m.sums[name]
	if !ok {
		return kernel.Stats{}, false
	}
	return s.total(), true
}

// Statistics says how far the pair is apart and what rounding left of α, over
// one tensor or all. δ = aligned − SFT in float32. Elements of which one side
// or the result is not finite are counted and left out of the norms.
type Statistics struct {
	// Elements are those that both sides have. Tensors and rows taken from the
	// aligned model alone have no δ; of them, only what is not finite counts.
	Elements int64 `json:"elements"`
	// DeltaNorm is ‖δ‖, AlignedNorm ‖θ_aligned‖, both Euclidean;
	// RelativeNorm is their ratio.
	DeltaNorm    float64 `json:"delta_norm"`
	AlignedNorm  float64 `json:"aligned_norm"`
	RelativeNorm float64 `json:"relative_norm"`
	// Unchanged is the share of elements with δ = 0.
	Unchanged float64 `json:"unchanged"`
	// Swallowed is the share, of those with δ ≠ 0, whose result equals the
	// aligned model's value.
	Swallowed float64 `json:"swallowed"`
	// NominalAlpha is the α asked for; over several tensors with several α,
	// their mean weighted by ‖δ‖².
	NominalAlpha float64 `json:"nominal_alpha"`
	// EffectiveAlpha is ⟨out − aligned, δ⟩ / ⟨δ, δ⟩, 0 where δ = 0 throughout.
	// Converting the aligned model to a narrower type counts as a step.
	EffectiveAlpha float64 `json:"effective_alpha"`
	// NaN and Inf count elements of the result; InputNaN and InputInf those
	// where either side is NaN, or infinite and neither NaN.
	NaN      int64 `json:"nan,omitempty"`
	Inf      int64 `json:"inf,omitempty"`
	InputNaN int64 `json:"input_nan,omitempty"`
	InputInf int64 `json:"input_inf,omitempty"`
	// Overflow counts finite inputs whose result is infinite.
	Overflow int64 `json:"overflow,omitempty"`
}

// tally is a sum over tensors together with what their α would have made.
type tally struct {
	kernel.Stats
	nominal float64 // Σ α‖δ‖²
	square  float64 // Σ α²‖δ‖²
	cross   float64 // Σ α⟨out − aligned, δ⟩
	alpha   float64 // of the last tensor, for sums without any δ
	parts   int     // tensors with a δ,
	several bool    // and whether their α differ
	first   float64
}

func (t *tally) add(s kernel.Stats, alpha float64) {
	t.Stats.Add(s)
	t.nominal += float64(alpha * s.Delta2)
	t.square += float64(alpha * alpha * s.Delta2)
	t.cross += float64(alpha * s.StepDelta)
	t.alpha = alpha
	if s.Delta2 > 0 {
		if t.parts++; t.parts == 1 {
			t.first = alpha
		}
		t.several = t.several || alpha != t.first
	}
}

// noise is ‖out − aligned − αδ‖ / ‖αδ‖, 0 where αδ is.
func (t *tally) noise() float64 {
	if t.square == 0 {
		return 0
	}
	return math.Sqrt(max(0, t.Step2-2*t.cross+t.square) / t.square)
}

func (t *tally) statistics() Statistics {
	s := Statistics{
		Elements:     t.Elements,
		DeltaNorm:    math.Sqrt(t.Delta2),
		AlignedNorm:  math.Sqrt(t.Aligned2),
		NominalAlpha: t.alpha,
		NaN:          t.NaN,
		Inf:          t.Inf,
		InputNaN:     t.InputNaN,
		InputInf:     t.InputInf,
		Overflow:     t.Overflow,
	}
	if t.Aligned2 > 0 {
		s.RelativeNorm = s.DeltaNorm / s.AlignedNorm
	}
	if t.Elements > 0 {
		s.Unchanged = float64(t.Equal) / float64(t.Elements)
	}
	if moved := t.Elements - t.Equal; moved > 0 {
		s.Swallowed = float64(t.Swallowed) / float64(moved)
	}
	if t.Delta2 > 0 {
		// The mean of equal numbers need not be that number in its last bit.
		if s.NominalAlpha = t.first; t.several {
			s.NominalAlpha = t.nominal / t.Delta2
		}
		s.EffectiveAlpha = t.StepDelta / t.Delta2
	}
	return s
}

// Honest reports whether what was written acts, along δ, as the α asked for:
// within a fifth. It does where there is no δ, or α is 0.
func (s Statistics) Honest() bool {
	if s.NominalAlpha == 0 || s.DeltaNorm == 0 {
		return true
	}
	r := s.EffectiveAlpha / s.NominalAlpha
	return r >= 0.8 && r <= 1.2
}
