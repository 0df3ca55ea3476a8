package torchbin

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

func goodPickle() []byte { return dictOf(func(p *pickler) { p.str("x").floats("0", 2) }) }

func TestZip(t *testing.T) {
	tests := []struct {
		name string
		make func(e []zipEntry) []byte
	}{
		{"plain", func(e []zipEntry) []byte { return writeZip(e, "") }},
		{"with a comment", func(e []zipEntry) []byte { return writeZip(e, "PK\x05\x06 is not the end") }},
		{"ZIP64 sizes", func(e []zipEntry) []byte {
			for i := range e {
				e[i].zip64 = true
				e[i].extra = []byte{0x55, 0x54, 1, 0, 9}
			}
			return writeZip(e, "")
		}},
		{"another prefix", func(e []zipEntry) []byte {
			for i := range e {
				e[i].name = "global step 10/" + strings.TrimPrefix(e[i].name, "a/")
			}
			return writeZip(e, "")
		}},
		{"storages before the pickle", func(e []zipEntry) []byte {
			e[0], e[2] = e[2], e[0]
			return writeZip(e, "")
		}},
		{"no byteorder, no version", func(e []zipEntry) []byte { return writeZip([]zipEntry{e[0], e[2]}, "") }},
		{"entries of later versions, folders", func(e []zipEntry) []byte {
			return writeZip(append(e, zipEntry{name: "a/"}, zipEntry{name: "a/.data/serialization_id", data: bytesTo(40)}), "")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, data := mustOpen(t, tt.make(entriesOf(goodPickle(), bytesTo(8))))
			if want := string(bytesTo(8)); data["x"] != want {
				t.Errorf("x = %q, want %q", data["x"], want)
			}
		})
	}
}

// TestZipPlainEnd reads an archive without ZIP64 records, as other programs
// write it.
func TestZipPlainEnd(t *testing.T) {
	b := zipOf(goodPickle(), bytesTo(8))
	i := bytes.LastIndex(b, []byte(end64Signature))
	j := bytes.LastIndex(b, []byte(endSignature))
	_, data := mustOpen(t, append(b[:i:i], b[j:]...))
	if want := string(bytesTo(8)); data["x"] != want {
		t.Errorf("x = %q, want %q", data["x"], want)
	}
}

func TestZipRefused(t *testing.T) {
	change := func(i int, f func(e *zipEntry)) func(e []zipEntry) []zipEntry {
		return func(e []zipEntry) []zipEntry { f(&e[i]); return e }
	}
	const pickle, order, data, version = 0, 1, 2, 3
	tests := []struct {
		name string
		edit func(e []zipEntry) []zipEntry
		want string
	}{
		{"compressed", change(data, func(e *zipEntry) { e.method = 8 }), "a/data/0: is compressed (method 8)"},
		{"encrypted", change(data, func(e *zipEntry) { e.flags = 1 }), "a/data/0: is encrypted"},
		{"name twice", func(e []zipEntry) []zipEntry { return append(e, e[data]) }, "a/data/0: is in the archive twice"},
		{"another prefix", func(e []zipEntry) []zipEntry { return append(e, zipEntry{name: "b/x"}) }, "b/x: is not under a/"},
		{"no folder", func(e []zipEntry) []zipEntry { return []zipEntry{{name: "data.pkl"}} }, "data.pkl: is not in a folder"},
		{"no pickle", func(e []zipEntry) []zipEntry { return e[order:] }, "data.pkl: is missing"},
		{"no entry", func(e []zipEntry) []zipEntry {
			e = change(pickle, func(e *zipEntry) { e.name = "a/data.pk2" })(e)
			return e
		}, "data.pkl: is missing"},
		{"other local name", change(data, func(e *zipEntry) { e.local = "a/data/1" }), "a/data/0: has another name in its local header"},
		{"no local header", change(data, func(e *zipEntry) { e.signature = "PK\x07\x08" }), "a/data/0: no local header"},
		{"longer than it is", change(version, func(e *zipEntry) { e.grow = 1000 }), "a/version: its 1002 bytes"},
		{"over the next", change(data, func(e *zipEntry) { e.grow = 60 }), "overlap with a/version"},
		{"huge", change(data, func(e *zipEntry) { e.zip64, e.grow = true, 1<<62-8 }), "overlap with a/version"},
		{"beyond int64", change(data, func(e *zipEntry) { e.zip64, e.grow = true, -9 }), "outside the file"},
		{"packed otherwise", change(data, func(e *zipEntry) { e.packed = 4 }), "a/data/0: has 8 bytes, stored in 12"},
		{"header of another", change(data, func(e *zipEntry) { e.header = 64 }), "overlap with"},
		{"header past the end", change(data, func(e *zipEntry) { e.header = 1 << 31 }), "past the entries' end"},
		{"header far past the end", change(data, func(e *zipEntry) { e.zip64, e.header = true, 1<<62 }), "past the entries' end"},
		{"extra field cut", change(data, func(e *zipEntry) { e.extra = []byte{1, 0, 99, 0, 0} }), "extra field"},
		{"big endian", change(order, func(e *zipEntry) { e.data = []byte("big") }), "byteorder: is big"},
		{"no endian", change(order, func(e *zipEntry) { e.data = []byte("pdp\n") }), `byteorder: is "pdp\n", want little`},
		{"long endian", change(order, func(e *zipEntry) { e.data = make([]byte, 99) }), "byteorder: has 99 bytes"},
		{"version", change(version, func(e *zipEntry) { e.data = []byte("11\n") }), "version: is 11, want 1 to 10"},
		{"TorchScript", func(e []zipEntry) []zipEntry {
			return append(e, zipEntry{name: "a/constants.pkl"}, zipEntry{name: "a/code/__torch__.py", method: 8})
		}, "constants.pkl: this is a TorchScript archive"},
		{"no bytes of pickle", change(pickle, func(e *zipEntry) { e.data = nil }), "data.pkl: byte 0: the pickle wants 1 more bytes, 0 are left"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := open(writeZip(tt.edit(entriesOf(goodPickle(), bytesTo(8))), ""))
			wantError(t, err, tt.want)
		})
	}
}

