// Package grammar says which tokens may come next so that an answer becomes a
// JSON document of a given form.
//
// Start at [Schema], [Object], [Choice] or [Calls], which make a [Grammar]; with an index
// of a model's tokens, a [Vocabulary], it makes a [Matcher], which follows an
// answer token by token and gives the set of tokens that may continue it.
//
// # What a schema may say
//
// The keywords are those of JSON Schema (https://json-schema.org/draft/2020-12)
// that OpenAI's structured outputs allow
// (https://platform.openai.com/docs/guides/structured-outputs): type (one or
// several of object, array, string, number, integer, boolean, null),
// properties, required, additionalProperties, items, enum, const, anyOf, allOf
// of one, $ref to a place in the schema (recursive ones as well), $defs. Remarks
// such as title, description and default mean nothing here, nor do keywords that
// begin with x-. Any other keyword is an error, never ignored.
//
// A document is always one that the schema allows. It is written in one way of
// several: properties stand in the order of the schema and only those that it
// names (an object without properties may have any, or those that
// additionalProperties describes); names and texts of enum and const have no
// needless escapes; where JSON allows white space there is none, a space, or a
// line break and up to 20 spaces or tabs, and none before a comma or colon;
// numbers have up to 20 digits before and after the point and 2 in the exponent.
// Strings are well-formed UTF-8 without lone surrogates.
//
// # How it works
//
// A schema is compiled to a pushdown automaton over bytes: a network of states
// for every part, whose edges are bytes or calls of other parts. An answer's
// state is the set of the stacks that are possible. Which tokens may follow the
// top of a stack is found by walking through a trie of all tokens' bytes, once
// for every state; tokens that end the part are followed on in what lies below
// it. The idea is that of XGrammar (Dong et al., https://arxiv.org/abs/2411.15100).
//
// Compiling takes time and memory in proportion to the schema, which is limited.
// Where more than 256 alternatives are possible at once, which a schema can
// bring about on purpose, only the first of them are followed: the document is
// one that the schema allows all the same.
package grammar

import (
	"errors"
	"fmt"
)

// ErrSchema is in the chain of errors about a schema.
var ErrSchema = errors.New("unusable schema")

// A Grammar is a form that answers are to have. It does not change.
type Grammar struct {
	net    *network
	root   int // rule
	source []byte
}

// Source is the JSON schema that the grammar was made of, nil if it was none.
func (g *Grammar) Source() []byte { return g.source }

// Object is the grammar of any JSON object.
func Object() *Grammar {
	n := newNetwork()
	return &Grammar{net: n, root: n.document(ruleObject), source: []byte(`{"type":"object"}`)}
}

// Choice is the grammar of some texts, as they stand.
func Choice(texts []string) (*Grammar, error) {
	if len(texts) == 0 {
		return nil, fmt.Errorf("grammar: no texts to choose from (%w)", ErrSchema)
	}
	n := newNetwork()
	for _, t := range texts {
		if t == "" {
			return nil, fmt.Errorf("grammar: a text to choose from is empty (%w)", ErrSchema)
		}
	}
	r := n.rule()
	if err := n.literals(r, texts); err != nil {
		return nil, err
	}
	if err := n.finish(r); err != nil {
		return nil, err
	}
	return &Grammar{net: n, root: r}, nil
}

// Schema compiles a JSON schema.
func Schema(source []byte) (*Grammar, error) {
	if len(source) > maxSource {
		return nil, fmt.Errorf("grammar: the schema has %d bytes, want %d at most (%w)", len(source), maxSource, ErrSchema)
	}
	root, err := parse(source)
	if err != nil {
		return nil, fmt.Errorf("grammar: the schema is no JSON document: %w (%w)", err, ErrSchema)
	}
	c := &compiler{root: root, net: newNetwork(), rules: map[*node]int{}}
	r := c.net.document(c.ruleOf(root, "#"))
	if err := c.run(); err != nil {
		return nil, err
	}
	if err := c.net.finish(r); err != nil {
		return nil, err
	}
	return &Grammar{net: c.net, root: r, source: append([]byte(nil), source...)}, nil
}
