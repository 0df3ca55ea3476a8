package export

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"expo/internal/quant"
	"expo/lm/model"
	"expo/weights/checkpoint"
	"expo/weights/gguf"
	"expo/weights/safetensors"
	"expo/weights/tensor"
)

// LoRAOptions say how a pair's δ = aligned − SFT is written as an adapter.
type LoRAOptions struct {
	// Rank is that of each module's product. It must be above 0.
	Rank int
	// Base names the aligned model, to which the adapter is to be added: a path
	// or owner/name.
	Base  string
	Jobs  int // as in Options
	Force bool
	// Progress is told how many elements of how many are done.
	Progress func(done, total int64)
}

// The files of an adapter.
const (
	AdapterConfigFile  = "adapter_config.json"
	AdapterWeightsFile = "adapter_model.safetensors"
	AdapterGGUFFile    = "adapter.gguf"
)

// WrittenLoRA is what [WriteLoRA] has made.
type WrittenLoRA struct {
	Output string `json:"output"`
	Rank   int    `json:"rank"`
	// Kept is the share of Σδ² that the adapter has, over all tensors of the
	// model, Covered the share that lies in modules that it covers.
	Kept    float64      `json:"energy_kept"`
	Covered float64      `json:"energy_covered"`
	Modules []LoRAModule `json:"modules"`
	Files   []string     `json:"files"`
}

// LoRAModule is one matrix that the adapter changes.
type LoRAModule struct {
	Name      string  `json:"name"` // of the tensor in the checkpoint
	Shape     []int   `json:"shape"`
	DeltaNorm float64 `json:"delta_norm"` // ‖δ‖
	// Kept is the share of Σδ² in the product of its factors.
	Kept float64 `json:"energy_kept"`
}

// WriteLoRA writes the δ of a pair as a low-rank adapter to the aligned model, into
// the directory dir: one that PEFT and vLLM read
// (https://github.com/huggingface/peft), and one for llama.cpp. At scale 1 it adds
// δ, as far as its rank goes, so the scale is α.
//
// Covered are the projections of attention and MLP. Embeddings, norms and the
// output head stay the aligned model's. Memory is a small multiple of the largest
// matrix.
func WriteLoRA(ctx context.Context, dir string, sft, aligned *checkpoint.Checkpoint, opt LoRAOptions) (*WrittenLoRA, error) {
	if opt.Rank < 1 || opt.Rank > 4096 {
		return nil, fmt.Errorf("export: a rank of %d is not between 1 and 4096", opt.Rank)
	}
	if _, err := os.Lstat(dir); err == nil {
		if !opt.Force {
			return nil, fmt.Errorf("export: %s %w", dir, ErrExists)
		}
		if _, err := os.Stat(filepath.Join(dir, AdapterConfigFile)); err != nil {
			return nil, fmt.Errorf("export: %s is no adapter, so it is not replaced; remove it or choose another directory", dir)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("export: %w", err)
	}
	cfg, err := model.ParseConfig(aligned.Config())
	if err != nil {
		return nil, err
	}
	if cfg.NumHiddenLayers > aligned.Len() {
		return nil, fmt.Errorf("export: %s: config.json has %d layers, the checkpoint %d tensors", aligned.Name(), cfg.NumHiddenLayers, aligned.Len())
	}
	ps := parts(cfg)
	for _, c := range []*checkpoint.Checkpoint{aligned, sft} {
		if _, err := check(ps, c); err != nil {
			return nil, fmt.Errorf("export: %s: %w", c.Name(), err)
		}
	}
	a := &adapter{opt: opt, arch: architectures[cfg.ModelType]}
	w := &WrittenLoRA{Output: dir, Rank: opt.Rank}
	if err := a.decompose(ctx, ps, sft, aligned, w); err != nil {
		return nil, err
	}
	w.Files = []string{AdapterConfigFile, AdapterWeightsFile, AdapterGGUFFile}
	return w, a.write(dir, ps)
}

// An adapter is its factors by the names of the tensors of the checkpoint.
type adapter struct {
	opt     LoRAOptions
	arch    string
	names   []string
	factors map[string][2]matrix // b, a
}

// covered reports whether a part is a projection.
func (p *part) covered() bool { return !p.vector && strings.HasPrefix(p.name, "blk.") }

func (a *adapter) decompose(ctx context.Context, ps []part, sft, aligned *checkpoint.Checkpoint, w *WrittenLoRA) error {
	a.factors = map[string][2]matrix{}
	var total, done int64
	seen := map[string]bool{}
	var sources []part
	for _, p := range ps {
		if p.values == nil && !seen[p.source] {
			seen[p.source] = true
			sources = append(sources, p)
			total += int64(p.stored) * int64(p.width())
		}
	}
	jobs := (&Options{Jobs: a.opt.Jobs}).jobs()
	var all, inside, kept float64
	for _, p := range sources {
		if err := ctx.Err(); err != nil {
			return err
		}
		d, err := delta(p, sft, aligned)
		if err != nil {
			return err
		}
		if k := quant.NotFinite(d.v); k >= 0 {
			return fmt.Errorf("export: %s: δ has the value %v", p.source, d.v[k])
		}
		if !p.covered() {
			for _, x := range d.v {
				all += float64(x) * float64(x)
			}
		} else {
			b, r, norm2, kept2 := lowRank(d, a.opt.Rank, jobs)
			a.names = append(a.names, p.source)
			a.factors[p.source] = [2]matrix{b, r}
			all, inside, kept = all+norm2, inside+norm2, kept+kept2
			w.Modules = append(w.Modules, LoRAModule{Name: p.source, Shape: []int{d.rows, d.cols}, DeltaNorm: math.Sqrt(norm2), Kept: share(kept2, norm2)})
		}
		done += int64(len(d.v))
		if a.opt.Progress != nil {
			a.opt.Progress(done, total)
		}
	}
	w.Kept, w.Covered = share(kept, all), share(inside, all)
	return nil
}

// share is part/whole, and 1 of nothing.
func share(part, whole float64) float64 {
	if whole == 0 {
		return 1
	}
	return part / whole
}

// delta reads both ends of a part's source.
func delta(p part, sft, aligned *checkpoint.Checkpoint) (matrix, error) {
	d := newMatrix(p.stored, p.width())
	t, _ := aligned.Tensor(p.source)
	if err := readFloat32(t, d.v, 0); err != nil {
		return d, err
	}
	t, _ = sft.Tensor(p.source)
	s := make([]float32, min(len(d.v), chunkElements))
	for at := 0; at < len(d.v); at += len(s) {
		s = s[:min(len(s), len(d.v)-at)]
		if err := readFloat32(t, s, int64(at)); err != nil {
			return d, err
		}
		for i, v := range s {
			d.v[at+i] -= v
		}
	}
	return d, nil
}

func (m matrix) tensor(name string) tensor.Tensor {
	return tensor.Tensor{Name: name, DType: tensor.F32, Shape: []int{m.rows, m.cols}, Data: tensor.Bytes(littleEndian(m.v))}
}

func littleEndian(x []float32) []byte {
	b := make([]byte, 0, 4*len(x))
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// write makes the directory beside its place and renames it.
func (a *adapter) write(dir string, ps []part) (err error) {
	dir = filepath.Clean(dir)
	tmp := filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".part")
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if err := os.MkdirAll(tmp, 0o777); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(tmp)
			err = fmt.Errorf("export: %w", err)
		}
	}()
	for name, write := range map[string]func(*os.File) error{
		AdapterConfigFile: a.writeConfig, AdapterWeightsFile: a.writePEFT, AdapterGGUFFile: func(f *os.File) error { return a.writeGGUF(f, ps) },
	} {
		f, err := os.Create(filepath.Join(tmp, name))
		if err != nil {
			return err
		}
		err = errors.Join(write(f), f.Sync(), f.Close())
		if err != nil {
			return err
		}
	}
	if a.opt.Force {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return os.Rename(tmp, dir)
}

