package torchbin

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"expo/weights/tensor"
)

// The signatures and fixed lengths of PKWARE's APPNOTE.TXT, sections 4.3.7,
// 4.3.12 and 4.3.14 to 4.3.16
// (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT).
const (
	localSignature     = "PK\x03\x04"
	centralSignature   = "PK\x01\x02"
	endSignature       = "PK\x05\x06"
	locator64Signature = "PK\x06\x07"
	end64Signature     = "PK\x06\x06"

	localLen     = 30
	centralLen   = 46
	endLen       = 22
	locator64Len = 20
	end64Len     = 56
)

// maxDirectory bounds the central directory that is read into memory. One
// entry takes about 70 bytes, so that it is enough for a million storages.
const maxDirectory = 64 << 20

const pickleEntry = "data.pkl"

// An archive is the directory of a zip that torch.save wrote: stored entries
// under one common prefix. archive/zip would also do to list the entries, but
// it takes what it can make sense of; here an archive that two readers could
// read differently is refused.
type archive struct {
	r       io.ReaderAt
	entries map[string]span // by name, without the common prefix
}

// A span is a stretch of the file.
type span struct{ off, n int64 }

// A record is one entry as the central directory has it.
type record struct {
	name         string
	method       uint16
	header, size int64
}

func zipError(off int64, format string, args ...any) error {
	return &FormatError{Offset: off, Msg: fmt.Sprintf(format, args...)}
}

func entryError(name string, format string, args ...any) error {
	return &FormatError{Entry: name, Offset: -1, Msg: fmt.Sprintf(format, args...)}
}

// loadZip opens the archive and runs its pickle.
func loadZip(r io.ReaderAt, size int64) (any, locator, error) {
	a, err := openArchive(r, size)
	if err != nil {
		return nil, nil, err
	}
	if err := a.check(); err != nil {
		return nil, nil, err
	}
	p := a.entries[pickleEntry]
	if p.n > maxPickle {
		return nil, nil, entryError(pickleEntry, "has %d bytes, of which at most %d are read", p.n, maxPickle)
	}
	seen := storages{}
	src := newSource(io.NewSectionReader(r, p.off, p.n), 0, p.n, pickleEntry)
	obj, err := load(src, func(id tuple) (*storage, error) { return seen.add(id, 5) })
	if err != nil {
		return nil, nil, err
	}
	locate := func(s *storage) (span, error) {
		name := "data/" + s.key
		e, ok := a.entries[name]
		if !ok {
			return span{}, entryError(name, "is missing from the archive")
		}
		// torch reads numel elements and never looks at the entry's size: one that
		// is longer gives the same values there as here, one that is shorter gives
		// whatever memory holds there.
		if e.n < s.bytes() {
			return span{}, entryError(name, "has %d bytes, want %d", e.n, s.bytes())
		}
		return span{e.off, s.bytes()}, nil
	}
	return obj, locate, nil
}

// check refuses archives without a pickle and those whose numbers are big
// endian.
func (a *archive) check() error {
	if _, ok := a.entries[pickleEntry]; !ok {
		return entryError(pickleEntry, "is missing: a zip archive, but not one of torch.save")
	}
	order, err := a.small("byteorder")
	if err != nil {
		return err
	}
	switch order {
	case "", "little":
	case "big":
		return entryError("byteorder", "is big: weights saved on a big-endian machine are not supported")
	default:
		return entryError("byteorder", "is %s, want little", printable(order))
	}
	version, err := a.small("version")
	if err != nil {
		return err
	}
	// These are the versions that torch itself accepts, 1 to 10.
	if v := strings.TrimSpace(version); v != "" {
		if n, err := strconv.Atoi(v); err != nil || n < 1 || n > 10 {
			return entryError("version", "is %s, want 1 to 10", printable(v))
		}
	}
	return nil
}

// small reads an entry of a few bytes; one that is absent reads as "".
func (a *archive) small(name string) (string, error) {
	e, ok := a.entries[name]
	if !ok {
		return "", nil
	}
	if e.n > 64 {
		return "", entryError(name, "has %d bytes, want a word", e.n)
	}
	b := make([]byte, e.n)
	if err := tensor.ReadFull(a.r, b, e.off); err != nil {
		return "", fmt.Errorf("torchbin: %s: %w", name, err)
	}
	return string(b), nil
}

