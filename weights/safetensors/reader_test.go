package safetensors

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
	"unicode"

	"expo/weights/tensor"
)

// file is a file with the given header and n bytes of data 0, 1, 2, …
func file(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	for i := range n {
		b = append(b, byte(i))
	}
	return b
}

func open(b []byte) (*Reader, error) { return NewReader(bytes.NewReader(b), int64(len(b))) }

// describe is one line about the tensors of r and their bytes.
func describe(t *testing.T, r *Reader) string {
	t.Helper()
	var all []string
	for x := range r.Tensors() {
		b := make([]byte, x.Size())
		if err := tensor.ReadFull(x.Data, b, 0); err != nil {
			t.Fatalf("%q: %v", x.Name, err)
		}
		all = append(all, fmt.Sprintf("%s %v %v %v", printable(x.Name), x.DType, x.Shape, b))
	}
	if r.Len() != len(all) {
		t.Errorf("Len is %d, Tensors yields %d", r.Len(), len(all))
	}
	return strings.Join(all, "; ")
}

const (
	a8 = `"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}`
	a4 = `"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}`
	b4 = `"b":{"dtype":"U8","shape":[2,2],"data_offsets":[4,8]}`
	e4 = `"e":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}`

	a8Text   = "a U8 [8] [0 1 2 3 4 5 6 7]"
	a4b4Text = "a U8 [4] [0 1 2 3]; b U8 [2 2] [4 5 6 7]"
)

