package imatrix

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"expo/weights/gguf"
	"expo/weights/tensor"
)

// The keys of a GGUF file, and the ends of the names of its tensors.
const (
	typeKey      = "general.type"
	fileType     = "imatrix"
	datasetsKey  = "imatrix.datasets"
	chunksKey    = "imatrix.chunk_count"
	chunkSizeKey = "imatrix.chunk_size"
	sumsSuffix   = ".in_sum2"
	countsSuffix = ".counts"
)

// Sniffed are how many bytes of a file [Sniff] needs.
const Sniffed = 8

// Sniff reports whether a file that begins with start is binary, as those that
// Read reads are, and not a text: whether it is a GGUF file, or has a zero byte
// where the older format counts entries and the bytes of the first name.
func Sniff(start []byte) bool {
	start = start[:min(len(start), Sniffed)]
	return isGGUF(start) || slices.Contains(start, 0)
}

func isGGUF(start []byte) bool { return strings.HasPrefix(string(start), "GGUF") }

// Read reads a file of size bytes in either of llama.cpp's formats. The error has a
// line for each entry that is wrong.
func Read(r io.ReaderAt, size int64) (*Matrix, error) {
	start := make([]byte, max(0, min(size, Sniffed)))
	if err := tensor.ReadFull(r, start, 0); err != nil {
		return nil, fmt.Errorf("imatrix: %w", err)
	}
	var m *Matrix
	var err error
	if isGGUF(start) {
		m, err = readGGUF(r, size)
	} else {
		m, err = readLegacy(r, size)
	}
	if err != nil {
		return nil, err
	}
	var bad []error
	for _, name := range m.Names() {
		if err := m.Entries[name].check(name); err != nil {
			bad = append(bad, err)
		}
	}
	if len(m.Entries) == 0 {
		bad = append(bad, errors.New("imatrix: the file has no entries"))
	}
	return m, errors.Join(bad...)
}

func (e Entry) check(name string) error {
	for i, v := range e.Sums {
		if !(v >= 0 && v <= math.MaxFloat32) {
			return fmt.Errorf("imatrix: %s has the sum of squares %v in column %d", printable(name), v, i%e.Columns())
		}
	}
	return nil
}

func readGGUF(r io.ReaderAt, size int64) (*Matrix, error) {
	f, err := gguf.NewReader(r, size)
	if err != nil {
		return nil, fmt.Errorf("imatrix: %w", err)
	}
	md := f.Metadata()
	if typ, _ := md.String(typeKey); typ != fileType {
		if arch, ok := md.String("general.architecture"); ok {
			return nil, fmt.Errorf("imatrix: this is a model (%s), not an importance matrix", printable(arch))
		}
		return nil, fmt.Errorf("imatrix: this is a GGUF file of type %s, not an importance matrix", printable(typ))
	}
	m := &Matrix{Entries: map[string]Entry{}}
	datasets, _ := md.Strings(datasetsKey)
	m.Datasets = slices.Clone(datasets)
	for key, n := range map[string]*int{chunksKey: &m.Chunks, chunkSizeKey: &m.ChunkSize} {
		if v, ok := md.Int(key); ok {
			*n = int(min(max(v, 0), math.MaxInt32))
		}
	}
	halves := map[string][2]gguf.Tensor{}
	for t := range f.Tensors() {
		for i, suffix := range []string{sumsSuffix, countsSuffix} {
			if name, ok := strings.CutSuffix(t.Name, suffix); ok {
				h := halves[name]
				h[i] = t
				halves[name] = h
			}
		}
	}
	var bad []error
	for _, name := range slices.Sorted(maps.Keys(halves)) {
		e, err := entryOf(halves[name][0], halves[name][1])
		if err != nil {
			bad = append(bad, fmt.Errorf("imatrix: %s %w", printable(name), err))
			continue
		}
		m.Entries[name] = e
	}
	return m, errors.Join(bad...)
}

