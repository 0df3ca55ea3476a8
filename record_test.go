package expo_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"expo"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

// everyOption has no field at its zero value.
var everyOption = expo.Options{
	Alpha: 0.3, Rules: []expo.Rule{{"lm_head.*", 1}, {"model.layers.0.*", -0.25}}, Rounding: expo.Stochastic, Seed: 1<<63 + 1, DType: tensor.F16,
	ExtraRows: expo.ExtraRowsAligned, Missing: expo.MissingAligned, Head: expo.HeadStored, AllowOverflow: true,
}

// TestRecordRoundTrip checks that a record leads back to the options, and the
// options to the same directory.
func TestRecordRoundTrip(t *testing.T) {
	for i, f := range reflect.VisibleFields(reflect.TypeFor[expo.Options]()) {
		if reflect.ValueOf(everyOption).Field(i).IsZero() {
			t.Errorf("%s is not set", f.Name)
		}
	}
	sft, aligned := checkpointtest.Pair(3, tensor.BF16)
	aligned.Shards = 2
	p := disk(t, sft, aligned)
	for name, opt := range map[string]expo.Options{"every option": everyOption, "α alone": {Alpha: 0.3}, "per-op": {Alpha: 1. / 3, Rounding: expo.PerOp}, "nothing": {}} {
		in := expo.WriteOptions{Version: "v1.2.3", ShardSize: 3000, SFT: expo.Input{Repo: "org/sft", Revision: "main", Commit: "abc"}}
		dir, w := write(t, p, opt, in)
		rec, err := expo.ReadRecord(os.DirFS(dir))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(rec, w.Record) {
			t.Errorf("%s: the record that was read is not the one that was written: %+v, %+v", name, rec.Output, w.Record.Output)
		}
		back, err := rec.Recipe.Options()
		if err != nil || !reflect.DeepEqual(back, opt) {
			t.Errorf("%s: options %+v, %v, want %+v", name, back, err, opt)
		}
		if rec.Recipe.ShardSize != 3000 || rec.Version != "v1.2.3" {
			t.Errorf("%s: %+v", name, rec)
		}
		again, _ := write(t, p, back, expo.WriteOptions{Version: rec.Version, ShardSize: rec.Recipe.ShardSize, SFT: rec.SFT, Aligned: rec.Aligned})
		sameTree(t, again, dir)

		// The record lists the directory, and the inputs.
		tree := checkpointtest.Tree(t, dir)
		if len(rec.Output) != len(tree)-1 {
			t.Errorf("%s: the record lists %d files, there are %d with it", name, len(rec.Output), len(tree))
		}
		for _, f := range rec.Output {
			if int64(len(tree[f.Name])) != f.Size || len(f.SHA256) != 64 {
				t.Errorf("%s: %+v, the file has %d bytes", name, f, len(tree[f.Name]))
			}
		}
		if rec.SFT.Path != p.SFT.Name() || rec.SFT.Repo != "org/sft" || rec.SFT.Revision != "main" || rec.SFT.Commit != "abc" || len(rec.SFT.Files) != 1 || len(rec.Aligned.Files) != 2 {
			t.Errorf("%s: inputs %+v, %+v", name, rec.SFT, rec.Aligned)
		}
		if err := rec.SFT.Matches(p.SFT); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadRecord(t *testing.T) {
	dir := t.TempDir()
	if r, err := expo.ReadRecord(os.DirFS(dir)); r != nil || err != nil {
		t.Errorf("no record: %v, %v", r, err)
	}
	checkpointtest.File(t, filepath.Join(dir, expo.RecordFile), "{")
	if r, err := expo.ReadRecord(os.DirFS(dir)); r != nil || err == nil {
		t.Errorf("half a record: %v, %v", r, err)
	}
}

func TestParseRecord(t *testing.T) {
	const good = `{"format": 1, "recipe": {"method": "expo", "alpha": 0.3, "rounding": "once"}}`
	if _, err := expo.ParseRecord([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ from, to, want string }{
		{`"format": 1`, `"format": 2`, "format 2"},
		{`"format": 1, `, ``, "format 0"},
		{`"expo"`, `"slerp"`, `"slerp"`},
		{`"once"`, `"twice"`, `"twice"`},
		{`0.3`, `1e39`, "finite"},
		{`0.3`, `"x"`, "not a valid expo.json"},
		{`0.3`, `0.3, "dtype": "F8_E4M3"`, "dtype F8_E4M3"},
		{`0.3`, `0.3, "dtype": "bf16"`, `"bf16"`},
		{`0.3`, `0.3, "rules": [{"pattern": "[", "alpha": 1}]`, `pattern "["`},
		{`0.3`, `0.3, "head": "x"`, "heads"},
		{`0.3`, `0.3, "missing": "x"`, "missing"},
		{`0.3`, `0.3, "extra_rows": "x"`, "extra rows"},
		{good, ``, "not a valid expo.json"},
		{good, `[]`, "not a valid expo.json"},
	} {
		_, err := expo.ParseRecord([]byte(strings.Replace(good, tt.from, tt.to, 1)))
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s → %s: error %v, want one with %q", tt.from, tt.to, err, tt.want)
		}
	}
}

func TestInputMatches(t *testing.T) {
	sft, _ := checkpointtest.Pair(1, tensor.BF16)
	sft.Shards = 2
	dir := t.TempDir()
	sft.Write(t, dir)
	c := open(t, dir)
	digest := strings.Repeat("ab", 32)
	size := func(i int) int64 { return c.Sources()[i].Size }
	files := func() []expo.InputFile {
		return []expo.InputFile{{Name: "model-00001-of-00002.safetensors", Size: size(0), SHA256: digest}, {Name: "model-00002-of-00002.safetensors", Size: size(1)}}
	}
	for name, tt := range map[string]struct {
		change func([]expo.InputFile) []expo.InputFile
		want   string
	}{
		"the same":    {func(f []expo.InputFile) []expo.InputFile { return f }, ""},
		"fewer":       {func(f []expo.InputFile) []expo.InputFile { return f[:1] }, "has 2 weight files, the record names 1"},
		"none":        {func(f []expo.InputFile) []expo.InputFile { return nil }, "the record names 0"},
		"other size":  {func(f []expo.InputFile) []expo.InputFile { f[1].Size++; return f }, "of_00002"},
		"other name":  {func(f []expo.InputFile) []expo.InputFile { f[0].Name = "a\nb"; return f }, `"a\nb"`},
		"other order": {func(f []expo.InputFile) []expo.InputFile { f[0], f[1] = f[1], f[0]; return f }, "names"},
	} {
		err := expo.Input{Files: tt.change(files())}.Matches(c)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "of-", "of_"), tt.want)) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
	}
	// A digest counts where both sides know one: in the Hugging Face cache.
	snapshot := filepath.Join(t.TempDir(), "models--org--name", "snapshots", "abc")
	one, _ := checkpointtest.Pair(1, tensor.BF16)
	one.Write(t, snapshot)
	blob := filepath.Join(snapshot, "..", "..", "blobs", digest)
	if err := os.MkdirAll(filepath.Dir(blob), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(snapshot, "model.safetensors"), blob); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../blobs/"+digest, filepath.Join(snapshot, "model.safetensors")); err != nil {
		t.Skip(err)
	}
	cached := open(t, snapshot)
	in := expo.Input{Files: []expo.InputFile{{Name: "model.safetensors", Size: cached.Sources()[0].Size, SHA256: digest}}}
	if err := in.Matches(cached); err != nil {
		t.Error(err)
	}
	in.Files[0].SHA256 = strings.Repeat("00", 32)
	if err := in.Matches(cached); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("another digest: error %v", err)
	}
}

