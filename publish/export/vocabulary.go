package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"expo/lm/tokenizer"
	"expo/weights/gguf"
)

// A vocabulary is the tokenizer as a GGUF file has it.
type vocabulary struct {
	tokenizer.GGUFVocab
	eot, eom int // further tokens that end an answer, −1: none
}

// The types of tokens, which are SentencePiece's.
const (
	tokenNormal      = 1
	tokenUnknown     = 2
	tokenControl     = 3
	tokenUserDefined = 4
	tokenUnused      = 5
	tokenByte        = 6
)

// errNoTokenizer is for a checkpoint without files of a tokenizer.
var errNoTokenizer = errors.New("there is no tokenizer.json and no tokenizer.model")

// readVocabulary makes the vocabulary, of as many tokens as the embedding has
// rows. What it loses of the model's tokenizer is in notes, a line each.
func readVocabulary(files fs.FS, rows int, stops []int, chat bool) (v *vocabulary, notes []string, err error) {
	v = &vocabulary{eot: -1, eom: -1}
	var own *tokenizer.Tokenizer
	var g errgroup.Group // large files take a while to parse
	g.Go(func() (err error) { own, err = tokenizer.Load(files); return err })
	if v.GGUFVocab, err = pieces(files); err != nil {
		g.Wait()
		return nil, nil, err
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	n := len(v.Tokens)
	if n > rows {
		return nil, nil, fmt.Errorf("the tokenizer has %d tokens, the embedding %d rows", n, rows)
	}
	for i := n; i < rows; i++ {
		v.Tokens = append(v.Tokens, fmt.Sprintf("[PAD%d]", i))
		v.Types = append(v.Types, tokenUnused)
		if v.Scores != nil {
			v.Scores = append(v.Scores, -1000)
		}
	}
	inRange := func(id int) int {
		if id >= n {
			return -1
		}
		return id
	}
	v.BOS, v.EOS, v.UNK, v.PAD = inRange(own.BOS()), inRange(own.EOS()), inRange(own.UNK()), inRange(own.PAD())
	v.end(stops)
	bos, eos := added(own)
	v.AddBOS, v.AddEOS = &bos, &eos
	notes, err = v.compare(own, chat)
	return v, notes, err
}

// end settles which tokens end an answer. llama.cpp has a key for each kind.
func (v *vocabulary) end(stops []int) {
	for _, id := range stops {
		if id < 0 || id >= len(v.Tokens) {
			continue
		}
		if v.EOS < 0 {
			v.EOS = id
		}
		switch {
		case id == v.EOS:
		case v.Tokens[id] == "<|eom_id|>":
			v.eom = id
		case v.eot < 0:
			v.eot = id
		}
	}
	// Chat models of InternLM2 end turns with a token that their config.json
	// does not name.
	if v.eot < 0 && v.EOS >= 0 {
		if id := slices.Index(v.Tokens, "<|im_end|>"); id >= 0 && id != v.EOS && v.Types[id] != tokenNormal {
			v.eot = id
		}
	}
}

// added reports whether the tokenizer puts BOS before a text and EOS behind it.
func added(t *tokenizer.Tokenizer) (bos, eos bool) {
	const text = "a"
	with, without := t.Encode(text, true), t.Encode(text, false)
	more := len(with) - len(without)
	bos = more > 0 && len(with) > 0 && with[0] == t.BOS() && t.BOS() >= 0
	eos = more > 0 && len(with) > 0 && with[len(with)-1] == t.EOS() && t.EOS() >= 0 && (!bos || more > 1)
	return bos, eos
}

// pieces reads the vocabulary itself. A tokenizer.json counts more than the
// tokenizer.model beside it, since it is what the model is run with here.
func pieces(files fs.FS) (tokenizer.GGUFVocab, error) {
	for _, name := range []string{"tokenizer.json", "tokenizer.model"} {
		b, err := fs.ReadFile(files, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var v tokenizer.GGUFVocab
		if err == nil {
			switch {
			case name == "tokenizer.json":
				v, err = jsonPieces(b)
			case isTiktoken(b):
				v, err = tiktokenPieces(b, files)
			default:
				v, err = spmPieces(b, files)
			}
		}
		if err != nil {
			return v, fmt.Errorf("%s: %w", name, err)
		}
		return v, nil
	}
	return tokenizer.GGUFVocab{}, errNoTokenizer
}

// pairs are the keys of the metadata.
func (v *vocabulary) pairs() []gguf.Pair {
	const k = "tokenizer.ggml."
	ps := []gguf.Pair{{Key: k + "model", Value: v.Model}, {Key: k + "pre", Value: v.Pre}, {Key: k + "tokens", Value: v.Tokens}}
	if v.Scores != nil {
		ps = append(ps, gguf.Pair{Key: k + "scores", Value: v.Scores})
	}
	ps = append(ps, gguf.Pair{Key: k + "token_type", Value: v.Types})
	if v.Model == "gpt2" {
		ps = append(ps, gguf.Pair{Key: k + "merges", Value: v.Merges})
	}
	for _, id := range []struct {
		key string
		id  int
	}{
		{"bos_token_id", v.BOS}, {"eos_token_id", v.EOS}, {"eot_token_id", v.eot}, {"eom_token_id", v.eom},
		{"unknown_token_id", v.UNK}, {"padding_token_id", v.PAD},
	} {
		if id.id >= 0 {
			ps = append(ps, gguf.Pair{Key: k + id.key, Value: uint32(id.id)})
		}
	}
	for _, flag := range []struct {
		key string
		set *bool
	}{
		{"add_bos_token", v.AddBOS}, {"add_eos_token", v.AddEOS},
		{"add_space_prefix", v.AddSpacePrefix}, {"remove_extra_whitespaces", v.RemoveExtraWhitespaces},
	} {
		if flag.set != nil {
			ps = append(ps, gguf.Pair{Key: k + flag.key, Value: *flag.set})
		}
	}
	if len(v.CharsMap) > 0 {
		ps = append(ps, gguf.Pair{Key: k + "precompiled_charsmap", Value: v.CharsMap})
	}
	return ps
}

// An addedToken is one of tokenizer.json, or of added_tokens_decoder.
type addedToken struct {
	ID      int    `json:"id"`
	Content string `json:"content"`
	Special bool   `json:"special"`
}

// tokenizerConfig is what of tokenizer_config.json changes pieces.
type tokenizerConfig struct {
	Added map[string]addedToken `json:"added_tokens_decoder"`
	added map[string]int        // added_tokens.json
}

func readConfig(files fs.FS) (c tokenizerConfig, err error) {
	for _, f := range []struct {
		name string
		into any
	}{{"tokenizer_config.json", &c}, {"added_tokens.json", &c.added}} {
		b, err := fs.ReadFile(files, f.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = json.Unmarshal(b, f.into)
		}
		if err != nil {
			return c, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return c, nil
}

// maxTokens bounds the IDs that files can claim.
const maxTokens = 1 << 24

// set gives a token its piece and type, making room for it.
func set(v *tokenizer.GGUFVocab, id int, text string, typ int32) error {
	if id < 0 || id >= maxTokens {
		return fmt.Errorf("token %q: ID %d is out of range", text, id)
	}
	if id > len(v.Tokens)+1<<16 {
		return fmt.Errorf("token %q: ID %d is far beyond the %d tokens before", text, id, len(v.Tokens))
	}
	for i := len(v.Tokens); i <= id; i++ {
		v.Tokens = append(v.Tokens, fmt.Sprintf("[PAD%d]", i))
		v.Types = append(v.Types, tokenUnused)
		if v.Scores != nil {
			v.Scores = append(v.Scores, -1000)
		}
	}
	v.Tokens[id], v.Types[id] = text, typ
	return nil
}

// isByte reports whether a piece is that of a byte, <0x00> to <0xFF>.
func isByte(piece string) bool {
	return len(piece) == 6 && strings.HasPrefix(piece, "<0x") && piece[5] == '>' &&
		strings.Trim(piece[3:5], "0123456789ABCDEF") == ""
}
