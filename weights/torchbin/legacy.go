package torchbin

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"expo/weights/tensor"
)

// The legacy stream is five pickles back to back (the magic number, the
// protocol version, a dict about the system, the object, and the list of
// storage keys), and then each storage: its number of elements in 8 bytes and
// its data. Storages are named by the address they had, and torch measures
// them in the elements of the class with which the object names them.
const (
	// legacyMagic is 0x1950a86a20f9469cfc6c, little endian.
	legacyMagic    = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
	legacyProtocol = 1001
)

// The parts of the stream, for messages.
const (
	legacyNumber  = "magic number"
	legacyVersion = "protocol version"
	legacySystem  = "system information"
	legacyObject  = "state"
	legacyKeys    = "storage keys"
)

// isLegacy recognizes the first pickle, whichever protocol it is in.
func isLegacy(head []byte) bool {
	return len(head) > 0 && head[0] == opProto && bytes.Contains(head[:min(len(head), 32)], []byte(legacyMagic))
}

// loadLegacy runs the five pickles and finds the storages behind them.
func loadLegacy(r io.ReaderAt, size int64) (any, locator, error) {
	src := newSource(io.NewSectionReader(r, 0, size), 0, size, "")
	run := func(part string, persistent func(tuple) (*storage, error)) (any, error) {
		src.entry = part
		src.end = min(size, src.pos+maxPickle)
		return load(src, persistent)
	}
	magic, err := run(legacyNumber, nil)
	if err != nil {
		return nil, nil, err
	}
	if magic != any(bigInt(legacyMagic)) {
		return nil, nil, entryError(legacyNumber, "is not torch's")
	}
	version, err := run(legacyVersion, nil)
	if err != nil {
		return nil, nil, err
	}
	if version != any(int64(legacyProtocol)) {
		return nil, nil, entryError(legacyVersion, "is not %d", legacyProtocol)
	}
	system, err := run(legacySystem, nil)
	if err != nil {
		return nil, nil, err
	}
	if err := checkSystem(system); err != nil {
		return nil, nil, err
	}
	seen := storages{}
	obj, err := run(legacyObject, func(id tuple) (*storage, error) { return seen.add(id, 6) })
	if err != nil {
		return nil, nil, err
	}
	keys, err := run(legacyKeys, nil)
	if err != nil {
		return nil, nil, err
	}
	at, err := findStorages(r, size, src.pos, keys, seen)
	if err != nil {
		return nil, nil, err
	}
	locate := func(s *storage) (span, error) {
		a, ok := at[s.key]
		if !ok {
			return span{}, entryError(legacyKeys, "the storage %s is not among them", printable(s.key))
		}
		return a, nil
	}
	return obj, locate, nil
}

// checkSystem refuses a file of a big-endian machine.
func checkSystem(v any) error {
	d, ok := v.(*dict)
	if !ok {
		return entryError(legacySystem, "is %s, want a dict", describe(v))
	}
	little := any(nil)
	for _, it := range d.items {
		if it.key == any("little_endian") {
			little = it.value
		}
	}
	switch little {
	case true:
		return nil
	case false:
		return entryError(legacySystem, "little_endian is False: weights saved on a big-endian machine are not supported")
	}
	return entryError(legacySystem, "does not say whether it is little_endian")
}

// findStorages walks the storages, the first of which begins at pos, in the
// order of their keys.
func findStorages(r io.ReaderAt, size, pos int64, keys any, seen storages) (map[string]span, error) {
	l, ok := keys.(*list)
	if !ok {
		return nil, entryError(legacyKeys, "is %s, want a list", describe(keys))
	}
	at := make(map[string]span)
	for _, k := range l.items {
		key, ok := k.(string)
		if !ok {
			return nil, entryError(legacyKeys, "has %s in it, want strings", describe(k))
		}
		fail := func(format string, args ...any) error {
			return &FormatError{Entry: "storage " + printable(key), Offset: pos, Msg: fmt.Sprintf(format, args...)}
		}
		s, ok := seen[key]
		if !ok {
			return nil, fail("no tensor is in it, so that its length is not known")
		}
		if _, ok := at[key]; ok {
			return nil, fail("is in the list of keys twice")
		}
		if size-pos < 8 {
			return nil, fail("begins %d bytes before the end of the file: cut short?", size-pos)
		}
		var b [8]byte
		if err := tensor.ReadFull(r, b[:], pos); err != nil {
			return nil, fmt.Errorf("torchbin: storage %s: %w", printable(key), err)
		}
		if n := int64(binary.LittleEndian.Uint64(b[:])); n != s.numel {
			return nil, fail("has %d elements, the pickle says %d", n, s.numel)
		}
		pos += 8
		n := s.bytes()
		if n > size-pos {
			return nil, fail("has %d bytes, %d are left: cut short?", n, size-pos)
		}
		at[key] = span{pos, n}
		pos += n
	}
	return at, nil
}
