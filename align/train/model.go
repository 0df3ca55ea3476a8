package train

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"expo/internal/kernel"
	"expo/lm/chat"
	"expo/lm/model"
	"expo/lm/tokenizer"
	"expo/weights/checkpoint"
	"expo/weights/safetensors"
	"expo/weights/tensor"
)

// A Model is what is trained: float32 weights in memory, the tokenizer, and the
// small files that go along. Training changes it in place. It must not be used
// by two calls at a time.
type Model struct {
	cfg    *model.Config
	tok    *tokenizer.Tokenizer
	tmpl   *chat.Template // nil if there is none
	files  fs.FS
	fields map[string]any // of config.json
	labels int
	layout *layout
	w      []float32
}

// New makes a model from config.json and the tokenizer in files, with weights
// drawn as transformers draws them: matrices and embeddings from a normal
// distribution of standard deviation initializer_range (0.02 if the key is not
// there), biases 0, norms 1. The same seed gives the same weights.
func New(files fs.FS, seed uint64) (*Model, error) {
	b, err := fs.ReadFile(files, "config.json")
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	c, err := checkpoint.ParseConfig(b)
	if err != nil {
		return nil, fmt.Errorf("train: config.json: %w", err)
	}
	m, err := newModel(c, files)
	if err != nil {
		return nil, err
	}
	m.layout = newLayout(m.cfg, m.labels)
	m.w = make([]float32, m.layout.total)
	m.layout.initialize(m.w, initializerRange(m.fields), seed, nil)
	return m, nil
}

// Open reads the weights of a checkpoint, of any type that has a float32 value.
// c may be closed afterwards.
func Open(ctx context.Context, c *checkpoint.Checkpoint) (*Model, error) {
	if q := c.Config().Quantization(); q != "" || c.HasFP8() {
		return nil, fmt.Errorf("train: %s is quantized (%s); training starts from float32, bfloat16 or float16 weights", c.Name(), cmp.Or(q, "fp8"))
	}
	m, err := newModel(c.Config(), c.Files())
	if err != nil {
		return nil, err
	}
	if m.files, err = small(c); err != nil {
		return nil, err
	}
	m.layout = newLayout(m.cfg, m.labels)
	var faults []error
	found := make([]tensor.Tensor, len(m.layout.list))
	for i, p := range m.layout.list {
		t, ok := c.Tensor(p.name)
		switch {
		case !ok:
			faults = append(faults, fmt.Errorf("%s is missing", p.name))
		case !slices.Equal(t.Shape, p.shape):
			faults = append(faults, fmt.Errorf("%s has shape %v, want %v", p.name, t.Shape, p.shape))
		case !t.DType.Float():
			faults = append(faults, fmt.Errorf("%s is %v, which is not trained", p.name, t.DType))
		}
		found[i] = t
	}
	if faults != nil {
		return nil, fmt.Errorf("train: %s: %w", c.Name(), errors.Join(faults...))
	}
	m.w = make([]float32, m.layout.total)
	for i, p := range m.layout.list {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := found[i].ReadFloat32(m.w[p.at:p.at+p.n], 0); err != nil {
			return nil, fmt.Errorf("train: %s: %w", p.name, err)
		}
	}
	return m, nil
}

// small copies a checkpoint's small files, which outlive it then.
func small(c *checkpoint.Checkpoint) (fs.FS, error) {
	names, err := c.SmallFiles()
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	files := map[string][]byte{}
	for _, name := range names {
		b, err := fs.ReadFile(c.Files(), name)
		if err != nil {
			return nil, fmt.Errorf("train: %w", err)
		}
		files[name] = b
	}
	return checkpoint.Overlay(nil, files), nil
}

func newModel(c *checkpoint.Config, files fs.FS) (*Model, error) {
	cfg, err := model.ParseConfig(c)
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	if !slices.Contains(modelTypes, cfg.ModelType) {
		return nil, fmt.Errorf("train: model_type %q is not trained here, only %v", cfg.ModelType, modelTypes)
	}
	if cfg.NumLabels > 1 {
		return nil, fmt.Errorf("train: num_labels is %d; classifiers are trained with one label", cfg.NumLabels)
	}
	if n := parametersOf(cfg); n > maxParameters || cfg.NumHiddenLayers > maxLayers {
		return nil, fmt.Errorf("train: config.json describes %.3g parameters in %d layers; what is trained here has up to %.1g in %d", n, cfg.NumHiddenLayers, float64(maxParameters), maxLayers)
	}
	m := &Model{cfg: cfg, labels: cfg.NumLabels, files: files, fields: c.Fields()}
	if m.tok, err = tokenizer.Load(files); err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	if m.tok.Size() > cfg.VocabSize {
		return nil, fmt.Errorf("train: the tokenizer has %d tokens, vocab_size is %d", m.tok.Size(), cfg.VocabSize)
	}
	if m.tmpl, err = chat.Load(files); err != nil && !errors.Is(err, chat.ErrNoTemplate) {
		return nil, fmt.Errorf("train: %w", err)
	}
	return m, nil
}

// maxParameters and maxLayers bound what a config.json alone can make us allocate.
const (
	maxParameters = 1 << 31
	maxLayers     = 1 << 12
)

// parametersOf is about how many parameters a model has; it cannot overflow.
func parametersOf(cfg *model.Config) float64 {
	h, d := float64(cfg.HiddenSize), float64(cfg.HeadDim)
	layer := h * (2*d*float64(cfg.NumAttentionHeads+cfg.NumKeyValueHeads) + 3*float64(cfg.IntermediateSize))
	return 2*h*float64(cfg.VocabSize) + float64(cfg.NumHiddenLayers)*layer
}

