package checkpoint

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"time"
)

// Overlay is base with some files of its top directory replaced or added;
// nil contents take a file away. A nil base is an empty directory.
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
	if b, ok := o.files[name]; ok && b != nil {
		return &memFile{memInfo{name, int64(len(b))}, bytes.NewReader(b)}, nil
	} else if ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if o.base == nil {
		if name == "." {
			return &memDir{}, nil
		}
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
		if delete(merged, n); b != nil {
			merged[n] = fs.FileInfoToDirEntry(memInfo{n, int64(len(b))})
		}
	}
	out := make([]fs.DirEntry, 0, len(merged))
	for _, n := range slices.Sorted(maps.Keys(merged)) {
		out = append(out, merged[n])
	}
	return out, nil
}

type memInfo struct {
	name string
	size int64
}

func (i memInfo) Name() string       { return path.Base(i.name) }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) Mode() fs.FileMode  { return 0o444 }
func (i memInfo) ModTime() time.Time { return time.Time{} }
func (i memInfo) IsDir() bool        { return false }
func (i memInfo) Sys() any           { return nil }

type memFile struct {
	info memInfo
	*bytes.Reader
}

func (f *memFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *memFile) Close() error               { return nil }

// memDir is the empty directory.
type memDir struct{}

func (*memDir) Stat() (fs.FileInfo, error) { return nil, errors.ErrUnsupported }
func (*memDir) Read([]byte) (int, error)   { return 0, errors.ErrUnsupported }
func (*memDir) Close() error               { return nil }
