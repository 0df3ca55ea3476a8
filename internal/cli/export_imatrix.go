package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"expo"
	"expo/eval"
	"expo/lm/model"
	"expo/lm/tokenizer"
	"expo/publish/export"
	"expo/publish/imatrix"
	"expo/weights/checkpoint"
)

// importanceFlags say by which importance matrix is quantized.
type importanceFlags struct {
	file    string
	context int
	chunks  int
	save    string
}

func (f *importanceFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.file, "imatrix", "", "weigh errors by what the model computes with: a text `FILE` that it is run over, or an importance matrix of llama.cpp's")
	fl.IntVar(&f.context, "imatrix-context", 512, "`TOKENS` of a chunk of the text")
	fl.IntVar(&f.chunks, "imatrix-chunks", 0, "run `N` chunks at most (default: all)")
	fl.StringVar(&f.save, "save-imatrix", "", "write the importance matrix to a `FILE.gguf`, or FILE.dat in the older format")
}

// check finds what makes no sense without looking at files.
func (f *importanceFlags) check(cmd *cobra.Command, types []export.Type) error {
	if f.file == "" {
		for _, name := range []string{"imatrix", "imatrix-context", "imatrix-chunks", "save-imatrix"} {
			if cmd.Flags().Changed(name) {
				return usagef("--%s needs --imatrix FILE", name)
			}
		}
		return nil
	}
	ext := filepath.Ext(f.save)
	switch {
	case f.context < 1:
		return usagef("--imatrix-context %d: must be above 0", f.context)
	case f.chunks < 0:
		return usagef("--imatrix-chunks %d: must not be negative", f.chunks)
	case f.save != "" && ext != ".gguf" && ext != ".dat":
		return usagef("--save-imatrix %s: the name must end in .gguf, or in .dat for the older format", f.save)
	case !slices.ContainsFunc(types, export.Type.Weighs):
		return usagef("--imatrix changes nothing in a file of type %v; give a --quant that has fewer bits", types[0])
	}
	return nil
}

// An importanceSource is what --imatrix names: a text, or a matrix made earlier.
type importanceSource struct {
	path   string
	text   string
	matrix *imatrix.Matrix // nil for a text
}

