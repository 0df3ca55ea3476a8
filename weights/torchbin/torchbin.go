// Package torchbin reads the weights out of a file that torch.save wrote, such
// as pytorch_model.bin, without ever running the pickle inside it.
//
// Start at NewReader. It takes both layouts: the zip of torch 1.6 and later,
// and the legacy stream before it. The pickle is interpreted by a machine that
// knows a few opcodes and a closed list of names; it builds plain values and
// calls nothing. A name outside the list is refused by name, so that a file
// that would run code in Python is reported, and not partly read.
//
// A file may be hostile. Opening one takes time and memory in proportion to
// the pickle's length (which is limited to 64 MiB), whatever the file says of
// itself; every length, stride and offset is checked against the bytes that
// are there. What an expanded tensor (stride 0) says of its own size is not
// bounded by the file, and a caller that allocates Tensor.Size bytes should
// compare shapes first. Checksums are not verified: torch can be told to write
// none.
//
// The layouts have no document of their own; torch/serialization.py is the
// definition (https://github.com/pytorch/pytorch), and the opcodes are those
// of https://docs.python.org/3/library/pickletools.html.
package torchbin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"expo/weights/tensor"
)

// A Reader is the state dict of one file. It holds names, types, shapes and
// offsets; the weights stay in the file.
type Reader struct {
	tensors []tensor.Tensor
	skipped []string
}

// NewReader reads the directory and the pickle of the size bytes of r. A file
// that is not what torch.save writes for a state dict, or is damaged, gives a
// *FormatError; a failing r gives r's error, wrapped.
//
// The state dict is the object that was saved, if it is a dict that holds
// tensors; otherwise the dict that it holds under one of the keys state_dict,
// model_state_dict, model and module. Two such dicts are refused rather than
// chosen from.
func NewReader(r io.ReaderAt, size int64) (*Reader, error) {
	head := make([]byte, min(max(size, 0), 512))
	if err := tensor.ReadFull(r, head, 0); err != nil {
		return nil, fmt.Errorf("torchbin: %w", err)
	}
	var (
		obj    any
		locate locator
		entry  string
		err    error
	)
	switch {
	case bytes.HasPrefix(head, []byte(localSignature)):
		entry = pickleEntry
		obj, locate, err = loadZip(r, size)
	case isLegacy(head):
		entry = legacyObject
		obj, locate, err = loadLegacy(r, size)
	default:
		return nil, &FormatError{Offset: -1, Msg: looksLike(head, size)}
	}
	if err != nil {
		return nil, err
	}
	dict, skipped, bad := stateDict(obj)
	if bad != nil {
		bad.Entry = entry
		return nil, bad
	}
	tr := &Reader{tensors: make([]tensor.Tensor, 0, len(dict)), skipped: skipped}
	for _, e := range dict {
		l, err := e.tensor.resolve(locate)
		if err != nil {
			if f, ok := errors.AsType[*FormatError](err); ok {
				f.Tensor = e.name
			}
			return nil, err
		}
		tr.tensors = append(tr.tensors, tensor.Tensor{
			Name: e.name, DType: l.dtype, Shape: l.shape, Data: l.data(r),
		})
	}
	return tr, nil
}

// Tensors yields the tensors in the order of the state dict. Tensors that
// share a storage in the file (tied heads, slices of one buffer) come out each
// on its own, as does a tensor that has two names.
func (r *Reader) Tensors() iter.Seq[tensor.Tensor] { return slices.Values(r.tensors) }

// Len is the number of tensors.
func (r *Reader) Len() int { return len(r.tensors) }

// Skipped names the entries that hold no tensor, first those of the state dict
// (such as "_extra_state"), then those beside it (such as "epoch" and
// "optimizer"). A key that is not a string is described.
func (r *Reader) Skipped() []string { return slices.Clone(r.skipped) }

// A FormatError says that a file is damaged, is something else than a state
// dict written by torch.save, or needs more than this package does.
type FormatError struct {
	// Tensor is the name of the tensor concerned, empty if none is.
	Tensor string
	// Entry is the part of the file concerned: an entry of the zip, such as
	// "data.pkl", or a part of the legacy stream, such as "storage keys". The
	// name of an entry that is out of order itself has the archive's prefix, as
	// in "archive/data/0". Empty for the file as a whole.
	Entry string
	// Offset is the byte concerned, or -1: from the start of Entry in a zip,
	// from the start of the file otherwise.
	Offset int64
	// Msg says what is wrong, and where possible what to do.
	Msg string
	// Err is the error underneath, or nil.
	Err error
}

// Error is one line, whatever names the file contains.
func (e *FormatError) Error() string {
	var b strings.Builder
	b.WriteString("torchbin: ")
	if e.Tensor != "" {
		b.WriteString(printable(e.Tensor) + ": ")
	}
	if e.Entry != "" {
		b.WriteString(printable(e.Entry) + ": ")
	}
	if e.Offset >= 0 {
		fmt.Fprintf(&b, "byte %d: ", e.Offset)
	}
	b.WriteString(e.Msg)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

func (e *FormatError) Unwrap() error { return e.Err }

// printable returns s as it is when it is a plain name, and quoted when it is
// empty or holds anything that could mislead a reader of the message. Long
// strings are cut.
func printable(s string) string {
	const limit = 200
	cut := ""
	if len(s) > limit {
		s, cut = s[:limit], "…"
	}
	odd := s == "" || !utf8.ValidString(s) || strings.Contains(s, ": ") || strings.TrimSpace(s) != s ||
		strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == '"' })
	if odd {
		s = strconv.Quote(s)
	}
	return s + cut
}
