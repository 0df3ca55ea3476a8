// Package hub finds models of the Hugging Face Hub. So far that means the
// local cache, which huggingface_hub and expo share: downloading is not here
// yet.
//
// Start at ParseRef and Cache.Find. The cache's layout is described at
// https://huggingface.co/docs/huggingface_hub/guides/manage-cache.
package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Ref names a model on the Hub. Revision is a branch, a tag or a commit;
// empty means main.
type Ref struct {
	Repo     string // org/name, or name alone for the oldest models
	Revision string
}

var namePart = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$`)

// ParseRef reads [hf://]org/name[@revision].
func ParseRef(s string) (Ref, error) {
	text := strings.TrimPrefix(s, "hf://")
	repo, revision, has := strings.Cut(text, "@")
	if has && (revision == "" || strings.Contains(revision, "..") || strings.ContainsAny(revision, "\\ \t\n")) {
		return Ref{}, fmt.Errorf("hub: %q: not a revision: %q", s, revision)
	}
	parts := strings.Split(repo, "/")
	if len(parts) > 2 {
		return Ref{}, fmt.Errorf("hub: %q is neither a directory nor a Hub reference such as org/name", s)
	}
	for _, p := range parts {
		if !namePart.MatchString(p) || strings.Contains(p, "--") || strings.Contains(p, "..") || strings.HasSuffix(p, "-") || strings.HasSuffix(p, ".") || strings.HasSuffix(p, ".git") {
			return Ref{}, fmt.Errorf("hub: %q is neither a directory nor a Hub reference such as org/name", s)
		}
	}
	return Ref{Repo: repo, Revision: revision}, nil
}

func (r Ref) String() string {
	if r.Revision == "" {
		return r.Repo
	}
	return r.Repo + "@" + r.Revision
}

// Cache is a directory in huggingface_hub's layout; Dir is what HF_HUB_CACHE
// names.
type Cache struct{ Dir string }

// Snapshot is a model in the cache.
type Snapshot struct {
	Ref    Ref
	Commit string // 40 hexadecimal digits
	Dir    string
}

// ErrNotCached is wrapped by the error for a model that the cache lacks.
var ErrNotCached = errors.New("not in the local Hugging Face cache")

var commitID = regexp.MustCompile(`^[0-9a-f]{40}$`)

// Find looks a model up without asking the network.
func (c Cache) Find(r Ref) (Snapshot, error) {
	revision := r.Revision
	if revision == "" {
		revision = "main"
	}
	repo := filepath.Join(c.Dir, "models--"+strings.ReplaceAll(r.Repo, "/", "--"))
	commit := revision
	if !commitID.MatchString(revision) {
		b, err := os.ReadFile(filepath.Join(repo, "refs", filepath.FromSlash(revision)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return Snapshot{}, c.missing(r)
		case err != nil:
			return Snapshot{}, fmt.Errorf("hub: %w", err)
		}
		if commit = strings.TrimSpace(string(b)); !commitID.MatchString(commit) {
			return Snapshot{}, fmt.Errorf("hub: %s: the cache's ref %q holds no commit", r, revision)
		}
	}
	dir := filepath.Join(repo, "snapshots", commit)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return Snapshot{}, c.missing(r)
	}
	return Snapshot{Ref: r, Commit: commit, Dir: dir}, nil
}

func (c Cache) missing(r Ref) error {
	get := "hf download " + r.Repo
	if r.Revision != "" {
		get += " --revision " + r.Revision
	}
	return fmt.Errorf("hub: %s: %w %s; fetch it with: %s", r, ErrNotCached, c.Dir, get)
}
