package torchbin

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
)

// A pickler writes opcodes, right or wrong.
type pickler struct{ bytes.Buffer }

func (p *pickler) op(b ...byte) *pickler { p.Write(b); return p }

func (p *pickler) proto() *pickler { return p.op(opProto, 2) }

func (p *pickler) str(s string) *pickler {
	p.op(opBinUnicode)
	p.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(s))))
	p.WriteString(s)
	return p
}

func (p *pickler) int(n int64) *pickler {
	if n == int64(int32(n)) {
		p.op(opBinInt)
		p.Write(binary.LittleEndian.AppendUint32(nil, uint32(n)))
		return p
	}
	p.op(opLong1, 8)
	p.Write(binary.LittleEndian.AppendUint64(nil, uint64(n)))
	return p
}

func (p *pickler) ints(ns ...int64) *pickler {
	p.op(opMark)
	for _, n := range ns {
		p.int(n)
	}
	return p.op(opTuple)
}

func (p *pickler) global(module, name string) *pickler {
	p.op(opGlobal)
	p.WriteString(module + "\n" + name + "\n")
	return p
}

func (p *pickler) ordered() *pickler {
	return p.global("collections", "OrderedDict").op(opEmptyTuple, opReduce)
}

// storage pushes a storage of the zip layout.
func (p *pickler) storage(class, key string, numel int64) *pickler {
	return p.op(opMark).str("storage").global("torch", class).str(key).str("cpu").int(numel).op(opTuple, opBinPersID)
}

// oldStorage pushes a storage of the legacy layout.
func (p *pickler) oldStorage(class, key string, numel int64) *pickler {
	return p.op(opMark).str("storage").global("torch", class).str(key).str("cpu").int(numel).op(opNone, opTuple, opBinPersID)
}

// v2 pushes a tensor over the storage that push pushes.
func (p *pickler) v2(push func(), offset int64, size, stride []int64) *pickler {
	p.global("torch._utils", "_rebuild_tensor_v2").op(opMark)
	push()
	p.int(offset).ints(size...).ints(stride...).op(opNewFalse).ordered()
	return p.op(opTuple, opReduce)
}

// floats pushes a contiguous float32 tensor of the zip layout.
func (p *pickler) floats(key string, n int64) *pickler {
	return p.v2(func() { p.storage("FloatStorage", key, n) }, 0, []int64{n}, []int64{1})
}

func (p *pickler) stop() []byte { return p.op(opStop).Bytes() }

// dictOf is a whole pickle of a dict whose items push writes.
func dictOf(push func(p *pickler)) []byte {
	var p pickler
	p.proto().op(opEmptyDict, opMark)
	push(&p)
	return p.op(opSetItems).stop()
}

// A zipEntry is one entry to write; the fields after data are the lies.
type zipEntry struct {
	name      string
	data      []byte
	method    uint16
	flags     uint16
	local     string // name in the local header, if another
	header    int64  // offset in the directory, if not 0
	grow      int64  // added to the sizes in the directory
	packed    int64  // added to the packed size
	extra     []byte // extra field in the directory
	zip64     bool   // sizes and offset in the extra field
	signature string // of the local header, if another
}

