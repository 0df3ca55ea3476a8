package checkpoint

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/safetensors"
	"expo/weights/tensor"
)

// sized is a tensor of n bytes whose data is never read.
func sized(name string, n int) tensor.Tensor {
	return tensor.Tensor{Name: name, DType: tensor.U8, Shape: []int{n}}
}

func shapeless(t *testing.T, shards ...Shard) *Checkpoint {
	t.Helper()
	c, err := New("made", shards, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// describePlan is "file: tensors; file: …".
func describePlan(p *plan) string {
	var out []string
	for _, f := range p.files {
		var names []string
		for _, x := range f.tensors {
			names = append(names, x.Name)
		}
		out = append(out, f.name+": "+strings.Join(names, " "))
	}
	return strings.Join(out, "; ")
}

func TestPlanSplit(t *testing.T) {
	c := shapeless(t, Shard{"a", []tensor.Tensor{sized("d", 10), sized("c", 20), sized("huge", 100), sized("b", 10)}},
		Shard{"b", []tensor.Tensor{sized("a", 15), sized("z", 0), sized("y", 5), sized("x", 1)}})
	const shard = "model-%05d-of-%05d.safetensors: "
	names := func(groups ...string) string {
		var out []string
		for i, g := range groups {
			out = append(out, fmt.Sprintf(shard, i+1, len(groups))+g)
		}
		return strings.Join(out, "; ")
	}
	tests := []struct {
		size int64
		want string
	}{
		// A shard is full when the next tensor would go over the limit; inside it
		// the order is the official writer's, by name.
		{30, names("c d", "huge", "a b y z", "x")},
		{29, names("d", "c", "huge", "a b z", "x y")},
		{31, names("c d", "huge", "a b x y z")},
		{1, names("d", "c", "huge", "b", "a", "z", "y", "x")},
		{1000, "model.safetensors: a b c d huge x y z"},
	}
	for _, tt := range tests {
		p, err := newPlan(c, tt.size)
		if err != nil {
			t.Fatal(err)
		}
		if got := describePlan(p); got != tt.want {
			t.Errorf("%d bytes:\ngot  %s\nwant %s", tt.size, got, tt.want)
		}
	}
}

func TestPlanKeepsShards(t *testing.T) {
	a, b := sized("b", 1), sized("a", 1)
	wide := tensor.Tensor{Name: "z", DType: tensor.F32, Shape: []int{1}}
	const first, second, third = "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"
	tests := []struct {
		name   string
		shards []Shard
		want   string
	}{
		{"a safetensors file keeps its order", []Shard{{"model.safetensors", []tensor.Tensor{a, b}}}, "model.safetensors: b a"},
		{"a torch file gets the official order", []Shard{{"pytorch_model.bin", []tensor.Tensor{a, wide, b}}}, "model.safetensors: z a b"},
		{"a file whose tensors would be misaligned too", []Shard{{"model.safetensors", []tensor.Tensor{a, wide, b}}}, "model.safetensors: z a b"},
		{"one shard of another name", []Shard{{"model-00001-of-00001.safetensors", []tensor.Tensor{a}}}, "model.safetensors: b"},
		{"names of its own", []Shard{{"x.safetensors", []tensor.Tensor{a}}, {"y.safetensors", []tensor.Tensor{b}}}, "x.safetensors: b; y.safetensors: a"},
		{"torch shards", []Shard{{"pytorch_model-00001-of-00002.bin", []tensor.Tensor{a}}, {"pytorch_model-00002-of-00002.bin", []tensor.Tensor{b}}},
			"model-00001-of-00002.safetensors: b; model-00002-of-00002.safetensors: a"},
		{"mixed shards", []Shard{{"model-00002-of-00002.safetensors", []tensor.Tensor{a}}, {"x.bin", []tensor.Tensor{b}}},
			"model-00001-of-00002.safetensors: b; model-00002-of-00002.safetensors: a"},
		{"an empty shard", []Shard{{first, []tensor.Tensor{a}}, {second, nil}, {third, []tensor.Tensor{b}}},
			"model-00001-of-00002.safetensors: b; model-00002-of-00002.safetensors: a"},
		// The order of the second file must be that of the third shard.
		{"an empty shard before a torch one", []Shard{{first, nil}, {second, []tensor.Tensor{b}}, {"x.bin", []tensor.Tensor{a, wide}}},
			"model-00001-of-00002.safetensors: a; model-00002-of-00002.safetensors: z b"},
		{"a name that would hide the index", []Shard{{"model.safetensors", []tensor.Tensor{a}}, {"x.safetensors", []tensor.Tensor{b}}},
			"model-00001-of-00002.safetensors: b; model-00002-of-00002.safetensors: a"},
		{"twice a name", []Shard{{"x.safetensors", []tensor.Tensor{a}}, {"X.safetensors", []tensor.Tensor{b}}},
			"model-00001-of-00002.safetensors: b; model-00002-of-00002.safetensors: a"},
		{"names that lead elsewhere", []Shard{{"../x.safetensors", []tensor.Tensor{a}}, {"sub/y.safetensors", []tensor.Tensor{b}}},
			"model-00001-of-00002.safetensors: b; model-00002-of-00002.safetensors: a"},
		{"nothing", nil, "model.safetensors: "},
		{"a shard of nothing", []Shard{{"model.safetensors", nil}}, "model.safetensors: "},
	}
	for _, tt := range tests {
		p, err := newPlan(shapeless(t, tt.shards...), 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := describePlan(p); got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.name, got, tt.want)
		}
	}
	c := shapeless(t, Shard{"a", []tensor.Tensor{sized("__metadata__", 1)}})
	_, err := newPlan(c, 0)
	wantError(t, err, "model.safetensors", "__metadata__")
}

// TestUnits checks that the units cover a file without hole or overlap, each
// within one block, with whole elements.
func TestUnits(t *testing.T) {
	const mib = 1 << 20
	f32 := func(n int) tensor.Tensor { return tensor.Tensor{DType: tensor.F32, Shape: []int{n}} }
	f64 := func(n int) tensor.Tensor { return tensor.Tensor{DType: tensor.F64, Shape: []int{n}} }
	u8 := func(n int) tensor.Tensor { return tensor.Tensor{DType: tensor.U8, Shape: []int{n}} }
	f4 := func(n int) tensor.Tensor { return tensor.Tensor{DType: tensor.F4, Shape: []int{n}} }
	f6 := func(n int) tensor.Tensor { return tensor.Tensor{DType: tensor.F6E2M3, Shape: []int{n}} }
	tests := map[string][]tensor.Tensor{
		"nothing":            nil,
		"no elements":        {u8(0), f32(0)},
		"small ones":         slices.Repeat([]tensor.Tensor{u8(3), f32(1)}, 100),
		"one block":          {u8(mib)},
		"a large one":        {f32(mib)},
		"around a block":     {u8(mib - 1), u8(1), u8(mib + 1)},
		"unaligned":          {u8(1), f32(mib), u8(2), f64(3 * mib / 8), u8(0), f64(mib / 4)},
		"very unaligned":     {u8(3), f64(mib)},
		"sub-byte":           {f4(6 * mib), f6(4 * 300001), f4(2)},
		"empty ones between": {u8(0), u8(mib), u8(0), u8(mib), u8(0)},
		"many blocks":        {f64(mib), f32(mib + 1), u8(7), f32(5)},
	}
	for name, ts := range tests {
		for i := range ts {
			ts[i].Name = fmt.Sprint("t", i)
		}
		l, err := safetensors.NewLayout(ts, nil)
		if err != nil {
			t.Fatal(err)
		}
		us := units(3, ts, l)
		at := int64(len(l.Header()))
		seen := make(map[string]int64)
		for i, u := range us {
			if u.file != 3 || u.seq != i {
				t.Errorf("%s: unit %d is %d of file %d", name, i, u.seq, u.file)
			}
			if u.off != at || u.n <= 0 || u.n > BlockBytes {
				t.Fatalf("%s: unit %d: %d bytes at %d, want at %d", name, i, u.n, u.off, at)
			}
			// An element may straddle the boundary of two blocks.
			if i > 0 && (u.off+7)/BlockBytes == us[i-1].off/BlockBytes {
				t.Errorf("%s: units %d and %d begin in one block", name, i-1, i)
			}
			var n int64
			for _, p := range u.pieces {
				w := int64(max(p.tensor.DType.Bits()/8, 1))
				if p.n <= 0 || p.off%w != 0 || p.n%w != 0 || seen[p.tensor.Name] != p.off {
					t.Errorf("%s: %s: %d bytes at %d, %d seen before", name, p.tensor.Name, p.n, p.off, seen[p.tensor.Name])
				}
				seen[p.tensor.Name] += p.n
				n += p.n
			}
			if n != u.n {
				t.Errorf("%s: unit %d: pieces of %d bytes, want %d", name, i, n, u.n)
			}
			at += u.n
		}
		if at != l.Size() {
			t.Errorf("%s: units end at %d of %d", name, at, l.Size())
		}
		for _, x := range ts {
			if seen[x.Name] != x.Size() {
				t.Errorf("%s: %s: %d bytes of %d", name, x.Name, seen[x.Name], x.Size())
			}
		}
	}
}

func TestSchedule(t *testing.T) {
	p := &plan{}
	for i, n := range []int{3, 0, 2, 1} {
		f := plannedFile{}
		for k := range n {
			f.units = append(f.units, unit{file: i, seq: k})
		}
		p.files = append(p.files, f)
	}
	tests := []struct {
		width int
		skip  map[int]bool
		want  string
	}{
		{1, nil, "0.0 0.1 0.2 2.0 2.1 3.0"},
		{2, nil, "0.0 2.0 0.1 2.1 0.2 3.0"},
		{9, nil, "0.0 2.0 3.0 0.1 2.1 0.2"},
		{2, map[int]bool{0: true}, "2.0 3.0 2.1"},
		{2, map[int]bool{0: true, 2: true, 3: true}, ""},
	}
	for _, tt := range tests {
		var got []string
		s := p.schedule(tt.width, tt.skip)
		for u := s.take(); u != nil; u = s.take() {
			got = append(got, fmt.Sprintf("%d.%d", u.file, u.seq))
			s.done(u)
		}
		if g := strings.Join(got, " "); g != tt.want {
			t.Errorf("width %d without %v: %s, want %s", tt.width, tt.skip, g, tt.want)
		}
	}
}

// TestScheduleApart has one worker slower than the other: they keep out of each
// other's file as long as there are two.
func TestScheduleApart(t *testing.T) {
	p := &plan{}
	for i, n := range []int{4, 6, 1} {
		f := plannedFile{}
		for k := range n {
			f.units = append(f.units, unit{file: i, seq: k})
		}
		p.files = append(p.files, f)
	}
	s := p.schedule(2, nil)
	var got []string
	name := func(u *unit) *unit {
		got = append(got, fmt.Sprintf("%d.%d", u.file, u.seq))
		return u
	}
	slow := name(s.take())
	for range 3 {
		s.done(name(s.take()))
	}
	s.done(slow)
	slow = name(s.take())
	for range 3 {
		s.done(name(s.take()))
	}
	s.done(slow)
	for u := s.take(); u != nil; u = s.take() {
		s.done(name(u))
	}
	if g, want := strings.Join(got, " "), "0.0 1.0 1.1 1.2 0.1 1.3 1.4 1.5 0.2 2.0 0.3"; g != want {
		t.Errorf("%s, want %s", g, want)
	}
}

func TestIndex(t *testing.T) {
	embed := checkpointtest.Floats("model.embed_tokens.weight", tensor.BF16, []int{3, 2}, make([]float32, 6))
	head := checkpointtest.Floats("lm_head.weight", tensor.BF16, []int{3, 2}, make([]float32, 6))
	ids := checkpointtest.Ints("position_ids", tensor.I64, []int{4}, make([]int64, 4))
	odd := checkpointtest.Floats(`a"<\é`, tensor.F32, nil, []float32{1})
	for tied, parameters := range map[string]int64{"true": 7, "false": 13, "null": 13} {
		c, err := New("made", []Shard{{"x", []tensor.Tensor{head, ids}}, {"y", []tensor.Tensor{embed, odd}}},
			Overlay(nil, map[string][]byte{"config.json": []byte(`{"tie_word_embeddings": ` + tied + `}`)}))
		if err != nil {
			t.Fatal(err)
		}
		p, err := newPlan(c, 0)
		if err != nil {
			t.Fatal(err)
		}
		b, err := p.index(c)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Metadata  map[string]int64
			WeightMap json.RawMessage `json:"weight_map"`
		}
		if err := json.Unmarshal(b, &doc); err != nil {
			t.Fatal(err)
		}
		if got := doc.Metadata; len(got) != 2 || got["total_size"] != 12+12+32+4 || got["total_parameters"] != parameters {
			t.Errorf("tied %s: metadata %v, want %d parameters", tied, got, parameters)
		}
		x, err := parseIndex(b)
		if err != nil {
			t.Fatal(err)
		}
		const f1, f2 = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
		want := map[string]string{"lm_head.weight": f1, "position_ids": f1, "model.embed_tokens.weight": f2, `a"<\é`: f2}
		if len(x.weights) != len(want) || keysOf(x.weights) != keysOf(want) || !slices.Equal(x.files, []string{f1, f2}) {
			t.Errorf("weight_map %v in %v, want %v", x.weights, x.files, want)
		}
		for name, f := range want {
			if x.weights[name] != f {
				t.Errorf("%s is in %s, want %s", name, x.weights[name], f)
			}
		}
		if a, z := strings.Index(string(doc.WeightMap), "lm_head"), strings.Index(string(doc.WeightMap), "position_ids"); a < 0 || a > z {
			t.Error("weight_map is not sorted by name")
		}
		if !strings.HasSuffix(string(b), "}\n") {
			t.Error("the index does not end with a line")
		}
	}
}
