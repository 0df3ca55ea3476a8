package tokenizer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// randomText is text of characters that patterns and normal forms treat
// differently.
func randomText(r *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		switch r.IntN(12) {
		case 0, 1, 2:
			b.WriteByte(byte(' ' + r.IntN(95)))
		case 3:
			b.WriteString([]string{"'s", "'LL", "'ve", "'ſ", " '", "\r\n", "\n", "\t", "  ", "\u3000", "\u0085", "\u00a0"}[r.IntN(12)])
		case 4:
			b.WriteRune(rune('a' + r.IntN(26)))
		case 5:
			b.WriteRune(rune('0' + r.IntN(10)))
		case 6:
			b.WriteByte(' ')
		case 7:
			b.WriteRune(rune(0x300 + r.IntN(0x70)))
		case 8:
			b.WriteRune(rune(0xAC00 + r.IntN(0x100)))
		case 9:
			b.WriteRune(rune(0x1100 + r.IntN(0x100)))
		case 10:
			b.WriteRune([]rune("éÅ½４²🦙𝟙𐐀你好ﬁĳǆẛ")[r.IntN(14)])
		default:
			b.WriteRune(rune(0xA0 + r.IntN(0x1000)))
		}
	}
	return b.String()
}

// TestScanners compares the scanners with the patterns that they stand for.
func TestScanners(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, expr := range []string{gpt2Pattern, llama3Pattern, qwen2Pattern} {
		next := newScanner(expr)
		p, err := newRegexp(expr)
		if err != nil {
			t.Fatal(err)
		}
		slow := isolated.split(p.each, false)
		for range 3000 {
			text := strings.ReplaceAll(randomText(r, 1+r.IntN(20)), "ſ", "s") // which regexp2 does not fold
			in := []piece{{text, true}}
			got, want := next.split(nil, in), slow.split(nil, in, &budget{})
			if !slices.Equal(got, want) {
				t.Fatalf("%s\n%q:\n got %+v\nwant %+v", expr, text, got, want)
			}
		}
	}
	for _, c := range []struct {
		text string
		want []string
	}{
		{"it'ſ", []string{"it", "'ſ"}}, {"'S'Re'LLx", []string{"'S", "'Re", "'LL", "x"}}, {"a  b", []string{"a", " ", " b"}},
		{"12345", []string{"123", "45"}}, {"a \n\n b", []string{"a", " \n\n", " b"}}, {"!?\n\nx", []string{"!?\n\n", "x"}},
	} {
		var got []string
		for _, p := range newScanner(llama3Pattern).split(nil, []piece{{c.text, true}}) {
			got = append(got, p.text)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
	}
}

// TestNormalForms compares the definition with package norm, which agree where
// there are few marks, and looks at what is expected where there are many.
func TestNormalForms(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	forms := map[string]norm.Form{"NFC": norm.NFC, "NFD": norm.NFD, "NFKC": norm.NFKC, "NFKD": norm.NFKD}
	for name, f := range forms {
		for range 3000 {
			text := randomText(r, 1+r.IntN(15))
			if got, want := normalFormOfLong(f, text), f.String(text); got != want {
				t.Fatalf("%s of %+q: got %+q, want %+q", name, text, got, want)
			}
		}
		const n = 100
		text := "x" + strings.Repeat("\u0301", n) + strings.Repeat("\u0327", n) + "e" + strings.Repeat("\u0301", n)
		want := "x" + strings.Repeat("\u0327", n) + strings.Repeat("\u0301", n) + "e" + strings.Repeat("\u0301", n)
		if f == norm.NFC || f == norm.NFKC {
			want = "x" + strings.Repeat("\u0327", n) + strings.Repeat("\u0301", n) + "\u00e9" + strings.Repeat("\u0301", n-1)
		}
		if got := normalForm(f, text); got != want {
			t.Errorf("%s of many marks: got %+q, want %+q", name, got, want)
		}
		if got := normalForm(f, strings.Repeat("e\u0301", 1000)); strings.ContainsRune(got, '\u034f') {
			t.Errorf("%s puts in U+034F", name)
		}
	}
}

func TestWellFormed(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""}, {"aé你🦙", "aé你🦙"}, {"\x80", "\uFFFD"}, {"\xf0\x9f\xa6", "\uFFFD"}, {"\xf0\x9f\xa6x", "\uFFFDx"}, {"\xf0\x9fx", "\uFFFDx"},
		{"\xe0\x80\x80", "\uFFFD\uFFFD\uFFFD"}, {"\xf4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"}, {"\xf8\x88", "\uFFFD\uFFFD"},
		{"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", "\uFFFD\uFFFD\uFFFD\uFFFDA"}, // table 3-11 of Unicode
	} {
		if got := wellFormed(c.in); got != c.want {
			t.Errorf("%+q: got %+q, want %+q", c.in, got, c.want)
		}
		for cut := range len(c.in) + 1 {
			var l lossy
			if got := l.add(c.in[:cut]) + l.add(c.in[cut:]) + l.rest(); got != c.want {
				t.Errorf("%+q cut at %d: got %+q, want %+q", c.in, cut, got, c.want)
			}
		}
	}
}