// writeZip writes entries as torch does: data descriptors, padding, ZIP64 end
// records. comment is that of the archive.
func writeZip(entries []zipEntry, comment string) []byte {
	le := binary.LittleEndian
	var out, dir []byte
	for _, e := range entries {
		header := int64(len(out))
		local, signature := e.name, localSignature
		if e.local != "" {
			local = e.local
		}
		if e.signature != "" {
			signature = e.signature
		}
		pad := (64 - (len(out)+localLen+len(local)+4)%64) % 64
		out = append(out, signature...)
		out = append(out, 0, 0, 8, 8, 0, 0)
		out = append(out, make([]byte, 16)...)
		out = le.AppendUint16(out, uint16(len(local)))
		out = le.AppendUint16(out, uint16(4+pad))
		out = append(out, local...)
		out = le.AppendUint16(append(out, 'F', 'B'), uint16(pad))
		out = append(out, strings.Repeat("Z", pad)...)
		out = append(out, e.data...)
		if len(e.data) > 0 {
			out = append(out, "PK\x07\x08............"...)
		}

		if e.header != 0 {
			header = e.header
		}
		size := int64(len(e.data)) + e.grow
		packed := size + e.packed
		extra := e.extra
		size32, packed32, header32 := uint32(size), uint32(packed), uint32(header)
		if e.zip64 {
			size32, packed32, header32 = 1<<32-1, 1<<32-1, 1<<32-1
			extra = le.AppendUint16(le.AppendUint16(bytes.Clone(extra), 1), 24)
			extra = le.AppendUint64(extra, uint64(size))
			extra = le.AppendUint64(extra, uint64(packed))
			extra = le.AppendUint64(extra, uint64(header))
		}
		dir = append(dir, centralSignature...)
		dir = append(dir, 0, 0, 0, 0)
		dir = le.AppendUint16(dir, 0x0808|e.flags)
		dir = le.AppendUint16(dir, e.method)
		dir = append(dir, make([]byte, 8)...) // time, date, CRC
		dir = le.AppendUint32(dir, packed32)
		dir = le.AppendUint32(dir, size32)
		dir = le.AppendUint16(dir, uint16(len(e.name)))
		dir = le.AppendUint16(dir, uint16(len(extra)))
		dir = append(dir, make([]byte, 10)...) // comment, disk, attributes
		dir = le.AppendUint32(dir, header32)
		dir = append(dir, e.name...)
		dir = append(dir, extra...)
	}
	off := len(out)
	out = append(out, dir...)
	end64 := len(out)
	out = append(out, end64Signature...)
	out = le.AppendUint64(out, end64Len-12)
	out = append(out, make([]byte, 12)...)
	for range 2 {
		out = le.AppendUint64(out, uint64(len(entries)))
	}
	out = le.AppendUint64(out, uint64(len(dir)))
	out = le.AppendUint64(out, uint64(off))
	out = append(out, locator64Signature...)
	out = le.AppendUint32(out, 0)
	out = le.AppendUint64(out, uint64(end64))
	out = le.AppendUint32(out, 1)
	out = append(out, endSignature...)
	out = append(out, 0, 0, 0, 0)
	for range 2 {
		out = le.AppendUint16(out, uint16(len(entries)))
	}
	out = le.AppendUint32(out, uint32(len(dir)))
	out = le.AppendUint32(out, uint32(off))
	out = le.AppendUint16(out, uint16(len(comment)))
	return append(out, comment...)
}

// entriesOf are the entries of a file with the given pickle and storages,
// whose keys count from 0.
func entriesOf(pickle []byte, storages ...[]byte) []zipEntry {
	entries := []zipEntry{{name: "a/data.pkl", data: pickle}, {name: "a/byteorder", data: []byte("little")}}
	for i, s := range storages {
		entries = append(entries, zipEntry{name: fmt.Sprintf("a/data/%d", i), data: s})
	}
	return append(entries, zipEntry{name: "a/version", data: []byte("3\n")})
}

func zipOf(pickle []byte, storages ...[]byte) []byte {
	return writeZip(entriesOf(pickle, storages...), "")
}

// A legacy is a legacy stream in parts.
type legacy struct {
	magic, version, system, object, keys []byte
	storages                             []byte
}

func legacyOf(object []byte) *legacy {
	var magic, version pickler
	magic.proto().op(opLong1, 10)
	magic.WriteString(legacyMagic)
	return &legacy{
		magic:   magic.stop(),
		version: version.proto().int(legacyProtocol).stop(),
		system:  dictOf(func(p *pickler) { p.str("little_endian").op(opNewTrue) }),
		object:  object,
	}
}

// keyList writes the list of keys.
func (l *legacy) keyList(keys ...string) *legacy {
	var p pickler
	p.proto().op(opEmptyList, opMark)
	for _, k := range keys {
		p.str(k)
	}
	l.keys = p.op(opAppends).stop()
	return l
}

// storage appends the data of a storage.
func (l *legacy) storage(numel int64, data string) *legacy {
	l.storages = binary.LittleEndian.AppendUint64(l.storages, uint64(numel))
	l.storages = append(l.storages, data...)
	return l
}

func (l *legacy) bytes() []byte {
	return bytes.Join([][]byte{l.magic, l.version, l.system, l.object, l.keys, l.storages}, nil)
}

func open(b []byte) (*Reader, error) { return NewReader(bytes.NewReader(b), int64(len(b))) }

// mustOpen opens b and returns the tensors' bytes by name.
func mustOpen(t *testing.T, b []byte) (*Reader, map[string]string) {
	t.Helper()
	r, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	data := make(map[string]string)
	for x := range r.Tensors() {
		got, err := io.ReadAll(io.NewSectionReader(x.Data, 0, x.Size()+1))
		if err != nil {
			t.Fatalf("%s: %v", x.Name, err)
		}
		if int64(len(got)) != x.Size() {
			t.Fatalf("%s: read %d bytes, want %d", x.Name, len(got), x.Size())
		}
		data[x.Name] = string(got)
	}
	return r, data
}

// bytesTo is the bytes 0, 1, 2, … n-1.
func bytesTo(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}