// openArchive reads the central directory and every local header, and refuses
// entries that are not stored, named twice, not under the common prefix, or
// overlap with each other or with the directory.
func openArchive(r io.ReaderAt, size int64) (*archive, error) {
	dir, records, err := readDirectory(r, size)
	if err != nil {
		return nil, err
	}
	first, _, ok := strings.Cut(records[0].name, "/")
	prefix := first + "/"
	if !ok {
		return nil, entryError(records[0].name, "is not in a folder: a zip archive, but not one of torch.save")
	}
	for _, rec := range records {
		// TorchScript compresses its code, which would be no useful thing to say.
		if name := strings.TrimPrefix(rec.name, prefix); name == "constants.pkl" || strings.HasPrefix(name, "code/") {
			return nil, entryError(name, "this is a TorchScript archive, not a state dict: save the model's state_dict() with torch.save")
		}
	}
	slices.SortStableFunc(records, func(a, b record) int { return cmp.Compare(a.header, b.header) })
	a := &archive{r: r, entries: make(map[string]span, len(records))}
	for i, rec := range records {
		name, ok := strings.CutPrefix(rec.name, prefix)
		if !ok {
			return nil, entryError(rec.name, "is not under %s like other entries", printable(prefix))
		}
		if _, ok := a.entries[name]; ok {
			return nil, entryError(rec.name, "is in the archive twice")
		}
		if rec.method != 0 {
			return nil, entryError(rec.name, "is compressed (method %d), so that it cannot be read where it lies: unpack the archive and pack it again with zip -0 -r", rec.method)
		}
		data, err := dataOffset(r, rec, dir.off)
		if err != nil {
			return nil, err
		}
		limit, next := dir.off, "the central directory"
		if i+1 < len(records) {
			limit, next = records[i+1].header, printable(records[i+1].name)
		}
		if data > limit || rec.size > limit-data {
			return nil, entryError(rec.name, "its %d bytes from %d on overlap with %s at %d", rec.size, data, next, limit)
		}
		a.entries[name] = span{data, rec.size}
	}
	return a, nil
}

// readDirectory reads the entries of the central directory, of which there is
// at least one, in its order.
func readDirectory(r io.ReaderAt, size int64) (dir span, records []record, err error) {
	dir, count, err := findDirectory(r, size)
	if err != nil {
		return dir, nil, err
	}
	b := make([]byte, dir.n)
	if err := tensor.ReadFull(r, b, dir.off); err != nil {
		return dir, nil, fmt.Errorf("torchbin: central directory: %w", err)
	}
	for at := dir.off; len(b) > 0; {
		rec, n, err := parseCentral(b, at)
		if err != nil {
			return dir, nil, err
		}
		records = append(records, rec)
		b, at = b[n:], at+int64(n)
	}
	if uint64(len(records)) != count {
		return dir, nil, zipError(dir.off, "the central directory has %d entries, its end record says %d", len(records), count)
	}
	if count == 0 {
		return dir, nil, zipError(dir.off, "is an empty zip archive")
	}
	return dir, records, nil
}

// findDirectory finds the central directory and the number of its entries,
// from the end record or, as torch always writes one, its ZIP64 form.
func findDirectory(r io.ReaderAt, size int64) (dir span, count uint64, err error) {
	tail := make([]byte, min(size, endLen+1<<16-1))
	start := size - int64(len(tail))
	if err := tensor.ReadFull(r, tail, start); err != nil {
		return dir, 0, fmt.Errorf("torchbin: end of the file: %w", err)
	}
	// A comment may contain anything, so that the record is the one whose
	// comment ends where the file does.
	i := len(tail) - endLen
	for ; i >= 0; i-- {
		if string(tail[i:i+4]) == endSignature && i+endLen+int(binary.LittleEndian.Uint16(tail[i+20:])) == len(tail) {
			break
		}
	}
	if i < 0 {
		return dir, 0, zipError(-1, "has no zip directory at its end: cut short? (%d bytes)", size)
	}
	le := binary.LittleEndian
	end, at := tail[i:], start+int64(i)
	disk, dirDisk := uint32(le.Uint16(end[4:])), uint32(le.Uint16(end[6:]))
	here, total := uint64(le.Uint16(end[8:])), uint64(le.Uint16(end[10:]))
	n, off := uint64(le.Uint32(end[12:])), uint64(le.Uint32(end[16:]))

	var loc [locator64Len]byte
	if at >= locator64Len {
		if err := tensor.ReadFull(r, loc[:], at-locator64Len); err != nil {
			return dir, 0, fmt.Errorf("torchbin: end of the file: %w", err)
		}
	}
	if string(loc[:4]) == locator64Signature {
		var rec [end64Len]byte
		pos := le.Uint64(loc[8:])
		if at < locator64Len+end64Len || pos > uint64(at-locator64Len-end64Len) {
			return dir, 0, zipError(at-locator64Len, "the ZIP64 locator points to %d, outside the file", pos)
		}
		if err := tensor.ReadFull(r, rec[:], int64(pos)); err != nil {
			return dir, 0, fmt.Errorf("torchbin: end of the file: %w", err)
		}
		if string(rec[:4]) != end64Signature {
			return dir, 0, zipError(int64(pos), "the ZIP64 locator points here, but no ZIP64 end record begins here")
		}
		for _, f := range []struct {
			name         string
			short, limit uint64
			long         uint64
		}{
			{"number of entries", total, 1<<16 - 1, le.Uint64(rec[32:])},
			{"size of the directory", n, 1<<32 - 1, le.Uint64(rec[40:])},
			{"offset of the directory", off, 1<<32 - 1, le.Uint64(rec[48:])},
		} {
			if f.short != f.limit && f.short != f.long {
				return dir, 0, zipError(int64(pos), "the %s is %d in the ZIP64 end record and %d in the end record", f.name, f.long, f.short)
			}
		}
		disk, dirDisk = le.Uint32(rec[16:]), le.Uint32(rec[20:])
		here, total = le.Uint64(rec[24:]), le.Uint64(rec[32:])
		n, off = le.Uint64(rec[40:]), le.Uint64(rec[48:])
		at = int64(pos)
	}
	switch {
	case disk != 0 || dirDisk != 0 || here != total:
		return dir, 0, zipError(at, "is one part of a split zip archive")
	case off > uint64(at) || n != uint64(at)-off:
		return dir, 0, zipError(at, "the central directory (%d bytes from %d on) does not end at its end record", n, off)
	case n > maxDirectory:
		return dir, 0, zipError(at, "the central directory has %d bytes, of which at most %d are read", n, maxDirectory)
	}
	return span{int64(off), int64(n)}, total, nil
}