// TestComputedInput checks that a result can be an input, and that nothing is
// taken up from an earlier run on an input that no file identifies.
func TestComputedInput(t *testing.T) {
	sft, aligned := checkpointtest.Pair(1, tensor.F32)
	p := disk(t, sft, aligned)
	half := extrapolate(t, p, expo.Options{Alpha: -0.5})
	dir, w := write(t, expo.Pair{SFT: half, Aligned: p.Aligned}, expo.Options{Alpha: 1}, expo.WriteOptions{})
	direct := extrapolate(t, p, expo.Options{Alpha: 0.5})
	for x := range open(t, dir).Tensors() {
		y, _ := direct.Tensor(x.Name)
		for i, v := range checkpointtest.Values(x) {
			if want := checkpointtest.Values(y)[i]; v-want > 1e-6 || want-v > 1e-6 {
				t.Errorf("%s: element %d is %g, want %g", x.Name, i, v, want)
				break
			}
		}
	}
	if len(w.Record.SFT.Files) != 0 || len(w.Record.Aligned.Files) != 1 {
		t.Errorf("inputs %+v, %+v", w.Record.SFT, w.Record.Aligned)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"format": 1, "recipe": {"method": "expo", "alpha": 0.3, "rounding": "once"}}`))
	f.Add([]byte(`{"format": 1, "recipe": {"method": "expo", "alpha": 1e308, "rules": [{"pattern": "["}], "rounding": "per-op"}}`))
	f.Add([]byte(`{"format": 1, "recipe": {"method": "expo", "rounding": "stochastic", "dtype": "F16"}, "output": [{"name": "../x", "size": -1}]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := expo.ParseRecord(b)
		if err != nil {
			return
		}
		opt, err := r.Recipe.Options()
		if err != nil {
			t.Fatalf("accepted, but %v", err)
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := expo.ParseRecord(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if back, err := again.Recipe.Options(); err != nil || len(back.Rules) != len(opt.Rules) || back.Alpha != opt.Alpha || back.DType != opt.DType {
			t.Errorf("%+v became %+v, %v", opt, back, err)
		}
	})
}
