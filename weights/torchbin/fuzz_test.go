package torchbin

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"expo/weights/tensor"
)

// checkError checks what every error promises about its text.
func checkError(t *testing.T, err error) {
	t.Helper()
	msg := err.Error()
	if !strings.HasPrefix(msg, "torchbin: ") || strings.ContainsAny(msg, "\n\r\x00\x1b") || !utf8.ValidString(msg) {
		t.Errorf("error %q", msg)
	}
	if _, ok := errors.AsType[*FormatError](err); !ok {
		t.Errorf("error %q is a %T", msg, err)
	}
}

// checkTensor reads a tensor in one piece, and in others, which must agree.
func checkTensor(t *testing.T, x tensor.Tensor) {
	t.Helper()
	const limit = 1 << 16
	n := min(x.Size(), limit)
	all := make([]byte, n)
	if err := tensor.ReadFull(x.Data, all, 0); err != nil {
		t.Errorf("%q: %v", x.Name, err)
	}
	for _, cut := range []int64{1, 3, 7, n / 2, n - 1} {
		if cut < 0 || cut > n {
			continue
		}
		part := make([]byte, n-cut)
		if err := tensor.ReadFull(x.Data, part, cut); err != nil || !bytes.Equal(part, all[cut:]) {
			t.Errorf("%q: the bytes from %d on differ (%v)", x.Name, cut, err)
		}
	}
	if c, err := x.Data.ReadAt(make([]byte, 2), x.Size()-1); x.Size() > 0 && (c != 1 || err != io.EOF) {
		t.Errorf("%q: at the end ReadAt = %d, %v", x.Name, c, err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(zipOf(goodPickle(), bytesTo(8)))
	f.Add(zipOf(dictOf(func(p *pickler) {
		p.str("x").v2(func() { p.storage("HalfStorage", "0", 4) }, 0, []int64{2, 2}, []int64{1, 2})
	}), bytesTo(8)))
	f.Add(goodLegacy().bytes())
	files, err := filepath.Glob("testdata/*.bin")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := open(b)
		if err != nil {
			checkError(t, err)
			return
		}
		seen := make(map[string]bool)
		for x := range r.Tensors() {
			if seen[x.Name] || !utf8.ValidString(x.Name) {
				t.Errorf("tensor named %q", x.Name)
			}
			seen[x.Name] = true
			if len(seen) < 50 {
				checkTensor(t, x)
			}
		}
		if len(seen) != r.Len() || r.Len() == 0 {
			t.Errorf("%d tensors, Len() = %d", len(seen), r.Len())
		}
	})
}

func FuzzPickle(f *testing.F) {
	f.Add(goodPickle())
	f.Add(dictOf(func(p *pickler) {
		p.str("x").v2(func() { p.storage("HalfStorage", "0", 8) }, 1, []int64{2, 3}, []int64{0, 2})
		p.str("p").global("torch._utils", "_rebuild_parameter").floats("0", 4).op(opNewTrue).ordered().op(opTuple3, opReduce)
	}))
	f.Add([]byte("\x80\x04\x95\x20\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94K\x01\x8c\x05torch\x94\x8c\x07float32\x94\x93\x94u."))
	f.Add([]byte("ccollections\nOrderedDict\n]](K\x01K\x02eaK\x03K\x04\x86a\x85R."))
	f.Add([]byte("(I5\nI01\nL9000000000L\nF1.5\n\x8f\x8a\x01\xffG\x3f\xf8\x00\x00\x00\x00\x00\x00t."))
	f.Add([]byte("cos\nsystem\nX\x02\x00\x00\x00ls\x85R."))
	file := bytesTo(256)
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := loadBytes(b)
		if err != nil {
			checkError(t, err)
			return
		}
		dict, _, bad := stateDict(v)
		if bad != nil {
			checkError(t, bad)
			return
		}
		for _, e := range dict[:min(len(dict), 50)] {
			l, err := e.tensor.resolve(func(s *storage) (span, error) {
				if s.bytes() > int64(len(file)) {
					return span{}, entryError("data/"+s.key, "is too long")
				}
				return span{0, s.bytes()}, nil
			})
			if err != nil {
				checkError(t, err)
				continue
			}
			checkTensor(t, tensor.Tensor{Name: e.name, DType: l.dtype, Shape: l.shape, Data: l.data(bytes.NewReader(file))})
		}
	})
}