// writeConfig writes PEFT's LoraConfig. Its lora_alpha is r, so that the scale,
// lora_alpha/r, is 1.
func (a *adapter) writeConfig(f *os.File) error {
	var modules []string
	for _, name := range a.names {
		name = strings.TrimSuffix(name, ".weight")
		if last := name[strings.LastIndex(name, ".")+1:]; !slices.Contains(modules, last) {
			modules = append(modules, last)
		}
	}
	b, err := json.MarshalIndent(map[string]any{
		"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": a.opt.Base, "r": a.opt.Rank, "lora_alpha": a.opt.Rank,
		"target_modules": modules, "bias": "none", "fan_in_fan_out": false, "inference_mode": true, "lora_dropout": 0.0, "use_rslora": false,
		"init_lora_weights": true, "modules_to_save": nil,
	}, "", "  ")
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	return err
}

func (a *adapter) writePEFT(f *os.File) error {
	var ts []tensor.Tensor
	for _, name := range a.names {
		m := a.factors[name]
		base := "base_model.model." + strings.TrimSuffix(name, ".weight")
		ts = append(ts, m[1].tensor(base+".lora_A.weight"), m[0].tensor(base+".lora_B.weight"))
	}
	safetensors.Sort(ts)
	return safetensors.Write(f, ts, map[string]string{"format": "pt"})
}

// writeGGUF writes llama.cpp's form, in which rows of b are in the file's order.
func (a *adapter) writeGGUF(f *os.File, ps []part) error {
	pairs := []gguf.Pair{
		{Key: "general.architecture", Value: a.arch}, {Key: "general.type", Value: "adapter"}, {Key: "adapter.type", Value: "lora"},
		{Key: "adapter.lora.alpha", Value: float32(a.opt.Rank)}, {Key: "general.file_type", Value: uint32(0)},
		{Key: "general.name", Value: "ExPO direction: aligned - SFT"},
	}
	if a.opt.Base != "" {
		pairs = append(pairs, gguf.Pair{Key: "general.base_model.count", Value: uint32(1)}, gguf.Pair{Key: "general.base_model.0.name", Value: a.opt.Base})
	}
	var ts []gguf.Tensor
	for _, p := range ps {
		if !p.covered() {
			continue
		}
		m := a.factors[p.source]
		b := newMatrix(p.rows, m[0].cols)
		rows, err := checkpoint.New("b", []checkpoint.Shard{{Tensors: []tensor.Tensor{m[0].tensor(p.source)}}}, nil)
		if err != nil {
			return err
		}
		p.cols = b.cols
		if err := p.read(rows, b.v, make([]float32, len(b.v)), 0); err != nil {
			return err
		}
		for suffix, x := range map[string]matrix{".lora_a": m[1], ".lora_b": b} {
			ts = append(ts, gguf.Tensor{Name: p.name + suffix, Type: gguf.F32, Shape: []int{x.rows, x.cols}, Data: tensor.Bytes(littleEndian(x.v))})
		}
	}
	slices.SortFunc(ts, func(a, b gguf.Tensor) int { return strings.Compare(a.Name, b.Name) })
	return gguf.Write(f, pairs, ts)
}
