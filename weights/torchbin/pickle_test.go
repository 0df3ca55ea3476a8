package torchbin

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"testing"
)

// loadBytes runs a bare pickle, in which any storage may be named.
func loadBytes(b []byte) (any, error) {
	seen := storages{}
	src := newSource(bytes.NewReader(b), 0, int64(len(b)), "data.pkl")
	return load(src, func(id tuple) (*storage, error) { return seen.add(id, 5) })
}

// show writes a value as Python would, more or less.
func show(v any) string {
	switch v := v.(type) {
	case bool:
		return map[bool]string{true: "True", false: "False"}[v]
	case string:
		return fmt.Sprintf("%q", v)
	case bigInt:
		return fmt.Sprintf("big %x", string(v))
	case raw:
		return "bytes"
	case tuple:
		return "(" + showAll(v) + ")"
	case *list:
		return "[" + showAll(v.items) + "]"
	case *dict:
		var s []string
		for _, it := range v.items {
			s = append(s, show(it.key)+": "+show(it.value))
		}
		return "{" + strings.Join(s, ", ") + "}"
	case instance:
		return v.of.String() + "()"
	case nil:
		return "None"
	}
	return fmt.Sprint(v)
}

func showAll(vs []any) string {
	var s []string
	for _, v := range vs {
		s = append(s, show(v))
	}
	return strings.Join(s, ", ")
}

