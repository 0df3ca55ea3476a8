package expo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"expo/internal/kernel"
)

// Delta is how one tensor, or a group of them, differs between the two ends.
type Delta struct {
	Name    string `json:"name"`
	Tensors int    `json:"tensors"`
	// SFT, Aligned and Shape describe a single tensor; empty for a group.
	SFT     string `json:"sft_dtype,omitempty"`
	Aligned string `json:"aligned_dtype,omitempty"`
	Shape   []int  `json:"shape,omitempty"`

	Elements     int64   `json:"elements"`
	DeltaNorm    float64 `json:"delta_norm"`
	AlignedNorm  float64 `json:"aligned_norm"`
	RelativeNorm float64 `json:"relative_norm"` // ‖δ‖ / ‖θ_aligned‖
	Unchanged    float64 `json:"unchanged"`     // share of elements with δ = 0
	Share        float64 `json:"share"`         // of the pair's ‖δ‖²
	NaN          int64   `json:"nan,omitempty"`
	Inf          int64   `json:"inf,omitempty"`
}

// Anatomy is what Examine finds.
type Anatomy struct {
	// Kind is one line on what the pair looks like.
	Kind string `json:"kind"`
	// Differences keeps the pair from being extrapolated; empty if nothing
	// does.
	Differences []Difference `json:"differences"`
	// Settings, Vocabulary and Notes are differences that do not.
	Settings   []string  `json:"settings"`
	Vocabulary []string  `json:"vocabulary"`
	Notes      []string  `json:"notes"`
	Total      Delta     `json:"total"`
	Tensors    []Delta   `json:"tensors"`
	Layers     []Delta   `json:"layers"`
	Modules    []Delta   `json:"modules"`
	Outcomes   []Outcome `json:"effective_alpha"`

	refused *IncompatibleError // Differences as an error, nil if there are none
}

// Err is an *IncompatibleError with the Differences, nil if there are none.
func (a *Anatomy) Err() error {
	if a.refused == nil {
		return nil
	}
	return a.refused
}

// ExamineAlphas are the α for which Examine says what each output would keep.
var ExamineAlphas = []float64{0.1, 0.2, 0.3, 0.5, 1}

// Examine compares a pair: what keeps it from being extrapolated, where δ
// lies, and what α would act as in each output type, rounded once. It reads
// both models once and writes nothing. opt gives policies and the seed; its α
// and rounding play no part. A pair that does not match is no error:
// Differences has it, and what does pair is measured. jobs is as in
// WriteOptions; progress counts blocks.
func Examine(ctx context.Context, p Pair, opt Options, jobs int, progress func(done, total int64)) (*Anatomy, error) {
	// Any α but 0, which needs no partner.
	opt.Alpha, opt.Rules, opt.Rounding = 1, nil, Once
	if err := opt.check(); err != nil {
		return nil, err
	}
	pl := &plan{opt: opt, source: p.Aligned, hits: make([]int, 1)}
	a := &Anatomy{Differences: []Difference{}, Notes: []string{}, Tensors: []Delta{}, Layers: []Delta{}, Modules: []Delta{}}
	var bad *IncompatibleError
	if err := pl.match(p); errors.As(err, &bad) {
		a.Differences, a.refused = bad.Differences, bad
	} else if err != nil {
		return nil, err
	}
	a.Notes = append(a.Notes, pl.notes...)
	a.Settings = append([]string{}, settings(p.SFT.Config(), p.Aligned.Config())...)
	a.Vocabulary = append([]string{}, vocabularies(p.SFT, p.Aligned)...)
	pr := probe{plan: pl, alphas: ExamineAlphas, jobs: jobs, progress: progress}
	f, err := pr.run(ctx)
	if err != nil {
		return nil, err
	}
	a.Outcomes = f.outcomes
	a.tables(f)
	a.Kind = a.kind()
	return a, nil
}