func TestAccepted(t *testing.T) {
	for _, tt := range []struct {
		name   string
		header string
		data   int
		want   string
		meta   map[string]string
	}{
		{"one tensor", `{` + a8 + `}`, 8, a8Text, nil},
		{"keys in another order than the data", `{` + b4 + `,` + a4 + `}`, 8, a4b4Text, nil},
		{"fields in any order", `{"a":{"data_offsets":[0,1],"shape":[1],"dtype":"U8"}}`, 1, "a U8 [1] [0]", nil},
		{"metadata", `{"__metadata__":{"format":"pt","x":""},` + a8 + `}`, 8, a8Text, map[string]string{"format": "pt", "x": ""}},
		{"metadata without format", `{"__metadata__":{"x":"y"}}`, 0, "", map[string]string{"x": "y"}},
		{"metadata of tensorflow", `{"__metadata__":{"format":"tf"}}`, 0, "", map[string]string{"format": "tf"}},
		{"metadata last", `{` + a8 + `,"__metadata__":{}}`, 8, a8Text, map[string]string{}},
		{"metadata null", `{"__metadata__":null,` + a8 + `}`, 8, a8Text, nil},
		{"metadata under an escaped key", `{"__metadat\u0061__":{"x":"y"}}`, 0, "", map[string]string{"x": "y"}},
		{"no tensors", `{}`, 0, "", nil},
		{"length not a multiple of 8", `{` + a8 + `} `, 8, a8Text, nil},
		{"leading space", " \t\r\n{" + a8 + "}", 8, a8Text, nil},
		{"trailing space", "{" + a8 + "} \t\r\n", 8, a8Text, nil},
		{"space everywhere", ` { "a" : { "dtype" : "U8" , "shape" : [ 2 , 4 ] , "data_offsets" : [ 0 , 8 ] } } `, 8, "a U8 [2 4] [0 1 2 3 4 5 6 7]", nil},
		{"scalar", `{"a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]}}`, 2, "a BF16 [] [0 1]", nil},
		{"other keys in an entry", `{"a":{"x":[1,-2.5e+3,{"y":[],"y":{}},"\"",true,false,null],"dtype":"U8","shape":[1],"data_offsets":[0,1],"z":0}}`, 1, "a U8 [1] [0]", nil},
		{"nesting at the limit", `{"a":{"x":` + strings.Repeat("[", 125) + strings.Repeat("]", 125) + `,"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1, "a U8 [1] [0]", nil},
		{"unaligned float", `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"f":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}`, 5, "a U8 [1] [0]; f F32 [1] [1 2 3 4]", nil},
		{"empty tensor between", `{` + a4 + `,` + e4 + `,` + b4 + `}`, 8, "a U8 [4] [0 1 2 3]; e F32 [0] []; b U8 [2 2] [4 5 6 7]", nil},
		{"empty tensor named last", `{` + a4 + `,` + b4 + `,` + e4 + `}`, 8, "a U8 [4] [0 1 2 3]; e F32 [0] []; b U8 [2 2] [4 5 6 7]", nil},
		{"empty tensors in header order", `{` + e4 + `,"d":{"dtype":"I8","shape":[3,0],"data_offsets":[4,4]},` + a4 + `}`, 4, "a U8 [4] [0 1 2 3]; e F32 [0] []; d I8 [3 0] []", nil},
		{"escaped strings", `{"\u00e9\ud83d\ude00\n\/":{"dt\u0079pe":"\u00558","shape":[1],"data_offsets":[0,1]}}`, 1, `"é😀\n/" U8 [1] [0]`, nil},
		{"raw characters", "{\"\u00e9\u2028\x7f\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, `"é\u2028\x7f" U8 [1] [0]`, nil},
		{"empty name", `{"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1, `"" U8 [1] [0]`, nil},
		{"sub-byte types", `{"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]},"b":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[2,5]}}`, 5, "a F4 [4] [0 1]; b F6_E2M3 [4] [2 3 4]", nil},
		{"largest dimension that counts nothing", fmt.Sprintf(`{"a":{"dtype":"U8","shape":[%d,0],"data_offsets":[0,0]}}`, math.MaxInt), 0, fmt.Sprintf("a U8 [%d 0] []", math.MaxInt), nil},
	} {
		r, err := open(file(tt.header, tt.data))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := describe(t, r); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
		meta := r.Metadata()
		if fmt.Sprint(meta) != fmt.Sprint(tt.meta) || (meta == nil) != (tt.meta == nil) {
			t.Errorf("%s: metadata %v, want %v", tt.name, meta, tt.meta)
		}
		if want := int64(8 + len(tt.header)); r.HeaderSize() != want {
			t.Errorf("%s: HeaderSize %d, want %d", tt.name, r.HeaderSize(), want)
		}
		if meta != nil {
			meta["changed"] = "by the caller"
			if _, ok := r.Metadata()["changed"]; ok {
				t.Errorf("%s: Metadata is not a copy", tt.name)
			}
		}
	}
}

func TestEveryDType(t *testing.T) {
	names := "BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 F32 C64 F64 I64 U64"
	for _, name := range strings.Fields(names) {
		d, err := tensor.ParseDType(name)
		if err != nil {
			t.Fatal(err)
		}
		n := d.Bits() * 4 / 8
		header := fmt.Sprintf(`{"a":{"dtype":%q,"shape":[4],"data_offsets":[0,%d]}}`, name, n)
		if _, err := open(file(header, n)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, bad := range []string{strings.ToLower(name), name + " ", "torch." + name} {
			header := fmt.Sprintf(`{"a":{"dtype":%q,"shape":[4],"data_offsets":[0,%d]}}`, bad, n)
			want := fmt.Sprintf("safetensors: a: unknown dtype %q (byte 22)", bad)
			if _, err := open(file(header, n)); err == nil || err.Error() != want {
				t.Errorf("%s: got %v, want %s", bad, err, want)
			}
		}
	}
}

// entryOf is a header with one entry, of which the shape is given.
func entryOf(shape string) string {
	return `{"a":{"dtype":"U8","shape":[` + shape + `],"data_offsets":[0,8]}}`
}

func TestRefused(t *testing.T) {
	const u8 = `"dtype":"U8","shape":[8],"data_offsets":[0,8]`
	for _, tt := range []struct {
		name   string
		header string
		data   int
		want   string // the message, without its prefix
	}{
		// The place of the data.
		{"hole at the start", `{"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}`, 4, "a: begins at 2, want 0: a hole of 2 bytes before it"},
		{"hole", `{` + a4 + `,"b":{"dtype":"U8","shape":[2],"data_offsets":[6,8]}}`, 8, "b: begins at 6, want 4: a hole of 2 bytes after a"},
		{"overlap", `{` + a8 + `,` + b4 + `}`, 8, "b: begins at 4, want 8: overlaps a"},
		{"same place", `{` + a4 + `,"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 4, "b: begins at 0, want 4: overlaps a"},
		{"empty inside another", `{` + a8 + `,` + e4 + `}`, 8, "e: begins at 4, want 8: overlaps a"},
		{"empty beyond the end", `{` + a8 + `,"e":{"dtype":"U8","shape":[0],"data_offsets":[9,9]}}`, 8, "e: begins at 9, want 8: a hole of 1 bytes after a"},
		{"trailing bytes", `{` + a8 + `}`, 11, "a: ends at 8, the data at 11: 3 bytes belong to no tensor"},
		{"data without tensors", `{}`, 3, "the header names no tensor, but 3 bytes follow it"},
		{"truncated", `{` + a8 + `}`, 5, "a: ends at 8, the data at 5: the file has 66 bytes, the header needs 69: download it again"},
		{"truncated in the first of two", `{` + b4 + `,` + a4 + `}`, 3, "a: ends at 4, the data at 3: the file has 118 bytes, the header needs 123: download it again"},
		{"truncated between two", `{` + b4 + `,` + a4 + `}`, 4, "b: ends at 8, the data at 4: the file has 119 bytes, the header needs 123: download it again"},
		{"end before begin", `{"a":{"dtype":"U8","shape":[0],"data_offsets":[8,0]}}`, 0, "a: begins at 8 and ends before it, at 0 (byte 54)"},
		{"wrong size", `{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`, 8, "a: data_offsets [0 8] hold 8 bytes, F32 of shape [3] has 12 (byte 9)"},
		{"scalar of wrong size", entryOf(""), 8, "a: data_offsets [0 8] hold 8 bytes, U8 of shape [] has 1 (byte 9)"},
		{"end beyond any file", `{"a":{"dtype":"U8","shape":[1152921504606846975],"data_offsets":[0,1152921504606846975]}}`, 8, "a: ends at 1152921504606846975, the data at 8: the file has 105 bytes, the header needs 1152921504606847072: download it again"},

		// Numbers.
		{"negative dimension", entryOf("-8"), 8, "a: dimension -8 is negative (byte 36)"},
		{"negative zero", entryOf("8,-0"), 8, "a: dimension -0 is negative (byte 38)"},
		{"fraction", entryOf("8.0"), 8, "a: dimension 8.0 is not written as an integer (byte 36)"},
		{"exponent", entryOf("1e3"), 8, "a: dimension 1e3 is not written as an integer (byte 36)"},
		{"leading zero", entryOf("08"), 8, "a: a number begins with 0 (byte 36)"},
		{"plus", entryOf("+8"), 8, "a: '+' where a number should be (byte 36)"},
		{"bare minus", entryOf("-"), 8, "a: ']' where a digit should be (byte 37)"},
		{"no digits after the point", entryOf("8."), 8, "a: ']' where a digit should be (byte 38)"},
		{"no digits in the exponent", entryOf("8e+"), 8, "a: ']' where a digit should be (byte 39)"},
		{"null dimension", entryOf("null"), 8, "a: 'n' where a number should be (byte 36)"},
		{"string dimension", entryOf(`"8"`), 8, `a: '"' where a number should be (byte 36)`},
		{"trailing comma", entryOf("8,"), 8, "a: ']' where a number should be (byte 38)"},
		{"dimension 2⁶⁴", entryOf("18446744073709551616,0"), 8, "a: dimension 18446744073709551616 is too large (byte 36)"},
		{"dimension 2⁶³", entryOf("9223372036854775808,0"), 8, "a: dimension 9223372036854775808 is too large (byte 36)"},
		{"product 2⁶⁴", entryOf("4294967296,4294967296"), 8, "a: shape [4294967296 4294967296] has more elements than an int64 counts (byte 9)"},
		{"bytes 2⁶³", `{"a":{"dtype":"F64","shape":[1152921504606846976],"data_offsets":[0,0]}}`, 0, "a: F64 of shape [1152921504606846976] has more bytes than an int64 counts (byte 9)"},
		{"sub-byte end", `{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}`, 1, "a: F4 of shape [3] does not end on a byte (byte 9)"},
		{"many dimensions", `{"a":{"dtype":"F4","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}}`, 1, "a: shape [1 1 1 1 1 1 1 1]… (9 dimensions) overflows or does not end on a byte (byte 9)"},
		{"offset -0", `{"a":{"dtype":"U8","shape":[8],"data_offsets":[-0,8]}}`, 8, "a: offset -0 is negative (byte 55)"},
		{"offset 8.0", `{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8.0]}}`, 8, "a: offset 8.0 is not written as an integer (byte 57)"},
		{"one offset", `{"a":{"dtype":"U8","shape":[8],"data_offsets":[8]}}`, 8, "a: data_offsets has 1 numbers, want 2 (byte 54)"},
		{"no offsets", `{"a":{"dtype":"U8","shape":[8],"data_offsets":[]}}`, 8, "a: data_offsets has 0 numbers, want 2 (byte 54)"},
		{"three offsets", `{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8,9]}}`, 8, "a: data_offsets has more than two numbers (byte 54)"},

		// Entries.
		{"two tensors of a name", `{` + a4 + `,` + a4 + `}`, 4, "a: two tensors of this name (byte 61)"},
		{"of a name written differently", `{` + a4 + `,"\u0061":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}`, 8, "a: two tensors of this name (byte 61)"},
		{"two dtypes", `{"a":{"dtype":"U8",` + u8 + `}}`, 8, "a: two values for dtype (byte 27)"},
		{"two shapes", `{"a":{"shape":[8],` + u8 + `}}`, 8, "a: two values for shape (byte 39)"},
		{"two offsets", `{"a":{` + u8 + `,"data_offsets":[0,8]}}`, 8, "a: two values for data_offsets (byte 60)"},
		{"two of another key", `{"a":{"x":1,` + u8 + `,"x":2}}`, 8, "a: two values for x (byte 66)"},
		{"no dtype", `{"a":{"shape":[8],"data_offsets":[0,8]}}`, 8, "a: has no dtype (byte 9)"},
		{"no shape", `{"a":{"dtype":"U8","data_offsets":[0,8]}}`, 8, "a: has no shape (byte 9)"},
		{"no data_offsets", `{"a":{"dtype":"U8","shape":[8]}}`, 8, "a: has no data_offsets (byte 9)"},
		{"key in another case", `{"a":{"Dtype":"U8","shape":[8],"data_offsets":[0,8]}}`, 8, "a: has no dtype (byte 9)"},
		{"entry null", `{"a":null}`, 0, "a: 'n' where the '{' of an entry should be (byte 13)"},
		{"entry an array", `{"a":["U8",[8],[0,8]]}`, 8, "a: '[' where the '{' of an entry should be (byte 13)"},
		{"dtype a number", `{"a":{"dtype":1}}`, 0, "a: '1' where the dtype, a string, should be (byte 22)"},
		{"dtype an object", `{"a":{"dtype":{"U8":null}}}`, 0, "a: '{' where the dtype, a string, should be (byte 22)"},
		{"dtype invalid", `{"a":{"dtype":"INVALID","shape":[0],"data_offsets":[0,0]}}`, 0, `a: unknown dtype "INVALID" (byte 22)`},
		{"shape a number", `{"a":{"shape":8}}`, 0, "a: '8' where the shape, an array, should be (byte 22)"},
		{"shape cut off", `{"a":{"shape":[8`, 0, "a: the header ends where ',' or ']' should be (byte 24)"},
		{"offsets a string", `{"a":{"data_offsets":"0"}}`, 0, `a: '"' where data_offsets, an array, should be (byte 29)`},
		{"fault in the unnamed tensor", `{"":null}`, 0, `"": 'n' where the '{' of an entry should be (byte 12)`},

		// Metadata.
		{"metadata twice", `{"__metadata__":{},"__metadata__":{}}`, 0, "__metadata__ stands twice in the header (byte 27)"},
		{"metadata key twice", `{"__metadata__":{"a":"1","a":"1"}}`, 0, "__metadata__ has two values for a (byte 33)"},
		{"metadata number", `{"__metadata__":{"format":1}}`, 0, "'1' where a string as value of __metadata__ should be (byte 34)"},
		{"metadata value null", `{"__metadata__":{"format":null}}`, 0, "'n' where a string as value of __metadata__ should be (byte 34)"},
		{"metadata array", `{"__metadata__":[]}`, 0, "'[' where the '{' of __metadata__ should be (byte 24)"},
		{"tensor named as metadata", `{"__metadata__":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}`, 8, "'[' where a string as value of __metadata__ should be (byte 46)"},

		// JSON.
		{"empty metadata as written by 0.8.0 without tensors", `{},"__metadata__":{}}   `, 0, "',' where the end of the header should be (byte 10)"},
		{"padded with NUL", "{" + a8 + "}\x00\x00", 8, "the header is padded with NUL bytes, not with spaces (byte 61)"},
		{"text after it", `{}x`, 0, "'x' where the end of the header should be (byte 10)"},
		{"only space", "        ", 0, "the header ends where the header's '{' should be (byte 16)"},
		{"byte order mark", "\ufeff{}", 0, `'\ufeff' where the header's '{' should be (byte 8)`},
		{"array", "[]", 0, "'[' where the header's '{' should be (byte 8)"},
		{"null", "null", 0, "'n' where the header's '{' should be (byte 8)"},
		{"comma at the end", `{` + a8 + `,}`, 8, "'}' where a key should be (byte 61)"},
		{"no comma", `{` + a8 + a4 + `}`, 8, `'"' where ',' or '}' should be (byte 60)`},
		{"no colon", `{"a" 1}`, 0, "'1' where ':' should be (byte 13)"},
		{"not closed", `{` + a8, 8, "the header ends where ',' or '}' should be (byte 60)"},
		{"string not closed", `{"a`, 0, "a string does not end (byte 9)"},
		{"string not closed after an escape", `{"\n`, 0, "a string does not end (byte 9)"},
		{"string ends in a backslash", `{"\`, 0, "a string does not end (byte 10)"},
		{"control character", "{\"a\n\":{}}", 0, `a string holds the control character '\n' unescaped (byte 11)`},
		{"control character after an escape", "{\"\\n\x1b\":{}}", 0, `a string holds the control character '\x1b' unescaped (byte 12)`},
		{"unknown escape", `{"\x":{}}`, 0, "a string holds an escape that JSON does not know (byte 10)"},
		{"short escape", `{"\u12g4":{}}`, 0, `a string holds \u without four hexadecimal digits (byte 10)`},
		{"cut escape", `{"\u12`, 0, `a string holds \u without four hexadecimal digits (byte 10)`},
		{"high surrogate", `{"\ud800":{}}`, 0, "a string holds half of a surrogate pair (byte 10)"},
		{"low surrogate", `{"\udc00":{}}`, 0, "a string holds half of a surrogate pair (byte 10)"},
		{"two high surrogates", `{"\ud800\ud800":{}}`, 0, "a string holds half of a surrogate pair (byte 10)"},
		{"surrogate and a letter", `{"\ud800\u0041":{}}`, 0, "a string holds half of a surrogate pair (byte 10)"},
		{"invalid UTF-8", "{\"\ufffd\xff\":{}}", 0, "the header is not valid UTF-8 (byte 13)"},
		{"surrogate in UTF-8", "{\"\xed\xa0\x80\":{}}", 0, "the header is not valid UTF-8 (byte 10)"},
		{"overlong UTF-8", "{\"\xc0\x80\":{}}", 0, "the header is not valid UTF-8 (byte 10)"},
		{"NaN", `{"a":{"x":NaN}}`, 0, "a: 'N' where a value should be (byte 18)"},
		{"misspelt literal", `{"a":{"x":nul}}`, 0, "a: 'n' where a value should be (byte 18)"},
		{"number out of range", `{"a":{"x":1e999}}`, 0, "a: the number 1e999 is out of range (byte 18)"},
		{"nesting too deep", `{"a":{"x":` + strings.Repeat("[", 126), 0, "a: values nest deeper than 127 levels (byte 143)"},
		{"objects too deep", `{"a":{"x":` + strings.Repeat(`{"":`, 10_000_000), 0, "a: values nest deeper than 127 levels (byte 518)"},
	} {
		_, err := open(file(tt.header, tt.data))
		if err == nil {
			t.Errorf("%s: accepted", tt.name)
			continue
		}
		if want := "safetensors: " + tt.want; err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", tt.name, err, want)
		}
		if _, ok := errors.AsType[*FormatError](err); !ok {
			t.Errorf("%s: the error is a %T", tt.name, err)
		}
	}
}

func TestFormatErrorParts(t *testing.T) {
	for _, tt := range []struct {
		header string
		data   int
		tensor string
		offset int64
	}{
		{`{"a":{"dtype":"U8","shape":[8],"data_offsets":[2,10]}}`, 10, "a", 8 + 54 + 2},
		{`{"a` + "\u202e" + `":1}`, 0, "a\u202e", 8 + 8},
		{`[]`, 0, "", 8},
		{`{` + a8 + `}`, 9, "a", 8 + 53 + 8},
	} {
		_, err := open(file(tt.header, tt.data))
		fe, ok := errors.AsType[*FormatError](err)
		if !ok {
			t.Errorf("%s: %v", tt.header, err)
			continue
		}
		if fe.Tensor != tt.tensor || fe.Offset != tt.offset {
			t.Errorf("%s: tensor %q at %d, want %q at %d", tt.header, fe.Tensor, fe.Offset, tt.tensor, tt.offset)
		}
	}
}

func TestLength(t *testing.T) {
	length := func(n uint64, rest string) string {
		return string(binary.LittleEndian.AppendUint64(nil, n)) + rest
	}
	for _, tt := range []struct{ name, file, want string }{
		{"no bytes", "", "the file is empty: download it again"},
		{"three bytes", "\x01\x00\x00", "the file has 3 bytes, the length of a header alone takes 8: download it again"},
		{"zeros", strings.Repeat("\x00", 100), "the length of the header is 0: the file was never filled, download it again"},
		{"beyond the end", length(3, "{}"), "the file has 10 bytes, its header ends at 11: download it again"},
		{"largest", length(100_000_000, "{}"), "the file has 10 bytes, its header ends at 100000008: download it again"},
		{"too large", length(100_000_001, "{}"), "the header would be 100000001 bytes long, more than the 100000000 that are allowed: not a safetensors file"},
		{"2⁶⁴−1", length(math.MaxUint64, "{}"), "the header would be 18446744073709551615 bytes long, more than the 100000000 that are allowed: not a safetensors file"},
		{"Git LFS", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "this is a Git LFS pointer, not the weights: run git lfs pull, or download the file again"},
		{"HTML", "<!DOCTYPE html><html>", "this is a web page, not weights (an error or a login page saved in their place?): download the file again"},
		{"HTML after space", "\n\n  <html>", "this is a web page, not weights (an error or a login page saved in their place?): download the file again"},
		{"tiny HTML", "<a>", "this is a web page, not weights (an error or a login page saved in their place?): download the file again"},
		{"zip", "PK\x03\x04\x00\x00\x08\x08\x00\x00", "this is a zip archive, as torch.save writes: name it .bin and read it as a PyTorch checkpoint"},
		{"pickle", "\x80\x02\x8a\nl\xfc\x9cF\xf9", "this is a Python pickle, as old versions of torch.save write: name it .bin and read it as a PyTorch checkpoint"},
		{"GGUF", "GGUF\x03\x00\x00\x00\x00\x00", "this is a GGUF file: use the model's directory of safetensors files, or, where a GGUF file will do, name it .gguf"},
		{"JSON", `{"error":"Entry not found"}`, `this begins with JSON text and not with the length of a header ("{\"error\":\"Entry not found\"}"): download the file again`},
		{"text", "Access is restricted.\nAsk.", `this is text, not weights ("Access is restricted."): download the file again`},
	} {
		_, err := open([]byte(tt.file))
		if err == nil {
			t.Errorf("%s: accepted", tt.name)
		} else if want := "safetensors: " + tt.want; err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", tt.name, err, want)
		}
	}

	// A good header may be as long as its first byte spells '<' or 'P'.
	for _, n := range []int{'<', 'P'} {
		if _, err := open(file("{}"+strings.Repeat(" ", n-2), 0)); err != nil {
			t.Errorf("a header of %d bytes: %v", n, err)
		}
	}
}

// broken is an io.ReaderAt whose reads fail from offset at on.
type broken struct {
	io.ReaderAt
	at  int64
	err error
}

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.at {
		return 0, b.err
	}
	return b.ReaderAt.ReadAt(p, off)
}

func TestReadErrors(t *testing.T) {
	b := file("{"+a8+"}"+strings.Repeat(" ", 100), 8)
	size := int64(len(b))
	cause := errors.New("disk on fire")
	for _, tt := range []struct {
		r    io.ReaderAt
		want error
	}{
		{broken{bytes.NewReader(b), 0, cause}, cause},
		{broken{bytes.NewReader(b), 100, cause}, cause},
		{bytes.NewReader(b[:4]), io.ErrUnexpectedEOF},
		{bytes.NewReader(b[:100]), io.ErrUnexpectedEOF},
	} {
		_, err := NewReader(tt.r, size)
		if !errors.Is(err, tt.want) || !strings.HasPrefix(err.Error(), "safetensors: reading the ") {
			t.Errorf("got %v, want %v", err, tt.want)
		}
	}

	r, err := NewReader(bytes.NewReader(b[:size-1]), size)
	if err != nil {
		t.Fatal(err)
	}
	for x := range r.Tensors() {
		if err := tensor.ReadFull(x.Data, make([]byte, 8), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("data beyond the end of the file: %v", err)
		}
	}
	if _, err := NewReader(bytes.NewReader(nil), -1); err == nil {
		t.Error("a negative size is accepted")
	}
}

func TestPrintable(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"model.layers.3.mlp.up_proj.weight", "model.layers.3.mlp.up_proj.weight"},
		{"é-ß/漢", "é-ß/漢"},
		{"", `""`},
		{"a b", `"a b"`},
		{`a"b`, `"a\"b"`},
		{"\x1b[31mred", `"\x1b[31mred"`},
		{"a\u202eb\u009b", `"a\u202eb\u009b"`},
		{"\xff", `"\xff"`},
		{strings.Repeat("x", 300), strings.Repeat("x", 200) + "…"},
		{strings.Repeat("é", 101) + "\x00", strings.Repeat("é", 100) + "…"},
		{"a" + strings.Repeat("é", 150), "a" + strings.Repeat("é", 99) + "…"},
		{"\n" + strings.Repeat("x", 300), `"\n` + strings.Repeat("x", 199) + `"…`},
	} {
		got := printable(tt.in)
		if got != tt.want {
			t.Errorf("printable(%q) is %q, want %q", tt.in, got, tt.want)
		}
		if i := strings.IndexFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("printable(%q) holds %q", tt.in, got[i:])
		}
	}
}

// allocated is the number of bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestMemory(t *testing.T) {
	// A header that lies about its length costs nothing.
	for _, n := range []uint64{3, 100_000_000, 100_000_001, 1 << 62, math.MaxUint64} {
		b := append(binary.LittleEndian.AppendUint64(nil, n), "{}"...)
		got := allocated(func() {
			if _, err := open(b); err == nil {
				t.Errorf("a header of %d bytes in a file of %d is accepted", n, len(b))
			}
		})
		if got > 64<<10 {
			t.Errorf("header length %d: %d bytes allocated for a file of %d", n, got, len(b))
		}
	}

	// Whatever is in it, a header costs a small multiple of its length, all
	// allocations counted, also those that were freed meanwhile.
	const size = 4 << 20
	var entries strings.Builder
	for i := 0; entries.Len() < size; i++ {
		fmt.Fprintf(&entries, `"%x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},`, i)
	}
	var keys strings.Builder
	for i := 0; keys.Len() < size; i++ {
		fmt.Fprintf(&keys, `"%x":0,`, i)
	}
	var metadata strings.Builder
	for i := 0; metadata.Len() < size; i++ {
		fmt.Fprintf(&metadata, `"%x":"",`, i)
	}
	for _, tt := range []struct{ name, header string }{
		{"many tensors", "{" + strings.TrimSuffix(entries.String(), ",") + "}"},
		{"many dimensions", `{"a":{"dtype":"U8","shape":[` + strings.Repeat("0,", size/2) + `0],"data_offsets":[0,0]}}`},
		{"many overflowing dimensions", `{"a":{"dtype":"U8","shape":[` + strings.Repeat("9,", size/2) + `9],"data_offsets":[0,0]}}`},
		{"commas for a shape", `{"a":{"shape":[` + strings.Repeat(",", size) + `]}}`},
		{"long name", `{"` + strings.Repeat("\u202e", size/3) + `":{}}`},
		{"long escaped name", `{"` + strings.Repeat(`\n`, size/2) + `":{}}`},
		{"long dtype", `{"a":{"dtype":"` + strings.Repeat("\u202e", size/3) + `"}}`},
		{"long number", `{"a":{"shape":[` + strings.Repeat("9", size) + `]}}`},
		{"long value", `{"a":{"x":0.` + strings.Repeat("9", size) + `}}`},
		{"false counts", `{"` + strings.Repeat(`\"data_offsets\"`, size/16) + `":{}}`},
		{"many keys", `{"a":{` + keys.String() + `"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`},
		{"much metadata", `{"__metadata__":{` + strings.TrimSuffix(metadata.String(), ",") + `}}`},
	} {
		b := file(tt.header, 0)
		var err error
		got := allocated(func() { _, err = open(b) })
		if factor := float64(got) / float64(len(b)); factor > 24 {
			t.Errorf("%s: %.1f times the header's %d bytes allocated", tt.name, factor, len(b))
		} else {
			t.Logf("%s: %.1f times (%.80v)", tt.name, factor, err)
		}
		if err != nil && len(err.Error()) > 2000 {
			t.Errorf("%s: a message of %d bytes", tt.name, len(err.Error()))
		}
	}
}