func openImportance(path string) (*importanceSource, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	start := make([]byte, imatrix.Sniffed)
	n, err := f.ReadAt(start, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	s := &importanceSource{path: path}
	if imatrix.Sniff(start[:n]) {
		if s.matrix, err = imatrix.Read(f, info.Size()); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return s, nil
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("%s is neither a text in UTF-8 nor an importance matrix", path)
	}
	s.text = string(b)
	return s, nil
}

// importances gives each file its importance matrix, and returns the names of the
// files in which they were saved. In a dry run it is found out what would be done.
func (a *app) importances(cmd *cobra.Command, f *exportFlags, s *exportSource, files []export.File, opt export.Options) (saved []string, err error) {
	given := func(name string) bool { return cmd.Flags().Changed(name) }
	src, err := openImportance(f.importance.file)
	if err != nil {
		return nil, err
	}
	if src.matrix != nil {
		for _, name := range []string{"imatrix-context", "imatrix-chunks", "save-imatrix"} {
			if given(name) {
				return nil, usagef("--%s is for a text; %s is an importance matrix already", name, src.path)
			}
		}
		for i := range files {
			files[i].Importance, files[i].ImportanceFile = src.matrix, filepath.Base(src.path)
		}
		return nil, nil
	}
	cfg, err := model.ParseConfig(s.views[0].Config())
	if err != nil {
		return nil, err
	}
	size := f.importance.context
	if most := cfg.MaxPositionEmbeddings; size > most {
		if given("imatrix-context") {
			return nil, usagef("--imatrix-context %d: the model has %d positions", size, most)
		}
		size = most
	}
	tok, err := tokenizer.Load(s.views[0].Files())
	if err != nil {
		return nil, err
	}
	chunks, total := imatrix.Chunks(tok, src.text, size)
	switch {
	case total == 0:
		return nil, fmt.Errorf("%s has no tokens to compute an importance matrix from", src.path)
	case total < size:
		a.warn("%s has %d tokens, fewer than the %d of a chunk; an importance matrix of so little says little", src.path, total, size)
	}
	if n := f.importance.chunks; n > 0 && len(chunks) > n {
		chunks = chunks[:n]
	}
	for i := range files {
		files[i].Importance = &imatrix.Matrix{} // for what follows, one that is not known yet
	}
	if saved, err = f.savedImportances(s, files); err != nil {
		return nil, err
	}
	// What can fail without the matrix fails before it takes its time.
	if err := export.Check(files, opt); err != nil || f.dryRun {
		if f.dryRun && (err == nil || errors.Is(err, export.ErrExists)) {
			a.say("an importance matrix would be computed from %s", chunksOf(chunks, size, total))
			return nil, nil
		}
		return nil, err
	}
	start := time.Now()
	ms, err := a.computeImportances(cmd.Context(), f, s, chunks)
	if err != nil {
		return nil, err
	}
	for i, m := range ms {
		m.Datasets = []string{filepath.Base(src.path)}
		name := ""
		if saved != nil {
			if err := saveImportance(saved[i], m); err != nil {
				return nil, err
			}
			name = filepath.Base(saved[i])
		}
		for k := range files {
			if files[k].Weights == s.views[i] {
				files[k].Importance, files[k].ImportanceFile = m, name
			}
		}
	}
	a.say("importance of %d matrices from %s, took %.1f s", len(ms[0].Entries), chunksOf(chunks, size, total), time.Since(start).Seconds())
	return saved, nil
}

func chunksOf(chunks [][]int, size, total int) string {
	if len(chunks) == 1 {
		return fmt.Sprintf("1 chunk of %d tokens of %d", min(size, total), total)
	}
	return fmt.Sprintf("%d chunks of %d tokens of %d", len(chunks), size, total)
}

// computeImportances runs the model of each α over the chunks.
func (a *app) computeImportances(ctx context.Context, f *exportFlags, s *exportSource, chunks [][]int) ([]*imatrix.Matrix, error) {
	bar := a.progress("computing the importance matrix")
	defer bar.stop()
	var m *model.Model
	defer func() {
		if m != nil {
			m.Close()
		}
	}()
	var out []*imatrix.Matrix
	for i := range s.views {
		c, err := s.runnable(i)
		if err != nil {
			return nil, err
		}
		if m == nil {
			m, err = model.Load(ctx, c, model.LoadOptions{Jobs: f.jobs, NoMap: len(s.views) > 1})
		} else {
			err = m.Update(ctx, c)
		}
		if err != nil {
			return nil, err
		}
		im, err := export.Importance(ctx, m, chunks, imatrix.Options{Jobs: f.jobs, Progress: func(done, total int) {
			bar.update(int64(i*total+done), int64(len(s.views)*total))
		}})
		if err != nil {
			return nil, err
		}
		out = append(out, im)
	}
	return out, nil
}

// runnable is the model of an α in its own type, as it would be run.
func (s *exportSource) runnable(i int) (*checkpoint.Checkpoint, error) {
	if s.mixes == nil {
		return s.views[i], nil
	}
	c, err := expo.Extrapolate(s.pair.Pair, s.mixes[i])
	if err != nil {
		return nil, err
	}
	return c.Dequantize() // where α is 0 nothing has been computed with
}

// savedImportances are the files for the matrices, one for each α, none of which
// may be there already or be something else that is read or written.
func (f *exportFlags) savedImportances(s *exportSource, files []export.File) ([]string, error) {
	if f.importance.save == "" {
		return nil, nil
	}
	taken := map[string]string{}
	take := func(path, what string) error {
		real, err := realPath(path)
		if err == nil && taken[real] != "" {
			return refusef("%s is %s and %s; choose another name", path, taken[real], what)
		}
		taken[real] = what
		return err
	}
	for _, x := range files {
		if err := take(x.Path, "a model's file"); err != nil {
			return nil, err
		}
	}
	if err := take(f.importance.file, "the text"); err != nil {
		return nil, err
	}
	var out []string
	ext := filepath.Ext(f.importance.save)
	for i := range s.views {
		path := f.importance.save
		if len(s.views) > 1 {
			path = strings.TrimSuffix(path, ext) + "-" + shortFloat(*s.alphas[i]) + ext
		}
		if err := take(path, "the importance matrix"); err != nil {
			return nil, err
		}
		switch _, err := os.Lstat(path); {
		case err == nil && !f.force:
			return nil, fmt.Errorf("%s already exists; --force replaces it", path)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
		out = append(out, path)
	}
	return out, nil
}

func saveImportance(path string, m *imatrix.Matrix) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return eval.WriteFile(path, func(w io.Writer) error {
		if filepath.Ext(path) == ".dat" {
			return m.WriteLegacy(w)
		}
		return m.WriteGGUF(w)
	})
}