var modelTypes = []string{"llama", "mistral", "qwen2"}

// Config describes the model. It must not be changed.
func (m *Model) Config() *model.Config { return m.cfg }

// Tokenizer is the model's.
func (m *Model) Tokenizer() *tokenizer.Tokenizer { return m.tok }

// Parameters is the number of weights.
func (m *Model) Parameters() int { return m.layout.total }

// Clone is a copy that can be trained on its own.
func (m *Model) Clone() *Model {
	c := *m
	c.w = slices.Clone(m.w)
	return &c
}

// Checkpoint is the model as it is now, float32, with config.json, tokenizer and
// generation_config.json: what lm/model, lm/generate/local and package expo take,
// and checkpoint.Write writes. Later training does not change it.
func (m *Model) Checkpoint(name string) (*checkpoint.Checkpoint, error) {
	return m.Clone().view(name)
}

// view is Checkpoint over the memory that training changes.
func (m *Model) view(name string) (*checkpoint.Checkpoint, error) {
	w := floats(m.w)
	var ts []tensor.Tensor
	for _, p := range m.layout.list {
		ts = append(ts, tensor.Tensor{Name: p.name, DType: tensor.F32, Shape: p.shape, Data: w[p.at : p.at+p.n]})
	}
	safetensors.Sort(ts)
	files, err := m.smallFiles()
	if err != nil {
		return nil, err
	}
	c, err := checkpoint.New(name, []checkpoint.Shard{{File: "model.safetensors", Tensors: ts}}, checkpoint.Overlay(m.files, files))
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	return c, nil
}

// smallFiles are those that training changes.
func (m *Model) smallFiles() (map[string][]byte, error) {
	fields := make(map[string]any, len(m.fields)+4)
	for k, v := range m.fields {
		fields[k] = v
	}
	delete(fields, "torch_dtype")
	fields["dtype"] = "float32"
	if _, ok := fields["model_type"]; !ok {
		fields["model_type"] = m.cfg.ModelType
	}
	class := map[string]string{"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}[m.cfg.ModelType]
	if m.labels > 0 {
		fields["architectures"] = []string{class + "ForSequenceClassification"}
		fields["num_labels"] = m.labels
		fields["id2label"] = map[string]string{"0": "LABEL_0"}
		fields["label2id"] = map[string]int{"LABEL_0": 0}
		fields["pad_token_id"] = m.cfg.PadTokenID
	} else {
		fields["architectures"] = []string{class + "ForCausalLM"}
	}
	config, err := document(fields)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"config.json": config}
	if _, err := fs.Stat(m.files, "generation_config.json"); err != nil && m.labels == 0 {
		g := map[string]any{"_from_model_config": true}
		if m.cfg.BOSTokenID >= 0 {
			g["bos_token_id"] = m.cfg.BOSTokenID
		}
		if eos := m.cfg.EOSTokenIDs; len(eos) == 1 {
			g["eos_token_id"] = eos[0]
		} else if len(eos) > 1 {
			g["eos_token_id"] = eos
		}
		if files["generation_config.json"], err = document(g); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// document is JSON as transformers writes it: keys sorted, indented by two.
func document(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	return append(b, '\n'), nil
}

// classifier turns a language model into a sequence classifier with one label:
// a new head of the given seed in place of the old one, if there is one.
func (m *Model) classifier(seed uint64) error {
	pad := m.cfg.PadTokenID
	for _, id := range []int{m.tok.PAD(), m.tok.UNK(), m.tok.EOS()} {
		if pad < 0 {
			pad = id
		}
	}
	if pad < 0 {
		return errors.New("train: a sequence classifier needs pad_token_id in config.json, or a tokenizer with a token for padding, unknown text or the end")
	}
	cfg := *m.cfg
	cfg.PadTokenID = pad
	if m.labels == 0 {
		cfg.NumLabels = 1
		l := newLayout(&cfg, 1)
		w := make([]float32, l.total)
		from := m.layout
		for i, p := range l.list {
			if i < len(from.list) && from.list[i].name == p.name {
				copy(w[p.at:p.at+p.n], m.w[from.list[i].at:])
			}
		}
		// transformers draws the head like any other matrix.
		l.initialize(w, initializerRange(m.fields), seed, func(name string) bool { return name == "score.weight" })
		m.labels, m.layout, m.w = 1, l, w
	}
	m.cfg = &cfg
	return nil
}

func initializerRange(fields map[string]any) float64 {
	if n, ok := fields["initializer_range"].(json.Number); ok {
		if f, err := n.Float64(); err == nil && f >= 0 {
			return f
		}
	}
	return 0.02
}

// floats is Data over float32 in memory.
type floats []float32

// ReadAt encodes the elements that p covers, in part or whole.
func (f floats) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(4*len(f)) {
		return 0, io.EOF
	}
	n := min(len(p), 4*len(f)-int(off))
	var b [4]byte
	done := 0
	if skip := int(off % 4); skip > 0 && n > 0 {
		kernel.Narrow(b[:], f[off/4:off/4+1], kernel.F32)
		done = copy(p[:n], b[skip:])
	}
	first := (int(off) + done) / 4
	whole := (n - done) / 4
	kernel.Narrow(p[done:done+4*whole], f[first:first+whole], kernel.F32)
	done += 4 * whole
	if done < n {
		kernel.Narrow(b[:], f[first+whole:first+whole+1], kernel.F32)
		done += copy(p[done:n], b[:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
