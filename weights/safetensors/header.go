package safetensors

import (
	"math"
	"strings"

	"expo/weights/tensor"
)

// metadataKey is the key of a header that stands for no tensor.
const metadataKey = "__metadata__"

// minEntry is a length that no entry of a header is shorter than, with the
// comma after it: "":{"dtype":"U8","shape":[],"data_offsets":[0,1]},
const minEntry = 50

// An entry is what a header says about one tensor.
type entry struct {
	name       string
	dtype      tensor.DType
	index      int32 // position among the header's tensors
	shape      []int
	begin, end int64 // of the data, from the end of the header
}

// size is the length of the tensor's data in bytes.
func (e *entry) size() int64 { return e.end - e.begin }

// parseHeader reads the text of a header, valid UTF-8. The entries are in the
// order in which they are written there; each is consistent in itself, but
// where they lie has not been compared. metadata is nil when the header has
// none or null.
func parseHeader(src string) (entries []entry, metadata map[string]string, err error) {
	s := &scanner{src: src}
	s.space()

	// Room for what the header will turn out to hold. Names of tensors can
	// make the count too high, never beyond what the length allows.
	n := min(strings.Count(src, `"data_offsets"`), len(src)/minEntry+1)
	entries = make([]entry, 0, n)
	seen := make(map[string]struct{}, n)

	hasMetadata := false
	err = s.object("the header's '{'", func(key string, pos int) error {
		if key == metadataKey {
			if hasMetadata {
				return s.errorf(pos, "%s stands twice in the header", metadataKey)
			}
			hasMetadata = true
			m, err := s.metadata()
			metadata = m
			return err
		}
		s.tensor, s.inside = key, true
		if _, ok := seen[key]; ok {
			return s.errorf(pos, "two tensors of this name")
		}
		seen[key] = struct{}{}
		e, err := s.entry(pos)
		if err != nil {
			return err
		}
		e.index = int32(len(entries))
		entries = append(entries, e)
		s.inside = false
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if s.at(0) {
		return nil, nil, s.errorf(s.pos, "the header is padded with NUL bytes, not with spaces")
	}
	if s.pos < len(src) {
		return nil, nil, s.unexpected("the end of the header")
	}
	return entries, metadata, nil
}

// metadata reads the value of __metadata__: null, or an object of strings.
func (s *scanner) metadata() (map[string]string, error) {
	if s.literal("null") {
		return nil, nil
	}
	m := map[string]string{}
	err := s.object("the '{' of "+metadataKey, func(key string, pos int) error {
		if _, ok := m[key]; ok {
			return s.errorf(pos, "%s has two values for %s", metadataKey, printable(key))
		}
		v, err := s.str("a string as value of " + metadataKey)
		m[key] = v
		return err
	})
	return m, err
}

// entry reads what the header says about the tensor s.tensor, whose name
// stands at pos, and checks its length against its type and shape.
func (s *scanner) entry(pos int) (entry, error) {
	e := entry{name: s.tensor}
	var hasDType, hasShape, hasOffsets bool
	var others map[string]struct{}
	err := s.object("the '{' of an entry", func(key string, pos int) error {
		var has *bool
		var err error
		switch key {
		case "dtype":
			has = &hasDType
			e.dtype, err = s.dtype()
		case "shape":
			has = &hasShape
			e.shape, err = s.shape()
		case "data_offsets":
			has = &hasOffsets
			e.begin, e.end, err = s.offsets()
		default:
			if _, ok := others[key]; ok {
				return s.errorf(pos, "two values for %s", printable(key))
			}
			if others == nil {
				others = map[string]struct{}{}
			}
			others[key] = struct{}{}
			return s.skip(2)
		}
		if *has {
			return s.errorf(pos, "two values for %s", key)
		}
		*has = true
		return err
	})
	switch {
	case err != nil:
		return e, err
	case !hasDType:
		return e, s.errorf(pos, "has no dtype")
	case !hasShape:
		return e, s.errorf(pos, "has no shape")
	case !hasOffsets:
		return e, s.errorf(pos, "has no data_offsets")
	}
	size, err := tensor.Size(e.dtype, e.shape)
	if err != nil {
		return e, s.errorf(pos, "%s", sizeText(err, e.shape))
	}
	if e.size() != size {
		return e, s.errorf(pos, "data_offsets [%d %d] hold %d bytes, %v of shape %s has %d",
			e.begin, e.end, e.size(), e.dtype, shapeText(e.shape), size)
	}
	return e, nil
}

// sizeText is an error of tensor.Size for a line that already has a prefix,
// without printing a shape of very many dimensions.
func sizeText(err error, shape []int) string {
	if len(shape) > 8 {
		return "shape " + shapeText(shape) + " overflows or does not end on a byte"
	}
	return strings.TrimPrefix(err.Error(), "tensor: ")
}

func (s *scanner) dtype() (tensor.DType, error) {
	pos := s.pos
	name, err := s.str("the dtype, a string,")
	if err != nil {
		return tensor.Invalid, err
	}
	if len(name) < 16 { // any other would make ParseDType quote it whole
		if d, err := tensor.ParseDType(name); err == nil {
			return d, nil
		}
	}
	return tensor.Invalid, s.errorf(pos, "unknown dtype %s", quoted(name))
}

func (s *scanner) shape() ([]int, error) {
	// The array holds numbers only, so its length is known before it is read.
	n, text := 0, s.src[s.pos:]
	if end := strings.IndexByte(text, ']'); end >= 0 {
		n = min(strings.Count(text[:end], ",")+1, end/2+1)
	}
	shape := make([]int, 0, n)
	err := s.array("the shape, an array,", func() error {
		pos := s.pos
		dim, err := s.whole("dimension")
		if err == nil && dim > math.MaxInt {
			err = s.errorf(pos, "dimension %d is too large", dim)
		}
		shape = append(shape, int(dim))
		return err
	})
	return shape, err
}

func (s *scanner) offsets() (begin, end int64, err error) {
	pos := s.pos
	n := 0
	err = s.array("data_offsets, an array,", func() error {
		v, err := s.whole("offset")
		switch n++; n {
		case 1:
			begin = v
		case 2:
			end = v
		default:
			if err == nil {
				err = s.errorf(pos, "data_offsets has more than two numbers")
			}
		}
		return err
	})
	switch {
	case err != nil:
	case n != 2:
		err = s.errorf(pos, "data_offsets has %d numbers, want 2", n)
	case begin > end:
		err = s.errorf(pos, "begins at %d and ends before it, at %d", begin, end)
	}
	return begin, end, err
}
