package cli

import (
	"os"
	"path/filepath"
	"strings"

	"expo"
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

// pair is two opened models.
type pair struct {
	expo.Pair
	sft, aligned expo.Input
}

// openPair opens both ends and reports all that keeps it from doing so.
func openPair(sft, aligned string) (*pair, error) {
	var p pair
	var err error
	if p.SFT, p.sft, err = openModel(sft); err != nil {
		return nil, err
	}
	if p.Aligned, p.aligned, err = openModel(aligned); err != nil {
		p.SFT.Close()
		return nil, err
	}
	return &p, nil
}

func (p *pair) Close() {
	p.SFT.Close()
	p.Aligned.Close()
}

// apart refuses an output that is an input, lies inside one, or holds one.
func apart(output string, inputs ...*checkpoint.Checkpoint) error {
	out, err := realPath(output)
	if err != nil {
		return err
	}
	for _, c := range inputs {
		in, err := realPath(c.Name())
		if err != nil {
			return err
		}
		switch {
		case in == out:
			return refusef("the output %s is the input %s; choose another directory", output, c.Name())
		case strings.HasPrefix(out, in+string(filepath.Separator)):
			return refusef("the output %s lies inside the input %s; choose another directory", output, c.Name())
		case strings.HasPrefix(in, out+string(filepath.Separator)):
			return refusef("the output %s holds the input %s; choose another directory", output, c.Name())
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
