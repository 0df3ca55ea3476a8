package torchbin

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// wrappers are the keys under which training programs save a state dict
// beside other things.
var wrappers = [...]string{"state_dict", "model_state_dict", "model", "module"}

// A named tensor is one entry of a state dict.
type named struct {
	name   string
	tensor *pending
}

// stateDict finds the state dict in what the file holds, and the keys of all
// that is left out. It looks at most one dict deep.
func stateDict(obj any) ([]named, []string, *FormatError) {
	bad := func(format string, args ...any) ([]named, []string, *FormatError) {
		return nil, nil, &FormatError{Offset: -1, Msg: fmt.Sprintf(format, args...)}
	}
	top, ok := obj.(*dict)
	if !ok {
		return bad("holds %s, want a state dict", describe(obj))
	}
	// Python would take the last of two; which was meant is not known.
	if key, ok := repeated(top); ok {
		return bad("has the key %s twice", printable(key))
	}
	var found []*dict
	var names []string
	if holdsTensors(top) {
		found, names = append(found, top), append(names, "the top level")
	}
	for _, w := range wrappers {
		for _, it := range top.items {
			d, ok := it.value.(*dict)
			if !ok || it.key != any(w) || !holdsTensors(d) {
				continue
			}
			same := false
			for _, f := range found {
				same = same || f == d
			}
			if !same {
				found, names = append(found, d), append(names, w)
			}
		}
	}
	switch {
	case len(found) > 1:
		return bad("holds more than one dict of tensors (%s), and which is the state dict is not known: save the one alone", strings.Join(names, ", "))
	case len(found) == 0 && len(top.items) == 0:
		return bad("holds an empty dict, want a state dict")
	case len(found) == 0:
		return bad("holds no tensors, neither itself nor under %s (it has %s)", strings.Join(wrappers[:], ", "), keys(top))
	}
	d := found[0]
	if key, ok := repeated(d); ok {
		return bad("has the key %s twice", printable(key))
	}
	var tensors []named
	var skipped []string
	for _, it := range d.items {
		t, ok := it.value.(*pending)
		if !ok {
			skipped = append(skipped, keyName(it.key))
			continue
		}
		name, ok := it.key.(string)
		if !ok {
			return bad("has a tensor under the key %s, want a string", keyName(it.key))
		}
		if !utf8.ValidString(name) {
			return bad("has a tensor under the key %s, which is not UTF-8", printable(name))
		}
		tensors = append(tensors, named{name, t})
	}
	if d != top {
		for _, it := range top.items {
			if it.value != any(d) {
				skipped = append(skipped, keyName(it.key))
			}
		}
	}
	return tensors, skipped, nil
}

func holdsTensors(d *dict) bool {
	for _, it := range d.items {
		if _, ok := it.value.(*pending); ok {
			return true
		}
	}
	return false
}

// repeated finds a string that is a key of d more than once.
func repeated(d *dict) (string, bool) {
	seen := make(map[string]struct{}, len(d.items))
	for _, it := range d.items {
		key, ok := it.key.(string)
		if !ok {
			continue
		}
		if _, ok := seen[key]; ok {
			return key, true
		}
		seen[key] = struct{}{}
	}
	return "", false
}

// keyName is a key as Skipped and messages show it.
func keyName(key any) string {
	switch k := key.(type) {
	case string:
		return k
	case int64:
		return fmt.Sprint(k)
	}
	return describe(key)
}

// keys lists the first few keys of d for a message.
func keys(d *dict) string {
	var out []string
	for i, it := range d.items {
		if i == 8 {
			out = append(out, "…")
			break
		}
		out = append(out, printable(keyName(it.key)))
	}
	return strings.Join(out, ", ")
}
