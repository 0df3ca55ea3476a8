package expo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"expo/weights/checkpoint"
)

// VocabularyConflicts names the ids that mean different tokens to the two
// models, in one line, or nothing. Their rows are mixed all the same: only the
// people who made the models can tell whether a token was renamed or replaced.
func VocabularyConflicts(sft, aligned *checkpoint.Checkpoint) []string {
	s, serr := fs.ReadFile(sft.Files(), "tokenizer.json")
	a, aerr := fs.ReadFile(aligned.Files(), "tokenizer.json")
	if serr == nil && aerr == nil && bytes.Equal(s, a) {
		return nil // by far the most frequent, and parsing takes its time
	}
	return changedTokens(tokens(sft.Files()), tokens(aligned.Files()))
}

// vocabularies says in words how the tokenizers, added tokens and chat
// templates of two models differ. Rows pair by number, so two vocabularies
// that give one number to different tokens make wrong rows meet, which no
// shape shows.
func vocabularies(sft, aligned *checkpoint.Checkpoint) []string {
	var out []string
	s, a := sft.Files(), aligned.Files()
	st, at := tokens(s), tokens(a)
	switch {
	case st == nil && at == nil:
		out = append(out, sameFile(s, a, "tokenizer.model", "tokenizer.json", "vocab.json", "merges.txt")...)
	case st == nil:
		out = append(out, "the SFT model has no tokenizer.json or vocab.json to compare the vocabularies by")
	case at == nil:
		out = append(out, "the aligned model has no tokenizer.json or vocab.json to compare the vocabularies by")
	default:
		out = append(out, compareTokens(st, at)...)
	}
	if sc, ac := chatTemplate(s), chatTemplate(a); sc != ac {
		switch {
		case sc == "":
			out = append(out, "chat template: only the aligned model has one")
		case ac == "":
			out = append(out, "chat template: only the SFT model has one")
		default:
			out = append(out, "chat template: the two differ; the result has the aligned model's")
		}
	}
	return out
}

func sameFile(s, a fs.FS, names ...string) []string {
	var out []string
	for _, n := range names {
		sb, serr := fs.ReadFile(s, n)
		ab, aerr := fs.ReadFile(a, n)
		if (serr == nil) != (aerr == nil) || !bytes.Equal(sb, ab) {
			out = append(out, n+" differs")
		}
	}
	return out
}

// compareTokens lists the numbers that name different tokens, and those that
// only one side has.
func compareTokens(s, a map[int]string) []string {
	var added, removed []int
	for id := range a {
		if _, ok := s[id]; !ok {
			added = append(added, id)
		}
	}
	for id := range s {
		if _, ok := a[id]; !ok {
			removed = append(removed, id)
		}
	}
	out := changedTokens(s, a)
	if len(added) > 0 {
		out = append(out, fmt.Sprintf("tokenizer: %s only in aligned: %s", count(len(added), "token", "tokens"),
			someTokens(added, func(id int) string { return fmt.Sprintf("%d %q", id, a[id]) })))
	}
	if len(removed) > 0 {
		out = append(out, fmt.Sprintf("tokenizer: %s only in SFT: %s", count(len(removed), "token", "tokens"),
			someTokens(removed, func(id int) string { return fmt.Sprintf("%d %q", id, s[id]) })))
	}
	return out
}

func changedTokens(s, a map[int]string) []string {
	var changed []int
	for id, t := range a {
		if o, ok := s[id]; ok && o != t {
			changed = append(changed, id)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("tokenizer: %s, whose rows are mixed: %s", count(len(changed), "id names different tokens", "ids name different tokens"),
		someTokens(changed, func(id int) string { return fmt.Sprintf("%d is %q in SFT, %q in aligned", id, s[id], a[id]) }))}
}

// someTokens describes the first few ids.
func someTokens(ids []int, one func(id int) string) string {
	slices.Sort(ids)
	var text []string
	for _, id := range ids[:min(len(ids), 4)] {
		text = append(text, one(id))
	}
	if len(ids) > 4 {
		text = append(text, "…")
	}
	return strings.Join(text, ", ")
}

// tokens maps ids to tokens as tokenizer.json or vocab.json tell, with added
// tokens; nil if neither can be read.
func tokens(files fs.FS) map[int]string {
	out := make(map[int]string)
	if b, err := fs.ReadFile(files, "tokenizer.json"); err == nil {
		var doc struct {
			Model struct {
				Vocab json.RawMessage `json:"vocab"`
			} `json:"model"`
			AddedTokens []struct {
				ID      int    `json:"id"`
				Content string `json:"content"`
			} `json:"added_tokens"`
		}
		if json.Unmarshal(b, &doc) != nil {
			return nil
		}
		var byToken map[string]int
		var unigram [][]any
		if json.Unmarshal(doc.Model.Vocab, &byToken) == nil {
			maps.Copy(out, byID(byToken))
		} else if json.Unmarshal(doc.Model.Vocab, &unigram) == nil {
			for id, entry := range unigram {
				if len(entry) > 0 {
					out[id], _ = entry[0].(string)
				}
			}
		} else {
			return nil
		}
		for _, t := range doc.AddedTokens {
			out[t.ID] = t.Content
		}
		return out
	}
	found := false
	for _, name := range []string{"vocab.json", "added_tokens.json"} {
		var byToken map[string]int
		if b, err := fs.ReadFile(files, name); err == nil && json.Unmarshal(b, &byToken) == nil {
			found = found || name == "vocab.json"
			maps.Copy(out, byID(byToken))
		}
	}
	if !found {
		return nil
	}
	return out
}

// byID turns a vocabulary round. Of several tokens with one id, which a file
// should not have, the first in byte order stays.
func byID(vocab map[string]int) map[int]string {
	out := make(map[int]string, len(vocab))
	for t, id := range vocab {
		if o, ok := out[id]; !ok || t < o {
			out[id] = t
		}
	}
	return out
}

// chatTemplate is the model's default template, from its own file or from
// tokenizer_config.json, where it is a string or one of a list of named ones.
func chatTemplate(files fs.FS) string {
	if b, err := fs.ReadFile(files, "chat_template.jinja"); err == nil {
		return string(b)
	}
	b, err := fs.ReadFile(files, "tokenizer_config.json")
	if err != nil {
		return ""
	}
	var doc struct {
		ChatTemplate json.RawMessage `json:"chat_template"`
	}
	if json.Unmarshal(b, &doc) != nil {
		return ""
	}
	var text string
	if json.Unmarshal(doc.ChatTemplate, &text) == nil {
		return text
	}
	var named []struct{ Name, Template string }
	if json.Unmarshal(doc.ChatTemplate, &named) == nil {
		for _, t := range named {
			if t.Name == "default" {
				return t.Template
			}
		}
	}
	return ""
}