// TestZipOverlap has two entries whose headers are one inside the other's
// data, which no other check would notice.
func TestZipOverlap(t *testing.T) {
	inner := writeZip([]zipEntry{{name: "a/data/1", data: bytesTo(8)}}, "")
	e := entriesOf(dictOf(func(p *pickler) { p.str("x").floats("0", 2).str("y").floats("1", 2) }), inner)
	b := writeZip(e, "")
	at := int64(bytes.Index(b, inner))
	e = append(e, zipEntry{name: "a/data/1", data: bytesTo(8), header: at})
	_, err := open(writeZip(e, ""))
	wantError(t, err, "a/data/0: its ", "overlap with a/data/1")
}

func TestZipEnd(t *testing.T) {
	good := zipOf(goodPickle(), bytesTo(8))
	end := bytes.LastIndex(good, []byte(endSignature))
	loc := end - locator64Len
	end64 := loc - end64Len
	le := binary.LittleEndian
	tests := []struct {
		name string
		edit func(b []byte) []byte
		want string
	}{
		{"cut", func(b []byte) []byte { return b[:end] }, "no zip directory at its end: cut short?"},
		{"cut early", func(b []byte) []byte { return b[:4] }, "no zip directory"},
		{"trailing", func(b []byte) []byte { return append(b, 0) }, "no zip directory"},
		{"disk", func(b []byte) []byte { b[end64+16] = 1; return b }, "split"},
		{"entries differ", func(b []byte) []byte { b[end+10]++; return b }, "the number of entries is 4 in the ZIP64 end record and 5"},
		{"offset differs", func(b []byte) []byte { b[end+16]++; return b }, "the offset of the directory"},
		{"locator outside", func(b []byte) []byte { le.PutUint64(b[loc+8:], 1<<63); return b }, "locator points to 9223372036854775808, outside"},
		{"locator elsewhere", func(b []byte) []byte { le.PutUint64(b[loc+8:], uint64(end64-1)); return b }, "no ZIP64 end record begins here"},
		{"too many entries", func(b []byte) []byte {
			for _, i := range []int{end64 + 24, end64 + 32, end + 8, end + 10} {
				b[i]++
			}
			return b
		}, "has 4 entries, its end record says 5"},
		{"count of 2⁶⁴", func(b []byte) []byte {
			for _, i := range []int{end64 + 24, end64 + 32} {
				le.PutUint64(b[i:], 1<<64-1)
			}
			for i := range 4 {
				b[end+8+i] = 0xff
			}
			return b
		}, "its end record says 18446744073709551615"},
		{"directory not at the end", func(b []byte) []byte {
			b[end64+48]--
			b[end+16]--
			return b
		}, "does not end at its end record"},
		{"directory of 2⁶⁴", func(b []byte) []byte {
			le.PutUint64(b[end64+40:], 1<<64-1)
			le.PutUint32(b[end+12:], 1<<32-1)
			return b
		}, "does not end at its end record"},
		{"no header", func(b []byte) []byte {
			b[le.Uint64(b[end64+48:])] = 'Q'
			return b
		}, "no directory header begins here"},
		{"name too long", func(b []byte) []byte {
			i := bytes.LastIndex(b, []byte(centralSignature))
			le.PutUint16(b[i+28:], 1<<16-1)
			return b
		}, "a directory header of 65581 bytes begins here"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := open(tt.edit(bytes.Clone(good)))
			wantError(t, err, tt.want)
		})
	}
}

// TestCut opens a good file of each layout cut anywhere.
func TestCut(t *testing.T) {
	l := legacyOf(dictOf(func(p *pickler) {
		p.str("x").v2(func() { p.oldStorage("FloatStorage", "1", 2) }, 0, []int64{2}, []int64{1})
	})).keyList("1").storage(2, string(bytesTo(8))).bytes()
	for _, b := range [][]byte{zipOf(goodPickle(), bytesTo(8)), l} {
		for n := range len(b) {
			if _, err := open(b[:n]); err == nil {
				t.Errorf("no error with %d of %d bytes", n, len(b))
			} else {
				wantError(t, err)
			}
		}
	}
}
