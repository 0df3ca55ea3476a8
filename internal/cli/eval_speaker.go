package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"expo/eval"
	"expo/lm/generate"
	"expo/lm/generate/openai"
)

// speaker is a model that answers a benchmark or judges answers: one in this
// process, or servers.
type speaker struct {
	generate.Generator
	name     string
	identity any  // for the log: changes with the model
	raw      bool // it has no chat template
	*servers      // nil if it is in this process
	close    func()
}

// speakerFlags say who speaks.
type speakerFlags struct {
	engine *engineFlags
	fleet  *fleetFlags
	name   string // in results; made up if empty
}

// open opens the model that the flags or the first of args name.
func (f *speakerFlags) open(ctx context.Context, a *app, spend *spendFlags, args []string, log *eval.Log) (*speaker, error) {
	local := len(args) > 0 || f.engine.sft != "" || f.engine.aligned != ""
	if f.fleet.given() {
		if local {
			return nil, usagef("a model in this process and --%sbase-url or --%smodel contradict each other", f.fleet.prefix, f.fleet.prefix)
		}
		s, err := f.fleet.open(ctx, a, spend)
		if err != nil {
			return nil, err
		}
		name := f.name
		if name == "" {
			name = s.model
		}
		// The servers' addresses are no part of it: a fleet may move.
		return &speaker{Generator: s.Fleet, name: name, identity: map[string]any{"served": s.model, "omit": f.fleet.omit, "extra": f.fleet.extra}, servers: s, close: func() {}}, nil
	}
	if len(args) > 1 {
		return nil, usagef("takes one MODEL, got %q", args)
	}
	name := f.name
	if name == "" {
		name = f.engine.modelName(args)
	}
	identity, err := f.engine.identity(ctx, args, log)
	if err != nil {
		return nil, err
	}
	e, _, err := f.engine.open(ctx, args)
	if err != nil {
		return nil, err
	}
	return &speaker{Generator: e.Engine, name: name, identity: identity, raw: e.Template() == nil, close: func() { e.Model().Close(); e.close() }}, nil
}

// modelName is what results call a model by default.
func (f *engineFlags) modelName(args []string) string {
	base := func(path string) string {
		path = strings.TrimSuffix(filepath.Base(strings.TrimRight(path, "/")), ".gguf")
		name, _, _ := strings.Cut(path, "@")
		return name
	}
	if len(args) > 0 {
		return base(args[0])
	}
	return base(f.aligned) + "-ExPO-" + strings.Join(f.alphas, ",")
}

// identity is what tells a model that runs in this process from others: the
// digests of all files that it is made of, and the flags that change it.
func (f *engineFlags) identity(ctx context.Context, args []string, log *eval.Log) (any, error) {
	id := map[string]any{}
	models := args
	if f.sft != "" || f.aligned != "" {
		models = []string{f.sft, f.aligned}
		id["alpha"], id["rounding"], id["dtype"], id["policies"] = f.alphas, f.rounding, f.dtype, []string{f.policies.extraRows, f.policies.missing, f.policies.head}
		if f.rounding == "stochastic" {
			id["seed"] = f.seed
		}
	}
	if f.quantize != "" {
		id["quantize"] = f.quantize
	}
	if f.chatTemplate != "" {
		id["chat_template"] = f.chatTemplate
		if sum, err := digestOf(f.chatTemplate); err == nil {
			id["chat_template"] = sum
		}
	}
	for i, m := range models {
		if m == "" {
			continue
		}
		path, _, err := locate(m)
		if err != nil {
			return nil, err
		}
		if id[fmt.Sprint("model", i)], err = digestTree(ctx, path, log); err != nil {
			return nil, err
		}
	}
	return id, nil
}

// digestTree is one digest of a model's file, or of all the files of its
// directory that can change what it says. The log remembers those of files
// that have not changed.
func digestTree(ctx context.Context, path string, log *eval.Log) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	files := []string{path}
	if info.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil {
			return "", err
		}
		files = nil
		for _, e := range entries {
			switch filepath.Ext(e.Name()) {
			case ".safetensors", ".bin", ".json", ".model", ".jinja", ".gguf":
				if e.Name() != "expo.json" { // a record about it
					files = append(files, filepath.Join(path, e.Name()))
				}
			}
		}
		sort.Strings(files)
	}
	all := sha256.New()
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return "", context.Cause(ctx)
		}
		sum, err := rememberedDigest(file, log)
		if err != nil {
			return "", err
		}
		name := filepath.Base(file)
		if !info.IsDir() {
			name = ""
		}
		fmt.Fprintf(all, "%s %s\n", name, sum)
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

func rememberedDigest(file string, log *eval.Log) (string, error) {
	abs, err := realPath(file)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	key := eval.Key("file", abs, info.Size(), info.ModTime().UnixNano())
	var known struct {
		Kind   string `json:"kind"` // "file"
		Path   string `json:"path"`
		SHA256 string `json:"sha256"`
	}
	if ok, err := log.Get(key, &known); err != nil {
		return "", err
	} else if ok {
		return known.SHA256, nil
	}
	if known.SHA256, err = digestOf(file); err != nil {
		return "", err
	}
	known.Kind, known.Path = "file", abs
	return known.SHA256, log.Append(key, known)
}

// hopeless tells which failures of a request will befall all others too.
func hopeless(err error) bool {
	if errors.Is(err, openai.ErrKey) || errors.Is(err, openai.ErrBudget) || errors.Is(err, openai.ErrUnsupported) {
		return true
	}
	var e *openai.Error
	return errors.As(err, &e) && e.Status == 404
}

// readAll reads a whole file that a flag names.
func readAll(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPinned+1))
	if err == nil && len(b) > maxPinned {
		err = fmt.Errorf("%s: larger than %d bytes", path, maxPinned)
	}
	return string(b), err
}
