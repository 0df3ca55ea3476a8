package export

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strconv"

	"expo/lm/tokenizer"
)

// fields calls yield for each field of a protocol buffer message whose value is a
// number or bytes (https://protobuf.dev/programming-guides/encoding/).
func fields(b []byte, yield func(number int, v uint64, data []byte) error) error {
	errCut := errors.New("the file is cut off or damaged")
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return errCut
		}
		b = b[n:]
		var v uint64
		var data []byte
		switch tag & 7 {
		case 0:
			if v, n = binary.Uvarint(b); n <= 0 {
				return errCut
			}
		case 1:
			if n = 8; len(b) < n {
				return errCut
			}
			v = binary.LittleEndian.Uint64(b)
		case 5:
			if n = 4; len(b) < n {
				return errCut
			}
			v = uint64(binary.LittleEndian.Uint32(b))
		case 2:
			size, m := binary.Uvarint(b)
			if m <= 0 || size > uint64(len(b)-m) {
				return errCut
			}
			n = m + int(size)
			data = b[m:n]
		default:
			return errCut
		}
		if err := yield(int(min(tag>>3, math.MaxInt32)), v, data); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// spmPieces reads a SentencePiece model of type BPE, and what the files beside it
// change of its pieces. Its definition is
// https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto.
func spmPieces(b []byte, files fs.FS) (v tokenizer.GGUFVocab, err error) {
	v.Model, v.Pre = "llama", "default"
	v.Scores = []float32{}
	modelType, prefix, extra := uint64(1), true, true
	err = fields(b, func(number int, _ uint64, data []byte) error {
		switch number {
		case 1:
			piece, score, typ := "", float32(0), int32(tokenNormal)
			err := fields(data, func(number int, x uint64, data []byte) error {
				switch number {
				case 1:
					piece = string(data)
				case 2:
					score = math.Float32frombits(uint32(x))
				case 3:
					typ = int32(min(x, math.MaxInt32))
				}
				return nil
			})
			v.Tokens = append(v.Tokens, piece)
			v.Scores = append(v.Scores, score)
			v.Types = append(v.Types, typ)
			return err
		case 2:
			return fields(data, func(number int, x uint64, _ []byte) error {
				if number == 3 {
					modelType = x
				}
				return nil
			})
		case 3:
			return fields(data, func(number int, x uint64, _ []byte) error {
				switch number {
				case 3:
					prefix = x != 0
				case 4:
					extra = x != 0
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return v, err
	}
	if modelType != 2 {
		return v, errors.New("is no SentencePiece model of type BPE")
	}
	v.AddSpacePrefix = &prefix
	if extra {
		v.RemoveExtraWhitespaces = &extra
	}
	for i, piece := range v.Tokens {
		// A string in C ends at a zero byte: InternLM2 has such a piece.
		if piece == "\x00" {
			v.Tokens[i] = "\U0001F409"
		}
	}
	cfg, err := readConfig(files)
	if err != nil {
		return v, err
	}
	for _, a := range cfg.sorted() {
		typ := int32(tokenUserDefined)
		switch {
		case a.ID < len(v.Types) && v.Types[a.ID] == tokenUnknown:
			typ = tokenUnknown
		case a.ID < len(v.Types) && v.Types[a.ID] == tokenByte && v.Tokens[a.ID] == a.Content:
			typ = tokenByte
		case a.Special:
			typ = tokenControl
		}
		if err := set(&v, a.ID, a.Content, typ); err != nil {
			return v, err
		}
	}
	return v, nil
}

// sorted are the tokens that the configuration adds or renames, by ID.
func (c *tokenizerConfig) sorted() []addedToken {
	byID := map[int]addedToken{}
	taken := map[string]bool{}
	for key, a := range c.Added {
		if id, err := strconv.Atoi(key); err == nil && a.Content != "" {
			a.ID = id
			byID[id], taken[a.Content] = a, true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.added)) {
		if _, ok := byID[c.added[name]]; !ok && !taken[name] && name != "" {
			byID[c.added[name]] = addedToken{ID: c.added[name], Content: name}
		}
	}
	var out []addedToken
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		out = append(out, byID[id])
	}
	return out
}

// isTiktoken reports whether a tokenizer.model has tiktoken's form: lines of a
// piece in base64 and its rank.
func isTiktoken(b []byte) bool {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) != 2 {
		return false
	}
	_, err := base64.StdEncoding.DecodeString(string(fields[0]))
	_, err2 := strconv.Atoi(string(fields[1]))
	return err == nil && err2 == nil
}

// tiktokenPieces reads a vocabulary in tiktoken's form, that of Llama 3. The
// merges are those by which each piece is made of two of lower rank.
func tiktokenPieces(b []byte, files fs.FS) (v tokenizer.GGUFVocab, err error) {
	v.Model, v.Pre = "gpt2", "llama-bpe"
	ranks := map[string]int{}
	var order []string
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 2 {
			return v, fmt.Errorf("line %d is not a piece and its rank", len(order)+1)
		}
		piece, err := base64.StdEncoding.DecodeString(string(f[0]))
		rank, err2 := strconv.Atoi(string(f[1]))
		if err != nil || err2 != nil || rank != len(order) {
			return v, fmt.Errorf("line %d is not a piece and its rank", len(order)+1)
		}
		ranks[string(piece)] = rank
		order = append(order, string(piece))
	}
	for id, piece := range order {
		if err := set(&v, id, letters(piece), tokenNormal); err != nil {
			return v, err
		}
		if len(piece) > 1 {
			left, right := halves(piece, ranks, id)
			if left == "" {
				continue // never made by merging
			}
			v.Merges = append(v.Merges, letters(left)+" "+letters(right))
		}
	}
	// The names and places of the special tokens are what the tokenizer knows of
	// the files.
	own, err := tokenizer.Load(files)
	if err != nil {
		return v, err
	}
	for id := len(order); id < own.Size(); id++ {
		piece, ok := own.Token(id)
		if !ok {
			continue
		}
		if err := set(&v, id, piece, tokenControl); err != nil {
			return v, err
		}
	}
	return v, nil
}

// halves are the two pieces that the last merge before rank joins to the piece of
// that rank, or nothing if merging does not lead to two.
func halves(piece string, ranks map[string]int, rank int) (left, right string) {
	if len(piece) > 1024 {
		return "", "" // no vocabulary has such a piece, and its cuts are many
	}
	cuts := make([]int, len(piece)+1)
	for i := range cuts {
		cuts[i] = i
	}
	for len(cuts) > 3 {
		best, at := rank, -1
		for i := 0; i+2 < len(cuts); i++ {
			if r, ok := ranks[piece[cuts[i]:cuts[i+2]]]; ok && r < best {
				best, at = r, i
			}
		}
		if at < 0 {
			return "", ""
		}
		cuts = slices.Delete(cuts, at+1, at+2)
	}
	return piece[:cuts[1]], piece[cuts[1]:]
}

// letters writes bytes as byte-level BPE does: printable ones of Latin-1 as
// themselves, the others as the letters from U+0100 on, in ascending order.
func letters(s string) string {
	var out []rune
	for i := range len(s) {
		switch c := rune(s[i]); {
		case c <= 32:
			out = append(out, 0x100+c)
		case c >= 127 && c <= 160:
			out = append(out, 0x100+33+c-127)
		case c == 173:
			out = append(out, 0x100+67)
		default:
			out = append(out, c)
		}
	}
	return string(out)
}
