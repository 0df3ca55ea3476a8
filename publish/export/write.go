package export

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"expo/lm/model"
	"expo/publish/imatrix"
	"expo/weights/checkpoint"
	"expo/weights/gguf"
)

// A File is one file to write.
type File struct {
	Path string
	Type Type
	// Weights are the model's values and small files. All files of one call have
	// the same tensors.
	Weights *checkpoint.Checkpoint
	// Alpha is recorded in the file if it is not nil: how far beyond the aligned
	// model the weights are.
	Alpha *float64
	// Name is the model's, for people; "" takes that of Options.
	Name string

	// Importance, if it is not nil, weighs the errors of the columns of matrices,
	// under their names in the file; see [Importance]. Types that [Type.Weighs]
	// is false of do not use it. ImportanceFile is the name of the file that it
	// is in, or "".
	Importance     *imatrix.Matrix
	ImportanceFile string
}

// Options say what the files have in common. The zero value writes a model
// without provenance or chat template.
type Options struct {
	Name       string // general.name; "" takes the name of the checkpoint
	License    string
	BaseModels []BaseModel
	// ChatTemplates are the model's own, by name; the usual one is "default".
	ChatTemplates map[string]string

	// Aligned and SFT, where the weights are of a pair, are its two ends, with the
	// tensors of the weights. What rounding leaves of α is measured on them.
	Aligned, SFT *checkpoint.Checkpoint

	// Jobs is the number of workers; zero is the number of cores, 16 at most.
	Jobs int
	// Force replaces files that are there.
	Force bool
	// NoSync leaves it to the system when the files reach the disk.
	NoSync bool
	// Progress is told how many elements of how many are done, one call at a time.
	Progress func(done, total int64)
}

func (o *Options) jobs() int {
	if o.Jobs > 0 {
		return o.Jobs
	}
	return min(runtime.GOMAXPROCS(0), 16)
}

func (o *Options) name(f File) string {
	for _, name := range []string{f.Name, o.Name} {
		if name != "" {
			return name
		}
	}
	return filepath.Base(f.Weights.Name())
}

// Written is what [Write] has made.
type Written struct {
	Files []WrittenFile `json:"files"`
	// Notes say what the files lack of the model, a line each.
	Notes []string `json:"notes"`
}

// WrittenFile is one file.
type WrittenFile struct {
	Path  string `json:"path"`
	Type  string `json:"quant"`
	Bytes int64  `json:"bytes"`
	// Tensors counts tensors by their type.
	Tensors       map[string]int `json:"tensors"`
	BitsPerWeight float64        `json:"bits_per_weight"`
	// RelativeError is ‖out − θ‖ / ‖θ‖ over the matrices, where out is what the
	// file holds and θ the float32 value.
	RelativeError float64 `json:"relative_error"`
	// Alpha is that of the File. EffectiveAlpha is ⟨out − aligned, δ⟩ / ⟨δ, δ⟩
	// over all tensors, δ = aligned − SFT; nil where there is no pair or no δ.
	Alpha          *float64 `json:"alpha,omitempty"`
	EffectiveAlpha *float64 `json:"effective_alpha,omitempty"`
	// AlphaOffset is the EffectiveAlpha that the aligned model itself has in a file
	// of this type, quantized with the importance of this one: where rounding alone
	// moves it along δ. What α has gained over
	// that file is the difference.
	AlphaOffset *float64 `json:"alpha_offset,omitempty"`
	// AlphaNoise is by how much EffectiveAlpha would vary by chance if rounding
	// errors had nothing to do with δ: ‖out − θ‖ / (√n·‖δ‖) for n weights. It
	// falls with the size of the model.
	AlphaNoise *float64 `json:"alpha_noise,omitempty"`

	// Importance is what the file was quantized with, nil if nothing.
	Importance *UsedImportance `json:"imatrix,omitempty"`
}

// ErrExists is wrapped by the error for a file that is there already.
var ErrExists = errors.New("already exists")

// Write writes files, all of them or none. The error is for all that is wrong with
// the model, or for the first value that is not finite or, in a file of type F16,
// too large.
//
// Each tensor is read once for all files of the same Weights, and for all others
// at about the same time.
func Write(ctx context.Context, files []File, opt Options) (*Written, error) {
	for _, f := range files {
		if f.Importance != nil && len(f.Importance.Entries) == 0 {
			return nil, fmt.Errorf("export: %s: its importance matrix has no entries", f.Path)
		}
	}
	pl, err := plan(files, opt)
	if err != nil {
		return nil, err
	}
	stage, err := newStage(files, opt)
	if err != nil {
		return nil, err
	}
	defer stage.discard()
	if err := pl.run(ctx, stage); err != nil {
		return nil, err
	}
	w := &Written{Notes: pl.notes}
	for i, o := range pl.outputs {
		f := o.report(pl, files[i])
		if f.EffectiveAlpha != nil {
			setFloat(o.pairs, effectiveKey, *f.EffectiveAlpha)
		}
		// The header has the effective α, so it comes last. Its length is known.
		l, err := gguf.NewLayout(o.pairs, o.tensors)
		if err != nil {
			return nil, err
		}
		if _, err := stage.files[i].WriteAt(l.Header(), 0); err != nil {
			return nil, fmt.Errorf("export: %w", err)
		}
		w.Files = append(w.Files, f)
	}
	if err := stage.publish(); err != nil {
		return nil, err
	}
	return w, nil
}

