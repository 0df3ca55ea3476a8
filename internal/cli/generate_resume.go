package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"expo/eval"
)

// keptRows are the answers that the output of --prompts holds, row by row. Rows
// are appended in the order of the questions; those that failed in an earlier run
// are asked again, and take their places when all is done.
type keptRows struct {
	file  *os.File // nil: rows go to out
	out   io.Writer
	run   string         // what a row says it was made by
	done  int            // rows that the file holds
	again []int          // those of them that failed
	fixed map[int][]byte // what takes their places
}

// todo are the rows of n that are to be answered.
func (k *keptRows) todo(n int) []int {
	list := append([]int{}, k.again...)
	for i := k.done; i < n; i++ {
		list = append(list, i)
	}
	return list
}

func (k *keptRows) close() {
	if k.file != nil {
		k.file.Close()
	}
}

// openRows opens the output and counts its complete rows, which must be answers
// of the same model, with the same settings, to the first rows of the input; a
// last line that was cut short is taken off.
func (a *app) openRows(f *generateFlags, rows []promptRow) (k *keptRows, err error) {
	if f.output == "" {
		return &keptRows{out: a.out}, nil
	}
	k = &keptRows{fixed: map[int][]byte{}}
	if k.run, err = f.run(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(f.output), 0o777); err != nil {
		return nil, err
	}
	flags := os.O_RDWR | os.O_CREATE
	if f.force {
		flags |= os.O_TRUNC
	}
	file, err := os.OpenFile(f.output, flags, 0o666)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	k.file, k.out = file, file
	b, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	whole := 0
	for {
		n := bytes.IndexByte(b[whole:], '\n') + 1
		if n == 0 {
			break
		}
		const remedy = "give another file with -o, or --force to start over"
		var row map[string]json.RawMessage
		if k.done == len(rows) || json.Unmarshal(b[whole:whole+n], &row) != nil || !sameQuestion(row, rows[k.done].fields) {
			return nil, fmt.Errorf("%s: line %d is not an answer to row %d of %s; %s", f.output, k.done+1, k.done+1, f.prompts, remedy)
		}
		var run string
		if json.Unmarshal(row["run"], &run) != nil || run != k.run {
			return nil, fmt.Errorf("%s: line %d was made by another model or with other settings; %s", f.output, k.done+1, remedy)
		}
		// A field of the question may have either name.
		if row["error"] != nil && row["finish_reason"] == nil {
			k.again = append(k.again, k.done)
		}
		whole += n
		k.done++
	}
	if err := k.file.Truncate(int64(whole)); err != nil {
		return nil, err
	}
	if _, err := k.file.Seek(int64(whole), io.SeekStart); err != nil {
		return nil, err
	}
	if n := k.done - len(k.again); n > 0 {
		a.say("%d of %d rows were finished before", n, len(rows))
	}
	return k, nil
}

// run is a digest of what answers depend on besides their row: the model's files,
// by name, size and time, and the settings. --truncate is not among them: it
// changes only rows that fail without it.
func (f *generateFlags) run() (string, error) {
	models := f.models
	if f.sft != "" || f.aligned != "" {
		models = []string{f.sft, f.aligned}
	}
	var files [][]any
	for _, m := range models {
		parts := []string{m}
		if base, adapter, ok := strings.Cut(m, "+"); ok {
			if _, err := os.Stat(m); err != nil {
				parts = []string{base, adapter}
			}
		}
		for _, part := range parts {
			path, _, err := locate(part)
			if err != nil {
				return "", err
			}
			if files, err = appendFiles(files, path); err != nil {
				return "", err
			}
		}
	}
	template := f.chatTemplate
	if b, err := os.ReadFile(template); err == nil {
		template = string(b)
	}
	var schema []byte
	if f.schema != "" {
		var err error
		if schema, err = os.ReadFile(f.schema); err != nil {
			return "", err
		}
	}
	r := &f.request
	return eval.Key("rows", files, f.alphas, f.rounding, f.dtype, f.policies.extraRows, f.policies.missing, f.policies.head, f.quantize,
		template, f.raw, f.system, schema, r.MaxTokens, r.Sampling, r.Seed, r.Stop, r.IgnoreEOS, r.TopLogprobs, r.Logprobs)[:16], nil
}

// appendFiles lists a model's file, or the files of its directory that can change
// what it says.
func appendFiles(list [][]any, path string) ([][]any, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return append(list, []any{info.Name(), info.Size(), info.ModTime().UnixNano()}), nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".safetensors", ".bin", ".json", ".model", ".jinja":
			info, err := os.Stat(filepath.Join(path, e.Name())) // a link in the Hub's cache
			if err != nil {
				return nil, err
			}
			if e.Name() != "expo.json" { // a record about it
				list = append(list, []any{e.Name(), info.Size(), info.ModTime().UnixNano()})
			}
		}
	}
	return list, nil
}

// sameQuestion compares what a row of the output and one of the input ask.
func sameQuestion(a, b map[string]json.RawMessage) bool {
	for _, key := range []string{"prompt", "messages"} {
		var x, y bytes.Buffer
		_, inA := a[key]
		_, inB := b[key]
		if inA != inB || inA && (json.Compact(&x, a[key]) != nil || json.Compact(&y, b[key]) != nil || !bytes.Equal(x.Bytes(), y.Bytes())) {
			return false
		}
	}
	return true
}

// write adds the answer's fields to the row's own and appends the row, or keeps it
// until the end if the file has a line for it.
func (k *keptRows) write(i int, row map[string]json.RawMessage, answer any) error {
	b, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	merged := make(map[string]json.RawMessage, len(row))
	for key, v := range row {
		merged[key] = v
	}
	if err := json.Unmarshal(b, &merged); err != nil {
		return err
	}
	if k.run != "" {
		merged["run"], _ = json.Marshal(k.run)
	}
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(merged); err != nil {
		return err
	}
	if i < k.done {
		k.fixed[i] = line.Bytes()
		return nil
	}
	_, err = k.out.Write(line.Bytes())
	return err
}

// mend puts the rows that were asked again in their places.
func (k *keptRows) mend() error {
	if len(k.fixed) == 0 {
		return nil
	}
	b, err := os.ReadFile(k.file.Name())
	if err != nil {
		return err
	}
	k.file.Close() // Windows replaces no open file
	return eval.WriteFile(k.file.Name(), func(w io.Writer) error {
		i := 0
		for line := range bytes.Lines(b) {
			if fixed, ok := k.fixed[i]; ok {
				line = fixed
			}
			if _, err := w.Write(line); err != nil {
				return err
			}
			i++
		}
		return nil
	})
}
