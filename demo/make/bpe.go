package main

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Special tokens. Their IDs are their places.
const (
	padToken  = "<pad>"
	userToken = "<user>"
	noteToken = "<note>"
	endToken  = "<end>"
)

var special = []string{padToken, userToken, noteToken, endToken}

// chatTemplate writes a request and a note, each after its special token.
const chatTemplate = `{% for m in messages %}{% if m['role'] == 'assistant' %}` + noteToken + `{{ m['content'] }}` + endToken +
	`{% else %}` + userToken + `{{ m['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}` + noteToken + `{% endif %}`

// trainBPE makes a byte-level BPE tokenizer (Sennrich et al.,
// https://arxiv.org/abs/1508.07909; bytes as in GPT-2) of the words in texts: the
// pair of tokens that is most frequent is merged, the first in the order of bytes
// among equals, until there are size tokens or no pair comes twice.
func trainBPE(texts []string, size int) (vocab map[string]int, merges [][2]string) {
	counts := map[string]int{}
	for _, t := range texts {
		for w := range words(t) {
			counts[w]++
		}
	}
	type word struct {
		tokens []string
		n      int
	}
	var list []word
	for _, w := range slices.Sorted(maps.Keys(counts)) {
		var tokens []string
		for i := range len(w) {
			tokens = append(tokens, string(byteRune(w[i])))
		}
		list = append(list, word{tokens, counts[w]})
	}
	vocab = map[string]int{}
	for _, s := range special {
		vocab[s] = len(vocab)
	}
	for b := range 256 {
		vocab[string(byteRune(byte(b)))] = len(vocab)
	}
	for len(vocab) < size {
		pairs := map[[2]string]int{}
		for _, w := range list {
			for i := range len(w.tokens) - 1 {
				pairs[[2]string{w.tokens[i], w.tokens[i+1]}] += w.n
			}
		}
		var best [2]string
		for p, n := range pairs {
			if c := cmp.Compare(n, pairs[best]); c > 0 || c == 0 && slices.Compare(p[:], best[:]) < 0 {
				best = p
			}
		}
		if pairs[best] < 2 {
			break
		}
		merges = append(merges, best)
		vocab[best[0]+best[1]] = len(vocab)
		for k, w := range list {
			var merged []string
			for i := 0; i < len(w.tokens); i++ {
				if i+1 < len(w.tokens) && w.tokens[i] == best[0] && w.tokens[i+1] == best[1] {
					merged = append(merged, best[0]+best[1])
					i++
					continue
				}
				merged = append(merged, w.tokens[i])
			}
			list[k].tokens = merged
		}
	}
	return vocab, merges
}

// words cuts text as GPT-2's pattern does, as far as these texts go: letters, or
// other characters, each with the space before them.
func words(text string) func(yield func(string) bool) {
	letter := func(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
	return func(yield func(string) bool) {
		for i := 0; i < len(text); {
			j := i
			if text[j] == ' ' {
				j++
			}
			k := min(j+1, len(text))
			for k < len(text) && text[k] != ' ' && letter(text[k]) == letter(text[j]) {
				k++
			}
			if !yield(text[i:k]) {
				return
			}
			i = k
		}
	}
}

// byteRune is the character by which GPT-2's vocabulary writes a byte.
func byteRune(b byte) rune {
	shown := func(c rune) bool { return c >= '!' && c <= '~' || c >= 0xa1 && c <= 0xac || c >= 0xae && c <= 0xff }
	if shown(rune(b)) {
		return rune(b)
	}
	n := rune(0x100)
	for c := range rune(b) {
		if !shown(c) {
			n++
		}
	}
	return n
}

// tokenizerFiles are the files of a tokenizer as transformers writes them.
func tokenizerFiles(vocab map[string]int, merges [][2]string) map[string][]byte {
	type object = map[string]any
	var added []object
	for id, s := range special {
		added = append(added, object{"id": id, "content": s, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
	}
	byteLevel := object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	return map[string][]byte{
		"tokenizer.json": encode(object{
			"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "normalizer": nil,
			"pre_tokenizer": byteLevel, "post_processor": nil, "decoder": byteLevel,
			"model": object{
				"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
				"fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges,
			},
		}, ""),
		"tokenizer_config.json": encode(object{
			"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false, "model_max_length": positions,
			"pad_token": padToken, "eos_token": endToken, "chat_template": chatTemplate,
		}, "  "),
		"generation_config.json": encode(object{
			"eos_token_id": vocab[endToken], "pad_token_id": vocab[padToken], "do_sample": true, "temperature": 0.7, "top_k": 50, "top_p": 0.9, "max_new_tokens": 128,
		}, "  "),
	}
}

// encode writes JSON, with keys in order.
func encode(v any, indent string) []byte {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		panic(err) // these are plain values
	}
	return []byte(b.String())
}
