package expo

import (
	"fmt"
	"strings"

	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// headState is what a checkpoint says and stores of its output head.
type headState struct {
	name        string // of the stored head
	stored      bool
	head, embed tensor.Tensor
	tied        bool // by config.json; where it says nothing, by what is stored
	declared    bool // config.json says it
	equal       bool // the stored head is the embedding, bit for bit
}

func headOf(c *checkpoint.Checkpoint) (h headState, err error) {
	if h.name, h.stored = c.Head(); h.stored {
		h.head, _ = c.Tensor(h.name)
	}
	e, ok := c.Embedding()
	if ok {
		h.embed, _ = c.Tensor(e)
	}
	h.tied, h.declared = c.Config().TieWordEmbeddings()
	if !h.declared {
		h.tied = !h.stored
	}
	if h.stored && ok && h.tied {
		h.equal, err = equalTensors(h.head, h.embed)
	}
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

// heads settles which tensor is the output head of either side. Where the
// files and tie_word_embeddings agree, or the stored head is the embedding bit
// for bit, there is one answer; otherwise the versions of transformers differ
// in theirs, and Options.Head has to choose.
func (m *matcher) heads() error {
	a, err := headOf(m.aligned)
	if err != nil {
		return err
	}
	s, err := headOf(m.sft)
	if err != nil {
		return err
	}
	name := a.name
	if name == "" {
		name = s.name
	}
	differ := func(policy Head, sft, aligned, remedy string) {
		d := Difference{Tensor: name, SFT: sft, Aligned: aligned, Remedy: remedy}
		if policy != Refuse {
			d.Policy = "--head=" + string(policy)
		}
		m.diffs = append(m.diffs, d)
	}
	headless := func(h headState, c *checkpoint.Checkpoint) bool {
		return !h.stored && h.declared && !h.tied && generates(c)
	}
	if headless(a, m.aligned) || headless(s, m.sft) {
		if name == "" {
			name = "lm_head.weight"
		}
		differ(Refuse, says(s), says(a), "a model that ties no head and stores none has lost it: transformers would start it at random; get the complete model, or correct tie_word_embeddings")
		m.settle(s, a)
		return nil
	}
	if m.opt.Head == HeadTied {
		if !a.tied || a.embed.Data == nil {
			differ(Refuse, says(s), says(a), "--head=tied needs an aligned model that ties its head")
			m.settle(s, a)
			return nil
		}
		m.settle(s, a)
		if a.stored {
			m.dropHead[a.name] = true
		}
		if a.stored || s.stored {
			m.notes = append(m.notes, "stored heads were left out (--head=tied); the result's head is its embedding")
		}
		return nil
	}
	loose := func(h headState) bool { return h.stored && h.tied && !h.equal }
	if m.opt.Head == Refuse && (loose(a) || loose(s)) {
		differ(HeadStored, says(s), says(a), "a head is stored that is not the embedding although tie_word_embeddings says so: transformers 5 uses it, transformers 4 drops it; choose with --head=stored or --head=tied")
		m.settle(s, a)
		return nil
	}
	switch {
	case a.stored && !s.stored && s.embed.Data != nil:
		// The SFT model's head is its embedding, by its own configuration.
		if m.opt.Head != HeadStored && !(a.tied && a.equal) {
			differ(HeadStored, says(s), says(a), "only the aligned model has a head of its own; extrapolate it from the SFT model's embedding with --head=stored")
			m.settle(s, a)
			return nil
		}
		m.instead[a.name] = s.embed
		m.notes = append(m.notes, fmt.Sprintf("the SFT model stores no %s: its embedding, to which it is tied, stands in for it", a.name))
	case !a.stored && s.stored && s.equal:
		m.settled[s.name] = true
		m.notes = append(m.notes, fmt.Sprintf("the SFT model stores %s although it is its embedding; the aligned model does not", s.name))
	case !a.stored && s.stored:
		differ(HeadTied, says(s), says(a), "only the SFT model has a head of its own; leave it out with --head=tied")
		m.settle(s, a)
	}
	return nil
}

// settle keeps the head, already spoken of, from being listed twice.
func (m *matcher) settle(s, a headState) {
	if s.stored {
		m.settled[s.name] = true
	}
	if a.stored {
		m.instead[a.name] = a.head
	}
}

func says(h headState) string {
	stored := "not stored"
	if h.stored {
		stored = "stored"
		if h.equal {
			stored = "stored, equal to the embedding"
		}
	}
	tied := "untied"
	if h.tied {
		tied = "tied"
	}
	return stored + ", " + tied
}

// ties warns when rules give a stored, tied head another α than its embedding:
// the two would part.
func (m *matcher) ties(pl *plan) {
	a, err := headOf(m.aligned)
	if err != nil || !a.stored || !a.tied || !a.equal || m.dropHead[a.name] {
		return
	}
	head, _ := m.opt.alphaOf(a.name)
	embed, _ := m.opt.alphaOf(a.embed.Name)
	if head != embed {
		m.notes = append(m.notes, fmt.Sprintf("%s gets α %g and %s, to which it is tied, %g: the result is no longer tied", a.name, head, a.embed.Name, embed))
	}
}
