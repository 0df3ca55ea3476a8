package archtest

import (
	"os"
	"path/filepath"
	"testing"
)

// A row says what one package is for and which packages of this module its
// files may import. Names are relative to the module; "." is its root. In
// may, * stands for one element of a path, and everything for all packages.
type row struct {
	name string
	what string
	may  []string
}

const everything = "..."

// architecture is the module in the order in which to learn it.
var architecture = []row{
	// What a checkpoint is.
	{"internal/kernel", "inner loops: portable, and in assembly", nil},
	{"weights/tensor", "one named array: type, shape, bytes", []string{"internal/kernel"}},
	{"weights/safetensors", "one file: header and data", []string{"weights/tensor"}},
	{"weights/torchbin", "pytorch_model.bin without running a pickle", []string{"weights/tensor"}},
	{"weights/gguf", "one GGUF file", []string{"weights/tensor"}},
	{"weights/checkpoint", "a model directory", []string{"internal/kernel", "weights/tensor", "weights/safetensors", "weights/torchbin", "weights/gguf"}},
	{"weights/checkpoint/checkpointtest", "checkpoints for tests", []string{"weights/*"}},

	// What is made of two of them.
	{".", "extrapolation as a view of two checkpoints", []string{"weights/*", "internal/kernel"}},

	// How a checkpoint speaks.
	{"internal/quant", "ggml blocks", []string{"internal/kernel"}},
	{"lm/tokenizer", "text to token IDs and back", nil},
	{"lm/chat", "messages, and a model's own template for them", nil},
	{"lm/model", "the decoder on the CPU", []string{"weights/*", "internal/kernel", "internal/quant"}},
	{"lm/generate/grammar", "which tokens may come next in a document of a form", nil},
	{"lm/generate", "a request and its response", []string{"lm/chat", "lm/generate/grammar"}},
	{"lm/generate/openai", "answered by a server", []string{"lm/chat", "lm/generate", "lm/generate/grammar"}},
	{"lm/generate/local", "answered in this process", []string{"lm/chat", "lm/generate", "lm/generate/grammar", "weights/checkpoint", "lm/model", "lm/tokenizer"}},

	// How the direction and α are found.
	{"align/search", "the best α of a function of α", nil},
	{"align/reward", "scores for a conversation", []string{"internal/kernel", "weights/tensor", "lm/chat", "lm/generate", "weights/checkpoint", "lm/model", "lm/tokenizer"}},
	{"align/train", "small models, trained in this process", []string{"weights/*", "internal/kernel", "lm/model", "lm/tokenizer", "lm/chat"}},

	// All of it on models made here.
	{"demo/notes", "the bundled models' task: text to imitate, a rule, readers", nil},
	{"demo", "the bundled models, and the line through them", []string{".", "weights/*", "lm/*", "lm/generate/local", "align/search", "align/reward", "demo/notes"}},
	{"demo/make", "trains the bundled models", []string{"weights/*", "internal/kernel", "lm/*", "lm/generate/local", "align/reward", "align/train", "demo/notes"}},

	// How it is measured.
	{"eval", "results, and a log that resumes", nil},
	{"eval/judge", "a model that compares or grades answers", []string{"lm/chat", "lm/generate"}},
	{"eval/alpacaeval", "win rates", []string{"lm/chat", "lm/generate", "eval", "eval/judge"}},
	{"eval/mtbench", "grades over two turns", []string{"lm/chat", "lm/generate", "eval", "eval/judge"}},
	{"eval/openllm", "the Open LLM Leaderboard", []string{"lm/generate", "eval"}},

	// How it leaves.
	{"publish/hub", "download and upload", nil},
	{"publish/card", "the README of a model", []string{".", "align/search", "eval"}},
	{"publish/imatrix", "which columns of a model's matrices matter", []string{"weights/gguf", "weights/tensor", "lm/model", "lm/tokenizer"}},
	{"publish/export", "GGUF and quantized files", []string{"weights/*", "lm/model", "lm/tokenizer", "internal/quant", "publish/imatrix"}},
	{"serve", "the OpenAI API and a web page", []string{".", "lm/chat", "lm/generate", "lm/generate/grammar", "lm/generate/local", "align/reward"}},

	// How a person uses it.
	{"internal/report", "tables, pages and plots", nil},
	{"internal/cli", "the command line, a file per command", []string{everything}},
	{"cmd/expo", "main", []string{"internal/cli"}},

	{"scripts/makepair", "a synthetic pair of any size, to measure with", []string{"weights/*"}},
	{"internal/archtest", "this map", nil},
}

// forTests are the packages that only tests import, apart from each other.
var forTests = []string{"weights/checkpoint/checkpointtest"}

// inTests is what a test file may import besides what its row allows.
var inTests = []string{"weights/*", "weights/checkpoint/checkpointtest", "internal/kernel"}

// mayUnsafe are the packages that may import unsafe.
var mayUnsafe = []string{"internal/kernel", "internal/quant", "weights/checkpoint"}

// commandLine are the packages that may use what belongs to the process:
// flags, environment, standard streams, exit status.
var commandLine = []string{"internal/cli", "cmd/expo", "demo/make", "scripts/makepair"}

// offline are packages to which a model is an interface and nothing more.
var offline = []string{"align/search", "eval", "eval/judge"}

func TestArchitecture(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	faults, err := check(os.DirFS(root), architecture)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		t.Error(f)
	}
}

// moduleRoot is the nearest folder with a go.mod, from the working directory
// upwards.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", os.ErrNotExist
		}
		dir = up
	}
}

// TestTable checks that the table can be read from the top.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for i, r := range architecture {
		if seen[r.name] {
			t.Errorf("%s stands twice in the table", r.name)
		}
		seen[r.name] = true
		if r.what == "" {
			t.Errorf("%s: the table does not say what it is for", r.name)
		}
		for _, may := range r.may {
			if may == everything {
				continue
			}
			found := false
			for j, other := range architecture {
				if !allowed([]string{may}, other.name) {
					continue
				}
				found = true
				if j >= i && other.name != r.name {
					t.Errorf("%s may import %s, which the table names later", r.name, other.name)
				}
			}
			if !found {
				t.Errorf("%s may import %s, which is not in the table", r.name, may)
			}
		}
	}
	for _, list := range [][]string{forTests, mayUnsafe, commandLine, offline} {
		for _, name := range list {
			if !seen[name] {
				t.Errorf("%s is not in the table", name)
			}
		}
	}
}
