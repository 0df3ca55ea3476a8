package reward

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"expo/internal/kernel"
	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// goldens.json and tokenizer.json were made by make_goldens.py beside them.
type goldens struct {
	Cases []goldenCase
	Pairs []goldenCase

	Buckets []struct {
		Buckets, Longest int
		Rows             []int
	}
	Truncation [][5]int
	Pieces     []struct {
		Text string
		IDs  []int
	}
}

type goldenCase struct {
	Name      string
	Config    json.RawMessage
	Tensors   []goldenTensor
	Sequences [][]int
	Logits    [][]float64
	Last      [][]float64
	Pairs     []struct {
		Prompt, A, B string
		IDs          []int
		AB, BA       float64
	}
}

type goldenTensor struct {
	name  string
	shape []int
}

func (g *goldenTensor) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&g.name, &g.shape})
}

func readGoldens(t testing.TB) *goldens {
	t.Helper()
	b, err := os.ReadFile("testdata/goldens.json")
	if err != nil {
		t.Fatal(err)
	}
	var g goldens
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	return &g
}

// uniform is n values in [−1/2, 1/2), the same as in make_goldens.py.
func uniform(name string, n int) []float64 {
	h := uint64(0xCBF29CE484222325)
	for _, b := range []byte(name) {
		h = (h ^ uint64(b)) * 0x100000001B3
	}
	u := make([]float64, n)
	for i := range u {
		z := h + uint64(i+1)*0x9E3779B97F4A7C15
		z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		z ^= z >> 31
		u[i] = float64(z>>40)/(1<<24) - 0.5
	}
	return u
}

// hashed is the tensor that make_goldens.py gives a parameter of this name.
func hashed(name string, d tensor.DType, shape ...int) tensor.Tensor {
	n, fan := 1, 1
	for i, s := range shape {
		n *= s
		if i > 0 {
			fan *= s
		}
	}
	x := make([]float32, n)
	for i, u := range uniform(name, n) {
		switch {
		case strings.Contains(name, "LayerNorm.weight"):
			u = 1 + u/2
		case strings.HasSuffix(name, "bias"):
			u /= 2
		case strings.Contains(name, "embeddings"):
			u *= 2
		default:
			u *= 4 / math.Sqrt(float64(fan))
		}
		x[i] = float32(u)
	}
	b := make([]byte, n*d.Bits()/8)
	kernel.Narrow(b, x, d.Format())
	return tensor.Tensor{Name: name, DType: d, Shape: shape, Data: tensor.Bytes(b)}
}

