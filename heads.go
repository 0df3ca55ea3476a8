package expo

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// headState is what a checkpoint says and stores of its output head. A model
// is in one of these states:
//
//	not stored, tied      its head is its embedding
//	stored, tied, equal   its head is its embedding, stored twice
//	stored, tied          loose: transformers 5 uses what is stored, transformers 4 the embedding
//	stored, untied        it has a head of its own
//	not stored, untied    it needs none (an encoder, a reward model), or has lost it
type headState struct {
	name        string // of the stored head
	stored      bool
	head, embed tensor.Tensor // Data is nil where there is none
	tied        bool          // by config.json; where it says nothing, by what is stored
	equal       bool          // stored and tied, and the embedding bit for bit
	lost        bool          // it should have a head of its own
}

func (h *headState) loose() bool { return h.stored && h.tied && !h.equal }
func (h *headState) own() bool   { return h.stored && !h.tied }

func (h *headState) String() string {
	stored := "not stored"
	if h.stored {
		stored = "stored"
		if h.equal {
			stored = "stored, equal to the embedding"
		}
	}
	if h.tied {
		return stored + ", tied"
	}
	return stored + ", untied"
}

// headOf reads a checkpoint's state. Only a head that is stored although it is
// tied has its bytes looked at.
func headOf(c *checkpoint.Checkpoint) (h headState, err error) {
	if h.name, h.stored = c.Head(); h.stored {
		h.head, _ = c.Tensor(h.name)
	}
	e, known := c.Embedding()
	if known {
		h.embed, _ = c.Tensor(e)
	}
	var declared bool
	if h.tied, declared = c.Config().TieWordEmbeddings(); !declared {
		h.tied = !h.stored
	}
	if h.stored && h.tied && known {
		h.equal, err = equalTensors(h.head, h.embed)
	}
	h.lost = !h.stored && !h.tied && known && generates(c) && !hasTwin(c, h.embed)
	return h, err
}

// generates tells models that need a head from encoders and reward models.
func generates(c *checkpoint.Checkpoint) bool {
	list, _ := c.Config().Fields()["architectures"].([]any)
	for _, v := range list {
		s, _ := v.(string)
		if strings.HasSuffix(s, "ForCausalLM") || strings.HasSuffix(s, "LMHeadModel") || strings.HasSuffix(s, "ForConditionalGeneration") {
			return true
		}
	}
	return false
}

// hasTwin reports whether a second tensor has the embedding's shape: a head
// under a name that is not known here.
func hasTwin(c *checkpoint.Checkpoint, embed tensor.Tensor) bool {
	for t := range c.Tensors() {
		if t.Name != embed.Name && slices.Equal(t.Shape, embed.Shape) {
			return true
		}
	}
	return false
}

// heads settles which tensor is the output head of either side. Where both
// heads are stored alike, or a side's stored head is its embedding bit for
// bit, there is one answer. Otherwise either the versions of transformers
// differ in theirs, or one side ties what the other has apart, and
// Options.Head has to choose. A rule that gives the head α = 0 makes the SFT
// model's state irrelevant.
func (m *matcher) heads() error {
	s, err := headOf(m.sft)
	if err != nil {
		return err
	}
	if m.head, err = headOf(m.aligned); err != nil {
		return err
	}
	a := &m.head
	name := cmp.Or(a.name, s.name, "lm_head.weight")
	alpha, _ := m.opt.alphaOf(name)
	free := m.copied(alpha)
	refuse := func(policy Head, remedy string) error {
		d := Difference{Tensor: name, SFT: s.String(), Aligned: a.String(), Remedy: remedy}
		if policy != Refuse {
			d.Policy = "--head=" + string(policy)
		}
		m.diffs = append(m.diffs, d)
		// What has been said is not said again, tensor by tensor.
		m.settled[name], m.settled[s.name] = true, true
		return nil
	}
	if a.lost || s.lost && !(free && a.stored) {
		return refuse(Refuse, "a model that ties no head and stores none has lost it: transformers would start it at random; get the complete model, or correct tie_word_embeddings")
	}
	if m.opt.Head == HeadTied {
		if !a.tied {
			return refuse(Refuse, "--head=tied needs an aligned model that ties its head")
		}
		m.dropHead = a.stored
		if s.stored {
			m.settled[s.name] = true
		}
		if a.stored || s.stored {
			m.notes = append(m.notes, "stored heads were left out (--head=tied): the result's head is its embedding")
		}
		return nil
	}
	if m.opt.Head == Refuse {
		if a.loose() || s.loose() && !free && (a.stored || a.tied) {
			why := "a head is stored that is not the embedding although tie_word_embeddings says so: transformers 5 uses it, transformers 4 drops it; "
			switch {
			case !a.stored:
				return refuse(HeadTied, why+"leave it out with --head=tied")
			case !a.tied:
				return refuse(HeadStored, why+"use it with --head=stored")
			}
			return refuse(HeadStored, why+"choose with --head=stored or --head=tied")
		}
		if a.equal && s.own() && !free {
			return refuse(HeadStored, "the aligned model's head is its embedding, the SFT model's is not, so the result's would part from it: transformers 5 uses the stored one, transformers 4 the embedding; choose with --head=stored or --head=tied")
		}
	}
	switch {
	case a.stored && s.stored:
		if a.equal && !s.equal && !free {
			m.parted = "the SFT model has a head of its own"
		}
	case a.stored && (s.tied || a.equal) && s.embed.Data != nil:
		switch {
		case a.equal || m.opt.Head == HeadStored:
			m.instead[a.name] = s.embed
			m.notes = append(m.notes, fmt.Sprintf("the SFT model stores no %s: its embedding stands in for it", printable(a.name)))
		case !free:
			return refuse(HeadStored, "only the aligned model has a head of its own; extrapolate it from the SFT model's embedding with --head=stored")
		}
	case !a.stored && s.equal:
		m.settled[s.name] = true
		m.notes = append(m.notes, fmt.Sprintf("the SFT model stores %s although it is its embedding; the aligned model does not", printable(s.name)))
	case !a.stored && s.stored && a.tied && !free:
		return refuse(HeadTied, "only the SFT model has a head of its own; leave it out with --head=tied")
	}
	// What is left is a head that only one side has any use for. It is missing
	// like any other tensor.
	return nil
}

// ties notes that a stored head which was the embedding no longer is: it had
// another partner, or rules give it another α.
func (m *matcher) ties() {
	h := &m.head
	if !h.equal || m.dropHead {
		return
	}
	head, _ := m.opt.alphaOf(h.name)
	embed, _ := m.opt.alphaOf(h.embed.Name)
	if head != embed {
		m.parted = fmt.Sprintf("it gets α %g, and %s %g", head, printable(h.embed.Name), embed)
	}
	if m.parted != "" {
		m.notes = append(m.notes, fmt.Sprintf("the result's %s is no longer its embedding: %s", printable(h.name), m.parted))
	}
}
