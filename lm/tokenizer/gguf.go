package tokenizer

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A GGUFVocab is the vocabulary of a GGUF file: the values of its keys
// tokenizer.ggml.*, and its name
// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). A pointer that
// is nil stands for a key that is not there.
type GGUFVocab struct {
	Name   string    // general.name, by which Phi-3 is known; may be empty
	Model  string    // "llama", "gpt2" or "t5"
	Pre    string    // for "gpt2": how text is split
	Tokens []string  // pieces by ID
	Scores []float32 // by ID; may be empty for "gpt2"
	Types  []int32   // by ID, as SentencePiece numbers them; empty: all normal
	Merges []string  // for "gpt2", in the order of rank

	BOS, EOS, UNK, PAD int // −1: none

	AddBOS, AddEOS         *bool
	AddSpacePrefix         *bool
	RemoveExtraWhitespaces *bool
	CharsMap               []byte // precompiled_charsmap
}

// FromGGUF makes the tokenizer of a GGUF file. It does what llama.cpp does,
// with these differences: added tokens are found leftmost first, and not
// longest first, and EncodeOrdinary recognises user-defined ones only if they
// are plain words or white space.
func FromGGUF(v GGUFVocab) (*Tokenizer, error) {
	t, err := fromGGUF(v)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: GGUF vocabulary: %w", err)
	}
	return t, nil
}

func fromGGUF(v GGUFVocab) (*Tokenizer, error) {
	n := len(v.Tokens)
	switch {
	case n == 0:
		return nil, errors.New("has no tokens")
	case n > maxID:
		return nil, fmt.Errorf("%d tokens are too many", n)
	case len(v.Scores) != n && len(v.Scores) != 0:
		return nil, fmt.Errorf("has %d tokens and %d scores", n, len(v.Scores))
	case len(v.Types) != n && len(v.Types) != 0:
		return nil, fmt.Errorf("has %d tokens and %d token types", n, len(v.Types))
	}
	for _, id := range []struct {
		name string
		id   int
	}{{"BOS", v.BOS}, {"EOS", v.EOS}, {"UNK", v.UNK}, {"PAD", v.PAD}} {
		if id.id < -1 || id.id >= n {
			return nil, fmt.Errorf("%s: ID %d is not in the vocabulary", id.name, id.id)
		}
	}
	m := &spmModel{lenient: true, addDummyPrefix: true, escapeWhitespaces: true, unkSurface: " \u2047 "}
	for i, text := range v.Tokens {
		if text == "" {
			text = fmt.Sprintf("[EMPTY_%d]", i)
		}
		p := spmPiece{text: text, kind: pieceNormal}
		if len(v.Scores) > 0 {
			p.score = v.Scores[i]
		}
		if len(v.Types) > 0 && v.Types[i] != 0 {
			p.kind = int(v.Types[i])
		}
		m.pieces = append(m.pieces, p)
	}

	var t *Tokenizer
	var err error
	addBOS, addEOS := false, false
	switch v.Model {
	case "llama":
		addBOS = true
		if len(v.Scores) == 0 {
			return nil, errors.New("has no scores")
		}
		m.modelType = 2
		m.byteFallback = hasAllBytes(m.pieces)
		if v.AddSpacePrefix != nil {
			m.addDummyPrefix = *v.AddSpacePrefix
		}
		t, err = newSentencePiece(m, true)
	case "t5":
		addEOS = true
		if len(v.Scores) == 0 {
			return nil, errors.New("has no scores")
		}
		m.modelType = 1
		m.charsmap = v.CharsMap
		m.addDummyPrefix = isTrue(v.AddSpacePrefix)
		m.removeExtraWhitespaces = isTrue(v.RemoveExtraWhitespaces)
		if t, err = newSentencePiece(m, true); err == nil {
			// llama.cpp keeps sums in float64 and scores user-defined pieces 0.
			u := t.model.(*unigram)
			u.sentencePiece = false
			for id, is := range u.user {
				if is {
					u.scores[id] = 0
				}
			}
			u.user = nil
		}
	case "gpt2":
		t, addBOS, err = ggufBPE(v, m)
	default:
		return nil, fmt.Errorf("model %s is not supported", quote(v.Model))
	}
	if err != nil {
		return nil, err
	}

	// The files of Phi-3 do not say that its tokens take white space along.
	name := strings.ToLower(v.Name)
	phi3 := strings.Contains(name, "phi-3") || strings.Contains(name, "phi3")
	t.bos, t.eos, t.pad = int32(v.BOS), int32(v.EOS), int32(v.PAD)
	if v.UNK >= 0 {
		t.unk = int32(v.UNK)
	}
	for i, p := range m.pieces {
		tok := addedToken{Content: p.text, ID: int64(i), Special: p.kind != pieceUserDefined || endsTurn[p.text]}
		tok.RStrip = phi3 && p.text != "<unk>" && p.text != "<s>" && p.text != "<|endoftext|>"
		switch p.kind {
		case pieceControl, pieceUnknown, pieceUserDefined:
			if err := t.recognise(&t.raw, p.text, tok); err != nil {
				return nil, err
			}
		}
	}
	if v.AddBOS != nil {
		addBOS = *v.AddBOS
	}
	if v.AddEOS != nil {
		addEOS = *v.AddEOS
	}
	if addBOS && t.bos != none {
		t.prefix = []int32{t.bos}
	}
	if addEOS && t.eos != none {
		t.suffix = []int32{t.eos}
	}
	t.bar()
	return t, nil
}