func smallTokenizer(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// checkpoint is the model of a case with the small tokenizer. edit may change
// config.json.
func (g *goldenCase) checkpoint(t testing.TB, d tensor.DType, edit func(config map[string]any)) *checkpoint.Checkpoint {
	t.Helper()
	var ts []tensor.Tensor
	for _, p := range g.Tensors {
		ts = append(ts, hashed(p.name, d, p.shape...))
	}
	config := []byte(g.Config)
	if edit != nil {
		var m map[string]any
		if err := json.Unmarshal(config, &m); err != nil {
			t.Fatal(err)
		}
		edit(m)
		var err error
		if config, err = json.Marshal(m); err != nil {
			t.Fatal(err)
		}
	}
	return made(t, ts, fstest.MapFS{"config.json": {Data: config}, "tokenizer.json": {Data: smallTokenizer(t)}})
}

func made(t testing.TB, ts []tensor.Tensor, files fs.FS) *checkpoint.Checkpoint {
	t.Helper()
	c, err := checkpoint.New("golden", []checkpoint.Shard{{File: "model.safetensors", Tensors: ts}}, files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func opened[M Model](t testing.TB, c *checkpoint.Checkpoint, opt Options) M {
	t.Helper()
	m, err := Open(context.Background(), c, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	r, ok := m.(M)
	if !ok {
		t.Fatalf("Open gave a %T", m)
	}
	return r
}

// near reports whether two numbers agree to 1e-4.
func near(got, want float64) bool { return math.Abs(got-want) <= 1e-4 }

// TestDeberta compares hidden states and logits of every kind of
// configuration with those of transformers, which computed the sequences as one
// padded batch.
func TestDeberta(t *testing.T) {
	worst := 0.0
	for _, g := range readGoldens(t).Cases {
		t.Run(g.Name, func(t *testing.T) {
			d := tensor.F32
			if g.Name == "v3 half" {
				d = tensor.F16
			}
			opt := Options{Jobs: 2}
			if len(g.Logits[0]) > 1 {
				opt.Label = "LABEL_1"
			}
			r := opened[*PairClassifier](t, g.checkpoint(t, d, nil), opt)
			var seqs []sequence
			for _, ids := range g.Sequences {
				s := sequence{ids: ids, types: make([]int, len(ids)), want: []int{0, len(ids) - 1}}
				for i := len(ids) / 2; i < len(ids); i++ {
					s.types[i] = 1
				}
				seqs = append(seqs, s)
			}
			out, err := r.enc.forward(context.Background(), seqs)
			if err != nil {
				t.Fatal(err)
			}
			h := r.enc.cfg.HiddenSize
			for i, x := range out {
				for k, want := range g.Last[i] {
					got := float64(x[h+k])
					worst = max(worst, math.Abs(got-want))
					if !near(got, want) {
						t.Fatalf("sequence %d, last token, element %d: got %v, want %v", i, k, got, want)
					}
				}
				x = r.pooler.one(x[:h])
				r.act(x)
				for k, got := range r.classifier.one(x) {
					worst = max(worst, math.Abs(float64(got)-g.Logits[i][k]))
					if !near(float64(got), g.Logits[i][k]) {
						t.Errorf("sequence %d: logit %d is %v, want %v", i, k, got, g.Logits[i][k])
					}
				}
			}
		})
	}
	t.Logf("largest difference %.2g", worst)
}

// TestDebertaAlone checks that a text's hidden states are the same bits alone
// and with others, on any number of threads.
func TestDebertaAlone(t *testing.T) {
	g := readGoldens(t).Cases[0]
	var want [][]float32
	for _, jobs := range []int{1, 2, 5} {
		r := opened[*PairClassifier](t, g.checkpoint(t, tensor.F32, nil), Options{Jobs: jobs})
		var seqs []sequence
		for _, ids := range g.Sequences {
			seqs = append(seqs, sequence{ids: ids, want: []int{0, len(ids) - 1}})
		}
		together, err := r.enc.forward(context.Background(), seqs)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = together
		}
		for i := range seqs {
			alone, err := r.enc.forward(context.Background(), seqs[i:i+1])
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(alone[0], want[i]) || !slices.Equal(together[i], want[i]) {
				t.Errorf("jobs %d: sequence %d differs", jobs, i)
			}
		}
	}
}

// TestAtOnce checks that one model may score for several callers.
func TestAtOnce(t *testing.T) {
	g := readGoldens(t).Pairs[0]
	for _, m := range []Model{
		opened[*PairRM](t, g.checkpoint(t, tensor.F32, nil), Options{Jobs: 2}),
		opened[*Classifier](t, llama(t, llamaConfig, 1, llamaTemplate, ""), Options{Jobs: 2}),
	} {
		item := []Item{{Prompt: "hello", Response: "friend", Reference: "cat"}}
		want, err := m.Score(context.Background(), item)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if got, err := m.Score(context.Background(), item); err != nil || got[0] != want[0] {
					t.Errorf("%T: got %v, %v, want %v", m, got, err, want)
				}
			})
		}
		wg.Wait()
	}
}

func TestBuckets(t *testing.T) {
	for _, b := range readGoldens(t).Buckets {
		d := distances{buckets: b.Buckets, longest: b.Longest, span: b.Buckets}
		for p, want := range b.Rows {
			if got := d.bucket(p); got != want {
				t.Errorf("%d buckets to %d: distance %d is in %d, want %d", b.Buckets, b.Longest, p, got, want)
			}
			if got := d.bucket(-p); got != -want {
				t.Errorf("%d buckets to %d: distance %d is in %d, want %d", b.Buckets, b.Longest, -p, got, -want)
			}
		}
		rows := d.rows(2100)
		if !slices.IsSorted(rows) || rows[0] < 0 || int(rows[len(rows)-1]) > 2*d.span-1 {
			t.Errorf("%d buckets: rows %d…%d are not in order", b.Buckets, rows[0], rows[len(rows)-1])
		}
	}
}

