package torchbin

import "fmt"

// The values that a pickle can build. None is nil, True and False are bool,
// integers are int64 where they fit and bigInt where not, floats are float64,
// strings are string whichever of Python's types they had. The others are
// below. Nothing walks them to the bottom, so that a value that contains
// itself needs no care.
type (
	// A bigInt is an integer outside int64: two's complement, little endian.
	bigInt string

	// raw stands for bytes, whose content nothing here needs.
	raw struct{}

	tuple []any

	list struct{ items []any }

	// A dict keeps every assignment in order, also when one repeats a key:
	// which is meant is decided where the dict is used.
	dict struct{ items []item }

	item struct{ key, value any }

	// An instance is an object of a class, or a result of a function, whose
	// content nothing here needs.
	instance struct{ of *global }

	// A pending tensor is a call that would rebuild one, kept until its name
	// is known. Offset is where the pickle makes the call.
	pending struct {
		fn     *global
		args   tuple
		entry  string
		offset int64
		done   *layout
	}
)

// describe names a value's type for a message.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		return "a bool"
	case int64, bigInt:
		return "an integer"
	case float64:
		return "a float"
	case string:
		return "a string"
	case raw:
		return "bytes"
	case tuple:
		return "a tuple"
	case *list:
		return "a list"
	case *dict:
		return "a dict"
	case *pending:
		return "a tensor"
	case *storage:
		return "a storage"
	case *global:
		return "the name " + v.String()
	case instance:
		return "an object of " + v.of.String()
	}
	return fmt.Sprintf("a %T", v)
}