// tables groups the measured tensors in three ways.
func (a *Anatomy) tables(f *found) {
	var total kernel.Stats
	layers, modules := newGroups(), newGroups()
	for i, s := range f.steps {
		total.Add(f.tensors[i])
		layers.add(layerOf(s.name), f.tensors[i])
		modules.add(globbed(s.name), f.tensors[i])
	}
	for i, s := range f.steps {
		d := delta(s.name, 1, f.tensors[i], total.Delta2)
		d.SFT, d.Aligned, d.Shape = s.sft.DType.String(), s.aligned.DType.String(), s.aligned.Shape
		if d.Shape == nil {
			d.Shape = []int{}
		}
		a.Tensors = append(a.Tensors, d)
	}
	a.Layers = append(a.Layers, layers.deltas(total.Delta2)...)
	a.Modules = append(a.Modules, modules.deltas(total.Delta2)...)
	a.Total = delta("total", len(f.steps), total, total.Delta2)
}

func delta(name string, tensors int, s kernel.Stats, all float64) Delta {
	d := Delta{Name: name, Tensors: tensors, Elements: s.Elements, DeltaNorm: math.Sqrt(s.Delta2), AlignedNorm: math.Sqrt(s.Aligned2), NaN: s.InputNaN, Inf: s.InputInf}
	if s.Aligned2 > 0 {
		d.RelativeNorm = d.DeltaNorm / d.AlignedNorm
	}
	if s.Elements > 0 {
		d.Unchanged = float64(s.Equal) / float64(s.Elements)
	}
	if all > 0 {
		d.Share = s.Delta2 / all
	}
	return d
}

// groups are sums by name, in the order in which names first came.
type groups struct {
	order []string
	sums  map[string]*kernel.Stats
	count map[string]int
}

func newGroups() *groups {
	return &groups{sums: make(map[string]*kernel.Stats), count: make(map[string]int)}
}

func (g *groups) add(name string, s kernel.Stats) {
	if g.sums[name] == nil {
		g.order = append(g.order, name)
		g.sums[name] = new(kernel.Stats)
	}
	g.sums[name].Add(s)
	g.count[name]++
}

func (g *groups) deltas(all float64) []Delta {
	var out []Delta
	for _, name := range g.order {
		out = append(out, delta(name, g.count[name], *g.sums[name], all))
	}
	return out
}

// layerOf is a tensor's name up to its first number ("model.layers.3"), or
// without its last part if it has none.
func layerOf(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		if p != "" && strings.Trim(p, "0123456789") == "" {
			return strings.Join(parts[:i+1], ".")
		}
	}
	if len(parts) > 1 {
		parts = parts[:len(parts)-1]
	}
	return strings.Join(parts, ".")
}

// kind classifies by the relative norm. The bounds are by experience:
// preference training moves a model by 10⁻⁵ to 10⁻² of its norm, supervised
// fine-tuning by more, and two models trained apart have nothing in common,
// which makes the ratio about √2.
func (a *Anatomy) kind() string {
	r := a.Total.RelativeNorm
	if a.Total.Tensors == 0 {
		return "different models: no tensor pairs"
	}
	var s string
	switch {
	case a.Total.DeltaNorm == 0 && a.Total.Unchanged == 1:
		s = "identical weights: there is nothing to extrapolate"
	case r < 1e-6:
		s = fmt.Sprintf("almost identical (relative norm %.2g): less than preference training leaves", r)
	case r <= 1e-2:
		s = fmt.Sprintf("SFT → preference-tuned (relative norm %.2g): the pair ExPO is made for", r)
	case r <= 0.5:
		s = fmt.Sprintf("base → SFT (relative norm %.2g): more than preference training usually moves", r)
	default:
		s = fmt.Sprintf("different models (relative norm %.2g): not trained one from the other", r)
	}
	if len(a.Differences) > 0 {
		s += "; not extrapolable as it is"
	}
	return s
}
