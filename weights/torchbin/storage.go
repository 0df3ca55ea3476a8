package torchbin

import (
	"errors"
	"fmt"

	"expo/weights/tensor"
)

// A storage is one run of elements in the file, or a part of one. Several
// tensors may lie in it.
type storage struct {
	class *global
	key   string
	// numel counts elements, or bytes if the class is untyped.
	numel int64
	// first and count are the part of it that is meant, in elements: all of
	// it, but for very old files.
	first, count int64
	meta         bool // there are no bytes
}

// A locator finds the bytes of a storage in the file, all s.bytes() of them.
type locator func(s *storage) (span, error)

// bytes is the length of the whole storage.
func (s *storage) bytes() int64 { return s.numel * s.class.width }

// storages are those that the pickle has named so far, by key.
type storages map[string]*storage

// add takes a persistent id, the tuple ("storage", class, key, location,
// numel), to which a legacy stream adds a sixth: None, or the tuple (view key,
// first, count). It returns the storage that it names.
func (st storages) add(id tuple, fields int) (*storage, error) {
	if len(id) > 0 {
		switch id[0] {
		case "storage":
		case "module":
			return nil, errors.New("the file has a whole module in it, not a state dict: save the model's state_dict() with torch.save")
		default:
			return nil, fmt.Errorf("the persistent id begins with %s, want \"storage\"", describe(id[0]))
		}
	}
	if len(id) != fields {
		return nil, fmt.Errorf("the persistent id has %d fields, want %d", len(id), fields)
	}
	class, ok1 := id[1].(*global)
	key, ok2 := id[2].(string)
	location, ok3 := id[3].(string)
	numel, ok4 := id[4].(int64)
	if !ok1 || class.kind != kindStorage || !ok2 || !ok3 || !ok4 {
		return nil, fmt.Errorf("the persistent id is (\"storage\", %s, %s, %s, %s), want a class, two strings and an integer",
			describe(id[1]), describe(id[2]), describe(id[3]), describe(id[4]))
	}
	s := &storage{class: class, key: key, numel: numel, count: numel, meta: location == "meta"}
	if numel < 0 || numel > (1<<62)/class.width {
		return nil, fmt.Errorf("the storage %s has %d elements", printable(key), numel)
	}
	if first, ok := st[key]; !ok {
		st[key] = s
	} else if err := s.agrees(first); err != nil {
		return nil, err
	} else if first.class == class {
		s = first
	}
	if fields == 6 && id[5] != nil {
		view, ok := id[5].(tuple)
		if !ok || len(view) != 3 {
			return nil, fmt.Errorf("the view of the storage %s is %s, want a tuple of three", printable(key), describe(id[5]))
		}
		first, ok1 := view[1].(int64)
		count, ok2 := view[2].(int64)
		if !ok1 || !ok2 || first < 0 || count < 0 || first > numel || count > numel-first {
			return nil, fmt.Errorf("the view of the storage %s is not within its %d elements", printable(key), numel)
		}
		part := *s
		part.first, part.count = first, count
		return &part, nil
	}
	return s, nil
}

// agrees checks that two ids of one key mean the same. torch reads the storage
// as the first of them says and gives it to both. Typed and untyped may mix:
// so are the tensors saved of which one is a view of the other's bytes.
func (s *storage) agrees(first *storage) error {
	sameClass := s.class.dtype == first.class.dtype && s.class.refuse == first.class.refuse
	mixed := s.class.untyped() || first.class.untyped()
	if s.bytes() != first.bytes() || s.meta != first.meta || !sameClass && !mixed && s.bytes() > 0 {
		return fmt.Errorf("the storage %s is %d elements of %v, but %d of %v elsewhere",
			printable(s.key), s.numel, s.class, first.numel, first.class)
	}
	return nil
}

// within returns where the meant part of s lies in the file.
func (s *storage) within(locate locator) (span, error) {
	whole, err := locate(s)
	if err != nil {
		return span{}, err
	}
	w := s.class.width
	return span{whole.off + s.first*w, s.count * w}, nil
}

// dtypeOf is the type of the elements; it fails for an untyped storage.
func (s *storage) dtypeOf() (tensor.DType, error) {
	if s.class.untyped() {
		return tensor.Invalid, errors.New("its storage does not have a type, and neither has the call that rebuilds it")
	}
	return s.class.dtype, nil
}
