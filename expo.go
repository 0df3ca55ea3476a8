package expo

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"expo/internal/kernel"
	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// Pair is the two ends of the line. A struct rather than two arguments: given
// in the wrong order they would extrapolate away from alignment, and nothing
// in the bytes could tell.
type Pair struct {
	SFT, Aligned *checkpoint.Checkpoint
}

// Rounding says where in the computation roundings stand.
type Rounding = kernel.Rounding

// The ways of rounding; docs/numerics.md has each operation.
const (
	Once       = kernel.Once       // float32 throughout, one rounding to the output's dtype
	PerOp      = kernel.PerOp      // bfloat16 after every operation, as the method's authors' program does
	Stochastic = kernel.Stochastic // as Once, but rounded up or down at random, without bias
)

// ParseRounding reads "once", "per-op" or "stochastic".
func ParseRounding(s string) (Rounding, error) {
	for _, r := range []Rounding{Once, PerOp, Stochastic} {
		if r.String() == s {
			return r, nil
		}
	}
	return 0, fmt.Errorf("expo: unknown rounding %q; use once, per-op or stochastic", s)
}

// Options says what to compute. Only Alpha has no useful zero value: 0 gives
// the aligned model itself.
type Options struct {
	// Alpha applies to every tensor that no rule matches. Any number that is
	// finite as a float32; −1 gives the SFT model, values between that and 0
	// interpolate.
	Alpha float64
	// Rules are tried in order, the first match wins.
	Rules    []Rule
	Rounding Rounding
	// Seed feeds Stochastic and nothing else.
	Seed uint64
	// DType of floating-point tensors in the output: BF16, F16 or F32. Zero
	// keeps each tensor's in the aligned model (FP8 becomes what config.json
	// declares, BF16 by default), and is BF16 with PerOp.
	DType tensor.DType
	// ExtraRows, Missing and Head are policies for pairs that do not match;
	// the zero value refuses them.
	ExtraRows ExtraRows
	Missing   Missing
	Head      Head
	// AllowOverflow accepts finite values that become infinite in float16.
	// Write refuses them otherwise.
	AllowOverflow bool
}

// step is what happens to one tensor of the aligned model.
type step struct {
	name    string
	aligned tensor.Tensor
	sft     tensor.Tensor // Data is nil where the aligned tensor is taken as it is
	out     tensor.DType
	alpha   float64
	stream  string // names the random bits of Stochastic
	common  int64  // elements that both have; rows beyond are the aligned model's
	raw     bool   // bytes are copied: no floating-point type, or α = 0 throughout
}

// plan is a checked pair.
type plan struct {
	opt    Options
	shards [][]step // as the aligned model's
	files  []string
	source *checkpoint.Checkpoint // the aligned model, as stored
	notes  []string
	hits   []int // per rule; the last is the default's
	config []byte
}

// Extrapolate gives the checkpoint on the line through the pair. Nothing is
// computed before it is read: any byte range of any tensor, at any offset,
// costs just that range of both inputs. Both must stay open as long.
//
// The result has the aligned model's tensors, shards and small files, and its
// config.json with the dtype brought up to date. FP8 weights come out in a
// wider type, their scales and quantization_config gone. Where α is 0
// throughout, all is the aligned model's, byte for byte, and the SFT model is
// not looked at.
//
// The error is an *IncompatibleError if the pair does not match, a *RuleError
// if a rule matches no tensor.
func Extrapolate(p Pair, opt Options) (*checkpoint.Checkpoint, error) {
	pl, err := newPlan(p, opt)
	if err != nil {
		return nil, err
	}
	return pl.checkpoint(nil)
}

// RuleError names the rules that match no tensor, or none that an earlier
// rule has left.
type RuleError struct{ Patterns []string }

func (e *RuleError) Error() string {
	return fmt.Sprintf("expo: no tensor matches --alpha pattern %q", e.Patterns)
}

func newPlan(p Pair, opt Options) (*plan, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	pl := &plan{opt: opt, source: p.Aligned, hits: make([]int, len(opt.Rules)+1)}
	if opt.zero() {
		pl.copyAll(p)
	} else if err := pl.match(p); err != nil {
		return nil, err
	}
	var e RuleError
	for i, r := range opt.Rules {
		if pl.hits[i] == 0 {
			e.Patterns = append(e.Patterns, r.Pattern)
		}
	}
	if e.Patterns != nil {
		return nil, &e
	}
	return pl, nil
}

