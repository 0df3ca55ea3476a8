package torchbin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

// wantError checks that err is a *FormatError of one line that contains each
// of the strings.
func wantError(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", want)
	}
	if _, ok := errors.AsType[*FormatError](err); !ok {
		t.Errorf("%q is a %T, want a *FormatError", err, err)
	}
	msg := err.Error()
	if strings.Count(msg, "torchbin: ") != 1 || strings.Contains(msg, "\n") {
		t.Errorf("%q is not one line with one prefix", msg)
	}
	for _, w := range want {
		if !strings.Contains(msg, w) {
			t.Errorf("error %q, want %q in it", msg, w)
		}
	}
}

func TestReader(t *testing.T) {
	b := zipOf(dictOf(func(p *pickler) {
		p.str("x").floats("0", 2)
		p.str("n").int(7)
		p.str("t").v2(func() { p.storage("FloatStorage", "0", 2) }, 1, []int64{3}, []int64{0})
	}), bytesTo(8))
	r, data := mustOpen(t, b)
	if r.Len() != 2 {
		t.Errorf("Len() = %d, want 2", r.Len())
	}
	if want := string(bytesTo(8)); data["x"] != want {
		t.Errorf("x = %q, want %q", data["x"], want)
	}
	if want := strings.Repeat("\x04\x05\x06\x07", 3); data["t"] != want {
		t.Errorf("t = %q, want %q", data["t"], want)
	}
	if got, want := r.Skipped(), []string{"n"}; !slices.Equal(got, want) {
		t.Errorf("Skipped() = %q, want %q", got, want)
	}
	for range r.Tensors() {
		break // a loop may end early
	}
}

