package expo

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// RecordFile is the name of the record inside a directory that Write made.
const RecordFile = "expo.json"

// RecordFormat is the version of the record's layout.
const RecordFormat = 1

// Record is what a directory says of how it was made: enough to make it again,
// and to check it. docs/formats.md describes the file.
type Record struct {
	Format     int             `json:"format"`
	Version    string          `json:"version"` // of expo
	Recipe     Recipe          `json:"recipe"`
	SFT        Input           `json:"sft"`
	Aligned    Input           `json:"aligned"`
	Rules      []RuleHits      `json:"rules,omitempty"`
	Notes      []string        `json:"notes,omitempty"`
	Statistics StatisticsTable `json:"statistics"`
	// Output lists every file of the directory but the record itself.
	Output []checkpoint.WrittenFile `json:"output"`
}

// Recipe is Options as it stands in a record.
type Recipe struct {
	Method    string  `json:"method"` // "expo"
	Alpha     float64 `json:"alpha"`
	Rules     []Rule  `json:"rules,omitempty"`
	Rounding  string  `json:"rounding"`
	Seed      uint64  `json:"seed"`
	DType     string  `json:"dtype,omitempty"`      // BF16, F16, F32; absent: the aligned model's
	ShardSize int64   `json:"shard_size,omitempty"` // bytes; absent: the aligned model's shards

	ExtraRows     ExtraRows `json:"extra_rows,omitempty"`
	Missing       Missing   `json:"missing,omitempty"`
	Head          Head      `json:"head,omitempty"`
	AllowOverflow bool      `json:"allow_overflow,omitempty"`
}

// Input is one end of the line. Repo, Revision and Commit are set for models
// that came from a hub's cache.
type Input struct {
	Path     string      `json:"path"`
	Repo     string      `json:"repo,omitempty"`
	Revision string      `json:"revision,omitempty"`
	Commit   string      `json:"commit,omitempty"`
	Files    []InputFile `json:"files"`
}

// InputFile is a weight file of an input. SHA256 is there where it was known
// without reading the file.
type InputFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"`
}

// RuleHits is a rule and how many tensors it decided: those that it gave
// their α, and those that it exempted from needing a partner. The last one of
// a record, with the pattern *, stands for all other tensors.
type RuleHits struct {
	Pattern string  `json:"pattern"`
	Alpha   float64 `json:"alpha"`
	Tensors int     `json:"tensors"`
}

// StatisticsTable is what was measured while the result was written.
type StatisticsTable struct {
	Total Statistics `json:"total"`
	// Alternatives is what other outputs would have left of α; measured where
	// the effective α was off by more than a fifth, on SampledElements.
	Alternatives    []Outcome             `json:"alternatives,omitempty"`
	SampledElements int64                 `json:"sampled_elements,omitempty"`
	Tensors         map[string]Statistics `json:"tensors"`
}

// NewRecipe writes down options.
func NewRecipe(opt Options, shardSize int64) Recipe {
	r := Recipe{Method: "expo", Alpha: opt.Alpha, Rules: opt.Rules, Rounding: opt.Rounding.String(), Seed: opt.Seed, ShardSize: shardSize,
		ExtraRows: opt.ExtraRows, Missing: opt.Missing, Head: opt.Head, AllowOverflow: opt.AllowOverflow}
	if opt.DType != tensor.Invalid {
		r.DType = opt.DType.String()
	}
	return r
}

// Options reads them back. It fails on whatever this version cannot repeat.
func (r Recipe) Options() (Options, error) {
	opt := Options{Alpha: r.Alpha, Rules: r.Rules, Seed: r.Seed, ExtraRows: r.ExtraRows, Missing: r.Missing, Head: r.Head, AllowOverflow: r.AllowOverflow}
	if r.Method != "expo" {
		return opt, fmt.Errorf("expo: recipe has method %q; this version knows %q", r.Method, "expo")
	}
	var err error
	if opt.Rounding, err = ParseRounding(r.Rounding); err != nil {
		return opt, err
	}
	if r.DType != "" {
		if opt.DType, err = tensor.ParseDType(r.DType); err != nil {
			return opt, err
		}
	}
	return opt, opt.check()
}