func (o *Options) check() error {
	switch o.DType {
	case tensor.Invalid, tensor.BF16, tensor.F16, tensor.F32:
	default:
		return fmt.Errorf("expo: output dtype %v is not one of BF16, F16, F32", o.DType)
	}
	if o.Rounding > Stochastic {
		return errors.New("expo: unknown rounding")
	}
	if !usable(o.Alpha) {
		return fmt.Errorf("expo: α %v is not a finite number in float32", o.Alpha)
	}
	for _, r := range o.Rules {
		if err := r.check(); err != nil {
			return err
		}
	}
	return o.checkPolicies()
}

// copyAll is the plan for α = 0: by rule the aligned model's bytes, FP8 codes
// and scales included.
func (pl *plan) copyAll(p Pair) {
	for _, s := range p.Aligned.Shards() {
		var steps []step
		for _, t := range s.Tensors {
			pl.hit(t)
			steps = append(steps, step{name: t.Name, aligned: t, out: t.DType, common: t.Elements(), raw: true})
		}
		pl.shards = append(pl.shards, steps)
		pl.files = append(pl.files, s.File)
	}
	for t := range p.SFT.Tensors() {
		if _, ok := p.Aligned.Tensor(t.Name); !ok {
			pl.hitAbsent(t.Name)
		}
	}
}

// hit counts a tensor of the result for the rule that decides it. Tensors
// without floating-point values have no α, so they count for rules, which may
// be there to exempt them, but not for the default.
func (pl *plan) hit(t tensor.Tensor) {
	_, rule := pl.opt.alphaOf(t.Name)
	switch {
	case rule >= 0:
		pl.hits[rule]++
	case t.DType.Float():
		pl.hits[len(pl.opt.Rules)]++
	}
}

// hitAbsent counts a tensor that only the SFT model has: a rule with α = 0
// exempts it from being missed.
func (pl *plan) hitAbsent(name string) {
	if alpha, rule := pl.opt.alphaOf(name); rule >= 0 && alpha == 0 {
		pl.hits[rule]++
	}
}

// checkpoint is the view. Tensors that sink wants to measure report to it.
func (pl *plan) checkpoint(sink *meter) (*checkpoint.Checkpoint, error) {
	var shards []checkpoint.Shard
	for i, steps := range pl.shards {
		s := checkpoint.Shard{File: pl.files[i]}
		for j := range steps {
			s.Tensors = append(s.Tensors, steps[j].tensor(pl.opt, sink))
		}
		shards = append(shards, s)
	}
	files := pl.source.Files()
	if pl.config != nil {
		files = checkpoint.Overlay(files, map[string][]byte{"config.json": pl.config})
	}
	return checkpoint.New(pl.source.Name(), shards, files)
}

// tensor is the lazy tensor of a step.
func (s *step) tensor(opt Options, sink *meter) tensor.Tensor {
	t := tensor.Tensor{Name: s.name, DType: s.out, Shape: s.aligned.Shape, Data: s.aligned.Data}
	if s.raw {
		return t
	}
	m := &mixed{
		step:  s,
		mixer: kernel.Mixer{Aligned: s.aligned.DType.Format(), SFT: s.aligned.DType.Format(), Out: s.out.Format(), Alpha: float32(s.alpha), Rounding: opt.Rounding, Key: streamKey(opt.Seed, s.stream)},
		size:  t.Size(),
	}
	if s.sft.Data != nil {
		m.mixer.SFT = s.sft.DType.Format()
	}
	if sink != nil {
		m.stats = sink.tensor(s)
	}
	t.Data = m
	return t
}

// streamKey seeds a tensor's random bits: the first 8 bytes, little endian,
// of SHA-256(seed as 8 bytes little endian ‖ name). name is the tensor's,
// except that a stored head which is the embedding goes by the embedding's, so
// that the two stay equal.
func streamKey(seed uint64, name string) uint64 {
	sum := sha256.Sum256(append(binary.LittleEndian.AppendUint64(nil, seed), name...))
	return binary.LittleEndian.Uint64(sum[:])
}
