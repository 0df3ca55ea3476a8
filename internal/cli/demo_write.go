package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"expo"
	"expo/align/search"
	"expo/align/train"
	"expo/demo"
	"expo/demo/notes"
	"expo/eval"
	"expo/weights/checkpoint"
)

// write puts the output together beside its place, and then there.
func (d *demoRun) write(ctx context.Context) error {
	out, err := filepath.Abs(d.flags.output)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o777); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(out), "."+filepath.Base(out)+".*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := d.models(ctx, tmp, out); err != nil {
		return err
	}
	if err := d.texts(tmp); err != nil {
		return err
	}
	err = eval.WriteFile(filepath.Join(tmp, "search.json"), func(w io.Writer) error { return writeJSON(w, d.doc) })
	if err != nil {
		return err
	}
	if err := eval.WriteFile(filepath.Join(tmp, "report.html"), d.page().WriteHTML); err != nil {
		return err
	}
	return replaceDemo(tmp, out)
}

// replaceDemo renames a directory; what stood there is removed after.
func replaceDemo(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		old := from + ".old"
		if err := os.Rename(to, old); err != nil {
			return err
		}
		if err := os.Rename(from, to); err != nil {
			return fmt.Errorf("%w; what was there is in %s", err, old)
		}
		return os.RemoveAll(old)
	}
	return os.Rename(from, to)
}

// models writes the ends of the line, the reward model, and the model at the best
// α, whose record names the places where the ends will be.
func (d *demoRun) models(ctx context.Context, dir, final string) error {
	for _, name := range []string{"sft", d.flags.pair, "reward"} {
		c, err := demo.Open(name)
		if err != nil {
			return err
		}
		if _, err := checkpoint.Write(ctx, filepath.Join(dir, name), c, checkpoint.WriteOptions{}); err != nil {
			return err
		}
	}
	p, err := openPair(filepath.Join(dir, "sft"), filepath.Join(dir, d.flags.pair))
	if err != nil {
		return err
	}
	defer p.Close()
	p.sft.Path, p.aligned.Path = filepath.Join(final, "sft"), filepath.Join(final, d.flags.pair)
	_, err = expo.Write(ctx, filepath.Join(dir, "model"), p.Pair, expo.Options{Alpha: float64(d.doc.BestAlpha)}, expo.WriteOptions{
		SFT: p.sft, Aligned: p.aligned, Version: Version, Jobs: d.flags.jobs,
	})
	return err
}

// texts writes the prompts, and the best and worst of the SFT model's answers to
// each, for searches of one's own.
func (d *demoRun) texts(dir string) error {
	var prompts []any
	var pairs []any
	list := d.answers[search.SFT]
	for i, p := range d.prompts {
		prompts = append(prompts, struct {
			Prompt string `json:"prompt"`
		}{p.Text})
		best, worst := list[i*d.flags.seeds].Response.Text, list[i*d.flags.seeds].Response.Text
		for _, x := range list[i*d.flags.seeds : (i+1)*d.flags.seeds] {
			if x.Rule > notes.Score(p, best) {
				best = x.Response.Text
			}
			if x.Rule < notes.Score(p, worst) {
				worst = x.Response.Text
			}
		}
		if notes.Score(p, best) > notes.Score(p, worst) {
			pairs = append(pairs, train.Pair{Prompt: p.Text, Chosen: best, Rejected: worst})
		}
	}
	for name, rows := range map[string][]any{"prompts.jsonl": prompts, "pairs.jsonl": pairs} {
		err := eval.WriteFile(filepath.Join(dir, name), func(w io.Writer) error {
			enc := json.NewEncoder(w)
			enc.SetEscapeHTML(false)
			for _, r := range rows {
				if err := enc.Encode(r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