func (o *Options) checkPolicies() error {
	if o.ExtraRows != Refuse && o.ExtraRows != ExtraRowsAligned {
		return fmt.Errorf("expo: unknown policy %q for extra rows; the one there is: aligned", o.ExtraRows)
	}
	if o.Missing != Refuse && o.Missing != MissingAligned {
		return fmt.Errorf("expo: unknown policy %q for missing tensors; the one there is: aligned", o.Missing)
	}
	if o.Head != Refuse && o.Head != HeadStored && o.Head != HeadTied {
		return fmt.Errorf("expo: unknown policy %q for heads; there are: stored, tied", o.Head)
	}
	return nil
}

// ParseRecord reads a record.
func ParseRecord(b []byte) (*Record, error) {
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("expo: not a valid %s: %w", RecordFile, err)
	}
	if r.Format != RecordFormat {
		return nil, fmt.Errorf("expo: %s has format %d; this version reads %d", RecordFile, r.Format, RecordFormat)
	}
	if _, err := r.Recipe.Options(); err != nil {
		return nil, err
	}
	return &r, nil
}

// ReadRecord finds the record of a model directory; nil without an error if
// it has none.
func ReadRecord(files fs.FS) (*Record, error) {
	b, err := fs.ReadFile(files, RecordFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("expo: %w", err)
	}
	return ParseRecord(b)
}

// describeInput adds what is known of a checkpoint's files to in.
func describeInput(in Input, c *checkpoint.Checkpoint) Input {
	if in.Path == "" {
		in.Path = c.Name()
	}
	in.Files = nil
	for _, s := range c.Sources() {
		in.Files = append(in.Files, InputFile{s.File, s.Size, s.SHA256})
	}
	return in
}

// Matches fails if c does not have the weight files that the record knows,
// by name and size, and by digest where both know one.
func (in Input) Matches(c *checkpoint.Checkpoint) error {
	got := describeInput(Input{}, c).Files
	if len(got) != len(in.Files) {
		return fmt.Errorf("expo: %s has %d weight files, the record names %d", c.Name(), len(got), len(in.Files))
	}
	for i, w := range in.Files {
		g := got[i]
		if g.Name != w.Name || g.Size != w.Size {
			return fmt.Errorf("expo: %s: the record names %s of %d bytes, there is %s of %d", c.Name(), printable(w.Name), w.Size, printable(g.Name), g.Size)
		}
		if g.SHA256 != "" && w.SHA256 != "" && g.SHA256 != w.SHA256 {
			return fmt.Errorf("expo: %s: %s is not the file that the record names (SHA-256 %s, recorded %s)", c.Name(), printable(w.Name), g.SHA256, printable(w.SHA256))
		}
	}
	return nil
}

// runKey identifies a run, so that unfinished work is only taken up by one
// that would produce the same bytes: everything in the recipe, both inputs'
// config.json, and their weight files down to the time of their last change.
// It is empty, which takes up nothing, where an input is computed: that has no
// files to tell it by.
func runKey(version string, r Recipe, digest bool, p Pair) (string, error) {
	type file struct {
		Dir, Name string
		Size, Mod int64
	}
	doc := struct {
		Version string
		Digest  bool
		Recipe  Recipe
		Configs [][]byte
		Files   []file
	}{Version: version, Digest: digest, Recipe: r}
	for _, c := range []*checkpoint.Checkpoint{p.SFT, p.Aligned} {
		if len(c.Sources()) == 0 {
			return "", nil
		}
		doc.Configs = append(doc.Configs, c.Config().Raw())
		for _, s := range c.Sources() {
			doc.Files = append(doc.Files, file{c.Name(), s.File, s.Size, s.ModTime.UnixNano()})
		}
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}
