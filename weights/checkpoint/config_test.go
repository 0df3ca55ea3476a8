package checkpoint

import (
	"strings"
	"testing"

	"expo/weights/tensor"
)

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := ParseConfig([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c
}

func TestConfigValue(t *testing.T) {
	c := mustParse(t, `{
		"vocab_size": 32000, "big": 9223372036854775808, "fraction": 1.5, "exponent": 1e3, "tie_word_embeddings": false,
		"model_type": "llava", "nothing": null, "list": [1],
		"text_config": {"vocab_size": 5, "hidden_size": 4096, "nothing": 7, "model_type": "llama", "use_cache": true}
	}`)
	ints := []struct {
		key  string
		want int64
		ok   bool
	}{
		{"vocab_size", 32000, true}, {"hidden_size", 4096, true}, {"nothing", 7, true}, {"big", 0, false},
		{"fraction", 0, false}, {"exponent", 0, false}, {"model_type", 0, false}, {"absent", 0, false}, {"list", 0, false},
	}
	for _, tt := range ints {
		if n, ok := c.Int(tt.key); n != tt.want || ok != tt.ok {
			t.Errorf("Int(%q) = %d, %v, want %d, %v", tt.key, n, ok, tt.want, tt.ok)
		}
	}
	bools := []struct {
		key       string
		value, ok bool
	}{{"tie_word_embeddings", false, true}, {"use_cache", true, true}, {"vocab_size", false, false}, {"absent", false, false}}
	for _, tt := range bools {
		if v, ok := c.Bool(tt.key); v != tt.value || ok != tt.ok {
			t.Errorf("Bool(%q) = %v, %v, want %v, %v", tt.key, v, ok, tt.value, tt.ok)
		}
	}
	if s, ok := c.String("model_type"); s != "llava" || !ok {
		t.Errorf("model_type %q, %v", s, ok)
	}
	if s, ok := c.String("vocab_size"); s != "" || ok {
		t.Errorf("String of a number: %q, %v", s, ok)
	}
	if tied, ok := c.TieWordEmbeddings(); tied || !ok {
		t.Errorf("tied %v, %v", tied, ok)
	}
	if m, ok := c.Object("text_config"); !ok || len(m) != 5 {
		t.Errorf("text_config %v, %v", m, ok)
	}
	if _, ok := c.Object("list"); ok {
		t.Error("a list is an object")
	}
	if !c.Exists() || len(c.Fields()) != 9 {
		t.Errorf("exists %v, %d fields", c.Exists(), len(c.Fields()))
	}
	c.Raw()[0] = 'x'
	if c.Raw()[0] != '{' {
		t.Error("Raw gives away its own bytes")
	}
	var none Config
	if _, ok := none.Value("x"); ok || none.Exists() {
		t.Error("a missing file has values")
	}
}

func TestConfigDType(t *testing.T) {
	tests := []struct {
		text string
		want tensor.DType
		ok   bool
	}{
		{`{"torch_dtype": "bfloat16"}`, tensor.BF16, true},
		{`{"dtype": "float16"}`, tensor.F16, true},
		{`{"torch_dtype": "float32", "dtype": "bfloat16"}`, tensor.BF16, true},
		{`{"torch_dtype": "torch.float32"}`, tensor.F32, true},
		{`{"text_config": {"torch_dtype": "float16"}}`, tensor.F16, true},
		{`{"dtype": "auto", "torch_dtype": "float16"}`, tensor.F16, true},
		{`{"dtype": null, "torch_dtype": "float16"}`, tensor.F16, true},
		{`{"dtype": 5}`, tensor.Invalid, false},
		{`{}`, tensor.Invalid, false},
	}
	for _, tt := range tests {
		if d, ok := mustParse(t, tt.text).DType(); d != tt.want || ok != tt.ok {
			t.Errorf("%s: %v, %v, want %v, %v", tt.text, d, ok, tt.want, tt.ok)
		}
	}
}

func TestConfigNonFinite(t *testing.T) {
	c := mustParse(t, `{"time_step_limit": [0.0, Infinity], "a": NaN, "b": -Infinity, "c": "NaN \" Infinity", "d": -1}`)
	for key, want := range map[string]string{"a": "NaN", "b": "-Infinity", "c": `NaN " Infinity`} {
		if s, ok := c.String(key); s != want || !ok {
			t.Errorf("%s = %q, %v, want %q", key, s, ok, want)
		}
	}
	if _, ok := c.Int("a"); ok {
		t.Error("NaN is an integer")
	}
	if n, ok := c.Int("d"); n != -1 || !ok {
		t.Errorf("d = %d, %v", n, ok)
	}
}

func TestParseConfigRefuses(t *testing.T) {
	for _, text := range []string{
		``, ` `, `null`, `[]`, `"x"`, `1`, `NaN`, `{`, `{}}`, `{} 1`, `{"a":}`, `{"a":1,}`, `{a:1}`, "\xef\xbb\xbf{}",
		`{NaN: 1}`, `{"a": 1NaN}`, `{"a": NaN5}`, `{"a": -NaN}`, `{"a": Inf}`, `{"a": +Infinity}`, `{"a": nan}`, `{"a": NaN`, `{"a": NaN"}`,
		`{"a": ` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`,
	} {
		if c, err := ParseConfig([]byte(text)); err == nil || c != nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.40q: config %v, error %v", text, c, err)
		}
	}
}

func TestQuantization(t *testing.T) {
	tests := []struct {
		text, want string
		block      [2]int
	}{
		{`{}`, "", [2]int{}},
		{`{"quantization_config": null}`, "", [2]int{}},
		{`{"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 64]}}`, "fp8", [2]int{128, 64}},
		{`{"quantization_config": {"quant_method": "fp8", "weight_block_size": null}}`, "fp8", [2]int{}},
		{`{"quantization_config": {"weight_block_size": [128]}}`, "unnamed", [2]int{}},
		{`{"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 0]}}`, "fp8", [2]int{}},
		{`{"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, "128"]}}`, "fp8", [2]int{}},
		{`{"quantization_config": {"quant_method": "fp8", "weight_block_size": [99999999999, 1]}}`, "fp8", [2]int{}},
		{`{"compression_config": {"quant_method": "compressed-tensors"}}`, "compressed-tensors", [2]int{}},
		{`{"text_config": {"quantization_config": {"quant_method": "awq", "weight_block_size": [1, 2]}}}`, "awq", [2]int{1, 2}},
	}
	for _, tt := range tests {
		c := mustParse(t, tt.text)
		if got := c.Quantization(); got != tt.want || c.blockSize() != tt.block {
			t.Errorf("%s: %q in blocks of %v, want %q, %v", tt.text, got, c.blockSize(), tt.want, tt.block)
		}
	}
}

func TestEdited(t *testing.T) {
	quant := []string{"quantization_config", "compression_config"}
	tests := []struct {
		name   string
		in     string
		dtype  tensor.DType
		remove []string
		want   string
	}{
		{"torch_dtype", `{"a": 1, "torch_dtype": "float32"}`, tensor.BF16, nil, `{"a": 1, "torch_dtype": "bfloat16"}`},
		{"dtype", `{"dtype":"float32"}`, tensor.F16, nil, `{"dtype":"float16"}`},
		{"both", `{"torch_dtype" : "float32" , "dtype":"float16"}`, tensor.BF16, nil, `{"torch_dtype" : "bfloat16" , "dtype":"bfloat16"}`},
		{"the same dtype in other words", `{"dtype": "torch.bfloat16"}`, tensor.BF16, nil, `{"dtype": "torch.bfloat16"}`},
		{"no word for a dtype", `{"dtype": "auto"}`, tensor.BF16, nil, `{"dtype": "bfloat16"}`},
		{"null stays", `{"dtype": null, "x": {}}`, tensor.BF16, nil, `{"dtype": null, "x": {}}`},
		{"none is added", `{"x": [1, 2]}`, tensor.BF16, nil, `{"x": [1, 2]}`},
		{"nothing to do", `{"dtype": "float32"}`, tensor.Invalid, nil, `{"dtype": "float32"}`},
		{"sub-models", `{"text_config": {"dtype": "float32"}, "vision_config": {"torch_dtype": "float32", "deep_config": {"dtype": "float32"}}}`, tensor.F16, nil,
			`{"text_config": {"dtype": "float16"}, "vision_config": {"torch_dtype": "float16", "deep_config": {"dtype": "float16"}}}`},
		{"not of weights", `{"quantization_config": {"dtype": "float32"}, "compression_config": {"dtype": "float32"}, "other": {"dtype": "float32"}, "list": [{"dtype": "float32"}], "a_config": [{"dtype": "float32"}]}`, tensor.F16, nil,
			`{"quantization_config": {"dtype": "float32"}, "compression_config": {"dtype": "float32"}, "other": {"dtype": "float32"}, "list": [{"dtype": "float32"}], "a_config": [{"dtype": "float32"}]}`},
		{"an escaped key", `{"d\u0074ype": "float32", "x\"dtype": "float32"}`, tensor.F16, nil, `{"d\u0074ype": "float16", "x\"dtype": "float32"}`},
		{"an escaped value", `{"dtype": "floa\u0074\"32"}`, tensor.F16, nil, `{"dtype": "float16"}`},
		{"CRLF and tabs", "{\r\n\t\"dtype\"\t:\r\n\"float32\"\r\n}\r\n", tensor.F16, nil, "{\r\n\t\"dtype\"\t:\r\n\"float16\"\r\n}\r\n"},
		{"white space around", "\n\n {\"dtype\": \"float32\"} \n", tensor.F16, nil, "\n\n {\"dtype\": \"float16\"} \n"},
		{"not ASCII", `{"ü": "☃", "dtype": "float32", "z": "\ud83d\ude00"}`, tensor.F16, nil, `{"ü": "☃", "dtype": "float16", "z": "\ud83d\ude00"}`},
		{"no numbers", `{"a": [NaN, -Infinity, Infinity, "NaN"], "dtype": "float32", "b": NaN}`, tensor.F16, nil, `{"a": [NaN, -Infinity, Infinity, "NaN"], "dtype": "float16", "b": NaN}`},

		{"first", "{\n  \"quantization_config\": {\"x\": [1]},\n  \"b\": 2\n}", tensor.Invalid, quant, "{\n  \"b\": 2\n}"},
		{"middle", "{\n  \"a\": 1,\n  \"quantization_config\": {\n    \"x\": 1\n  },\n  \"b\": 2\n}", tensor.Invalid, quant, "{\n  \"a\": 1,\n  \"b\": 2\n}"},
		{"last", "{\n  \"a\": 1,\n  \"quantization_config\": null\n}\n", tensor.Invalid, quant, "{\n  \"a\": 1\n}\n"},
		{"only", "{ \"quantization_config\": {} }", tensor.Invalid, quant, "{  }"},
		{"two, all", `{"quantization_config":1 , "compression_config":2}`, tensor.Invalid, quant, `{}`},
		{"two in front", `{"quantization_config":1 , "compression_config":2 , "a":3}`, tensor.Invalid, quant, `{"a":3}`},
		{"two at the end", `{"a":3 , "quantization_config":1 , "compression_config":2}`, tensor.Invalid, quant, `{"a":3}`},
		{"two around", `{"quantization_config":1 , "a":3 , "compression_config":2}`, tensor.Invalid, quant, `{"a":3}`},
		{"twice the same", `{"quantization_config":1,"a":3,"quantization_config":2}`, tensor.Invalid, quant, `{"a":3}`},
		{"CRLF", "{\r\n  \"a\": 1,\r\n  \"quantization_config\": {\r\n  },\r\n  \"b\": 2\r\n}", tensor.Invalid, quant, "{\r\n  \"a\": 1,\r\n  \"b\": 2\r\n}"},
		{"commas and braces in strings", `{"a": ",}", "quantization_config": {"x": "},{\""}, "b": ",\"quantization_config\": 1"}`, tensor.Invalid, quant, `{"a": ",}", "b": ",\"quantization_config\": 1"}`},
		{"in a sub-model", `{"text_config": {"quantization_config": {}, "b": 1}, "list": [{"quantization_config": 1}], "other": {"quantization_config": 1}}`, tensor.Invalid, quant,
			`{"text_config": {"b": 1}, "list": [{"quantization_config": 1}], "other": {"quantization_config": 1}}`},
		{"an escaped key goes", `{"quantization\u005fconfig": 1, "b": 1}`, tensor.Invalid, quant, `{"b": 1}`},
		{"a dtype inside what goes", `{"text_config": {"dtype": "float32", "y": {}}, "dtype": "float32"}`, tensor.BF16, []string{"text_config"}, `{"dtype": "bfloat16"}`},
		{"dtype and removal", "{\"quantization_config\": {\"a\": NaN},\"torch_dtype\": \"float8_e4m3fn\"}", tensor.BF16, quant, `{"torch_dtype": "bfloat16"}`},
		{"the dtype itself", `{"dtype": "float32", "b": 1}`, tensor.BF16, []string{"dtype"}, `{"b": 1}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := mustParse(t, tt.in)
			got, err := c.Edited(tt.dtype, tt.remove...)
			if err != nil || string(got) != tt.want {
				t.Errorf("of      %q\ngot  %q, %v\nwant %q", tt.in, got, err, tt.want)
			}
			if string(c.Raw()) != tt.in {
				t.Errorf("the original became %q", c.Raw())
			}
		})
	}
	_, err := mustParse(t, `{"dtype": "float32"}`).Edited(tensor.DType(200))
	wantError(t, err, "DType(200)")
}
