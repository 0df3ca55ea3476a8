package grammar

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A node is a JSON value that remembers the order of its members.
type node struct {
	kind    byte // one of { [ " 0 t n: object, array, string, number, boolean, null
	text    string
	members []member // of an object
	byName  map[string]*node
	items   []*node // of an array
}

type member struct {
	name  string
	value *node
}

// get is the value of a member, nil if there is none.
func (n *node) get(name string) *node {
	return n.byName[name]
}

// parse reads one JSON value.
func parse(source []byte) (*node, error) {
	d := json.NewDecoder(bytes.NewReader(source))
	d.UseNumber()
	n, err := parseValue(d, 0)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows it")
	}
	return n, nil
}

func parseValue(d *json.Decoder, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("it is nested more than %d levels deep", maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case string:
		return &node{kind: '"', text: t}, nil
	case json.Number:
		return &node{kind: '0', text: t.String()}, nil
	case bool:
		return &node{kind: 't', text: strconv.FormatBool(t)}, nil
	case nil:
		return &node{kind: 'n', text: "null"}, nil
	case json.Delim:
		n := &node{kind: byte(t)}
		if t == '{' {
			n.byName = map[string]*node{}
		}
		for d.More() {
			var name string
			if t == '{' {
				key, err := d.Token()
				if err != nil {
					return nil, err
				}
				if name = key.(string); n.byName[name] != nil {
					return nil, fmt.Errorf("%.100q stands twice in one object", name)
				}
			}
			v, err := parseValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			if t == '{' {
				n.members = append(n.members, member{name, v})
				n.byName[name] = v
			} else {
				n.items = append(n.items, v)
			}
		}
		_, err := d.Token() // what closes it
		return n, err
	}
	return nil, errors.New("unknown JSON")
}

// write appends the value, without white space.
func (n *node) write(b *strings.Builder) {
	switch n.kind {
	case '"':
		b.WriteString(quoted(n.text))
	case '{':
		b.WriteByte('{')
		for i, m := range n.members {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(quoted(m.name))
			b.WriteByte(':')
			m.value.write(b)
		}
		b.WriteByte('}')
	case '[':
		b.WriteByte('[')
		for i, v := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			v.write(b)
		}
		b.WriteByte(']')
	default:
		b.WriteString(n.text)
	}
}

func (n *node) String() string {
	var b strings.Builder
	n.write(&b)
	return b.String()
}

// at follows a reference within the document, a JSON pointer as the fragment of
// a URI (https://www.rfc-editor.org/rfc/rfc6901#section-6).
func (n *node) at(ref string) (*node, error) {
	path, ok := strings.CutPrefix(ref, "#")
	if !ok {
		return nil, errors.New("only places within the schema, such as #/$defs/name, can be referred to")
	}
	if path == "" {
		return n, nil
	}
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return nil, errors.New("anchors are not supported; write #/$defs/name")
	}
	for part := range strings.SplitSeq(rest, "/") {
		name, err := unescape(part)
		if err != nil {
			return nil, err
		}
		switch next := n.get(name); {
		case next != nil:
			n = next
		case n.kind == '[':
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(n.items) {
				return nil, errors.New("there is nothing at that place")
			}
			n = n.items[i]
		default:
			return nil, errors.New("there is nothing at that place")
		}
	}
	return n, nil
}

func unescape(part string) (string, error) {
	var b []byte
	for i := 0; i < len(part); i++ {
		if part[i] != '%' {
			b = append(b, part[i])
			continue
		}
		if i+3 > len(part) {
			return "", errors.New("a % is followed by two digits")
		}
		c, err := strconv.ParseUint(part[i+1:i+3], 16, 8)
		if err != nil {
			return "", errors.New("a % is followed by two digits")
		}
		b = append(b, byte(c))
		i += 2
	}
	return strings.NewReplacer("~1", "/", "~0", "~").Replace(string(b)), nil
}