func TestByteLetters(t *testing.T) {
	seen := map[string]bool{}
	for b, l := range byteLetters {
		if seen[l] || utf8.RuneCountInString(l) != 1 || strings.TrimSpace(l) == "" {
			t.Errorf("byte %d: letter %q", b, l)
		}
		seen[l] = true
	}
	for in, want := range map[string]string{" ": "Ġ", "\n": "Ċ", "a": "a", "é": "Ã©", "\xad": "Ń", "\x00": "Ā"} {
		if got := toLetters(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
		if got, ok := fromLetters(want); got != in || !ok {
			t.Errorf("%q: got %q, %v, want %q", want, got, ok, in)
		}
	}
	if _, ok := fromLetters("a▁"); ok {
		t.Error("fromLetters takes ▁")
	}
}

func TestClusters(t *testing.T) {
	for _, c := range []struct {
		text string
		want int
	}{
		{"ab", 1}, {"\r\nx", 2}, {"\n\u0301", 1}, {"e\u0301x", 3}, {"e\u0301\u0327x", 5}, {"e\u0301\u0327\u0301x", 7},
		{"a\u200db", 4}, {"\u0e01\u0e33", 6}, {"\u1100\u1161\u11a8x", 9}, {"🇩🇪", 8}, {"\u0600a", 3}, {"👍🏽", 8}, {"\u00ada", 2},
	} {
		if got := cluster(c.text); got != c.want {
			t.Errorf("%+q: got %d, want %d", c.text, got, c.want)
		}
	}
}

func TestMatcher(t *testing.T) {
	token := func(content string, id int64, set func(*addedToken)) addedToken {
		tok := addedToken{Content: content, ID: id}
		if set != nil {
			set(&tok)
		}
		return tok
	}
	for _, c := range []struct {
		name   string
		tokens []addedToken
		text   string
		want   []cut
	}{
		{"none", nil, "abc", []cut{{0, 3, none}}},
		{"nothing", []addedToken{token("a", 1, nil)}, "", nil},
		{"leftmost", []addedToken{token("bc", 1, nil), token("ab", 2, nil)}, "abc", []cut{{0, 2, 2}, {2, 3, none}}},
		{"longest", []addedToken{token("a", 1, nil), token("abc", 2, nil)}, "abab", []cut{{0, 1, 1}, {1, 2, none}, {2, 3, 1}, {3, 4, none}}},
		{"first of equals", []addedToken{token("a", 1, nil), token("a", 2, nil)}, "a", []cut{{0, 1, 1}}},
		{"word", []addedToken{token("ab", 1, func(t *addedToken) { t.SingleWord = true })}, "ab xab é ab",
			[]cut{{0, 2, 1}, {2, 10, none}, {10, 12, 1}}},
		{"left", []addedToken{token("x", 1, func(t *addedToken) { t.LStrip = true })}, "a \u3000x x", []cut{{0, 1, none}, {1, 6, 1}, {6, 8, 1}}},
		{"right", []addedToken{token("x", 1, func(t *addedToken) { t.RStrip = true })}, "x \n a", []cut{{0, 4, 1}, {4, 5, none}}},
	} {
		var m matcher
		for _, tok := range c.tokens {
			if err := m.add(tok.Content, tok); err != nil {
				t.Fatal(err)
			}
		}
		if got := m.cut(nil, c.text); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}

	// A space that takes the spaces after it along is found in these again.
	var m matcher
	if err := m.add(" ", addedToken{ID: 1, RStrip: true}); err != nil {
		t.Fatal(err)
	}
	if got, want := m.cut(nil, "   x"), []cut{{0, 3, 1}, {1, 3, 1}, {2, 3, 1}, {3, 4, none}}; !slices.Equal(got, want) {
		t.Errorf("space: got %v, want %v", got, want)
	}
	if got := len(m.cut(nil, strings.Repeat(" ", 1<<18))); got != 1<<18 {
		t.Errorf("many spaces: got %d cuts", got)
	}
	if err := m.add(strings.Repeat("x", maxAddedBytes+1), addedToken{}); err == nil {
		t.Error("a token that is too long is added")
	}
}

func TestTranslate(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`\p{L}+`, `\p{L}+`}, {`\p{^L}\P{^N}`, `\P{L}\p{N}`}, {`\w`, `[\p{L}\p{M}\p{N}\p{Pc}]`}, {`[\w-]`, `[\p{L}\p{M}\p{N}\p{Pc}-]`},
		{`\h`, `[0-9A-Fa-f]`}, {`[^\r\n]]`, `[^\r\n]]`}, {`[]a]`, `[]a]`}, {`a{2,3}`, `a{2,3}`}, {`\p{N}{1,3}+`, `\p{N}{1,}`}, {`a{b`, `a{b`}, {`{`, `{`},
		{`(?i:'s)|(?!x)(?<=y)(?>z)`, `(?i:'s)|(?!x)(?<=y)(?>z)`}, {`x++y?+`, `x++y?+`}, {`\.\-\é`, `\.\-é`},
		{`[a&&[b]]`, ""}, {`[[:alpha:]]`, ""}, {`[a[b]]`, ""}, {`(?m:.)`, ""}, {`\R`, ""}, {`\k<a>`, ""}, {`\1`, ""}, {`a{,3}`, ""}, {`a{5,6}+`, ""},
		{`a{2}+`, ""}, {`a{2}?`, ""}, {`[a`, ""}, {`\`, ""}, {`\p`, ""}, {`[\W]`, ""}, {`(?`, ""},
	} {
		got, err := translate(c.in)
		if c.want == "" && err == nil {
			t.Errorf("%s: got %s, want an error", c.in, got)
		} else if c.want != "" && (err != nil || got != c.want) {
			t.Errorf("%s: got %s, %v, want %s", c.in, got, err, c.want)
		}
	}
}
