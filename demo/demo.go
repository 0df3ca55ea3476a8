package demo

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"expo/weights/checkpoint"
	"expo/weights/safetensors"
)

//go:generate go run ./make -o models

//go:embed models
var files embed.FS

// Models lists the names that Open knows.
func Models() []string { return []string{"sft", "aligned", "trained", "sppo", "reward"} }

// Open opens a model, which lies in this program. It need not be closed.
func Open(name string) (*checkpoint.Checkpoint, error) {
	if !slices.Contains(Models(), name) {
		return nil, fmt.Errorf("demo: there is no model %q; there are %s", name, strings.Join(Models(), ", "))
	}
	dir, err := fs.Sub(files, "models/"+name)
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	const weights = "model.safetensors"
	b, err := fs.ReadFile(dir, weights)
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	r, err := safetensors.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, fmt.Errorf("demo: %s: %w", name, err)
	}
	shard := checkpoint.Shard{File: weights, Tensors: slices.Collect(r.Tensors())}
	return checkpoint.New("demo/models/"+name, []checkpoint.Shard{shard}, dir)
}
