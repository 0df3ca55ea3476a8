package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// directory is a model directory through a root that its links cannot leave.
// It is the fs.FS behind Checkpoint.Files.
type directory struct {
	name   string // as the user wrote it
	root   *os.Root
	prefix string   // of the directory inside root, slash-separated
	store  *os.Root // the Hugging Face cache's shared blobs, or nil
}

// openDirectory confines all further access to dir, or, where dir is a
// snapshot in the Hugging Face cache (models--org--name/snapshots/commit) or a
// folder inside one, to that repository's folder, since the files are links to
// ../../blobs/<etag>.
func openDirectory(dir string) (*directory, error) {
	d := &directory{name: dir, prefix: "."}
	rootDir := dir
	if abs, err := resolve(dir); err == nil {
		if repo, inside, ok := cacheRepository(abs); ok {
			rootDir, d.prefix = repo, inside
			d.store, _ = os.OpenRoot(filepath.Join(filepath.Dir(repo), "blobs"))
		}
	}
	var err error
	if d.root, err = os.OpenRoot(rootDir); err != nil {
		return nil, errors.Join(fmt.Errorf("checkpoint: %w", err), d.Close())
	}
	return d, nil
}

// resolve is the absolute path of dir with all links followed.
func resolve(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// cacheRepository cuts …/models--org--name/snapshots/commit[/folder] after the
// repository's folder.
func cacheRepository(abs string) (repo, inside string, ok bool) {
	for p := abs; ; p = filepath.Dir(p) {
		snapshots := filepath.Dir(p)
		if snapshots == p {
			return "", "", false
		}
		repo := filepath.Dir(snapshots)
		if filepath.Base(snapshots) == "snapshots" && strings.HasPrefix(filepath.Base(repo), "models--") {
			inside, err := filepath.Rel(repo, abs)
			return repo, filepath.ToSlash(inside), err == nil
		}
	}
}

func (d *directory) Close() error {
	var errs []error
	for _, r := range []*os.Root{d.root, d.store} {
		if r != nil {
			errs = append(errs, r.Close())
		}
	}
	return errors.Join(errs...)
}

// exists reports whether the directory has an entry of that name, be it a link
// to nothing.
func (d *directory) exists(name string) bool {
	_, err := d.root.Lstat(path.Join(d.prefix, name))
	return err == nil
}

// Open makes the directory an fs.FS.
func (d *directory) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	f, err := d.open(name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (d *directory) ReadDir(name string) ([]fs.DirEntry, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrInvalid}
	}
	return fs.ReadDir(d.root.FS(), path.Join(d.prefix, name))
}

// ReadLink and Lstat make it an fs.ReadLinkFS.
func (d *directory) ReadLink(name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return d.root.Readlink(path.Join(d.prefix, name))
}

func (d *directory) Lstat(name string) (fs.FileInfo, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrInvalid}
	}
	return d.root.Lstat(path.Join(d.prefix, name))
}

// open opens a file or folder. A pipe or a device is refused before opening
// it, which could wait for ever.
func (d *directory) open(name string) (*os.File, error) {
	inside := path.Join(d.prefix, name)
	info, err := d.root.Stat(inside)
	var f *os.File
	switch {
	case err == nil && !info.Mode().IsRegular() && !info.IsDir():
		err = errNotRegular
	case err == nil:
		f, err = d.root.Open(inside)
	default:
		if f := d.openShared(inside); f != nil {
			return f, nil
		}
	}
	if err != nil {
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			err = pe.Err
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return f, nil
}

var errNotRegular = errors.New("not a regular file")

// openShared follows a snapshot's link through blobs/<etag> to
// ../../blobs/xx/<hash>, the store that all repositories of a cache share
// since huggingface_hub 2.4; nil if it is no such link. The two steps are
// taken by hand, so nothing else outside the repository can be reached.
func (d *directory) openShared(inside string) *os.File {
	if d.store == nil {
		return nil
	}
	target, err := d.root.Readlink(inside)
	if err != nil {
		return nil
	}
	blob := path.Join(path.Dir(inside), filepath.ToSlash(target))
	if path.Dir(blob) != "blobs" {
		return nil
	}
	if target, err = d.root.Readlink(blob); err != nil {
		return nil
	}
	shared, ok := strings.CutPrefix(filepath.ToSlash(target), "../../blobs/")
	folder, hash, two := strings.Cut(shared, "/")
	if !ok || !two || !isHex(folder) || !isHex(hash) {
		return nil
	}
	if info, err := d.store.Stat(shared); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	f, err := d.store.Open(shared)
	if err != nil {
		return nil
	}
	return f
}

func isHex(s string) bool { return s != "" && strings.Trim(s, "0123456789abcdef") == "" }

// blobDigest is the SHA-256 that the Hugging Face cache put into the name of
// the blob behind a snapshot's link, or "". The names in the shared store have
// the same form, but are Xet hashes.
func (d *directory) blobDigest(name string) string {
	if d.prefix == "." {
		return ""
	}
	inside := path.Join(d.prefix, name)
	target, err := d.root.Readlink(inside)
	if err != nil {
		return ""
	}
	dir, etag := path.Split(path.Join(path.Dir(inside), filepath.ToSlash(target)))
	if dir != "blobs/" || len(etag) != 64 || !isHex(etag) {
		return ""
	}
	return etag
}

var _ interface {
	fs.ReadDirFS
	fs.ReadLinkFS
	io.Closer
} = (*directory)(nil)