// A planned is all that is to be done.
type planned struct {
	opt     Options
	parts   []part
	chunks  []chunk
	outputs []*output
	notes   []string
}

// An output is one file being made.
type output struct {
	weights *checkpoint.Checkpoint
	typ     Type
	pairs   []gguf.Pair
	tensors []gguf.Tensor
	layout  *gguf.Layout
	sums    []sums // by chunk

	importance *imatrix.Matrix
	columns    [][]float32 // its values by part; nil where there are none
	weighted   int         // parts that have some
}

// Plan finds out what [Write] would do, without reading weights: paths, sizes and
// types of tensors, and the notes. It fails where the model cannot be exported. A
// File's Importance without entries stands for one that is not known yet.
func Plan(files []File, opt Options) (*Written, error) {
	pl, err := plan(files, opt)
	if err != nil {
		return nil, err
	}
	w := &Written{Notes: pl.notes}
	for i, o := range pl.outputs {
		w.Files = append(w.Files, o.report(pl, files[i]))
	}
	return w, nil
}

// Check fails where [Write] would before it computes anything: where [Plan] does, or
// where a file is there already.
func Check(files []File, opt Options) error {
	if _, err := plan(files, opt); err != nil {
		return err
	}
	return free(files, opt)
}

func plan(files []File, opt Options) (*planned, error) {
	if len(files) == 0 {
		return nil, errors.New("export: there is nothing to write")
	}
	if (opt.Aligned == nil) != (opt.SFT == nil) {
		return nil, errors.New("export: a pair needs both ends")
	}
	first := files[0].Weights
	cfg, err := model.ParseConfig(first.Config())
	if err != nil {
		return nil, err
	}
	if cfg.NumLabels > 0 {
		return nil, fmt.Errorf("export: %s is a sequence classifier; only language models are exported", first.Name())
	}
	if cfg.NumHiddenLayers > first.Len() {
		return nil, fmt.Errorf("export: %s: config.json has %d layers, the checkpoint %d tensors", first.Name(), cfg.NumHiddenLayers, first.Len())
	}
	pl := &planned{opt: opt, parts: parts(cfg), notes: limits(cfg)}
	checked := map[*checkpoint.Checkpoint]bool{}
	all := []*checkpoint.Checkpoint{opt.Aligned, opt.SFT}
	for _, f := range files {
		all = append(all, f.Weights)
	}
	for _, c := range all {
		if c == nil || checked[c] {
			continue
		}
		checked[c] = true
		unused, err := check(pl.parts, c)
		if err != nil {
			return nil, fmt.Errorf("export: %s: %w", c.Name(), err)
		}
		unused = slices.DeleteFunc(unused, func(name string) bool { return strings.HasSuffix(name, "rotary_emb.inv_freq") })
		if c == first && len(unused) > 0 {
			pl.notes = append(pl.notes, fmt.Sprintf("the file has no place for %s", strings.Join(unused, ", ")))
		}
	}
	generation := generationConfig(first.Files())
	v, notes, err := readVocabulary(first.Files(), cfg.VocabSize, stopTokens(cfg, generation), len(opt.ChatTemplates) > 0)
	if err != nil {
		return nil, fmt.Errorf("export: %s: %w", first.Name(), err)
	}
	pl.notes = append(pl.notes, notes...)

	parameters := int64(0)
	for _, p := range pl.parts {
		if p.values == nil {
			parameters += p.elements()
		}
	}
	large := cfg.NumHiddenLayers == 80 && cfg.NumAttentionHeads != cfg.NumKeyValueHeads
	pl.chunks = cut(pl.parts)
	for _, f := range files {
		o := &output{weights: f.Weights, typ: f.Type, sums: make([]sums, len(pl.chunks)), importance: f.Importance, columns: make([][]float32, len(pl.parts))}
		o.pairs = metadata(cfg, f, opt, parameters, generation)
		o.pairs = append(o.pairs, v.pairs()...)
		o.pairs = append(o.pairs, templates(opt.ChatTemplates)...)
		o.pairs = append(o.pairs, importanceKeys(f)...)
		mixed := mix(pl.parts, f.Type, cfg.NumHiddenLayers, large, f.Importance != nil)
		if f.Importance != nil {
			var note string
			if o.columns, o.weighted, note, err = weigh(pl.parts, f.Importance, mixed); err != nil {
				return nil, fmt.Errorf("export: the importance matrix does not fit %s: %w", f.Weights.Name(), err)
			}
			if note != "" && !slices.Contains(pl.notes, note) {
				pl.notes = append(pl.notes, note)
			}
		}
		for i, p := range pl.parts {
			o.tensors = append(o.tensors, gguf.Tensor{Name: p.name, Type: mixed[i], Shape: p.shape()})
		}
		if o.layout, err = gguf.NewLayout(o.pairs, o.tensors); err != nil {
			return nil, fmt.Errorf("export: %w", err)
		}
		pl.outputs = append(pl.outputs, o)
	}
	return pl, nil
}

func setFloat(ps []gguf.Pair, key string, v float64) {
	for i := range ps {
		if ps[i].Key == key {
			ps[i].Value = v
		}
	}
}