// TestPairRM compares tokens and logits with those of a PyTorch module.
func TestPairRM(t *testing.T) {
	for _, g := range readGoldens(t).Pairs {
		t.Run(g.Name, func(t *testing.T) {
			r := opened[*PairRM](t, g.checkpoint(t, tensor.F32, nil), Options{BatchTokens: 64})
			var pairs []Pair
			var items []Item
			for _, p := range g.Pairs {
				if got := r.sequence(p.Prompt, p.A, p.B).ids; !slices.Equal(got, p.IDs) {
					t.Errorf("%q, %q, %q:\ngot  %v\nwant %v", p.Prompt, p.A, p.B, got, p.IDs)
				}
				pairs = append(pairs, Pair{Prompt: p.Prompt, A: p.A, B: p.B})
				items = append(items, Item{Prompt: p.Prompt, Response: p.A, Reference: p.B})
			}
			ctx := context.Background()
			ab, ba, err := r.Logits(ctx, pairs)
			if err != nil {
				t.Fatal(err)
			}
			prefer, err := r.Prefer(ctx, pairs)
			if err != nil {
				t.Fatal(err)
			}
			score, err := r.Score(ctx, items)
			if err != nil {
				t.Fatal(err)
			}
			for i, p := range g.Pairs {
				if !near(ab[i], p.AB) || !near(ba[i], p.BA) {
					t.Errorf("%q, %q, %q: got %v and %v, want %v and %v", p.Prompt, p.A, p.B, ab[i], ba[i], p.AB, p.BA)
				}
				if want := (p.AB - p.BA) / 2; !near(score[i], want) || !near(prefer[i], 1/(1+math.Exp(-want))) {
					t.Errorf("pair %d: score %v, preference %v for %v", i, score[i], prefer[i], want)
				}
			}
			m, err := r.Matrix(ctx, nil, pairs[0].Prompt, []string{pairs[0].B, pairs[0].A})
			if err != nil {
				t.Fatal(err)
			}
			if m[0][0] != 0 || m[1][1] != 0 || m[1][0] != ab[0] || m[0][1] != ba[0] {
				t.Errorf("matrix %v, want %v below and %v above the diagonal", m, ab[0], ba[0])
			}
		})
	}
}

// TestBlenderPrefixes checks the marks of a tokenizer that does not have them:
// they follow its vocabulary.
func TestBlenderPrefixes(t *testing.T) {
	g := readGoldens(t).Pairs[2]
	var file map[string]any
	if err := json.Unmarshal(smallTokenizer(t), &file); err != nil {
		t.Fatal(err)
	}
	file["added_tokens"] = slices.DeleteFunc(file["added_tokens"].([]any), func(tok any) bool {
		return strings.HasPrefix(tok.(map[string]any)["content"].(string), "<|")
	})
	b, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	c := g.checkpoint(t, tensor.F32, nil)
	c = made(t, slices.Collect(c.Tensors()), fstest.MapFS{"config.json": {Data: g.Config}, "tokenizer.json": {Data: b}})
	r := opened[*PairRM](t, c, Options{})
	p := g.Pairs[0]
	if got := r.sequence(p.Prompt, p.A, p.B).ids; !slices.Equal(got, p.IDs) {
		t.Errorf("got %v, want %v", got, p.IDs)
	}
}

func TestLongestFirst(t *testing.T) {
	for _, c := range readGoldens(t).Truncation {
		a, b := longestFirst(c[0], c[1], max(c[2]-3, 0))
		if a != c[3] || b != c[4] {
			t.Errorf("%d and %d tokens in %d: got %d and %d, want %d and %d", c[0], c[1], c[2], a, b, c[3], c[4])
		}
	}
}

// TestUnknownPieces checks that what the vocabulary lacks is [UNK].
func TestUnknownPieces(t *testing.T) {
	g := readGoldens(t)
	r := opened[*PairRM](t, g.Pairs[0].checkpoint(t, tensor.F32, nil), Options{})
	for _, c := range g.Pieces {
		got := append(append([]int{r.cls}, r.tok.EncodeOrdinary(c.Text)...), r.sep)
		if !slices.Equal(got, c.IDs) {
			t.Errorf("%q: got %v, want %v", c.Text, got, c.IDs)
		}
	}
}

