package expo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"expo/internal/kernel"
	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// WriteOptions says where the pair came from and how the result is written.
type WriteOptions struct {
	SFT, Aligned Input // for the record; Path defaults to the checkpoint's name
	Version      string
	// ShardSize is in bytes; zero keeps the aligned model's shards.
	ShardSize int64
	// Jobs is the number of workers; zero is the number of cores, 16 at most.
	Jobs int
	// NoDigest leaves out the SHA-256 of the weight files.
	NoDigest bool
	// NoSync leaves it to the system when the weights reach the disk; see
	// checkpoint.WriteOptions.
	NoSync bool
	Force  bool
	// Progress is told how many bytes of how many are written, from several
	// goroutines at once.
	Progress func(done, total int64)
}

// Written is what Write did.
type Written struct {
	Record  *Record
	Resumed int // shards taken over from an earlier, interrupted run
}

// ErrOverflow is wrapped by the error for values that do not fit float16.
var ErrOverflow = errors.New("finite values become infinite in float16")

// Write writes the extrapolated model to the directory dir, with the record
// expo.json, measuring as it goes. It is atomic and resumes, see
// checkpoint.Write; what is written depends on neither, nor on the number of
// workers. The errors are those of Extrapolate and checkpoint.Write, and
// ErrOverflow; also for an input that changes meanwhile.
func Write(ctx context.Context, dir string, p Pair, opt Options, w WriteOptions) (*Written, error) {
	pl, err := newPlan(p, opt)
	if err != nil {
		return nil, err
	}
	m := newMeter()
	view, err := pl.checkpoint(m)
	if err != nil {
		return nil, err
	}
	rec := &Record{Format: RecordFormat, Version: w.Version, Recipe: NewRecipe(opt, w.ShardSize), Notes: pl.notes,
		SFT: describeInput(w.SFT, p.SFT), Aligned: describeInput(w.Aligned, p.Aligned)}
	for i, r := range opt.Rules {
		rec.Rules = append(rec.Rules, RuleHits{r.Pattern, r.Alpha, pl.hits[i]})
	}
	if len(opt.Rules) > 0 {
		rec.Rules = append(rec.Rules, RuleHits{"*", opt.Alpha, pl.hits[len(opt.Rules)]})
	}
	key, err := runKey(w.Version, rec.Recipe, !w.NoDigest, p)
	if err != nil {
		return nil, err
	}
	out, err := checkpoint.Write(ctx, dir, view, checkpoint.WriteOptions{
		ShardSize: w.ShardSize, Jobs: w.Jobs, NoDigest: w.NoDigest, NoSync: w.NoSync, Force: w.Force, Key: key, Progress: w.Progress,
		Read:        readBlock,
		FileDone:    m.note,
		FileResumed: m.resume,
		Finish: func(out *checkpoint.Written) (map[string][]byte, error) {
			if err := errors.Join(p.SFT.Changed(), p.Aligned.Changed()); err != nil {
				return nil, err
			}
			if err := rec.measured(ctx, pl, m, w.Jobs); err != nil {
				return nil, err
			}
			rec.Output = slices.Clone(out.Files) // out goes on to name the record
			b, err := json.MarshalIndent(rec, "", "  ")
			return map[string][]byte{RecordFile: append(b, '\n')}, err
		},
	})
	if err != nil {
		return nil, err
	}
	return &Written{Record: rec, Resumed: out.Resumed}, nil
}

// readBlock is checkpoint.WriteOptions.Read: extrapolated tensors are measured
// as they are computed.
func readBlock(t tensor.Tensor, p []byte, off int64) error {
	if m, ok := t.Data.(*mixed); ok {
		return m.block(p, off)
	}
	return read(t, p, off)
}

// note is what the journal keeps of a finished file: its tensors' sums.
func (m *meter) note(_ string, ts []tensor.Tensor) (json.RawMessage, error) {
	sums := make(map[string]kernel.Stats)
	for _, t := range ts {
		if s, ok := m.sum(t.Name); ok {
			sums[t.Name] = s
		}
	}
	return json.Marshal(sums)
}

// resume takes the sums of a file that an earlier run finished.
func (m *meter) resume(file string, ts []tensor.Tensor, note json.RawMessage) error {
	sums := make(map[string]kernel.Stats)
	if err := json.Unmarshal(note, &sums); err != nil {
		return fmt.Errorf("expo: journal of %s: %w", file, err)
	}
	for _, t := range ts {
		if s, ok := m.sums[t.Name]; ok {
			s.add(0, sums[t.Name])
		}
	}
	return nil
}

// alternativesBudget bounds what a second look at the pair costs, in elements:
// half a second on two cores, all of a 135M model and 2 % of a 7B one.
const alternativesBudget = 150_000_000

// measured fills in the statistics, and refuses overflow.
func (r *Record) measured(ctx context.Context, pl *plan, m *meter, jobs int) error {
	var total tally
	t := &r.Statistics
	t.Tensors = make(map[string]Statistics)
	var overflow int64
	var where []string
	for _, steps := range pl.shards {
		for i := range steps {
			s := &steps[i]
			sum, ok := m.sum(s.name)
			if !ok {
				continue
			}
			var one tally
			one.add(sum, s.alpha)
			t.Tensors[s.name] = one.statistics()
			total.add(sum, s.alpha)
			if s.out == tensor.F16 && sum.Overflow > 0 {
				overflow += sum.Overflow
				where = append(where, printable(s.name))
			}
		}
	}
	if overflow > 0 && !pl.opt.AllowOverflow {
		if len(where) > 3 {
			where = append(where[:3], fmt.Sprintf("and %d more", len(where)-3))
		}
		return fmt.Errorf("expo: %d %w, in %v; use --dtype bf16 or f32, or --allow-overflow to keep the infinities", overflow, ErrOverflow, where)
	}
	t.Total = total.statistics()
	if t.Total.DeltaNorm == 0 {
		t.Total.NominalAlpha = pl.opt.Alpha
	}
	if t.Total.Honest() {
		return nil
	}
	p := probe{plan: pl, budget: alternativesBudget, jobs: jobs}
	f, err := p.run(ctx)
	if err != nil {
		return err
	}
	t.Alternatives, t.SampledElements = f.outcomes, f.elements
	return nil
}