// parseCentral reads the directory header at the start of b, which lies at
// offset at of the file, and returns its length.
func parseCentral(b []byte, at int64) (record, int, error) {
	le := binary.LittleEndian
	if len(b) < centralLen || string(b[:4]) != centralSignature {
		return record{}, 0, zipError(at, "no directory header begins here")
	}
	nameLen, extraLen, commentLen := int(le.Uint16(b[28:])), int(le.Uint16(b[30:])), int(le.Uint16(b[32:]))
	n := centralLen + nameLen + extraLen + commentLen
	if n > len(b) {
		return record{}, 0, zipError(at, "a directory header of %d bytes begins here, %d are left", n, len(b))
	}
	rec := record{name: string(b[centralLen : centralLen+nameLen]), method: le.Uint16(b[10:])}
	flags := le.Uint16(b[8:])
	packed, size := uint64(le.Uint32(b[20:])), uint64(le.Uint32(b[24:]))
	disk, header := uint64(le.Uint16(b[34:])), uint64(le.Uint32(b[42:]))

	// The ZIP64 field holds, in this order, those of the values that are all
	// ones in the header.
	extra := b[centralLen+nameLen : centralLen+nameLen+extraLen]
	for len(extra) >= 4 {
		id, l := le.Uint16(extra), int(le.Uint16(extra[2:]))
		if l > len(extra)-4 {
			return rec, 0, entryError(rec.name, "its extra field is cut short")
		}
		if id == 1 {
			field := extra[4 : 4+l]
			for _, v := range []*uint64{&size, &packed, &header} {
				if *v == 1<<32-1 && len(field) >= 8 {
					*v, field = le.Uint64(field), field[8:]
				}
			}
			if disk == 1<<16-1 && len(field) >= 4 {
				disk = uint64(le.Uint32(field))
			}
			break
		}
		extra = extra[4+l:]
	}
	switch {
	case flags&0x2041 != 0:
		return rec, 0, entryError(rec.name, "is encrypted")
	case rec.method == 0 && packed != size:
		return rec, 0, entryError(rec.name, "has %d bytes, stored in %d", size, packed)
	case disk != 0:
		return rec, 0, entryError(rec.name, "lies in another part of a split zip archive")
	case size > 1<<62 || header > 1<<62:
		return rec, 0, entryError(rec.name, "claims %d bytes at %d, outside the file", size, header)
	}
	rec.size, rec.header = int64(size), int64(header)
	return rec, n, nil
}

// dataOffset reads the local header of an entry, which must lie before limit,
// and returns where the data begins. The header's padding is not in the
// directory: torch aligns the data with it.
func dataOffset(r io.ReaderAt, rec record, limit int64) (int64, error) {
	n := int64(localLen + len(rec.name))
	if rec.header > limit-n {
		return 0, entryError(rec.name, "claims to begin at %d, past the entries' end at %d", rec.header, limit)
	}
	b := make([]byte, n)
	if err := tensor.ReadFull(r, b, rec.header); err != nil {
		return 0, fmt.Errorf("torchbin: %s: %w", printable(rec.name), err)
	}
	le := binary.LittleEndian
	if string(b[:4]) != localSignature {
		return 0, entryError(rec.name, "no local header begins at %d", rec.header)
	}
	if int(le.Uint16(b[26:])) != len(rec.name) || string(b[localLen:]) != rec.name {
		return 0, entryError(rec.name, "has another name in its local header at %d", rec.header)
	}
	return rec.header + n + int64(le.Uint16(b[28:])), nil
}
