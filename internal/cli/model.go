package cli

import (
	"os"
	"path/filepath"
	"strings"

	"expo"
	"expo/publish/export"
	"expo/publish/hub"
	"expo/weights/checkpoint"
)

// hubCache is the cache directory by huggingface_hub's own rules.
func hubCache() hub.Cache {
	for _, key := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"} {
		if dir := os.Getenv(key); dir != "" {
			return hub.Cache{Dir: expand(dir)}
		}
	}
	if home := os.Getenv("HF_HOME"); home != "" {
		return hub.Cache{Dir: filepath.Join(expand(home), "hub")}
	}
	base := os.Getenv("XDG_CACHE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = "."
		}
		base = filepath.Join(home, ".cache")
	}
	return hub.Cache{Dir: filepath.Join(expand(base), "huggingface", "hub")}
}

// expand replaces ~ and $VAR, as huggingface_hub does.
func expand(p string) string {
	p = os.ExpandEnv(p)
	if rest, ok := strings.CutPrefix(p, "~"); ok && (rest == "" || rest[0] == '/') {
		if home, err := os.UserHomeDir(); err == nil {
			return home + rest
		}
	}
	return p
}

// locate turns a MODEL into a directory (or file) and says where it came from.
func locate(model string) (string, expo.Input, error) {
	if !strings.HasPrefix(model, "hf://") {
		if _, err := os.Stat(model); err == nil {
			abs, err := filepath.Abs(model)
			return model, expo.Input{Path: abs}, err
		}
		if looksLikePath(model) {
			_, err := os.Stat(model)
			return "", expo.Input{}, err
		}
	}
	ref, err := hub.ParseRef(model)
	if err != nil {
		return "", expo.Input{}, err
	}
	s, err := hubCache().Find(ref)
	if err != nil {
		return "", expo.Input{}, err
	}
	return s.Dir, expo.Input{Path: s.Dir, Repo: ref.Repo, Revision: ref.Revision, Commit: s.Commit}, nil
}

func looksLikePath(s string) bool {
	return filepath.IsAbs(s) || strings.HasPrefix(s, ".") || strings.HasPrefix(s, "~") || strings.HasSuffix(s, "/") || strings.Count(s, "/") > 1
}

// openModel opens a MODEL.
func openModel(model string) (*checkpoint.Checkpoint, expo.Input, error) {
	dir, in, err := locate(model)
	if err != nil {
		return nil, in, err
	}
	c, err := checkpoint.Open(dir)
	return c, in, err
}

// openAdapted opens a MODEL, or BASE+ADAPTER, a model and a LoRA adapter of PEFT
// to be added to it. A path that is there as a whole wins. done closes what was
// opened.
func openAdapted(model string) (c *checkpoint.Checkpoint, in expo.Input, done func(), err error) {
	base, adapter, ok := strings.Cut(model, "+")
	if _, err := os.Stat(model); !ok || err == nil {
		c, in, err := openModel(model)
		if err != nil {
			return nil, in, nil, err
		}
		return c, in, func() { c.Close() }, nil
	}
	plain, in, err := openModel(base)
	if err != nil {
		return nil, in, nil, err
	}
	defer func() {
		if err != nil {
			plain.Close()
		}
	}()
	dir, what, err := locate(adapter)
	if err != nil {
		return nil, in, nil, err
	}
	sum, closer, err := export.Adapted(plain, dir)
	if err != nil {
		return nil, in, nil, err
	}
	// Where it came from can be opened again as it stands here.
	in = expo.Input{Path: in.Path + "+" + what.Path}
	return sum, in, func() { closer.Close(); plain.Close() }, nil
}

// pair is two opened models.
type pair struct {
	expo.Pair
	sft, aligned         expo.Input
	doneSFT, doneAligned func()
}

// openPair opens both ends, with their adapters.
func openPair(sft, aligned string) (*pair, error) {
	var p pair
	var err error
	if p.SFT, p.sft, p.doneSFT, err = openAdapted(sft); err != nil {
		return nil, err
	}
	if p.Aligned, p.aligned, p.doneAligned, err = openAdapted(aligned); err != nil {
		p.doneSFT()
		return nil, err
	}
	return &p, nil
}

func (p *pair) Close() {
	p.doneSFT()
	p.doneAligned()
}

// apart refuses an output that is an input, lies inside one, or holds one.
func apart(output string, inputs ...*checkpoint.Checkpoint) error {
	out, err := realPath(output)
	if err != nil {
		return err
	}
	var names []string
	for _, c := range inputs {
		names = append(names, c.Name())
		if base, adapter, ok := strings.Cut(c.Name(), "+"); ok {
			names = append(names, base, adapter)
		}
	}
	for _, name := range names {
		in, err := realPath(name)
		if err != nil {
			return err
		}
		switch {
		case in == out:
			return refusef("the output %s is the input %s; choose another directory", output, name)
		case strings.HasPrefix(out, in+string(filepath.Separator)):
			return refusef("the output %s lies inside the input %s; choose another directory", output, name)
		case strings.HasPrefix(in, out+string(filepath.Separator)):
			return refusef("the output %s holds the input %s; choose another directory", output, name)
		}
	}
	return nil
}

// realPath is the absolute path with links followed as far as it exists.
func realPath(p string) (string, error) {
	abs, err := filepath.Abs(p)
	if err != nil {
		return "", err
	}
	rest := ""
	for dir := abs; ; {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest), nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return abs, nil
		}
		rest = filepath.Join(filepath.Base(dir), rest)
		dir = parent
	}
}
