package grammar

import (
	"fmt"
	"slices"
	"strings"
)

// maxFaults is how many faults of a schema are told at once.
const maxFaults = 10

// compiler turns a schema into a network.
type compiler struct {
	root   *node
	net    *network
	rules  map[*node]int // of schemas
	work   []job         // schemas whose rules are still empty
	faults []string
}

type job struct {
	schema *node
	path   string // where it is in the whole, as a JSON pointer
}

// remarks are keywords that forbid nothing.
var remarks = []string{"title", "description", "default", "examples", "$schema", "$comment", "deprecated", "readOnly", "writeOnly", "$defs", "definitions"}

// typeNames are JSON Schema's, with the kinds of values that have them.
var typeNames = map[string]string{"object": "{", "array": "[", "string": `"`, "number": "0", "integer": "0", "boolean": "t", "null": "n"}

func (c *compiler) fault(path, format string, args ...any) {
	if len(c.faults) == maxFaults {
		c.faults = append(c.faults, "and more")
	}
	if len(c.faults) > maxFaults {
		return
	}
	if len(path) > 200 {
		path = path[:200] + "…"
	}
	c.faults = append(c.faults, path+": "+fmt.Sprintf(format, args...))
}

// ruleOf is the rule of a schema, which run fills.
func (c *compiler) ruleOf(schema *node, path string) int {
	r, ok := c.rules[schema]
	if !ok {
		r = c.net.rule()
		c.rules[schema] = r
		c.work = append(c.work, job{schema, path})
	}
	return r
}

// run compiles all schemas that are needed.
func (c *compiler) run() error {
	for len(c.work) > 0 && !c.net.full {
		j := c.work[len(c.work)-1]
		c.work = c.work[:len(c.work)-1]
		c.compile(c.rules[j.schema], j.schema, j.path)
	}
	if c.net.full {
		return errLarge
	}
	if len(c.faults) > 0 {
		return fmt.Errorf("grammar: %s (%w)", strings.Join(c.faults, "; "), ErrSchema)
	}
	return nil
}

// A reader takes the keywords of a schema one by one, so that those that are
// left are known.
type reader struct {
	schema *node
	taken  []string
}

func (r *reader) take(name string) *node {
	r.taken = append(r.taken, name)
	return r.schema.get(name)
}

// compile fills the rule of a schema.
func (c *compiler) compile(rule int, schema *node, path string) {
	start := c.net.starts[rule]
	if schema.kind == 't' {
		if schema.text == "true" {
			c.net.call(start, ruleValue, c.net.end())
		}
		return // false allows nothing
	}
	if schema.kind != '{' {
		c.fault(path, "a schema is an object, not %.60s", schema)
		return
	}
	r := &reader{schema: schema}
	types := c.types(r, path)
	ref, anyOf, allOf, enum, constant := r.take("$ref"), r.take("anyOf"), r.take("allOf"), r.take("enum"), r.take("const")
	ways := 0
	for _, n := range []*node{ref, anyOf, allOf, enum, constant} {
		if n != nil {
			ways++
		}
	}
	switch {
	case ways > 1:
		c.fault(path, "$ref, anyOf, allOf, enum and const are supported one at a time")
	case ref != nil:
		c.refer(start, ref, types, path)
	case anyOf != nil:
		c.alternatives(start, anyOf, types, path)
	case allOf != nil:
		if allOf.kind != '[' || len(allOf.items) != 1 || types != nil {
			c.fault(path, "allOf is supported with one element and without type beside it")
			break
		}
		c.net.call(start, c.ruleOf(allOf.items[0], path+"/allOf/0"), c.net.end())
	case enum != nil:
		if enum.kind != '[' || len(enum.items) == 0 {
			c.fault(path, "enum is a list of values")
			break
		}
		c.values(rule, enum.items, types, path)
	case constant != nil:
		c.values(rule, []*node{constant}, types, path)
	case types == nil:
		c.net.call(start, ruleValue, c.net.end())
	default:
		for _, t := range types {
			c.typed(start, t, r, types, path)
		}
	}
	for _, m := range schema.members {
		name := m.name
		if slices.Contains(r.taken, name) || slices.Contains(remarks, name) || strings.HasPrefix(name, "x-") || name == "$id" && schema == c.root {
			continue
		}
		c.fault(path, "%.60q is not supported%s", name, hint(name, types, ways))
	}
}

// hint says why a keyword that is supported elsewhere is not here.
func hint(name string, types []string, ways int) string {
	of := ""
	switch name {
	case "properties", "required", "additionalProperties":
		of = "object"
	case "items":
		of = "array"
	default:
		return ""
	}
	if ways > 0 {
		return " beside $ref, anyOf, allOf, enum or const"
	}
	return fmt.Sprintf(" without type %q", of)
}

