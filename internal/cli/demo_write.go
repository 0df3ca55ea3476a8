package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"expo"
	"expo/align/search"
	"expo/align/train"
	"expo/demo"
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

// texts writes the prompts, and preference pairs, for searches of one's own.
func (d *demoRun) texts(dir string) error {
	var prompts []any
	for _, p := range d.prompts {
		prompts = append(prompts, struct {
			Prompt string `json:"prompt"`
		}{p.Text})
	}
	files := map[string][]any{"prompts.jsonl": prompts}
	pairs := d.pairs(search.SFT)
	if len(pairs) == 0 { // always so with one answer to each prompt
		pairs = d.pairs(slices.Sorted(maps.Keys(d.answers))...)
	}
	if d.paired = len(pairs) > 0; d.paired {
		files["pairs.jsonl"] = pairs
	}
	for name, rows := range files {
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

// pairs are the best and the worst, by the rule, of the answers to each prompt that
// models at some α gave, of prompts whose answers differ.
func (d *demoRun) pairs(alphas ...float64) []any {
	var out []any
	for i, p := range d.prompts {
		var best, worst *demo.Answer
		for _, alpha := range alphas {
			list := d.answers[alpha][i*d.flags.seeds : (i+1)*d.flags.seeds]
			for k := range list {
				x := &list[k]
				if best == nil || x.Rule > best.Rule {
					best = x
				}
				if worst == nil || x.Rule < worst.Rule {
					worst = x
				}
			}
		}
		if best != nil && best.Rule > worst.Rule && best.Response.Text != "" && worst.Response.Text != "" {
			out = append(out, train.Pair{Prompt: p.Text, Chosen: best.Response.Text, Rejected: worst.Response.Text})
		}
	}
	return out
}
