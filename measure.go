package expo

import (
	"math"

	"expo/internal/kernel"
	"expo/weights/checkpoint"
)

// meter collects the statistics of a run, block by block, so that sums come
// out the same whatever the order in which blocks were computed.
type meter struct {
	blocks map[string][]kernel.Stats
}

func newMeter() *meter { return &meter{blocks: make(map[string][]kernel.Stats)} }

// tensor makes room for a tensor's blocks. All rooms are made before the
// first block is computed; afterwards the map is only read.
func (m *meter) tensor(s *step) []kernel.Stats {
	n := (s.aligned.Elements() + checkpoint.BlockElements - 1) / checkpoint.BlockElements
	b := make([]kernel.Stats, n)
	m.blocks[s.name] = b
	return b
}

// sum adds up a tensor's blocks in order.
func (m *meter) sum(name string) (total kernel.Stats, ok bool) {
	blocks, ok := m.blocks[name]
	for _, b := range blocks {
		total.Add(b)
	}
	return total, ok
}

// Statistics says how far the pair is apart and what rounding left of α, over
// one tensor or all. δ = aligned − SFT in float32. Elements of which one side
// or the result is not finite are counted and left out of the norms.
type Statistics struct {
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
	EffectiveAlpha float64 `json:"effective_alpha"`
	NaN            int64   `json:"nan,omitempty"`
	Inf            int64   `json:"inf,omitempty"`
	InputNaN       int64   `json:"input_nan,omitempty"`
	InputInf       int64   `json:"input_inf,omitempty"`
	// Overflow counts finite inputs whose result is infinite.
	Overflow int64 `json:"overflow,omitempty"`
}

// tally is a sum over tensors together with what their α would have made.
type tally struct {
	kernel.Stats
	nominal float64 // Σ α·⟨δ, δ⟩
	alpha   float64 // of the last tensor, for sums without any δ
}

func (t *tally) add(s kernel.Stats, alpha float64) {
	t.Stats.Add(s)
	t.nominal += alpha * s.Delta2
	t.alpha = alpha
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
		s.NominalAlpha = t.nominal / t.Delta2
		s.EffectiveAlpha = t.StepDelta / t.Delta2
	}
	return s
}