// testdata finds a file of the data that EXPO_TESTDATA names, and skips the test
// without it.
func testdata(t testing.TB, elem ...string) string {
	t.Helper()
	root := os.Getenv("EXPO_TESTDATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "data")
	}
	path := filepath.Join(append([]string{root}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("EXPO_TESTDATA: no %s", path)
	}
	return path
}

// TestDebertaVocabulary checks the tokens of a comparison with the vocabulary
// of DeBERTa-v3 itself.
func TestDebertaVocabulary(t *testing.T) {
	b, err := os.ReadFile(testdata(t, "tokenizers", "deberta-v3", "spm.model"))
	if err != nil {
		t.Fatal(err)
	}
	c := made(t, nil, fstest.MapFS{"config.json": {Data: []byte("{}")}, "spm.model": {Data: b}})
	tok, err := loadTokenizer(c)
	if err != nil {
		t.Fatal(err)
	}
	r := &PairRM{tok: tok, sourceMax: 1224, candidateMax: 412}
	if r.cls, r.sep, err = frame(tok); err != nil {
		t.Fatal(err)
	}
	if err := r.prefixes(&configReader{c: c.Config()}, 128100); err != nil {
		t.Fatal(err)
	}
	s := r.sequence("Hello 谛", "₣", "[SEP]\x01 <|candidate1|>")
	if r.source != 128001 || r.first != 128002 || r.second != 128003 || r.cls != 1 || r.sep != 2 {
		t.Errorf("marks %d %d %d, frame %d %d", r.source, r.first, r.second, r.cls, r.sep)
	}
	count := func(id int) (n int) {
		for _, v := range s.ids {
			if v == id {
				n++
			}
		}
		return n
	}
	if count(3) < 2 || count(r.first) != 1 || count(r.sep) != 3 || count(r.cls) != 3 {
		t.Errorf("tokens %v", s.ids)
	}
	for i, mark := range []int{r.source, r.first, r.second} {
		if s.ids[s.want[i]] != mark {
			t.Errorf("position %d of %v is not mark %d", s.want[i], s.ids, mark)
		}
	}
}

// TestPrototype compares the rewards of a Llama classifier with transformers',
// and its pad token is its end token.
func TestPrototype(t *testing.T) {
	dir := testdata(t, "demo_pair_prototype", "reward")
	b, err := os.ReadFile("testdata/prototype.json")
	if err != nil {
		t.Fatal(err)
	}
	var g struct {
		Rows []struct {
			Prompt, Response string
			Ended            bool
			IDs              []int
			Score            float64
		}
	}
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	c, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := opened[*Classifier](t, c, Options{BatchTokens: 50})
	ctx := context.Background()
	var items []Item
	for i, row := range g.Rows {
		items = append(items, Item{Prompt: row.Prompt, Response: row.Response, Ended: row.Ended})
		ids, err := r.Tokens(ctx, items[i])
		if err != nil || !slices.Equal(ids, row.IDs) {
			t.Errorf("item %d: got %v, %v, want %v", i, ids, err, row.IDs)
		}
	}
	scores, err := r.Score(ctx, items)
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range g.Rows {
		if !near(scores[i], row.Score) {
			t.Errorf("item %d: got %v, want %v", i, scores[i], row.Score)
		}
	}
}

// TestGELU compares the table's function with the definition.
func TestGELU(t *testing.T) {
	for x := -12.0; x < 12; x += 0.00371 {
		v := []float32{float32(x)}
		gelu(v)
		in := float64(float32(x))
		want := in * 0.5 * math.Erfc(-in/math.Sqrt2)
		if math.Abs(float64(v[0])-want) > 6e-8*math.Abs(in)+1e-9 {
			t.Fatalf("GELU(%v): got %v, want %v", in, v[0], want)
		}
	}
	x := []float32{float32(math.Inf(1)), float32(math.NaN()), 0, 100, -100}
	gelu(x)
	if got := fmt.Sprint(x); got != "[+Inf NaN 0 100 0]" {
		t.Errorf("got %s", got)
	}
}

// TestBF16Matrix checks that a matrix of BF16 weights gives nearly what the same
// weights give as float32.
func TestBF16Matrix(t *testing.T) {
	w32, w16 := hashed("w", tensor.F32, 8, 64), hashed("w", tensor.BF16, 8, 64)
	var outs [2][]float32
	for i, w := range []tensor.Tensor{w32, w16} {
		l := linear{in: 64, out: 8, f: w.DType.Format(), data: bytes.Clone(w.Data.(tensor.Bytes))}
		x := make([]float32, 64)
		for k, u := range uniform("x", 64) {
			x[k] = float32(u)
		}
		outs[i] = l.one(x)
	}
	for k := range outs[0] {
		if math.Abs(float64(outs[0][k]-outs[1][k])) > 0.02 {
			t.Errorf("row %d: %v and %v", k, outs[0][k], outs[1][k])
		}
	}
}
