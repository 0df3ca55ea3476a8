package imatrix

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"expo/lm/tokenizer"
)

// letters is a tokenizer of single letters and BOS, 1.
func letters(t *testing.T, bos bool) *tokenizer.Tokenizer {
	t.Helper()
	post := "null"
	if bos {
		post = `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"<s>":{"id":"<s>","ids":[1],"tokens":["<s>"]}}}`
	}
	tok, err := tokenizer.ParseJSON([]byte(`{"version":"1.0","added_tokens":[
 {"id":0,"content":"<unk>","special":true,"single_word":false,"lstrip":false,"rstrip":false,"normalized":false},
 {"id":1,"content":"<s>","special":true,"single_word":false,"lstrip":false,"rstrip":false,"normalized":false}],
 "normalizer":null,"pre_tokenizer":null,"post_processor":` + post + `,"decoder":null,
 "model":{"type":"BPE","unk_token":"<unk>","fuse_unk":false,"byte_fallback":false,"vocab":{"<unk>":0,"<s>":1,"a":2,"b":3,"c":4,"d":5,"e":6,"<":7,"s":8,">":9},"merges":[]}}`))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestChunks(t *testing.T) {
	for _, c := range []struct {
		bos   bool
		text  string
		size  int
		want  [][]int
		total int
	}{
		{false, "abcdeab", 3, [][]int{{2, 3, 4}, {5, 6, 2}}, 7},
		{false, "abc", 3, [][]int{{2, 3, 4}}, 3},
		{false, "ab", 3, [][]int{{2, 3}}, 2}, // a part, but all there is
		{false, "", 3, nil, 0},
		{true, "abcdea", 3, [][]int{{1, 2, 3}, {1, 5, 6}}, 7}, // BOS takes the place of c
		{true, "a", 3, [][]int{{1, 2}}, 2},
		{true, "", 3, nil, 0},
		{false, "<s>a", 4, [][]int{{7, 8, 9, 2}}, 4}, // spelled out
	} {
		got, total := Chunks(letters(t, c.bos), c.text, c.size)
		if !slices.EqualFunc(got, c.want, slices.Equal[[]int]) || total != c.total {
			t.Errorf("BOS %v, %q by %d: %v of %d, want %v of %d", c.bos, c.text, c.size, got, total, c.want, c.total)
		}
	}
}

// TestSums compares sums with those of the definition, for every number of
// goroutines, and whatever rows come together.
func TestSums(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, cols := range []int{1, 7, 127, 128, 129, 300, 1000} {
		const rows = 37
		x := make([]float32, rows*cols)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		want := make([]float32, cols)
		for j := range want {
			sum := 0.0
			for i := range rows {
				sum += float64(x[i*cols+j]) * float64(x[i*cols+j])
			}
			want[j] = float32(sum)
		}
		for _, jobs := range []int{1, 2, 3, 16} {
			s := &sums{jobs: jobs, groups: map[string]*group{}}
			for at, n := 0, 1; at < rows; at, n = at+n, n+1 {
				n := min(n, rows-at)
				s.add([]string{"q", "k"}, x[at*cols:(at+n)*cols], n, cols)
			}
			m, err := s.matrix()
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"q", "k"} {
				if e := m.Entries[name]; !slices.Equal(e.Sums, want) || !slices.Equal(e.Counts, []int64{rows}) {
					t.Errorf("%d columns, %d goroutines: %v, %v", cols, jobs, e.Counts, e.Sums)
				}
			}
		}
	}
	s := &sums{jobs: 1, groups: map[string]*group{}}
	s.add([]string{"b"}, []float32{1, float32(math.NaN())}, 1, 2)
	s.add([]string{"a"}, []float32{math.MaxFloat32}, 1, 1)
	_, err := s.matrix()
	if err == nil || !strings.Contains(err.Error(), "inputs of a are not finite, or too large, in column 0\nimatrix: the inputs of b are not finite, or too large, in column 1") {
		t.Errorf("inputs that are not finite: %v", err)
	}
}

func BenchmarkSums(b *testing.B) {
	const rows, cols = 512, 2048
	x := make([]float32, rows*cols)
	s := &sums{jobs: 2, groups: map[string]*group{}}
	b.SetBytes(4 * rows * cols)
	for b.Loop() {
		s.add([]string{"a"}, x, rows, cols)
	}
}
