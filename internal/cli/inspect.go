package cli

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"expo"
	"expo/weights/checkpoint"
)

func (a *app) inspect() *cobra.Command {
	var tensors bool
	cmd := &cobra.Command{
		Use:   "inspect MODEL|FILE",
		Short: "Show a model: configuration, types, parameters, shards, recipe",
		Long:  "Show what a model directory or one weight file (safetensors, PyTorch, GGUF) holds.\nReads headers only.\n" + exitHelp,
		Example: `  expo inspect out
  expo inspect out/model.safetensors --tensors
  expo inspect model.gguf --json`,
		Args: oneArg("MODEL or FILE"),
		RunE: func(_ *cobra.Command, args []string) error { return a.runInspect(args[0], tensors) },
	}
	cmd.Flags().BoolVar(&tensors, "tensors", false, "list every tensor")
	return cmd
}

// inspection is what inspect prints.
type inspection struct {
	Path       string           `json:"path"`
	Repo       string           `json:"repo,omitempty"`
	Commit     string           `json:"commit,omitempty"`
	Config     map[string]any   `json:"config,omitempty"`
	Tensors    int              `json:"tensors"`
	Parameters int64            `json:"parameters"`
	Bytes      int64            `json:"bytes"`
	DTypes     map[string]int64 `json:"dtypes"`      // elements by type
	DTypeBytes map[string]int64 `json:"dtype_bytes"` // bytes by type
	Shards     []shardInfo      `json:"shards"`
	List       []tensorInfo     `json:"tensor_list,omitempty"`
	Skipped    []string         `json:"skipped,omitempty"`
	Record     *expo.Record     `json:"expo,omitempty"`

	// Of a GGUF file: the metadata without long arrays, and the lengths of those.
	GGUFVersion int            `json:"gguf_version,omitempty"`
	Metadata    map[string]any `json:"metadata,omitzero"`
	Arrays      map[string]int `json:"metadata_arrays,omitzero"`
}

type shardInfo struct {
	File    string `json:"file"`
	Size    int64  `json:"size"`
	Tensors int    `json:"tensors"`
	SHA256  string `json:"sha256,omitempty"`
}

type tensorInfo struct {
	Name  string `json:"name"`
	DType string `json:"dtype"`
	Shape []int  `json:"shape"`
	Bytes int64  `json:"bytes"`
	File  string `json:"file"`
}

func (a *app) runInspect(model string, tensors bool) error {
	path, in, err := locate(model)
	if err != nil {
		return err
	}
	if is, err := isGGUF(path); err != nil {
		return err
	} else if is {
		return a.inspectGGUF(path, in, tensors)
	}
	open := checkpoint.Open
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		open = checkpoint.OpenFile
	}
	c, err := open(path)
	if err != nil {
		return err
	}
	defer c.Close()
	r, err := inspectCheckpoint(c, in, tensors)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(r)
	}
	a.printInspection(r, c)
	return nil
}

func inspectCheckpoint(c *checkpoint.Checkpoint, in expo.Input, tensors bool) (*inspection, error) {
	r := &inspection{Path: c.Name(), Repo: in.Repo, Commit: in.Commit, Config: c.Config().Fields(), Tensors: c.Len(),
		Parameters: c.Parameters(), DTypes: map[string]int64{}, DTypeBytes: map[string]int64{}, Shards: []shardInfo{}, Skipped: c.Skipped()}
	var err error
	if r.Record, err = expo.ReadRecord(c.Files()); err != nil {
		return nil, err
	}
	sources := c.Sources()
	for i, s := range c.Shards() {
		r.Shards = append(r.Shards, shardInfo{s.File, sources[i].Size, len(s.Tensors), sources[i].SHA256})
		for _, t := range s.Tensors {
			r.Bytes += t.Size()
			r.DTypes[t.DType.String()] += t.Elements()
			r.DTypeBytes[t.DType.String()] += t.Size()
			if tensors {
				r.List = append(r.List, tensorInfo{t.Name, t.DType.String(), append([]int{}, t.Shape...), t.Size(), s.File})
			}
		}
	}
	return r, nil
}

// settingsShown are the keys of config.json that tell a model's family and
// size at a glance.
var settingsShown = []string{"architectures", "model_type", "dtype", "torch_dtype", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "tie_word_embeddings", "max_position_embeddings", "sliding_window", "rope_theta", "rope_scaling", "rope_parameters", "quantization_config", "transformers_version"}

func (a *app) printInspection(r *inspection, c *checkpoint.Checkpoint) {
	t := a.newTable()
	row := func(key string, format string, args ...any) {
		t.AppendRow(table.Row{key, message(fmt.Errorf(format, args...))})
	}
	row("path", "%s", r.Path)
	if r.Repo != "" {
		row("repository", "%s at %s", r.Repo, r.Commit)
	}
	row("parameters", "%s (%d) in %d tensors, %s", formatCount(r.Parameters), r.Parameters, r.Tensors, formatSize(r.Bytes))
	var types []string
	for d := range r.DTypes {
		types = append(types, d)
	}
	slices.SortFunc(types, func(x, y string) int {
		return cmp.Or(cmp.Compare(r.DTypes[y], r.DTypes[x]), cmp.Compare(x, y))
	})
	for i, d := range types {
		types[i] = fmt.Sprintf("%s %s", d, formatCount(r.DTypes[d]))
	}
	row("types", "%s", strings.Join(types, ", "))
	for _, key := range settingsShown {
		if v, ok := c.Config().Value(key); ok {
			row(key, "%s", compact(v))
		}
	}
	if len(r.Skipped) > 0 {
		row("not tensors", "%s", strings.Join(r.Skipped, ", "))
	}
	if rec := r.Record; rec != nil {
		s := rec.Statistics.Total
		row("recipe", "α %g, rounding %s, by expo %s", rec.Recipe.Alpha, rec.Recipe.Rounding, rec.Version)
		for _, h := range rec.Rules {
			row("", "α %g for %s by %s", h.Alpha, count(h.Tensors, "tensor"), h.Pattern)
		}
		row("SFT", "%s", inputName(rec.SFT))
		row("aligned", "%s", inputName(rec.Aligned))
		row("effective α", "%.4g of %.4g; %s of the changes swallowed", s.EffectiveAlpha, s.NominalAlpha, percent(s.Swallowed))
	}
	for i, s := range r.Shards {
		key := ""
		if i == 0 {
			key = "files"
		}
		row(key, "%s  %s, %s", s.File, formatSize(s.Size), count(s.Tensors, "tensor"))
	}
	t.Render()
	a.printTensors(r)
}

// printTensors lists the tensors, if that was asked for.
func (a *app) printTensors(r *inspection) {
	if r.List == nil {
		return
	}
	fmt.Fprintln(a.out)
	l := a.newTable("tensor", "type", "shape", "bytes", "file")
	l.SetColumnConfigs([]table.ColumnConfig{{Number: 4, Align: text.AlignRight, AlignHeader: text.AlignRight}})
	for _, i := range r.List {
		l.AppendRow(table.Row{message(fmt.Errorf("%s", i.Name)), i.DType, fmt.Sprint(i.Shape), i.Bytes, i.File})
	}
	l.Render()
}

func compact(v any) string {
	s := fmt.Sprint(v)
	if m, ok := v.(map[string]any); ok {
		s = strings.TrimPrefix(fmt.Sprint(m), "map")
	}
	return s
}

func inputName(in expo.Input) string {
	if in.Repo != "" {
		return in.Repo + "@" + in.Commit
	}
	return in.Path
}
