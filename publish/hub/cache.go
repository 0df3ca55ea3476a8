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

// ParseRef reads [hf://]org/name[@revision]. The names are those that the Hub
// gives out: letters, digits and ._- in two parts of at most 96, the revision
// one that git knows. None of them can lead out of a folder.
func ParseRef(s string) (Ref, error) {
	text := strings.TrimPrefix(s, "hf://")
	repo, revision, has := strings.Cut(text, "@")
	if has && !validRevision(revision) {
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

// validRevision accepts what git accepts as the name of a branch, a tag or a
// commit (https://git-scm.com/docs/git-check-ref-format), and no more than a
// file system can hold.
func validRevision(s string) bool {
	if !fs.ValidPath(s) || s == "." || s == "@" || len(s) > 250 || !filepath.IsLocal(filepath.FromSlash(s)) ||
		strings.Contains(s, "..") || strings.Contains(s, "@{") || strings.HasSuffix(s, ".") ||
		strings.ContainsAny(s, `\~^:?*[`) || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return false
	}
	for part := range strings.SplitSeq(s, "/") {
		if strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return true
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

// Find looks a model up without asking the network; nothing is written, so the
// cache may be read-only. The error wraps ErrNotCached if the model or its
// revision is not there. Which of its files are, Find does not say.
func (c Cache) Find(r Ref) (Snapshot, error) {
	revision := r.Revision
	if revision == "" {
		revision = "main"
	}
	repo := filepath.Join(c.Dir, "models--"+strings.ReplaceAll(r.Repo, "/", "--"))
	commit := revision
	if !commitID.MatchString(revision) {
		path := filepath.Join(repo, "refs", filepath.FromSlash(revision))
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrPermission) {
			return Snapshot{}, fmt.Errorf("hub: %w", err)
		}
		// Where there is a ref a/b, a is a folder.
		if err != nil || !info.Mode().IsRegular() {
			return Snapshot{}, c.missing(r)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return Snapshot{}, fmt.Errorf("hub: %w", err)
		}
		if commit = strings.TrimSpace(string(b)); !commitID.MatchString(commit) {
			return Snapshot{}, fmt.Errorf("hub: %s: the cache's ref %q holds no commit; fetch the model again", r, revision)
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
