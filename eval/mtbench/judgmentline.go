package mtbench

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"unicode/utf8"

	"expo/eval/judge"
)

// judgmentLine has the fields of both kinds, so that a line is decoded once.
type judgmentLine struct {
	QuestionID int      `json:"question_id"`
	Judge      []string `json:"judge"`
	Turn       int      `json:"turn"`
	Tstamp     float64  `json:"tstamp"`

	Model      string        `json:"model"`
	UserPrompt string        `json:"user_prompt"`
	Judgment   string        `json:"judgment"`
	Score      *judge.Rating `json:"score"`

	Model1       string  `json:"model_1"`
	Model2       string  `json:"model_2"`
	G1Winner     *string `json:"g1_winner"`
	G2Winner     string  `json:"g2_winner"`
	Winner       *string `json:"winner"` // of older files, in place of both
	G1UserPrompt string  `json:"g1_user_prompt"`
	G1Judgment   string  `json:"g1_judgment"`
	G2UserPrompt string  `json:"g2_user_prompt"`
	G2Judgment   string  `json:"g2_judgment"`
}

// long is where the text of a key goes that is nearly all of a line; nil for
// other keys.
func (l *judgmentLine) long(key []byte) *string {
	switch string(key) {
	case "user_prompt":
		return &l.UserPrompt
	case "judgment":
		return &l.Judgment
	case "g1_user_prompt":
		return &l.G1UserPrompt
	case "g1_judgment":
		return &l.G1Judgment
	case "g2_user_prompt":
		return &l.G2UserPrompt
	case "g2_judgment":
		return &l.G2Judgment
	}
	return nil
}

// decodeJudgment decodes a line as json.Unmarshal does, several times as fast:
// long texts are taken out first, and a line in which anything is unusual is left
// to it as a whole.
func decodeJudgment(line []byte, l *judgmentLine) error {
	var texts judgmentLine
	rest, ok := texts.cut(line)
	if !ok || json.Unmarshal(rest, l) != nil {
		*l = judgmentLine{}
		return json.Unmarshal(line, l)
	}
	for _, key := range []string{"user_prompt", "judgment", "g1_user_prompt", "g1_judgment", "g2_user_prompt", "g2_judgment"} {
		if to := l.long([]byte(key)); *to == taken {
			*to = *texts.long([]byte(key))
		}
	}
	return nil
}

// taken stands where a text was taken out.
const taken, takenJSON = "\x00", `"\u0000"`

// cut takes the long texts out of an object; rest is the object with taken in
// their place. It is not ok if the object is not as simple as it should be.
func (l *judgmentLine) cut(line []byte) (rest []byte, ok bool) {
	rest = make([]byte, 0, 512)
	copied, at := 0, bytes.IndexByte(line, '{')
	for at++; at > 0; {
		at = space(line, at)
		if at == len(line) || line[at] != '"' {
			return nil, false
		}
		start := at + 1
		n := bytes.IndexByte(line[start:], '"')
		if n < 0 || bytes.IndexByte(line[start:start+n], '\\') >= 0 {
			return nil, false
		}
		to := l.long(line[start : start+n])
		if at = space(line, start+n+1); at == len(line) || line[at] != ':' {
			return nil, false
		}
		if at = space(line, at+1); at == len(line) {
			return nil, false
		}
		switch {
		case line[at] == '"' && to != nil:
			s, after, ok := unquote(line, at+1)
			if !ok {
				return nil, false
			}
			*to = s
			rest = append(append(rest, line[copied:at]...), takenJSON...)
			copied, at = after, after
		case line[at] == '{':
			return nil, false
		default: // a text, a number, or a list of them
			for quoted, listed := false, false; ; at++ {
				if at == len(line) || line[at] == '\\' {
					return nil, false
				}
				c := line[at]
				if c == '"' {
					quoted = !quoted
				}
				if quoted {
					continue
				}
				if c == '[' || c == ']' {
					if listed == (c == '[') {
						return nil, false
					}
					listed = c == '['
				}
				if !listed && (c == ',' || c == '}') {
					break
				}
			}
		}
		if at = space(line, at); at == len(line) || line[at] != ',' {
			return append(rest, line[copied:]...), true
		}
		at++
	}
	return nil, false
}

// space is the position of what follows white space.
func space(b []byte, at int) int {
	for at < len(b) && (b[at] == ' ' || b[at] == '\t' || b[at] == '\n' || b[at] == '\r') {
		at++
	}
	return at
}

// unquote is the value of the text that begins at b[at], after its quote, and
// the position after the closing one. It is not ok for what encoding/json
// refuses or replaces.
func unquote(b []byte, at int) (s string, after int, ok bool) {
	const high, ones = 0x8080808080808080, 0x0101010101010101
	var out []byte
	from, ascii := at, true
	for {
		for ; at+8 <= len(b); at += 8 { // neither quotes nor backslashes nor control characters
			v := binary.LittleEndian.Uint64(b[at : at+8])
			quote, slash := v^'"'*ones, v^'\\'*ones
			if m := ((quote-ones)&^quote | (slash-ones)&^slash | (v-0x20*ones)&^v | v) & high; m != 0 {
				at += bits.TrailingZeros64(m) / 8
				break
			}
		}
		if at == len(b) {
			return "", 0, false
		}
		switch c := b[at]; {
		case c == '"':
			if out == nil {
				s = string(b[from:at])
			} else {
				s = string(append(out, b[from:at]...))
			}
			return s, at + 1, ascii || utf8.ValidString(s)
		case c < ' ':
			return "", 0, false
		case c != '\\':
			ascii = ascii && c < utf8.RuneSelf
			at++
			continue
		}
		if out == nil {
			out = make([]byte, 0, 1024+2*(at-from))
		}
		out = append(out, b[from:at]...)
		if at++; at == len(b) {
			return "", 0, false
		}
		switch c := b[at]; c {
		case '"', '\\', '/':
			out = append(out, c)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r := hex4(b[at+1:])
			if r < 0 || r >= 0xd800 && r < 0xe000 { // surrogates are rare
				return "", 0, false
			}
			out = utf8.AppendRune(out, r)
			at += 4
		default:
			return "", 0, false
		}
		at++
		from = at
	}
}

// hex4 is the number that b begins with in four hexadecimal digits, or −1.
func hex4(b []byte) (r rune) {
	if len(b) < 4 {
		return -1
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}
