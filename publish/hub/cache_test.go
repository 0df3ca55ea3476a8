package hub

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseRef(t *testing.T) {
	long := strings.Repeat("a", 96)
	tests := []struct {
		in   string
		want Ref
	}{
		{"org/name", Ref{"org/name", ""}},
		{"gpt2", Ref{"gpt2", ""}},
		{"hf://org/name", Ref{"org/name", ""}},
		{"hf://org/name@main", Ref{"org/name", "main"}},
		{"HuggingFaceH4/zephyr-7b-beta@refs/pr/12", Ref{"HuggingFaceH4/zephyr-7b-beta", "refs/pr/12"}},
		{"org/name@v1.0", Ref{"org/name", "v1.0"}},
		{"org/name@a@b", Ref{"org/name", "a@b"}},
		{"org/name@0123456789abcdef0123456789abcdef01234567", Ref{"org/name", "0123456789abcdef0123456789abcdef01234567"}},
		{"Org_1/na.me-2_b", Ref{"Org_1/na.me-2_b", ""}},
		{long + "/" + long, Ref{long + "/" + long, ""}},
	}
	for _, tt := range tests {
		r, err := ParseRef(tt.in)
		if r != tt.want || err != nil {
			t.Errorf("ParseRef(%q) = %+v, %v, want %+v", tt.in, r, err, tt.want)
		}
		if again, err := ParseRef(r.String()); again != r || err != nil {
			t.Errorf("ParseRef(%q) = %+v, %v, want %+v", r.String(), again, err, r)
		}
	}
	for _, s := range []string{
		"", "/", "hf://", "org/", "/name", "a/b/c", "./model", "../model", "org/..", "org/.", "~/model", "/abs/model", `C:\model`, `org\name`,
		"org/name.git", "org/name-", "org/name.", "-org/name", ".org/name", "org--x/name", "org/na--me", "org/na..me", "org/na me", "org/name\n", "org/näme",
		"org/name\x00", "hf://hf://org/name", "https://huggingface.co/org/name", "org/" + long + "a", "org:name", "$(x)/y",
	} {
		if r, err := ParseRef(s); err == nil || r != (Ref{}) || !strings.HasPrefix(err.Error(), "hub: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("ParseRef(%q) = %+v, %v", s, r, err)
		}
	}
	for _, revision := range []string{
		"", "..", "a..b", "../x", "a/../b", ".", "a/.", "/a", "a/", "a//b", `a\b`, "a b", "a\tb", "a\nb", "a\x00b", "a\x7fb", "a:b", "a~1", "a^", "a?", "a*", "a[1]",
		"@", "a@{1}", "a.", "a.lock", "a.lock/b", ".a", "a/.b", strings.Repeat("a", 251), "\xff",
	} {
		if r, err := ParseRef("org/name@" + revision); err == nil || r != (Ref{}) || !strings.Contains(err.Error(), "revision") {
			t.Errorf("revision %q: %+v, %v", revision, r, err)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"org/name", "hf://org/name@refs/pr/1", "gpt2@a..b", "a@@", "org/name@/x", "o/n@C:x", "a/b/c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRef(s)
		if err != nil {
			if r != (Ref{}) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: %+v, %v", s, r, err)
			}
			return
		}
		if again, err := ParseRef(r.String()); again != r || err != nil {
			t.Fatalf("%q: %q is read as %+v, %v", s, r.String(), again, err)
		}
		// Whatever is accepted stays inside the cache.
		repo := "models--" + strings.ReplaceAll(r.Repo, "/", "--")
		if !filepath.IsLocal(repo) || strings.ContainsAny(repo, `/\`) {
			t.Fatalf("%q: folder %q", s, repo)
		}
		if p := filepath.Join("refs", filepath.FromSlash(r.Revision)); r.Revision != "" && (!strings.HasPrefix(p, "refs"+string(filepath.Separator)) || !filepath.IsLocal(p)) {
			t.Fatalf("%q: ref %q", s, p)
		}
	})
}

const (
	commit1 = "0123456789abcdef0123456789abcdef01234567"
	commit2 = "89abcdef0123456789abcdef0123456789abcdef"
)

// newCache has two commits of org/name, of which main and a pull request are
// known by name, and one model without an organisation.
func newCache(t *testing.T) Cache {
	t.Helper()
	dir := t.TempDir()
	file := func(path, text string) {
		path = filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	file("models--org--name/refs/main", commit1)
	file("models--org--name/refs/refs/pr/1", commit2+"\n")
	file("models--org--name/refs/gone", strings.Repeat("f", 40))
	file("models--org--name/refs/empty", "")
	file("models--org--name/refs/odd", "../../../etc")
	file("models--org--name/refs/long", strings.Repeat("0", 41))
	file("models--org--name/snapshots/"+commit1+"/config.json", "{}")
	file("models--org--name/snapshots/"+commit2+"/config.json", "{}")
	file("models--org--name/snapshots/"+strings.Repeat("e", 40), "a file")
	file("models--gpt2/refs/main", commit2)
	file("models--gpt2/snapshots/"+commit2+"/config.json", "{}")
	file("datasets--org--data/refs/main", commit1)
	return Cache{Dir: dir}
}

func TestFind(t *testing.T) {
	c := newCache(t)
	tests := []struct {
		ref    string
		folder string
		commit string
	}{
		{"org/name", "models--org--name", commit1},
		{"org/name@main", "models--org--name", commit1},
		{"org/name@refs/pr/1", "models--org--name", commit2},
		{"org/name@" + commit2, "models--org--name", commit2},
		{"gpt2", "models--gpt2", commit2},
	}
	for _, tt := range tests {
		r, err := ParseRef(tt.ref)
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.Find(r)
		want := Snapshot{Ref: r, Commit: tt.commit, Dir: filepath.Join(c.Dir, tt.folder, "snapshots", tt.commit)}
		if s != want || err != nil {
			t.Errorf("%s: %+v, %v, want %+v", tt.ref, s, err, want)
		}
	}
}

func TestFindMissing(t *testing.T) {
	c := newCache(t)
	tests := []struct{ ref, command string }{
		{"org/other", "hf download org/other"},
		{"org/name@v2", "hf download org/name --revision v2"},
		{"org/name@refs/pr", "hf download org/name --revision refs/pr"},     // a folder of refs
		{"org/name@main/x", "hf download org/name --revision main/x"},       // below a ref
		{"org/name@gone", "hf download org/name --revision gone"},           // a ref without its snapshot
		{"org/name@" + strings.Repeat("e", 40), "hf download org/name"},     // no folder
		{"org/name@" + strings.Repeat("d", 40), "hf download org/name"},     // not there
		{"org/name@" + commit1[:7], "hf download org/name --revision 0123"}, // short commits are not known
		{"org/data", "hf download org/data"},                                // a data set is no model
	}
	for _, tt := range tests {
		r, err := ParseRef(tt.ref)
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.Find(r)
		if !errors.Is(err, ErrNotCached) || s != (Snapshot{}) {
			t.Errorf("%s: %+v, %v", tt.ref, s, err)
			continue
		}
		msg := err.Error()
		if !strings.HasPrefix(msg, "hub: "+tt.ref+": ") || !strings.Contains(msg, tt.command) || !strings.Contains(msg, c.Dir) || strings.Count(msg, "hub: ") != 1 {
			t.Errorf("%s: %q", tt.ref, msg)
		}
	}
	if _, err := (Cache{Dir: filepath.Join(c.Dir, "nothing")}).Find(Ref{Repo: "org/name"}); !errors.Is(err, ErrNotCached) {
		t.Errorf("without a cache: %v", err)
	}
	for _, revision := range []string{"empty", "odd", "long"} {
		_, err := c.Find(Ref{Repo: "org/name", Revision: revision})
		if err == nil || errors.Is(err, ErrNotCached) || !strings.Contains(err.Error(), "holds no commit") {
			t.Errorf("ref %s: %v", revision, err)
		}
	}
}
