package checkpoint

import (
	"bytes"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// Overlay is base with some files of its top directory replaced or added;
// nil contents take a file away. A nil base is an empty directory. Names with
// a slash are left out of account: only the top directory is overlaid.
func Overlay(base fs.FS, files map[string][]byte) fs.FS {
	return &overlay{base, files}
}

type overlay struct {
	base  fs.FS
	files map[string][]byte
}

func (o *overlay) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if name == "." {
		entries, err := o.ReadDir(name)
		if err != nil {
			return nil, err
		}
		return &memDir{entries: entries}, nil
	}
	if b, ok := o.files[name]; ok && onTop(name) {
		if b == nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return &memFile{memInfo{name, int64(len(b)), 0o444}, bytes.NewReader(b)}, nil
	}
	if o.base == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return o.base.Open(name)
}

// ReadDir merges the two layers.
func (o *overlay) ReadDir(name string) ([]fs.DirEntry, error) {
	var under []fs.DirEntry
	if o.base != nil {
		var err error
		if under, err = fs.ReadDir(o.base, name); err != nil {
			return nil, err
		}
	} else if name != "." {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	if name != "." {
		return under, nil
	}
	merged := make(map[string]fs.DirEntry)
	for _, e := range under {
		merged[e.Name()] = e
	}
	for n, b := range o.files {
		if !onTop(n) {
			continue
		}
		if delete(merged, n); b != nil {
			merged[n] = fs.FileInfoToDirEntry(memInfo{n, int64(len(b)), 0o444})
		}
	}
	out := make([]fs.DirEntry, 0, len(merged))
	for _, n := range slices.Sorted(maps.Keys(merged)) {
		out = append(out, merged[n])
	}
	return out, nil
}

// onTop accepts the name of a file of the top directory.
func onTop(name string) bool {
	return fs.ValidPath(name) && name != "." && !strings.Contains(name, "/")
}

type memInfo struct {
	name string
	size int64
	mode fs.FileMode
}

func (i memInfo) Name() string       { return path.Base(i.name) }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) Mode() fs.FileMode  { return i.mode }
func (i memInfo) ModTime() time.Time { return time.Time{} }
func (i memInfo) IsDir() bool        { return i.mode.IsDir() }
func (i memInfo) Sys() any           { return nil }

type memFile struct {
	info memInfo
	*bytes.Reader
}

func (f *memFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *memFile) Close() error               { return nil }

// memDir is the top directory while it is open.
type memDir struct {
	entries []fs.DirEntry // still to be read
}

func (*memDir) Stat() (fs.FileInfo, error) { return memInfo{".", 0, fs.ModeDir | 0o555}, nil }
func (*memDir) Close() error               { return nil }

func (*memDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: ".", Err: fs.ErrInvalid}
}

func (d *memDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(d.entries) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(d.entries) {
		n = len(d.entries)
	}
	out := d.entries[:n:n]
	d.entries = d.entries[n:]
	return out, nil
}