func TestPickle(t *testing.T) {
	tests := []struct{ name, pickle, want string }{
		{"constants", "\x80\x02(N\x88\x89t.", "(None, True, False)"},
		{"integers", "(K\xffM\xff\xffJ\xff\xff\xff\xffJ\x01\x00\x00\x00t.", "(255, 65535, -1, 1)"},
		{"longs", "(\x8a\x00\x8a\x01\xff\x8a\x02\xff\x00\x8a\x02\x00\xff\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00\x8b\x03\x00\x00\x00\x01\x02\x03t.",
			"(0, -1, 255, -256, big 000000000000008000, 197121)"},
		{"longs at the limits", "(\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x8a\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfft.",
			fmt.Sprintf("(%d, %d, -1)", int64(math.MinInt64), int64(math.MaxInt64))},
		{"text numbers", "(I5\nI-7\nI01\nI00\nL9000000000L\nL-3L\nF1.5\nt.", "(5, -7, True, False, 9000000000, -3, 1.5)"},
		{"float", "G\x3f\xf8\x00\x00\x00\x00\x00\x00.", "1.5"},
		{"strings", "(X\x01\x00\x00\x00aU\x01bT\x01\x00\x00\x00c\x8c\x01d\x8d\x01\x00\x00\x00\x00\x00\x00\x00et.", `("a", "b", "c", "d", "e")`},
		{"bytes", "(C\x01aB\x01\x00\x00\x00b\x8e\x01\x00\x00\x00\x00\x00\x00\x00c\x96\x01\x00\x00\x00\x00\x00\x00\x00dt.", "(bytes, bytes, bytes, bytes)"},
		{"tuples", ")\x85K\x01\x86K\x02K\x03\x87.", "(((()), 1), 2, 3)"},
		{"lists", "](K\x01K\x02eK\x03a.", "[1, 2, 3]"},
		{"dicts", "}(K\x01K\x02uNNs.", "{1: 2, None: None}"},
		{"sets", "\x8f(K\x01\x90.", "builtins.set()"},
		{"frozen set", "(K\x01\x91.", "builtins.set()"},
		{"memo", "(K\x05q\x00r\x07\x00\x00\x00h\x00j\x07\x00\x00\x00t.", "(5, 5, 5)"},
		{"memo, out of order", "(K\x05q\x03K\x06q\x00K\x07q\x03h\x03t.", "(5, 6, 7, 7)"},
		{"memo, protocol 4", "\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00(N\x94K\x01\x94h\x00h\x01t.", "(None, 1, None, 1)"},
		{"pop", "K\x01K\x020.", "1"},
		{"pop to a mark", "K\x01(K\x02K\x031.", "1"},
		{"pop of a mark", "K\x01(0.", "1"},
		{"global, protocol 4", "\x8c\x05torch\x8c\x07float32\x93.", "torch.float32"},
		{"bytes of protocol 2", "c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00latin1\x86R.", "_codecs.encode()"},
		{"set of protocol 2", "c__builtin__\nset\n](K\x01e\x85R.", "__builtin__.set()"},
		{"size", "ctorch\nSize\nK\x01K\x02\x86\x85R.", "(1, 2)"},
		{"OrderedDict", "ccollections\nOrderedDict\n)R(K\x01K\x02u}X\x09\x00\x00\x00_metadataNsb.", "{1: 2}"},
		{"OrderedDict with attributes", "ccollections\nOrderedDict\n)RK\x01K\x02s}b.", "{1: 2}"},
		{"OrderedDict of pairs", "ccollections\nOrderedDict\n]](K\x01K\x02eaK\x03K\x04\x86a\x85R.", "{1: 2, 3: 4}"},
		{"OrderedDict without its constructor", "ccollections\nOrderedDict\n]K\x03K\x04\x86a\x85\x81.", "{}"},
		{"defaultdict", "ccollections\ndefaultdict\nc__builtin__\nlist\n\x85RK\x01K\x02s.", "{1: 2}"},
		{"Counter", "ccollections\nCounter\n}K\x01K\x02s\x85R.", "{1: 2}"},
		{"device", "ctorch\ndevice\nX\x03\x00\x00\x00cpu\x85R.", "torch.device()"},
		{"items of an object", "c__builtin__\nset\n)\x81(K\x01\x90K\x01a}b.", "__builtin__.set()"},
		{"rest behind the stop", "N.N.", "None"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := loadBytes([]byte(tt.pickle))
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				got = show(v)
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestPickleRefused(t *testing.T) {
	tests := []struct{ name, pickle, want string }{
		{"code", "cos\nsystem\nX\x02\x00\x00\x00ls\x85R.", "torchbin: data.pkl: byte 0: refuses to load os.system: a pickle that names it could run code"},
		{"code, protocol 4", "\x80\x04\x8c\x05posix\x8c\x06system\x93.", "byte 17: refuses to load posix.system"},
		{"code in parts", "\x80\x04\x8c\x05torch\x8c\x14_utils._import_dotte\x93.", "refuses to load torch._utils._import_dotte"},
		{"odd name", "co\x00s\nsys\"tem\n.", `refuses to load "o\x00s.sys\"tem"`},
		{"eval", "c__builtin__\neval\n.", "refuses to load __builtin__.eval"},
		{"getattr", "cbuiltins\ngetattr\n.", "refuses to load builtins.getattr"},
		{"long name", "c" + strings.Repeat("x", 600) + "\nsystem\n.", "a line begins here that does not end"},
		{"INST", "(ios\nsystem\n.", "refuses the opcode INST"},
		{"OBJ", "(o.", "refuses the opcode OBJ"},
		{"EXT1", "\x82\x01.", "refuses the opcode EXT1"},
		{"NEWOBJ_EX", "\x92.", "refuses the opcode NEWOBJ_EX"},
		{"PERSID", "P1\n.", "refuses the opcode PERSID"},
		{"DUP", "N2.", "refuses the opcode DUP"},
		{"no opcode", "N\xff.", "byte 1: there is no opcode 0xff"},
		{"protocol", "\x80\x06.", "pickle protocol 6, want at most 5"},
		{"call of a value", "NN\x85R.", "refuses to call None"},
		{"call of a dtype", "ctorch\nfloat32\n)R.", "refuses to call torch.float32"},
		{"call of a storage class", "ctorch\nFloatStorage\n)R.", "refuses to call torch.FloatStorage"},
		{"call without a tuple", "ctorch\nSize\nNR.", "calls with None for arguments"},
		{"object of a function", "ctorch._utils\n_rebuild_tensor\n)\x81.", "refuses to make an object of torch._utils._rebuild_tensor"},
		{"size of a number", "ctorch\nSize\nK\x01\x85R.", "refuses a call of torch.Size"},
		{"few arguments", "ctorch._utils\n_rebuild_tensor_v2\n)R.", "_rebuild_tensor_v2 has 0 arguments, want 6 to 7"},
		{"parameter of nothing", "ctorch.nn.parameter\nParameter\nN\x85R.", "wraps None, want a tensor"},
		{"parameter without arguments", "ctorch.nn.parameter\nParameter\n)R.", "refuses a call of torch.nn.parameter.Parameter"},
		{"type of a type", "ctorch._tensor\n_rebuild_from_type_v2\n(h\x00", "recalls 0"},
		{"nested type", "(ctorch._tensor\n_rebuild_from_type_v2\nq\x00ctorch\nTensor\n)NtR.", "empty stack"},
		{"nested type, well made", "ctorch._tensor\n_rebuild_from_type_v2\nq\x00(h\x00ctorch\nTensor\n)NtR.", "refuses a call of torch._tensor._rebuild_from_type_v2"},
		{"OrderedDict of one", "ccollections\nOrderedDict\n]K\x01a\x85R.", "has an integer among its items"},
		{"OrderedDict of a number", "ccollections\nOrderedDict\nK\x01\x85R.", "has an integer for an argument"},
		{"state of a tensor", "ctorch._utils\n_rebuild_meta_tensor_no_storage\n)RNb.", "refuses to set the state of a tensor"},
		{"state of a number", "K\x01Nb.", "refuses to set the state of an integer"},
		{"items of a tuple", ")K\x01a.", "adds items to a tuple"},
		{"pairs of a list", "]NNs.", "adds items to a list"},
		{"items of a dict", "}Na.", "adds items to a dict"},
		{"odd pairs", "}(Nu.", "from 1 values, want pairs"},
		{"name of a number", "NX\x01\x00\x00\x00a\x93.", "uses None for a name"},
		{"persistent id", "NQ.", "the persistent id is None, want a tuple"},
		{"empty persistent id", ")Q.", "has 0 fields, want 5"},
		{"other persistent id", "X\x01\x00\x00\x00xNN\x87Q.", `begins with a string, want "storage"`},
		{"empty stack", "\x80\x02\x85.", "takes a value from an empty stack"},
		{"under a mark", "N(\x85.", "takes a value from an empty stack"},
		{"no mark", "Nt.", "goes back to a mark"},
		{"no value", ".", "stops with 0 values"},
		{"two values", "NN.", "stops with 2 values"},
		{"open mark", "N(.", "stops with 1 values and 1 marks"},
		{"nothing in the memo", "h\x01.", "recalls 1, which it has not stored"},
		{"memo of nothing", "q\x01.", "empty stack"},
		{"no stop", "N", "the pickle wants 1 more bytes, 0 are left"},
		{"integer cut", "J\x00\x00", "wants 4 more bytes, 2 are left"},
		{"string cut", "X\xff\xff\xff\xffabc", "byte 1: the pickle has a length of 4294967295 here, 3 bytes are left"},
		{"string of 2⁶⁴", "\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "a length of 18446744073709551615"},
		{"bytes of 2⁶⁴", "\x8e\xff\xff\xff\xff\xff\xff\xff\xff", "more bytes, 0 are left"},
		{"long cut", "\x8b\xff\xff\xff\x7f", "a length of 2147483647"},
		{"frame cut", "\x95\xff\xff\xff\xff\xff\xff\xff\xff", "a frame of 18446744073709551615 bytes"},
		{"line cut", "cos", "does not end within 2 bytes"},
		{"no integer", "Ione\n.", "has one for an integer"},
		{"no float", "Fone\n.", "has one for a float"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := loadBytes([]byte(tt.pickle))
			if err == nil {
				t.Fatalf("got %s, want an error", show(v))
			}
			wantError(t, err, tt.want)
		})
	}
}

// TestOpcodes has every byte either run, refused under its name, or unknown.
func TestOpcodes(t *testing.T) {
	named := 0
	for op := range 256 {
		if op == opStop {
			continue
		}
		_, err := loadBytes([]byte{byte(op)})
		wantError(t, err)
		switch msg := err.Error(); {
		case strings.Contains(msg, "refuses the opcode"):
			named++
		case strings.Contains(msg, "there is no opcode"):
			named++
			if strings.ContainsRune("(.012FIJKLMNPQRSTUVXabcdeghijloqrstu}])GBC", rune(op)) || op >= 0x80 && op <= 0x98 {
				t.Errorf("opcode %#02x is not known", op)
			}
		}
	}
	// Python 3.8 and later have 68 opcodes.
	if want := 256 - (68 - 16); named != want {
		t.Errorf("%d bytes are refused as opcodes, want %d", named, want)
	}
}

// TestStorageRefused has persistent ids that are wrong, or do not agree.
func TestStorageRefused(t *testing.T) {
	tests := []struct {
		name string
		push func(p *pickler)
		want string
	}{
		{"sizes differ", func(p *pickler) { p.storage("FloatStorage", "0", 4).storage("FloatStorage", "0", 5) },
			"the storage 0 is 5 elements of torch.FloatStorage, but 4 of torch.FloatStorage elsewhere"},
		{"classes differ", func(p *pickler) { p.storage("FloatStorage", "0", 4).storage("IntStorage", "0", 4) }, "but 4 of torch.FloatStorage elsewhere"},
		{"negative", func(p *pickler) { p.storage("FloatStorage", "0", -4) }, "the storage 0 has -4 elements"},
		{"overflow", func(p *pickler) { p.storage("DoubleStorage", "0", 1<<62) }, "the storage 0 has 4611686018427387904 elements"},
		{"no class", func(p *pickler) { p.storage("float32", "0", 4) }, "want a class, two strings and an integer"},
		{"number for a key", func(p *pickler) {
			p.op(opMark).str("storage").global("torch", "FloatStorage").int(0).str("cpu").int(4).op(opTuple, opBinPersID)
		}, `("storage", the name torch.FloatStorage, an integer, a string, an integer)`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p pickler
			tt.push(&p)
			_, err := loadBytes(p.op(opTuple2).stop())
			wantError(t, err, tt.want)
		})
	}
}

// TestBombs runs pickles that would grow beyond all bounds if anything were
// expanded, and measures what they take.
func TestBombs(t *testing.T) {
	var doubling, listed pickler
	doubling.op(opEmptyTuple)
	for i := range 200 {
		// Each tuple holds the one before it twice.
		doubling.op(opBinPut, byte(i), opBinGet, byte(i), opTuple2)
	}
	// A list of 1000 pairs, made into a dict again and again.
	listed.op(opEmptyList, opMark)
	for range 1000 {
		listed.op(opNone, opNone, opTuple2)
	}
	listed.op(opAppends, opTuple1, opBinPut, 0).global("collections", "OrderedDict").op(opBinPut, 1)
	listed.op(opMark)
	for range 10000 {
		listed.op(opBinGet, 1, opBinGet, 0, opReduce)
	}
	tests := []struct {
		name   string
		pickle []byte
		want   string
	}{
		{"doubling", append(doubling.Bytes(), opStop), ""},
		{"one list, many dicts", listed.op(opTuple).stop(), "from the same list too often"},
		{"stack", []byte(strings.Repeat("N", maxStack+1)), "more than 1048576 values"},
		{"marks", []byte(strings.Repeat("(", maxStack+1)), "more than 1048576 values"},
		{"lists in a list", []byte("](" + strings.Repeat("]", maxStack-3) + "e."), ""},
		{"nested tuples", []byte(")" + strings.Repeat("\x85", 1<<20) + "."), ""},
		{"lists in a list, one by one", []byte("]" + strings.Repeat("]a", 1<<19) + "."), ""},
		{"contains itself", []byte("]q\x00h\x00a."), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			v, err := loadBytes(tt.pickle)
			runtime.ReadMemStats(&after)
			if tt.want == "" && err != nil {
				t.Fatal(err)
			}
			if tt.want != "" {
				wantError(t, err, tt.want)
			}
			took := after.TotalAlloc - before.TotalAlloc
			if limit := uint64(len(tt.pickle))*200 + 1<<20; took > limit {
				t.Errorf("allocated %d bytes in all for %d of pickle, want at most %d", took, len(tt.pickle), limit)
			}
			if err == nil {
				// It is a list or tuple: not a state dict, which is found without a walk.
				if _, _, bad := stateDict(v); bad == nil {
					t.Error("taken for a state dict")
				}
			}
		})
	}
}

// TestPickleTooLong refuses a long pickle by its size alone.
func TestPickleTooLong(t *testing.T) {
	const n = maxPickle + 1
	b := writeZip([]zipEntry{{name: "a/data.pkl", grow: n}}, "")
	dir := bytes.Index(b, []byte(centralSignature))
	end64 := bytes.Index(b, []byte(end64Signature))
	loc := bytes.Index(b, []byte(locator64Signature))
	end := bytes.Index(b, []byte(endSignature))
	le := binary.LittleEndian
	le.PutUint64(b[end64+48:], uint64(dir+n))
	le.PutUint64(b[loc+8:], uint64(end64+n))
	le.PutUint32(b[end+16:], uint32(dir+n))
	_, err := NewReader(&sparse{b, int64(dir), n}, int64(len(b))+n)
	wantError(t, err, "data.pkl: has 67108865 bytes, of which at most 67108864 are read")
}

// A sparse file has a hole of n zeros at offset at.
type sparse struct {
	b     []byte
	at, n int64
}

func (s *sparse) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		o := off + int64(i)
		switch {
		case o < s.at:
			p[i] = s.b[o]
		case o < s.at+s.n:
			p[i] = 0
		case o-s.n < int64(len(s.b)):
			p[i] = s.b[o-s.n]
		default:
			return i, io.EOF
		}
	}
	return len(p), nil
}

// TestSourceError checks that a failing reader is not taken for a bad pickle.
func TestSourceError(t *testing.T) {
	for _, long := range []int{1, 100 << 10} {
		b := append([]byte{opBinUnicode, byte(long), byte(long >> 8), byte(long >> 16), 0}, bytesTo(long)...)
		r := io.MultiReader(bytes.NewReader(b[:len(b)-1]), &dyingReader{})
		src := newSource(r, 0, int64(len(b)), "data.pkl")
		_, err := load(src, nil)
		if _, ok := errors.AsType[*FormatError](err); ok || !errors.Is(err, errDisk) {
			t.Errorf("%v, want %v wrapped", err, errDisk)
		}
	}
}

type dyingReader struct{}

func (*dyingReader) Read([]byte) (int, error) { return 0, errDisk }
