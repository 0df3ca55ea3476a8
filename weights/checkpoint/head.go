package checkpoint

import (
	"cmp"
	"strings"
)

// Heads and embeddings go by few names. They matter only where a head may be
// left out because it is the embedding, so an unknown name costs nothing but
// that convenience.
var (
	headNames      = []string{"lm_head.weight", "embed_out.weight", "output.weight"}
	embeddingNames = []string{"embed_tokens.weight", "wte.weight", "tok_embeddings.weight", "word_embeddings.weight", "embed_in.weight", "wordembed.weight"}
)

// Head finds the output head, of shape (vocab_size, hidden_size).
func (c *Checkpoint) Head() (string, bool) { return c.find(headNames, true) }

// Embedding finds the input embedding, of shape (vocab_size, hidden_size).
func (c *Checkpoint) Embedding() (string, bool) { return c.find(embeddingNames, false) }

// find takes the matching name with the fewest dots, then the shortest: in
// models of several parts the decoder's stands nearest to the top.
func (c *Checkpoint) find(names []string, top bool) (string, bool) {
	best := ""
	for t := range c.Tensors() {
		if named(t.Name, names, top) && (best == "" || nearer(t.Name, best)) {
			best = t.Name
		}
	}
	return best, best != ""
}

func nearer(a, b string) bool {
	return cmp.Or(cmp.Compare(strings.Count(a, "."), strings.Count(b, ".")), cmp.Compare(len(a), len(b))) < 0
}

// named matches whole names, or a name's end after a dot. "output.weight"
// counts only at the top (and below "model."), since many layers inside have
// an output of their own.
func named(name string, names []string, top bool) bool {
	for _, n := range names {
		if name == n || name == "model."+n {
			return true
		}
		if strings.HasSuffix(name, "."+n) && !(top && n == "output.weight") {
			return true
		}
	}
	return false
}
