package checkpoint

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// SmallFiles lists what goes along with the weights when a model is written:
// configuration, tokenizer, templates, remote code, licence, slash-separated
// and sorted. Left behind are weights in any format and their indexes, what
// training left (optimizer, scheduler, random states, logs), other copies of
// the model (original/, onnx/ …), hidden files, the README (a card speaks of
// the model it came with) and expo.json.
func (c *Checkpoint) SmallFiles() ([]string, error) {
	var out []string
	err := fs.WalkDir(c.files, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("checkpoint: %s: %w", c.name, escapeHint(err))
		}
		base := path.Base(name)
		if e.IsDir() {
			if name != "." && (strings.HasPrefix(base, ".") || leftDirectory(base)) {
				return fs.SkipDir
			}
			return nil
		}
		if !leftBehind(base) {
			out = append(out, name)
		}
		return nil
	})
	slices.Sort(out)
	return out, err
}

// leftDirectory tells the folders that hold other copies of a model or what
// training left.
func leftDirectory(base string) bool {
	switch base {
	case "original", "onnx", "openvino", "coreml", "metal", "gguf", "runs", "wandb", "logs", "__pycache__":
		return true
	}
	return strings.HasPrefix(base, "global_step") || strings.HasPrefix(base, "checkpoint-") ||
		strings.HasSuffix(base, ".mlpackage")
}

func leftBehind(base string) bool {
	lower := strings.ToLower(base)
	switch lower {
	case "readme.md", "expo.json", "trainer_state.json", "latest", "zero_to_fp32.py",
		"all_results.json", "train_results.json", "eval_results.json":
		return true
	}
	for _, prefix := range []string{".", "optimizer", "scheduler", "rng_state", "training_args", "events.out.", "trainer_log"} {
		if strings.HasPrefix(lower, prefix) {
			return true
		}
	}
	if strings.HasSuffix(lower, ".index.json") || strings.Contains(lower, ".index.") && strings.HasSuffix(lower, ".json") {
		return true
	}
	// Weights in any format. A sentencepiece model (*.model) is no weight.
	for _, suffix := range []string{".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".ggml", ".msgpack", ".h5", ".onnx", ".onnx_data", ".npz", ".tflite", ".mlmodel", ".ot", ".pyc", ".incomplete", ".lock", ".tmp"} {
		if strings.HasSuffix(lower, suffix) {
			return true
		}
	}
	return false
}

// checkSmall fails if a small file cannot be copied: better now than after an
// hour of writing weights.
func (c *Checkpoint) checkSmall(names []string) error {
	for _, name := range names {
		f, err := c.files.Open(name)
		if err != nil {
			return fmt.Errorf("checkpoint: %s: %w", c.name, escapeHint(err))
		}
		info, err := f.Stat()
		f.Close()
		switch {
		case err != nil:
			return fmt.Errorf("checkpoint: %s: %w", c.name, err)
		case info.IsDir():
			return fmt.Errorf("checkpoint: %s: %s is a link to a directory; put the directory itself there", c.name, plain(name))
		case !info.Mode().IsRegular():
			return fmt.Errorf("checkpoint: %s: %s is not a regular file", c.name, plain(name))
		}
	}
	return nil
}
