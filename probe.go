package expo

import (
	"context"

	"golang.org/x/sync/errgroup"

	"expo/internal/kernel"
)

// Outcome is what one way of writing the result leaves of α, measured on the
// pair itself.
type Outcome struct {
	Alpha float64 `json:"alpha"`
	// Output is bf16, f16, f32, or stochastic, which is bf16 rounded
	// stochastically.
	Output         string  `json:"output"`
	EffectiveAlpha float64 `json:"effective_alpha"`
	// Swallowed is the share, of the elements with δ ≠ 0, that stay at the
	// aligned model's value.
	Swallowed float64 `json:"swallowed"`
	// Noise is ‖out − exact‖ / ‖αδ‖, where exact is aligned + αδ in real
	// numbers; 0 where αδ is.
	Noise float64 `json:"noise"`
	// Overflow counts finite inputs with an infinite result.
	Overflow int64 `json:"overflow,omitempty"`
}

// outputs are the ways of writing that a probe compares.
var outputs = []string{"bf16", "f16", "f32", "stochastic"}

// probeBlock is the number of elements that a probe takes at a time.
const probeBlock = 1 << 16

// probe measures a pair, all of it or a sample. alphas nil means each tensor's
// own. Sums are added in the order of the blocks, so results do not depend on
// the number of workers.
type probe struct {
	plan   *plan
	alphas []float64
	// budget is about how many elements to look at; zero is all.
	budget   int64
	jobs     int
	progress func(done, total int64) // in blocks
}

// found is what a probe measured.
type found struct {
	outcomes []Outcome
	tensors  []kernel.Stats // per measured step: δ alone
	steps    []*step
	elements int64 // looked at
}

type probeUnit struct {
	step  int
	first int64
	n     int
}

// probeResult is one unit's sums: δ, then per α and output.
type probeResult struct {
	delta kernel.Stats
	out   []kernel.Stats
}

func (p *probe) run(ctx context.Context) (*found, error) {
	f := &found{}
	var units []probeUnit
	for i := range p.plan.shards {
		for j := range p.plan.shards[i] {
			s := &p.plan.shards[i][j]
			if s.raw || s.sft.Data == nil {
				continue
			}
			for first := int64(0); first < s.common; first += probeBlock {
				units = append(units, probeUnit{len(f.steps), first, int(min(probeBlock, s.common-first))})
			}
			f.steps = append(f.steps, s)
		}
	}
	units = thin(units, p.budget)
	results := make([]probeResult, len(units))
	g, ctx := errgroup.WithContext(ctx)
	next := make(chan int)
	g.Go(func() error {
		defer close(next)
		for i := range units {
			if p.progress != nil {
				p.progress(int64(i), int64(len(units)))
			}
			select {
			case next <- i:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	for range workers(p.jobs) {
		g.Go(func() error {
			b := newProbeBuffers()
			for i := range next {
				if err := p.unit(f.steps[units[i].step], units[i], b, &results[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if p.progress != nil {
		p.progress(int64(len(units)), int64(len(units)))
	}
	p.collect(f, units, results)
	return f, nil
}

// thin keeps every k-th unit, so that about budget elements remain.
func thin(units []probeUnit, budget int64) []probeUnit {
	var total int64
	for _, u := range units {
		total += int64(u.n)
	}
	if budget <= 0 || total <= budget {
		return units
	}
	k := int((total + budget - 1) / budget)
	var out []probeUnit
	for i := k / 2; i < len(units); i += k {
		out = append(out, units[i])
	}
	return out
}

type probeBuffers struct {
	a, s, r, out []float32
	narrow       []byte
}

func newProbeBuffers() *probeBuffers {
	f := func() []float32 { return make([]float32, probeBlock) }
	return &probeBuffers{f(), f(), f(), f(), make([]byte, 2*probeBlock)}
}

func (p *probe) unit(s *step, u probeUnit, b *probeBuffers, r *probeResult) error {
	a, sft, mix, out := b.a[:u.n], b.s[:u.n], b.r[:u.n], b.out[:u.n]
	if err := s.aligned.ReadFloat32(a, u.first); err != nil {
		return err
	}
	if err := s.sft.ReadFloat32(sft, u.first); err != nil {
		return err
	}
	kernel.Measure(&r.delta, a, sft, a)
	alphas := p.alphas
	if alphas == nil {
		alphas = []float64{s.alpha}
	}
	r.out = make([]kernel.Stats, len(alphas)*len(outputs))
	key := streamKey(p.plan.opt.Seed, s.stream)
	narrow := b.narrow[:2*u.n]
	for i, alpha := range alphas {
		kernel.Mix32(mix, a, sft, float32(alpha))
		for j, o := range outputs {
			st := &r.out[i*len(outputs)+j]
			switch o {
			case "f32":
				kernel.Measure(st, a, sft, mix)
				continue
			case "bf16":
				kernel.Narrow(narrow, mix, kernel.BF16)
				kernel.Widen(out, narrow, kernel.BF16)
			case "f16":
				kernel.Narrow(narrow, mix, kernel.F16)
				kernel.Widen(out, narrow, kernel.F16)
			case "stochastic":
				kernel.NarrowStochastic(narrow, mix, kernel.BF16, key, u.first)
				kernel.Widen(out, narrow, kernel.BF16)
			}
			kernel.Measure(st, a, sft, out)
		}
	}
	return nil
}

func (p *probe) collect(f *found, units []probeUnit, results []probeResult) {
	f.tensors = make([]kernel.Stats, len(f.steps))
	n := max(len(p.alphas), 1)
	sums := make([]tally, n*len(outputs))
	for i, u := range units {
		s := f.steps[u.step]
		f.tensors[u.step].Add(results[i].delta)
		f.elements += int64(u.n)
		for j := range sums {
			alpha := s.alpha
			if p.alphas != nil {
				alpha = p.alphas[j/len(outputs)]
			}
			sums[j].add(results[i].out[j], alpha)
		}
	}
	for j, t := range sums {
		st := t.statistics()
		o := Outcome{Alpha: st.NominalAlpha, Output: outputs[j%len(outputs)], EffectiveAlpha: st.EffectiveAlpha, Swallowed: st.Swallowed, Noise: t.noise(), Overflow: st.Overflow}
		if p.alphas != nil {
			o.Alpha = p.alphas[j/len(outputs)]
		}
		f.outcomes = append(f.outcomes, o)
	}
}