// types reads the keyword type, nil if there is none.
func (c *compiler) types(r *reader, path string) []string {
	n := r.take("type")
	if n == nil {
		return nil
	}
	list := []*node{n}
	if n.kind == '[' && len(n.items) > 0 {
		list = n.items
	}
	var out []string
	for _, t := range list {
		if t.kind != '"' || typeNames[t.text] == "" {
			c.fault(path, "type %.60s is none of object, array, string, number, integer, boolean, null, or a list of them", t)
			continue
		}
		if !slices.Contains(out, t.text) {
			out = append(out, t.text)
		}
	}
	if out == nil {
		out = []string{} // a fault; it is not without a type
	}
	return out
}

func (c *compiler) refer(start int32, ref *node, types []string, path string) {
	if ref.kind != '"' || types != nil {
		c.fault(path, "$ref is a text, and supported without type beside it")
		return
	}
	to, err := c.root.at(ref.text)
	if err != nil {
		c.fault(path, "$ref %.100q: %v", ref.text, err)
		return
	}
	c.net.call(start, c.ruleOf(to, ref.text), c.net.end())
}

func (c *compiler) alternatives(start int32, anyOf *node, types []string, path string) {
	if anyOf.kind != '[' || len(anyOf.items) == 0 || types != nil {
		c.fault(path, "anyOf is a list of schemas, and supported without type beside it")
		return
	}
	end := c.net.end()
	for i, alternative := range anyOf.items {
		c.net.call(start, c.ruleOf(alternative, fmt.Sprintf("%s/anyOf/%d", path, i)), end)
	}
}

// values reads one of some values, those of the types if there are any.
func (c *compiler) values(rule int, list []*node, types []string, path string) {
	var texts []string
	for _, v := range list {
		fits := types == nil
		for _, t := range types {
			fits = fits || typeNames[t] == string(v.kind) && (t != "integer" || !strings.ContainsAny(v.text, ".eE"))
		}
		if fits {
			texts = append(texts, v.String())
		}
	}
	if texts == nil {
		c.fault(path, "no value of enum or const has the type %q", types)
		return
	}
	c.net.literals(rule, texts) // if it is too large, full says so
}

// typed reads a value of one type.
func (c *compiler) typed(start int32, t string, r *reader, types []string, path string) {
	end := func() int32 { return c.net.end() }
	switch t {
	case "object":
		c.object(start, r, path)
	case "array":
		items, value := r.take("items"), ruleValue
		if items != nil {
			value = c.ruleOf(items, path+"/items")
		}
		c.net.array(start, value)
	case "string":
		c.net.call(start, ruleString, end())
	case "number":
		c.net.call(start, ruleNumber, end())
	case "integer":
		if !slices.Contains(types, "number") {
			c.net.call(start, ruleInteger, end())
		}
	case "boolean":
		c.net.call(start, ruleBoolean, end())
	case "null":
		c.net.call(start, ruleNull, end())
	}
}

// object reads an object.
func (c *compiler) object(start int32, r *reader, path string) {
	properties, required, more := r.take("properties"), r.take("required"), r.take("additionalProperties")
	needed := map[string]bool{}
	if required != nil {
		if required.kind != '[' {
			c.fault(path, "required is a list of names")
			return
		}
		for _, n := range required.items {
			if n.kind != '"' {
				c.fault(path, "required is a list of names, and %.60s is none", n)
				return
			}
			needed[n.text] = true
		}
	}
	if properties != nil && properties.kind != '{' {
		c.fault(path, "properties is an object")
		return
	}
	// Without properties there may be any, unless additionalProperties says
	// otherwise.
	if properties == nil || len(properties.members) == 0 {
		if len(needed) > 0 {
			c.fault(path, "required names what properties do not")
			return
		}
		switch {
		case more == nil && properties == nil || more != nil && more.kind == 't' && more.text == "true":
			c.net.entries(start, ruleValue)
		case more == nil || more.kind == 't':
			c.net.properties(start, nil)
		default:
			c.net.entries(start, c.ruleOf(more, path+"/additionalProperties"))
		}
		return
	}
	if more != nil && (more.kind != 't' || more.text != "false") {
		c.fault(path, "additionalProperties beside properties must be false")
		return
	}
	var ps []property
	for _, m := range properties.members {
		name := strings.NewReplacer("~", "~0", "/", "~1").Replace(m.name)
		ps = append(ps, property{m.name, c.ruleOf(m.value, path+"/properties/"+name), needed[m.name]})
		delete(needed, m.name)
	}
	for _, n := range requiredLeft(required, needed) {
		c.fault(path, "required names %.60q, which properties do not", n)
	}
	c.net.properties(start, ps)
}

// requiredLeft are the names that are left, in the order of the schema.
func requiredLeft(required *node, left map[string]bool) (names []string) {
	if required == nil {
		return nil
	}
	for _, n := range required.items {
		if left[n.text] {
			names = append(names, n.text)
			delete(left, n.text)
		}
	}
	return names
}