// entryOf reads the two tensors of an entry.
func entryOf(sums, counts gguf.Tensor) (e Entry, err error) {
	switch {
	case sums.Data == nil:
		return e, errors.New("has counts but no sums")
	case counts.Data == nil:
		return e, errors.New("has sums but no counts")
	case sums.Type != gguf.F32 || counts.Type != gguf.F32:
		return e, fmt.Errorf("has sums of %v and counts of %v, want F32", sums.Type, counts.Type)
	}
	if e.Sums, err = floats(sums); err != nil {
		return e, err
	}
	n, err := floats(counts)
	switch {
	case err != nil:
		return e, err
	case len(n) == 0 || len(e.Sums) == 0 || len(e.Sums)%len(n) != 0:
		return e, fmt.Errorf("has %d sums and %d counts", len(e.Sums), len(n))
	}
	for _, v := range n {
		c := math.Round(float64(v))
		if !(c >= 0 && c <= 1<<53) {
			return e, fmt.Errorf("has the count %v", v)
		}
		e.Counts = append(e.Counts, int64(c))
	}
	return e, nil
}

func floats(t gguf.Tensor) ([]float32, error) {
	p, _ := t.Plain()
	x := make([]float32, p.Elements())
	if err := p.ReadFloat32(x, 0); err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	return x, nil
}

// readLegacy reads the format without a name: the number of entries; for each the
// length of its name, the name, how many chunks it is of, the number of values,
// and these, which are means times chunks; then, or not, the number of chunks, and
// the length and name of the text. Numbers have 32 bits, little endian.
func readLegacy(r io.ReaderAt, size int64) (*Matrix, error) {
	s := &legacy{r: r, left: size}
	n := s.int()
	if s.err != nil || n < 1 || int64(n) > size/minLegacy {
		return nil, errors.New("imatrix: this is not an importance matrix: neither a GGUF file nor one that begins with the number of its entries")
	}
	m := &Matrix{Entries: map[string]Entry{}}
	for i := range n {
		name := string(s.bytes(s.int()))
		chunks, values := s.int(), s.int()
		if s.err == nil && values < 1 {
			s.err = fmt.Errorf("%s has %d values", printable(name), values)
		}
		e := Entry{Sums: s.floats(values), Counts: []int64{int64(max(chunks, 1))}}
		if _, twice := m.Entries[name]; s.err == nil && twice {
			s.err = fmt.Errorf("%s stands twice", printable(name))
		}
		if s.err == nil && (name == "" || !utf8.ValidString(name)) {
			s.err = fmt.Errorf("%s is no name of a tensor", printable(name))
		}
		if s.err != nil {
			return nil, fmt.Errorf("imatrix: this is not an importance matrix, or a damaged one: entry %d of %d: %w", i+1, n, s.err)
		}
		m.Entries[name] = e
	}
	if s.left > 0 {
		m.Chunks = max(s.int(), 0)
	}
	if s.left > 0 {
		if name := string(s.bytes(s.int())); name != "" {
			m.Datasets = []string{strings.ToValidUTF8(name, "\uFFFD")}
		}
	}
	if s.err == nil && s.left > 0 {
		s.err = fmt.Errorf("%d bytes follow the name of the text", s.left)
	}
	if s.err != nil {
		return nil, fmt.Errorf("imatrix: this is a damaged importance matrix: after %d entries: %w", n, s.err)
	}
	return m, nil
}

// minLegacy is how many bytes an entry has at least.
const minLegacy = 4 * 4

// legacy reads a file from its beginning and keeps the first error.
type legacy struct {
	r        io.ReaderAt
	at, left int64
	err      error
}

func (s *legacy) bytes(n int) []byte {
	if s.err == nil && (n < 0 || int64(n) > s.left) {
		s.err = fmt.Errorf("%d bytes are announced, %d are left", n, s.left)
	}
	if s.err != nil {
		return nil
	}
	b := make([]byte, n)
	s.err = tensor.ReadFull(s.r, b, s.at)
	s.at, s.left = s.at+int64(n), s.left-int64(n)
	return b
}

func (s *legacy) int() int {
	b := s.bytes(4)
	if s.err != nil {
		return 0
	}
	return int(int32(binary.LittleEndian.Uint32(b)))
}

func (s *legacy) floats(n int) []float32 {
	if n > math.MaxInt32/4 {
		n = -1 // no int32 counts the bytes
	}
	b := s.bytes(4 * n)
	x := make([]float32, len(b)/4)
	for i := range x {
		x[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return x
}

// printable is a name as it may appear in a message.
func printable(s string) string {
	const most = 100
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || r == ' ' || !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}