// hasAllBytes reports whether there is a piece for each byte.
func hasAllBytes(pieces []spmPiece) bool {
	var seen [256]bool
	n := 0
	for _, p := range pieces {
		if c, ok := byteOf(p.text); ok && !seen[c] {
			seen[c] = true
			n++
		}
	}
	return n == len(seen)
}

// endsTurn are tokens that llama.cpp takes for control tokens even when the file
// has them as user-defined.
var endsTurn = map[string]bool{
	"<|eot_id|>": true, "<|im_end|>": true, "<|end|>": true, "<|return|>": true, "<|call|>": true, "<end_of_turn>": true,
	"<|endoftext|>": true, "<|eom_id|>": true, "<EOT>": true, "_<EOT>": true, "<|end_of_text|>": true,
	"<end_of_utterance>": true, "<｜end▁of▁sentence｜>": true,
}

// ggufBPE makes a byte-level BPE. addBOS is whether BOS is usual for its
// pre-tokenizer.
func ggufBPE(v GGUFVocab, m *spmModel) (t *Tokenizer, addBOS bool, err error) {
	ids := make(map[string]int32, len(m.pieces))
	literal := map[int32]bool{} // pieces that are not written in letters
	for i, p := range m.pieces {
		if j, ok := ids[p.text]; ok {
			return nil, false, fmt.Errorf("tokens %d and %d are both %s", j, i, quote(p.text))
		}
		if !utf8.ValidString(p.text) {
			return nil, false, fmt.Errorf("token %d: is not UTF-8", i)
		}
		ids[p.text] = int32(i)
		switch p.kind {
		case pieceControl, pieceUserDefined, pieceUnknown:
			literal[int32(i)] = true
		}
	}
	vocab, err := newVocabulary(ids)
	if err != nil {
		return nil, false, err
	}
	b := &bpe{vocab: ids, unk: none}
	merges := make([][2]string, len(v.Merges))
	for i, line := range v.Merges {
		// The space between two pieces is not the first character.
		at := strings.Index(line[min(1, len(line)):], " ")
		if at < 0 {
			return nil, false, fmt.Errorf("merge %d: %s is not two pieces", i, quote(line))
		}
		merges[i] = [2]string{line[:at+1], line[at+2:]}
	}
	if err := b.setMerges(merges); err != nil {
		return nil, false, err
	}
	b.useBytes()

	exprs, like := ggufPre(v.Pre)
	if exprs == nil {
		return nil, false, fmt.Errorf("pre-tokenizer %s is not supported", quote(v.Pre))
	}
	b.whole, addBOS = like, like
	t = newTokenizer("byte-level BPE", vocab)
	t.model = b
	for _, expr := range exprs {
		p, err := newRegexp(expr)
		if err != nil {
			return nil, false, err
		}
		t.splitters = append(t.splitters, p.split(isolated, false))
	}
	t.decoder = func(next stage) stage {
		return &rawStage{next: next, raw: func(id int32, text string) string {
			if literal[id] {
				return text
			}
			if s, ok := fromLetters(text); ok {
				return s
			}
			return text
		}}
	}
	return t, addBOS, nil
}

// ggufPre are the patterns with which llama.cpp splits text for a
// pre-tokenizer, one after the other, or nil when it is not known. like says
// that it is one of the kind of Llama 3: a word that is a piece is taken
// whole, and BOS stands before the text
// (https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp).
func ggufPre(pre string) (exprs []string, like bool) {
	const digits = `\p{N}`
	switch pre {
	case "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2":
		return []string{llama3Pattern}, true
	case "smaug-bpe", "dbrx", "glm4", "chatglm-bpe":
		return []string{llama3Pattern}, false
	case "qwen2", "deepseek-r1-qwen", "kormo", "stablelm2", "megrez", "hunyuan", "grok-2":
		return []string{qwen2Pattern}, false
	case "gpt-2", "phi-2", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "gigachat", "a.x-4.0", "mellum",
		"mpt", "olmo", "jais", "exaone4", "trillion", "granite-docling":
		return []string{gpt2Pattern}, false
	case "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b":
		return []string{digits, gpt2Pattern}, false
	case "", "default":
		return []string{`[\p{P}\$\+<=>\^~\|]+`, gpt2Pattern, `\p{N}+`, `[0-9][0-9][0-9]`}, false
	case "falcon":
		return []string{"[\\p{P}\\$\\+<=>\\^~\\|`]+", gpt2Pattern, `[0-9][0-9][0-9]`}, false
	case "deepseek-llm":
		return []string{`[\r\n]`, deepseekLetters, "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", `\s+\z`, deepseekHan, `\p{N}+`}, false
	case "deepseek-coder":
		return []string{`[\r\n]`, `\s?\p{L}+`, `\s?\p{P}+`, deepseekHan, digits}, false
	case "deepseek-v3", "hunyuan-dense":
		return []string{`\p{N}{1,3}`, "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
			"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}, false
	case "tekken":
		return []string{`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`}, true
	case "gpt-4o", "llama4":
		return []string{`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`}, false
	}
	return nil, false
}

// deepseekHan is the pattern of DeepSeek for Chinese and Korean, and, as
// published, for everything between U+0800 and U+4E00.
const deepseekHan = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"

// deepseekLetters is the pattern of DeepSeek LLM for words: the letters of its
// training scripts, listed by hand.
const deepseekLetters = "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af" +
	"\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5" +
	"\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba" +
	"\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45" +
	"\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe" +
	"\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102" +
	"\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139" +
	"\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3" +
	"\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06" +
	"\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3" +
	"\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df" +
	"\U0001e900-\U0001e943]+"
