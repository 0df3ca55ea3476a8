package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"expo"
	"expo/weights/gguf"
	"expo/weights/tensor"
)

// isGGUF tells by a file's first bytes, or by its name if it says so, whether it
// is to be read as GGUF.
func isGGUF(path string) (bool, error) {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return false, err
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var magic [4]byte
	if _, err := io.ReadFull(f, magic[:]); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, err
	}
	return string(magic[:]) == "GGUF" || strings.HasSuffix(path, ".gguf"), nil
}

// shortArray is how many elements an array of metadata has at most to be shown.
const shortArray = 16

func (a *app) inspectGGUF(path string, in expo.Input, tensors bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	g, err := gguf.NewReader(f, info.Size())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	file := filepath.Base(path)
	r := &inspection{Path: path, Repo: in.Repo, Commit: in.Commit, Tensors: g.Len(), DTypes: map[string]int64{}, DTypeBytes: map[string]int64{},
		Shards: []shardInfo{{File: file, Size: info.Size(), Tensors: g.Len()}}, GGUFVersion: g.Version(), Metadata: map[string]any{}, Arrays: map[string]int{}}
	for t := range g.Tensors() {
		n, err := tensor.Elements(t.Shape)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", path, t.Name, err)
		}
		r.Parameters += n
		r.Bytes += t.Size
		r.DTypes[t.Type.String()] += n
		r.DTypeBytes[t.Type.String()] += t.Size
		if tensors {
			r.List = append(r.List, tensorInfo{t.Name, t.Type.String(), append([]int{}, t.Shape...), t.Size, file})
		}
	}
	md := g.Metadata()
	for _, key := range md.Keys() {
		v := md.Value(key)
		if list := reflect.ValueOf(v); list.Kind() == reflect.Slice {
			if _, nested := v.([]any); nested || list.Len() > shortArray {
				r.Arrays[key] = list.Len()
				continue
			}
			elements := make([]any, list.Len())
			for i := range elements {
				elements[i] = plain(list.Index(i).Interface())
			}
			v = elements
		}
		r.Metadata[key] = plain(v)
	}
	if a.json {
		return a.printJSON(r)
	}
	a.printGGUF(r, md)
	return nil
}

// plain is a value that JSON has: a number that is none is its name.
func plain(v any) any {
	switch x := v.(type) {
	case float32:
		if f := float64(x); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Sprint(x)
		}
	case float64:
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return fmt.Sprint(x)
		}
	}
	return v
}

func (a *app) printGGUF(r *inspection, md *gguf.Metadata) {
	t := a.newTable()
	row := func(key, value string) {
		const most = 100
		if runes := []rune(value); len(runes) > most {
			value = string(runes[:most]) + "…"
		}
		t.AppendRow(table.Row{message(errors.New(key)), message(errors.New(value))})
	}
	row("path", r.Path)
	row("format", fmt.Sprintf("GGUF, version %d", r.GGUFVersion))
	row("parameters", fmt.Sprintf("%s (%d) in %s, %s", formatCount(r.Parameters), r.Parameters, count(r.Tensors, "tensor"), formatSize(r.Bytes)))
	var types []string
	for d := range r.DTypes {
		types = append(types, d)
	}
	slices.SortFunc(types, func(x, y string) int {
		return cmp.Or(cmp.Compare(r.DTypeBytes[y], r.DTypeBytes[x]), cmp.Compare(x, y))
	})
	for i, d := range types {
		key := ""
		if i == 0 {
			key = "types"
		}
		row(key, fmt.Sprintf("%s %s, %s", d, formatCount(r.DTypes[d]), formatSize(r.DTypeBytes[d])))
	}
	// What is said about the model, in the order of the file; then the tokenizer,
	// whose keys are many.
	for _, key := range md.Keys() {
		if strings.HasPrefix(key, "tokenizer.") {
			continue
		}
		if v, ok := r.Metadata[key]; ok {
			row(key, metadataText(v))
		} else {
			row(key, count(r.Arrays[key], "element"))
		}
	}
	for _, key := range []string{"model", "pre"} {
		if v, ok := md.String("tokenizer.ggml." + key); ok {
			row("tokenizer.ggml."+key, v)
		}
	}
	if v, ok := md.Strings("tokenizer.ggml.tokens"); ok {
		row("vocabulary", count(len(v), "token"))
	}
	has := "no"
	if _, ok := md.String("tokenizer.chat_template"); ok {
		has = "yes"
	}
	row("chat template", has)
	row("file", fmt.Sprintf("%s  %s", r.Shards[0].File, formatSize(r.Shards[0].Size)))
	t.Render()
	a.printTensors(r)
}

// metadataText is a value of metadata for a person.
func metadataText(v any) string {
	switch v.(type) {
	case string, bool:
		return fmt.Sprint(v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
