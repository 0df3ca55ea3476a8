package cli_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"expo/internal/cli"
	"expo/weights/safetensors"
	"expo/weights/tensor"
)

// speaking makes models that run of the bundled pair, which has no tokenizer: a
// byte is a token, the last one the end. The reward model is the SFT model with
// a head.
func speaking(t *testing.T) (sft, aligned, reward string) {
	t.Helper()
	dir := t.TempDir()
	vocab := map[string]int{"</s>": 255}
	var printable, other []rune
	for b := range 256 { // GPT-2's letters for bytes
		if b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE {
			printable = append(printable, rune(b))
		} else {
			other = append(other, rune(256+len(other)))
		}
	}
	for _, r := range append(printable, other...) {
		if len(vocab) < 256 {
			vocab[string(r)] = len(vocab) - 1
		}
	}
	tok, err := json.Marshal(map[string]any{
		"version":       "1.0",
		"model":         map[string]any{"type": "BPE", "vocab": vocab, "merges": []string{}},
		"pre_tokenizer": map[string]any{"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
		"decoder":       map[string]any{"type": "ByteLevel"},
		"added_tokens":  []any{map[string]any{"id": 255, "content": "</s>", "special": true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, file string, data []byte) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, file), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []struct{ from, to string }{{"sft", "sft"}, {"aligned", "aligned"}, {"sft", "reward"}} {
		from := filepath.Join("..", "..", "demo", "pair", m.from)
		weights, err := os.ReadFile(filepath.Join(from, "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(from, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		var config map[string]any
		if err := json.Unmarshal(b, &config); err != nil {
			t.Fatal(err)
		}
		config["eos_token_id"] = 255
		if m.to == "reward" {
			config["architectures"], config["num_labels"], config["pad_token_id"] = []string{"LlamaForSequenceClassification"}, 1, 255
			config["id2label"] = map[string]string{"0": "LABEL_0"}
			weights = withHead(t, weights)
		}
		b, err = json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		write(m.to, "model.safetensors", weights)
		write(m.to, "config.json", b)
		write(m.to, "tokenizer.json", tok)
		write(m.to, "tokenizer_config.json", []byte(`{"eos_token":"</s>"}`))
	}
	return filepath.Join(dir, "sft"), filepath.Join(dir, "aligned"), filepath.Join(dir, "reward")
}

func withHead(t *testing.T, weights []byte) []byte {
	t.Helper()
	r, err := safetensors.NewReader(bytes.NewReader(weights), int64(len(weights)))
	if err != nil {
		t.Fatal(err)
	}
	var list []tensor.Tensor
	for x := range r.Tensors() {
		if x.Name != "lm_head.weight" {
			list = append(list, x)
		}
	}
	var head []byte
	for i := range 128 {
		v := uint16(math.Float32bits(float32(math.Sin(float64(i)))) >> 16)
		head = append(head, byte(v), byte(v>>8))
	}
	list = append(list, tensor.Tensor{Name: "score.weight", DType: tensor.BF16, Shape: []int{1, 128}, Data: tensor.Bytes(head)})
	safetensors.Sort(list)
	var b bytes.Buffer
	if err := safetensors.Write(&b, list, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// expoRun runs a command and gives its exit status and what it printed.
func expoRun(args ...string) (status int, out, errs string) {
	var o, e bytes.Buffer
	status = cli.Main(context.Background(), args, strings.NewReader(""), &o, &e)
	return status, o.String(), e.String()
}

func writeLines(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

type searchResult struct {
	BestAlpha    *float64 `json:"best_alpha"`
	HighestAlpha *float64 `json:"highest_alpha"`
	Rows         []struct {
		Alpha      float64  `json:"alpha"`
		Reward     *float64 `json:"reward"`
		RewardSE   *float64 `json:"reward_se"`
		Length     *float64 `json:"length"`
		Finished   *float64 `json:"finished"`
		Repetition *float64 `json:"repetition"`
		Gate       string   `json:"gate"`
		Missing    int      `json:"missing"`
		Tasks      map[string]struct {
			Mean float64 `json:"mean"`
			N    int     `json:"n"`
		} `json:"tasks"`
	} `json:"rows"`
	Scan *struct {
		Pairs int `json:"pairs"`
		Rows  []struct {
			Alpha     float64 `json:"alpha"`
			Margin    float64 `json:"margin"`
			Promising bool    `json:"promising"`
		} `json:"rows"`
	} `json:"scan"`
}

func TestSearch(t *testing.T) {
	sft, aligned, reward := speaking(t)
	prompts := writeLines(t, `{"prompt":"one"}`, `{"prompt":"two"}`, `{"prompt":"three"}`, `{"prompt":"one"}`, `{"prompt":"four"}`, `{"prompt":"five"}`)
	dir := filepath.Join(t.TempDir(), "out")
	args := []string{"search", "--sft", sft, "--aligned", aligned, "--reward", reward, "--prompts", prompts, "--alphas", "0.5:1:0.5", "--raw", "--max-tokens", "10", "--seeds", "2", "--widen", "1", "-o", dir, "--plots"}
	status, out, errs := expoRun(append(args, "--json")...)
	if status != 0 || errs != "" {
		t.Fatalf("status %d: %s", status, errs)
	}
	var r searchResult
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(r.Rows) < 4 || r.Rows[0].Alpha != -1 || r.Rows[1].Alpha != 0 || r.BestAlpha == nil {
		t.Fatalf("got %s", out)
	}
	for _, row := range r.Rows {
		if row.Reward == nil || row.RewardSE == nil || row.Length == nil || *row.Length <= 0 || row.Finished == nil || row.Repetition == nil {
			t.Errorf("α %v lacks a measure: %+v", row.Alpha, row)
		}
	}
	saved, err := os.ReadFile(filepath.Join(dir, "search.json"))
	if err != nil || string(saved) != out {
		t.Errorf("search.json is not what was printed: %v", err)
	}
	for _, name := range []string{"report.html", "reward.png", "reward.svg", "length.png", "reward-length.svg", "answers.png"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	samples, err := os.ReadFile(filepath.Join(dir, "samples.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	// Half of the samples are lost: the rest is used, and the result the same.
	lines := bytes.SplitAfter(samples, []byte("\n"))
	if want := 1 + len(r.Rows)*12*2; len(lines)-1 != want {
		t.Errorf("%d lines of samples, want %d: the settings, a sample and a reward each", len(lines)-1, want)
	}
	half := append(bytes.Join(lines[:len(lines)/2], nil), lines[len(lines)/2][:20]...)
	if err := os.WriteFile(filepath.Join(dir, "samples.jsonl"), half, 0o666); err != nil {
		t.Fatal(err)
	}
	if status, again, errs := expoRun(append(args, "--json")...); status != 0 || again != out {
		t.Errorf("the run that went on has status %d and other results: %s", status, errs)
	}
	// The result alone is on standard output.
	status, out, errs = expoRun(args...)
	if want := fmt.Sprintf("%g\n", *r.BestAlpha); status != 0 || out != want {
		t.Errorf("status %d, printed %q, want %q", status, out, want)
	}
	for _, want := range []string{"× aligned", "mean reward", "report.html"} {
		if !strings.Contains(errs, want) {
			t.Errorf("standard error lacks %q:\n%s", want, errs)
		}
	}
	// Gates change the choice without another sample.
	status, out, _ = expoRun(append(args, "--json", "--min-finished", "1")...)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if r.BestAlpha == nil != (status == 1) {
		t.Errorf("status %d with best α %v", status, r.BestAlpha)
	}
	after, _ := os.ReadFile(filepath.Join(dir, "samples.jsonl"))
	if got := bytes.Count(after, []byte("\n")); got != len(lines)-1 {
		t.Errorf("samples grew from %d to %d lines", len(lines)-1, got)
	}
}

func TestSearchPairsAndTasks(t *testing.T) {
	sft, aligned, reward := speaking(t)
	pairs := writeLines(t, `{"prompt":"a","chosen":"bcd","rejected":"xyz"}`, `{"prompt":"b","chosen":"cde","rejected":"q"}`,
		`{"prompt":"c","chosen":[{"role":"user","content":"c"},{"role":"assistant","content":"d"}],"rejected":[{"role":"user","content":"c"},{"role":"assistant","content":"e"}]}`)
	dir := filepath.Join(t.TempDir(), "out")
	base := []string{"search", "--sft", sft, "--aligned", aligned, "--raw", "--json", "-o", dir, "--max-tokens", "8"}
	status, out, errs := expoRun(append(base, "--pairs", pairs, "--alphas", "1,2,4")...)
	var r searchResult
	if err := json.Unmarshal([]byte(out), &r); status != 0 || err != nil {
		t.Fatalf("status %d, %v: %s", status, err, errs)
	}
	if len(r.Rows) != 5 || r.Rows[0].Alpha != -1 || r.Rows[4].Alpha != 4 {
		t.Errorf("rows of a scan alone: %s", out)
	}
	if r.Scan == nil || r.Scan.Pairs != 3 || len(r.Scan.Rows) != 5 || r.Scan.Rows[0].Margin != 0 || r.Scan.Rows[2].Margin == 0 || r.BestAlpha == nil {
		t.Fatalf("scan: %s", out)
	}
	// With prompts, only what is promising is confirmed; tasks are scored.
	acc := writeLines(t, `{"prompt":"a","choices":["b","c"],"answer":1}`, `{"prompt":"d","choices":["e","f","g"],"answer":"B"}`)
	ll := writeLines(t, `{"prompt":"a","continuation":"b"}`)
	match := writeLines(t, `{"prompt":"a","answer":"zzz"}`)
	prompts := writeLines(t, `{"prompt":"one"}`, `{"prompt":"two"}`)
	status, out, errs = expoRun(append(base, "--pairs", pairs, "--alphas", "1,2,4", "--confirm", "1", "--prompts", prompts, "--reward", reward,
		"--no-worse", "acc:"+acc, "--no-worse", "loglikelihood:"+ll, "--no-worse", "exact_match:"+match)...)
	r = searchResult{}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("status %d, %v: %s", status, err, errs)
	}
	if len(r.Rows) != 3 {
		t.Errorf("%d rows, want the ends and one that is promising", len(r.Rows))
	}
	for _, row := range r.Rows {
		if got := row.Tasks["acc:rows.jsonl"]; got.N != 2 {
			t.Errorf("α %v: acc %+v, want 2 items", row.Alpha, got)
		}
		if got := row.Tasks["loglikelihood:rows.jsonl"]; got.N != 1 || !(got.Mean < 0) {
			t.Errorf("α %v: log-likelihood %+v", row.Alpha, got)
		}
		if got := row.Tasks["exact_match:rows.jsonl"]; got.N != 1 || got.Mean != 0 {
			t.Errorf("α %v: matches %+v", row.Alpha, got)
		}
	}
}

// comparing makes a small PairRM of random weights, of a shape that align/reward
// is tested with.
func comparing(t *testing.T) string {
	t.Helper()
	testdata := filepath.Join("..", "..", "align", "reward", "testdata")
	b, err := os.ReadFile(filepath.Join(testdata, "goldens.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g struct {
		Pairs []struct {
			Config  json.RawMessage
			Tensors []json.RawMessage
		}
	}
	if err := json.Unmarshal(b, &g); err != nil || len(g.Pairs) == 0 {
		t.Fatalf("%v: no models that compare", err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	var list []tensor.Tensor
	for _, raw := range g.Pairs[0].Tensors {
		var x tensor.Tensor
		if err := json.Unmarshal(raw, &[]any{&x.Name, &x.Shape}); err != nil {
			t.Fatal(err)
		}
		x.DType = tensor.F32
		var data []byte
		for range x.Elements() {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(r.NormFloat64())/4))
		}
		x.Data = tensor.Bytes(data)
		list = append(list, x)
	}
	safetensors.Sort(list)
	var weights bytes.Buffer
	if err := safetensors.Write(&weights, list, nil); err != nil {
		t.Fatal(err)
	}
	tok, err := os.ReadFile(filepath.Join(testdata, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{"model.safetensors": weights.Bytes(), "config.json": g.Pairs[0].Config, "tokenizer.json": tok} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Without a chat template prompts are used as they stand; conversations cannot
// be.
func TestSearchWithoutTemplate(t *testing.T) {
	sft, aligned, reward := speaking(t)
	base := []string{"search", "--sft", sft, "--aligned", aligned, "--reward", reward, "--alphas", "1", "--widen", "0", "--max-tokens", "4", "-o", filepath.Join(t.TempDir(), "out")}
	status, _, errs := expoRun(append(base, "--prompts", writeLines(t, `{"messages":[{"role":"user","content":"one"}]}`))...)
	if status != 1 || !strings.Contains(errs, "name one with --chat-template") {
		t.Errorf("status %d: %s", status, errs)
	}
	status, _, errs = expoRun(append(base, "--prompts", writeLines(t, `{"prompt":"one"}`, `{"prompt":"two"}`))...)
	if status != 0 || !strings.Contains(errs, "as they stand") {
		t.Errorf("status %d: %s", status, errs)
	}
	status, out, errs := expoRun(append(base, "--prompts", writeLines(t, `{"prompt":"one"}`), "--chat-template", "chatml", "--reward-chat-template", "chatml", "--json", "--force")...)
	if status != 0 || !strings.Contains(out, `"chat_template": true`) {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
}

// A model that compares answers is given the aligned model's beside each.
func TestSearchCompares(t *testing.T) {
	sft, aligned, _ := speaking(t)
	prompts := writeLines(t, `{"prompt":"one"}`, `{"prompt":"two"}`, `{"prompt":"three"}`)
	status, out, errs := expoRun("search", "--sft", sft, "--aligned", aligned, "--reward", comparing(t), "--prompts", prompts, "--alphas", "20", "--raw", "--max-tokens", "8", "--widen", "0", "-o", filepath.Join(t.TempDir(), "out"), "--json")
	var r searchResult
	if err := json.Unmarshal([]byte(out), &r); err != nil || status != 0 {
		t.Fatalf("status %d, %v: %s%s", status, err, out, errs)
	}
	if len(r.Rows) != 3 || *r.Rows[1].Reward != 0 || *r.Rows[1].RewardSE != 0 || *r.Rows[2].Reward == 0 {
		t.Errorf("the aligned model's reward is not 0, or another's is: %s", out)
	}
}

// A server of the reward model that refuses some texts, and servers of the
// models: the search finishes with status 4 and a rerun asks for nothing twice.
func TestSearchServed(t *testing.T) {
	var asked, scored atomic.Int64
	refuse := atomic.Bool{}
	refuse.Store(true)
	answer := func(word string) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if strings.HasSuffix(r.URL.Path, "/models") {
				fmt.Fprintf(w, `{"object":"list","data":[{"id":"m","object":"model"}]}`)
				return
			}
			asked.Add(1)
			io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, `{"id":"1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4}}`, word)
		}))
	}
	zero, one := answer("short"), answer("a longer answer")
	defer zero.Close()
	defer one.Close()
	rm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		scored.Add(1)
		if refuse.Load() && bytes.Contains(b, []byte("bad")) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error":{"message":"no"}}`)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		score := 1.0
		if bytes.Contains(b, []byte("longer")) {
			score = 2
		}
		fmt.Fprintf(w, `{"data":[{"index":0,"label":"LABEL_0","probs":[%v],"num_classes":1}]}`, score)
	}))
	defer rm.Close()
	prompts := writeLines(t, `{"prompt":"good"}`, `{"messages":[{"role":"user","content":"bad"},{"role":"assistant","content":"an old answer"}]}`, `{"prompt":"fine"}`)
	dir := filepath.Join(t.TempDir(), "out")
	args := []string{"search", "--endpoint", "0=" + zero.URL, "--endpoint", "0.3=" + one.URL, "--reward-url", rm.URL + "/classify", "--prompts", prompts, "-o", dir, "--json"}
	status, out, errs := expoRun(args...)
	var r searchResult
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("status %d, %v: %s%s", status, err, out, errs)
	}
	if status != 4 || len(r.Rows) != 2 || r.BestAlpha == nil || *r.BestAlpha != 0.3 || r.Rows[0].Missing != 1 || r.Rows[1].Missing != 1 {
		t.Fatalf("status %d, want 4: %s%s", status, out, errs)
	}
	if n := asked.Load(); n != 6 {
		t.Errorf("%d answers were asked for, want 6", n)
	}
	refuse.Store(false)
	before := scored.Load()
	if status, _, errs := expoRun(args...); status != 0 {
		t.Fatalf("status %d: %s", status, errs)
	}
	if n := asked.Load(); n != 6 {
		t.Errorf("the rerun asked for %d answers again", n-6)
	}
	if n := scored.Load() - before; n != 2 {
		t.Errorf("the rerun had %d answers scored, want the 2 that were missing", n)
	}
}

// A directory that holds a search takes more of it, and no other search.
func TestSearchInUsedDirectory(t *testing.T) {
	sft, aligned, reward := speaking(t)
	prompts := writeLines(t, `{"prompt":"one"}`, `{"prompt":"two"}`)
	pairs := writeLines(t, `{"prompt":"a","chosen":"bcd","rejected":"xyz"}`)
	dir := filepath.Join(t.TempDir(), "out")
	args := func(more ...string) []string {
		base := map[string]string{"--sft": sft, "--aligned": aligned, "--reward": reward, "--prompts": prompts, "--alphas": "1", "--max-tokens": "4", "--widen": "0", "--limit": "1", "-o": dir}
		for i := 0; i < len(more); i += 2 {
			if base[more[i]] = more[i+1]; more[i+1] == "" {
				delete(base, more[i])
			}
		}
		list := []string{"search", "--raw"}
		for name, value := range base {
			list = append(list, name, value)
		}
		return list
	}
	if status, _, errs := expoRun(args()...); status != 0 {
		t.Fatalf("status %d: %s", status, errs)
	}
	read := func() string {
		t.Helper()
		var all []string
		for _, name := range []string{"search.json", "report.html", "samples.jsonl"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(b))
		}
		return strings.Join(all, "\x00")
	}
	before := read()
	for _, c := range []struct {
		more []string
		want string
	}{
		{[]string{"--seed", "7"}, `--seed "42", now "7"`},
		{[]string{"--temperature", "0", "--top-k", "3"}, `--temperature "0.7", now "0"; --top-k "50", now "3"`},
		{[]string{"--seeds", "2"}, `--seeds "1", now "2"`},
		{[]string{"--max-tokens", "5"}, `--max-tokens "4", now "5"`},
		{[]string{"--aligned", sft}, "--aligned " + aligned + ", now " + sft},
		{[]string{"--prompts", pairs}, "--prompts " + prompts + ", now " + pairs},
		{[]string{"--reward", "", "--prompts", "", "--pairs", pairs}, "--prompts " + prompts + ", now left out; --reward " + reward + ", now left out"},
		{[]string{"--pairs", pairs}, "would leave α out"},
		{[]string{"--alphas", "2"}, "α 1, now left out"},
		{[]string{"--rounding", "per-op"}, `--rounding "once", now "per-op"`},
	} {
		status, out, errs := expoRun(args(c.more...)...)
		if status != 1 || out != "" || !strings.Contains(errs, c.want) || !strings.Contains(errs, "choose another directory with -o, or use --force") {
			t.Errorf("%q: status %d, want 1 and %q: %s", c.more, status, c.want, errs)
		}
	}
	if read() != before {
		t.Error("a search that was refused has changed files")
	}
	for _, more := range [][]string{nil, {"--alphas", "1,2"}, {"--alphas", "1,2", "--limit", "2"}, {"--alphas", "1,2", "--limit", "0", "--min-finished", "0.1", "--confidence", "0.9"}} {
		if status, _, errs := expoRun(args(more...)...); status > 1 || strings.Contains(errs, "other settings") {
			t.Errorf("%q: status %d: %s", more, status, errs)
		}
	}
	if status, _, errs := expoRun(append(args("--seed", "7"), "--force")...); status != 0 {
		t.Errorf("--force: status %d: %s", status, errs)
	}
	if status, _, errs := expoRun(args()...); status != 1 || !strings.Contains(errs, `--seed "7", now "42"`) {
		t.Errorf("after --force: status %d: %s", status, errs)
	}
}