// TestContiguous checks that a tensor without gaps is read where it lies,
// in the pieces that the caller asks for.
func TestContiguous(t *testing.T) {
	b := zipOf(dictOf(func(p *pickler) {
		p.str("x").v2(func() { p.storage("FloatStorage", "0", 4) }, 1, []int64{1, 2}, []int64{77, 1})
	}), bytesTo(16))
	r := &spy{r: bytes.NewReader(b)}
	tr, err := NewReader(r, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	x := slices.Collect(tr.Tensors())[0]
	r.calls = nil
	got := make([]byte, 5)
	if _, err := x.Data.ReadAt(got, 3); err != nil || !bytes.Equal(got, bytesTo(16)[7:12]) {
		t.Errorf("read %v, %v", got, err)
	}
	want := fmt.Sprint([]span{{int64(bytes.Index(b, bytesTo(16)) + 7), 5}})
	if calls := fmt.Sprint(r.calls); calls != want {
		t.Errorf("reads %s, want %s", calls, want)
	}
}

// A spy notes what is read.
type spy struct {
	r     io.ReaderAt
	calls []span
}

func (s *spy) ReadAt(b []byte, off int64) (int, error) {
	s.calls = append(s.calls, span{off, int64(len(b))})
	return s.r.ReadAt(b, off)
}

func TestNotTorch(t *testing.T) {
	tar := make([]byte, 1024)
	copy(tar, "sys_info")
	copy(tar[257:], "ustar\x0000")
	tests := []struct{ name, file, want string }{
		{"empty", "", "is empty"},
		{"LFS", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "is a Git LFS pointer, not the weights: run git lfs pull"},
		{"HTML", "\ufeff \n<!DOCTYPE html><html>", "HTML"},
		{"html", "<HTML lang=en>", "HTML"},
		{"XML", "<?xml version=\"1.0\"?><Error>", "XML"},
		{"safetensors", "\x08\x00\x00\x00\x00\x00\x00\x00{}      ", "safetensors"},
		{"GGUF", "GGUF\x03\x00\x00\x00", "GGUF"},
		{"tar", string(tar), "torch 0.1"},
		{"gzip", "\x1f\x8b\x08\x00", "gzip"},
		{"zstd", "\x28\xb5\x2f\xfd", "zstd"},
		{"HDF5", "\x89HDF\r\n\x1a\n", "HDF5"},
		{"NumPy", "\x93NUMPY\x01\x00", "NumPy"},
		{"JSON", `{"error": "Repository not found"}`, "JSON"},
		{"text", "Entry not found", "is text"},
		{"zeros", strings.Repeat("\x00", 600), "zeros"},
		{"pickle", "\x80\x02}q\x00.", "is a pickle"},
		{"empty zip", "PK\x05\x06" + strings.Repeat("\x00", 18), "empty zip"},
		{"noise", "\x01\x02\n\xff", `begins with "\x01\x02\n\xff"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := open([]byte(tt.file))
			wantError(t, err, tt.want)
		})
	}
	_, err := NewReader(bytes.NewReader(nil), -1)
	wantError(t, err, "is empty")
}

func TestStateDict(t *testing.T) {
	inner := func(p *pickler, names ...string) {
		p.op(opEmptyDict)
		for _, n := range names {
			p.str(n).floats("0", 2).op(opSetItem)
		}
	}
	tests := []struct {
		name    string
		push    func(p *pickler)
		want    string // names of the tensors
		skipped string
	}{
		{"direct", func(p *pickler) { p.str("b").floats("0", 2).str("a").floats("0", 2) }, "[b a]", "[]"},
		{"direct with leftovers", func(p *pickler) {
			p.str("a").floats("0", 2).str("config").op(opEmptyDict).op(opNone).int(1)
		}, "[a]", "[config None]"},
		{"state_dict", func(p *pickler) { p.str("state_dict"); inner(p, "x"); p.str("epoch").int(3) }, "[x]", "[epoch]"},
		{"model_state_dict", func(p *pickler) { p.str("model_state_dict"); inner(p, "x") }, "[x]", "[]"},
		{"model", func(p *pickler) { p.str("model"); inner(p, "module.x") }, "[module.x]", "[]"},
		{"module", func(p *pickler) { p.str("module"); inner(p, "x"); p.str("optimizer"); inner(p, "exp_avg") }, "[x]", "[optimizer]"},
		{"an empty one beside", func(p *pickler) { p.str("model"); inner(p, "x"); p.str("module").op(opEmptyDict) }, "[x]", "[module]"},
		{"one under two keys", func(p *pickler) {
			p.str("model")
			inner(p, "x")
			p.op(opBinPut, 9).str("module").op(opBinGet, 9)
		}, "[x]", "[]"},
		{"number for a key", func(p *pickler) { p.str("x").floats("0", 2).int(5).op(opEmptyList) }, "[x]", "[5]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := open(zipOf(dictOf(tt.push), bytesTo(8)))
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for x := range r.Tensors() {
				names = append(names, x.Name)
			}
			if got := fmt.Sprint(names); got != tt.want {
				t.Errorf("tensors %s, want %s", got, tt.want)
			}
			if got := fmt.Sprint(r.Skipped()); got != tt.skipped {
				t.Errorf("Skipped() = %s, want %s", got, tt.skipped)
			}
		})
	}
}

func TestStateDictRefused(t *testing.T) {
	tests := []struct {
		name string
		push func(p *pickler)
		want string
	}{
		{"two wrappers", func(p *pickler) {
			for _, k := range []string{"module", "model"} {
				p.str(k).op(opEmptyDict).str(k).floats("0", 2).op(opSetItem)
			}
		}, "(model, module)"},
		{"wrapper beside tensors", func(p *pickler) {
			p.str("step").floats("0", 2)
			p.str("state_dict").op(opEmptyDict).str("x").floats("0", 2).op(opSetItem)
		}, "(the top level, state_dict)"},
		{"nothing", func(p *pickler) { p.str("epoch").int(3).str("lr").op(opNone) }, "holds no tensors, neither itself nor under state_dict, model_state_dict, model, module (it has epoch, lr)"},
		{"empty", func(p *pickler) {}, "holds an empty dict"},
		{"name twice", func(p *pickler) { p.str("x").floats("0", 2).str("x").floats("0", 2) }, "has the key x twice"},
		{"name twice, once no tensor", func(p *pickler) { p.str("x").floats("0", 2).str("x").op(opNone) }, "has the key x twice"},
		{"inner name twice", func(p *pickler) {
			p.str("model").op(opEmptyDict)
			p.str("x").floats("0", 2).op(opSetItem).str("x").floats("0", 2).op(opSetItem)
		}, "has the key x twice"},
		{"wrapper twice", func(p *pickler) {
			for range 2 {
				p.str("model").op(opEmptyDict).str("x").floats("0", 2).op(opSetItem)
			}
		}, "has the key model twice"},
		{"number for a name", func(p *pickler) { p.int(5).floats("0", 2) }, "under the key 5, want a string"},
		{"tuple for a name", func(p *pickler) { p.ints(5).floats("0", 2) }, "under the key a tuple, want a string"},
		{"not UTF-8", func(p *pickler) { p.str("\xff").floats("0", 2) }, `"\xff", which is not UTF-8`},
		{"contains itself", func(p *pickler) { p.str("a").op(opNone).str("model").op(opBinGet, 0) }, "holds no tensors"},
		{"too deep", func(p *pickler) {
			p.str("model").op(opEmptyDict).str("model").op(opEmptyDict).str("x").floats("0", 2).op(opSetItem, opSetItem)
		}, "holds no tensors"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p pickler
			p.proto().op(opEmptyDict, opBinPut, 0, opMark)
			tt.push(&p)
			_, err := open(zipOf(p.op(opSetItems).stop(), bytesTo(8)))
			wantError(t, err, "torchbin: data.pkl: ", tt.want)
		})
	}
	for _, tt := range []struct {
		push func(p *pickler)
		want string
	}{
		{func(p *pickler) { p.op(opEmptyList) }, "holds a list, want a state dict"},
		{func(p *pickler) { p.floats("0", 2) }, "holds a tensor, want a state dict"},
		{func(p *pickler) { p.op(opNone) }, "holds None, want a state dict"},
		{func(p *pickler) { p.global("torch", "float32") }, "holds the name torch.float32, want a state dict"},
	} {
		var p pickler
		tt.push(p.proto())
		_, err := open(zipOf(p.stop(), bytesTo(8)))
		wantError(t, err, tt.want)
	}
}

func TestTensorRefused(t *testing.T) {
	float := func(p *pickler) func() { return func() { p.storage("FloatStorage", "0", 4) } }
	v3 := func(p *pickler, class string, numel int64, dtype string, size, stride int64) {
		p.global("torch._utils", "_rebuild_tensor_v3").op(opMark)
		if class == "UntypedStorage" {
			p.op(opMark).str("storage").global("torch.storage", class).str("0").str("cpu").int(numel).op(opTuple, opBinPersID)
		} else {
			p.storage(class, "0", numel)
		}
		p.int(0).ints(size).ints(stride).op(opNewFalse).ordered().global("torch", dtype).op(opTuple, opReduce)
	}
	metadata := func(p *pickler, push func()) {
		p.global("torch._utils", "_rebuild_tensor_v2").op(opMark).storage("FloatStorage", "0", 4)
		p.int(0).ints(4).ints(1).op(opNewFalse).ordered()
		push()
		p.op(opTuple, opReduce)
	}
	tests := []struct {
		name string
		push func(p *pickler)
		want string
	}{
		{"past the end", func(p *pickler) { p.v2(float(p), 1, []int64{4}, []int64{1}) }, "reaches past the 4 elements of its storage (offset 1, size [4], stride [1])"},
		{"past the end by stride", func(p *pickler) { p.v2(float(p), 0, []int64{2, 2}, []int64{3, 1}) }, "reaches past"},
		{"offset overflow", func(p *pickler) { p.v2(float(p), 1<<63-1, []int64{2}, []int64{1}) }, "reaches past"},
		{"stride overflow", func(p *pickler) { p.v2(float(p), 0, []int64{3}, []int64{1 << 62}) }, "reaches past"},
		{"size overflow", func(p *pickler) {
			p.v2(float(p), 0, []int64{1 << 40, 1 << 40}, []int64{0, 0})
		}, "its shape does not count"},
		{"bytes overflow", func(p *pickler) { p.v2(float(p), 0, []int64{1 << 62}, []int64{0}) }, "its shape does not count"},
		{"negative size", func(p *pickler) { p.v2(float(p), 0, []int64{-1}, []int64{1}) }, "its size has -1 in it"},
		{"negative stride", func(p *pickler) { p.v2(float(p), 3, []int64{4}, []int64{-1}) }, "its stride has -1 in it"},
		{"negative offset", func(p *pickler) { p.v2(float(p), -1, []int64{4}, []int64{1}) }, "its offset in the storage"},
		{"ranks differ", func(p *pickler) { p.v2(float(p), 0, []int64{2, 2}, []int64{1}) }, "2 dimensions and 1 strides"},
		{"many dimensions", func(p *pickler) { p.v2(float(p), 0, make([]int64, 17), make([]int64, 17)) }, "17 dimensions, want at most 16"},
		{"no such entry", func(p *pickler) {
			p.v2(func() { p.storage("FloatStorage", "7", 4) }, 0, []int64{4}, []int64{1})
		}, "data/7: is missing"},
		{"no such entry for none", func(p *pickler) {
			p.v2(func() { p.storage("FloatStorage", "7", 0) }, 0, []int64{0}, []int64{1})
		}, "data/7: is missing"},
		{"entry too small", func(p *pickler) {
			p.v2(func() { p.storage("FloatStorage", "0", 5) }, 0, []int64{4}, []int64{1})
		}, "data/0: has 16 bytes, want 20"},
		{"meta", func(p *pickler) {
			p.v2(func() {
				p.op(opMark).str("storage").global("torch", "FloatStorage").str("0").str("meta").int(4).op(opTuple, opBinPersID)
			}, 0, []int64{4}, []int64{1})
		}, "is on the meta device"},
		{"quantized", func(p *pickler) {
			p.v2(func() { p.storage("QUInt8Storage", "0", 4) }, 0, []int64{4}, []int64{1})
		}, "is quantized, which is not supported: dequantize it before saving (torch.QUInt8Storage)"},
		{"complex", func(p *pickler) {
			p.v2(func() { p.storage("ComplexFloatStorage", "0", 2) }, 0, []int64{2}, []int64{1})
		}, "has complex elements"},
		{"complex by dtype", func(p *pickler) { v3(p, "UntypedStorage", 16, "complex64", 2, 1) }, "has complex elements"},
		{"two to the byte", func(p *pickler) { v3(p, "UntypedStorage", 16, "float4_e2m1fn_x2", 2, 1) }, "float4_e2m1fn_x2"},
		{"untyped, past the end", func(p *pickler) { v3(p, "UntypedStorage", 16, "uint16", 9, 1) }, "past the 8 elements"},
		{"untyped, entry too small", func(p *pickler) { v3(p, "UntypedStorage", 17, "uint16", 8, 1) }, "data/0: has 16 bytes, want 17"},
		{"not a dtype", func(p *pickler) { v3(p, "UntypedStorage", 16, "Size", 8, 1) }, "has the name torch.Size for a dtype"},
		{"untyped, v2", func(p *pickler) {
			p.v2(func() {
				p.op(opMark).str("storage").global("torch.storage", "UntypedStorage").str("0").str("cpu").int(16).op(opTuple, opBinPersID)
			}, 0, []int64{4}, []int64{1})
		}, "its storage does not have a type"},
		{"negated", func(p *pickler) { metadata(p, func() { p.op(opEmptyDict).str("neg").op(opNewTrue, opSetItem) }) }, "is marked as neg"},
		{"conjugate", func(p *pickler) { metadata(p, func() { p.op(opEmptyDict).str("conj").int(1).op(opSetItem) }) }, "is marked as conj"},
		{"other metadata", func(p *pickler) { metadata(p, func() { p.op(opEmptyDict).str("npu_format").int(1).op(opSetItem) }) }, "npu_format"},
		{"metadata of another type", func(p *pickler) { metadata(p, func() { p.int(1) }) }, "its metadata is an integer"},
		{"sparse", func(p *pickler) {
			p.global("torch._utils", "_rebuild_sparse_tensor").op(opNone, opNone, opTuple2, opReduce)
		}, "is sparse"},
		{"no storage", func(p *pickler) {
			p.v2(func() { p.op(opNone) }, 0, []int64{4}, []int64{1})
		}, "is made from None, want a storage"},
		{"floats for a size", func(p *pickler) {
			p.global("torch._utils", "_rebuild_tensor").op(opMark).storage("FloatStorage", "0", 4).int(0).op(opNewTrue, opTuple1).ints(1).op(opTuple, opReduce)
		}, "its size has a bool in it"},
		{"list for a size", func(p *pickler) {
			p.global("torch._utils", "_rebuild_tensor").op(opMark).storage("FloatStorage", "0", 4).int(0).op(opEmptyList).ints(1).op(opTuple, opReduce)
		}, "its size is a list, want a tuple"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := open(zipOf(dictOf(func(p *pickler) { p.str("good").floats("0", 4).str("layer.w") }), bytesTo(16)))
			wantError(t, err, "values") // the item is left out
			_, err = open(zipOf(dictOf(func(p *pickler) { p.str("layer.w"); tt.push(p) }), bytesTo(16)))
			wantError(t, err, "torchbin: layer.w: ", tt.want)
		})
	}
}

// TestTensorTaken has what looks odd and is right.
func TestTensorTaken(t *testing.T) {
	tests := []struct {
		name string
		push func(p *pickler)
		want string
	}{
		{"entry longer than the storage", func(p *pickler) { p.floats("0", 2) }, string(bytesTo(8))},
		{"first version", func(p *pickler) {
			p.global("torch._utils", "_rebuild_tensor").op(opMark).storage("FloatStorage", "0", 4).int(1).ints(2).ints(1).op(opTuple, opReduce)
		}, string(bytesTo(12)[4:])},
		{"storage on a GPU", func(p *pickler) {
			p.v2(func() {
				p.op(opMark).str("storage").global("torch.cuda", "HalfStorage").str("0").str("cuda:3").int(2).op(opTuple, opBinPersID)
			}, 0, []int64{2}, []int64{1})
		}, string(bytesTo(4))},
		{"empty with an offset", func(p *pickler) {
			p.v2(func() { p.storage("FloatStorage", "0", 0) }, 3, []int64{5, 0}, []int64{1, 1})
		}, ""},
		{"torch.Size for a size", func(p *pickler) {
			p.global("torch._utils", "_rebuild_tensor").op(opMark).storage("FloatStorage", "0", 4).int(0)
			p.global("torch", "Size").ints(2).op(opTuple1, opReduce).ints(1).op(opTuple, opReduce)
		}, string(bytesTo(8))},
		{"metadata that says nothing", func(p *pickler) {
			p.global("torch._utils", "_rebuild_tensor_v2").op(opMark).storage("FloatStorage", "0", 4)
			p.int(0).ints(1).ints(1).op(opNewFalse).ordered().op(opEmptyDict).str("conj").op(opNewFalse, opSetItem, opTuple, opReduce)
		}, string(bytesTo(4))},
		{"Parameter made by NEWOBJ", func(p *pickler) {
			p.global("torch.nn.parameter", "Parameter").floats("0", 2).op(opTuple1, opNewObj)
		}, string(bytesTo(8))},
		{"from type", func(p *pickler) {
			p.global("torch.tensor", "_rebuild_from_type").op(opMark)
			p.global("torch._utils", "_rebuild_tensor").global("torch", "Tensor")
			p.op(opMark).storage("FloatStorage", "0", 4).int(0).ints(2).ints(1).op(opTuple, opEmptyDict, opTuple, opReduce)
		}, string(bytesTo(8))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, data := mustOpen(t, zipOf(dictOf(func(p *pickler) { p.str("x"); tt.push(p) }), bytesTo(16)))
			if data["x"] != tt.want {
				t.Errorf("x = %q, want %q", data["x"], tt.want)
			}
		})
	}
}

// TestExpandedHuge checks that nothing is made in the size that a tensor
// claims.
func TestExpandedHuge(t *testing.T) {
	r, err := open(zipOf(dictOf(func(p *pickler) {
		p.str("x").v2(func() { p.storage("FloatStorage", "0", 4) }, 1, []int64{1 << 37, 1 << 20}, []int64{0, 0})
	}), bytesTo(16)))
	if err != nil {
		t.Fatal(err)
	}
	x := slices.Collect(r.Tensors())[0]
	b := make([]byte, 9)
	if _, err := x.Data.ReadAt(b, 1<<58+2); err != nil {
		t.Fatal(err)
	}
	if want := []byte{6, 7, 4, 5, 6, 7, 4, 5, 6}; !bytes.Equal(b, want) {
		t.Errorf("read %v, want %v", b, want)
	}
}

func TestFormatError(t *testing.T) {
	inner := errors.New("inner")
	tests := []struct {
		err  FormatError
		want string
	}{
		{FormatError{Offset: -1, Msg: "is empty"}, "torchbin: is empty"},
		{FormatError{Tensor: "a.b", Entry: "data.pkl", Offset: 3, Msg: "is odd", Err: inner}, "torchbin: a.b: data.pkl: byte 3: is odd: inner"},
		{FormatError{Entry: "storage keys", Offset: -1, Msg: "is odd"}, "torchbin: storage keys: is odd"},
		{FormatError{Tensor: "a: b", Offset: -1, Msg: "is odd"}, `torchbin: "a: b": is odd`},
		{FormatError{Tensor: "a\nb", Offset: -1, Msg: "is odd"}, `torchbin: "a\nb": is odd`},
		{FormatError{Tensor: strings.Repeat("x", 300), Offset: 0, Msg: "is odd"}, "torchbin: " + strings.Repeat("x", 200) + "…: byte 0: is odd"},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("Error() = %q, want %q", got, tt.want)
		}
	}
	if !errors.Is(&FormatError{Err: inner}, inner) {
		t.Error("Err is not unwrapped")
	}
}

// TestDiskError checks that a failing disk is not taken for a bad file.
func TestDiskError(t *testing.T) {
	b := zipOf(dictOf(func(p *pickler) { p.str("x").floats("0", 2) }), bytesTo(8))
	l := legacyOf(dictOf(func(p *pickler) {
		p.str("x").v2(func() { p.oldStorage("FloatStorage", "1", 2) }, 0, []int64{2}, []int64{1})
	})).keyList("1").storage(2, string(bytesTo(8))).bytes()
	for _, b := range [][]byte{b, l} {
		if _, err := open(b); err != nil {
			t.Fatal(err)
		}
		fails := 0
		for after := range 40 {
			r := &dying{bytes.NewReader(b), after}
			_, err := NewReader(r, int64(len(b)))
			if err == nil {
				break
			}
			fails++
			if _, ok := errors.AsType[*FormatError](err); ok || !errors.Is(err, errDisk) || !strings.HasPrefix(err.Error(), "torchbin: ") {
				t.Errorf("after %d reads: %v, want %v wrapped", after, err, errDisk)
			}
		}
		if fails == 0 {
			t.Error("no read failed")
		}
	}
}

// dying reads a number of times, and fails from then on.
type dying struct {
	r     io.ReaderAt
	after int
}

func (d *dying) ReadAt(b []byte, off int64) (int, error) {
	if d.after--; d.after < 0 {
		return 0, errDisk
	}
	return d.r.ReadAt(b, off)
}
