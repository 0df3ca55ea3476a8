package cli

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"expo/eval/alpacaeval"
)

// alpacaScoreFlags say how figures are computed from judgments.
type alpacaScoreFlags struct {
	annotations  []string
	questions    string
	gamed        string
	difficulty   string
	weights      string
	baseline     string
	lc           string
	lcC          string
	lcFolds      string
	align        string
	allowPartial bool
	draws        int
	drawSeed     uint64
	name         string
	output       string
	force        bool

	// What check makes of them.
	glm            alpacaeval.GLM // empty: no length control
	c              float64        // 0: chosen
	folds          alpacaeval.Folds
	alignment      alpacaeval.Align
	drawsWereGiven bool

	expected       int    // rows of a run with a limit; 0: those of the whole set
	gamedSum       string // SHA-256 of what was read
	difficultySum  string
	gamedSurrogate bool
}

func (f *alpacaScoreFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&f.annotations, "annotations", nil, "score these judgments: alpaca_eval's annotations.json, or a CSV of numbers; repeatable, and further `FILE`s may follow as arguments")
	fl.StringVar(&f.questions, "questions", "", "the instructions, in order: a JSON, JSONL or CSV `FILE` with a field instruction")
	fl.StringVar(&f.gamed, "gamed", "", "df_gamed.csv, a `FILE`")
	fl.StringVar(&f.difficulty, "difficulty", "", "instruction_difficulty.csv, a `FILE`")
	fl.StringVar(&f.lc, "lc", "v1", "length control: `v1|noreg|minimal|none`; minimal for instructions other than AlpacaEval's")
	fl.StringVar(&f.lcC, "lc-c", "auto", "strength of LC's fit against its penalty, a `NUMBER`; auto chooses it by cross-validation")
	fl.StringVar(&f.lcFolds, "lc-folds", "introsort", "how cross-validation deals rows into folds: `introsort|mod5`, as numpy's sort does on one machine or another")
	fl.StringVar(&f.align, "align", "instruction", "match rows with difficulties by `instruction|position`; position is what alpaca_eval does")
	fl.BoolVar(&f.allowPartial, "allow-partial", false, "accept sets that lack instructions")
	fl.StringVar(&f.weights, "weights", "", "weights of other models' fits, a CSV `FILE` of alpaca_eval")
	fl.StringVar(&f.baseline, "baseline", "", "also LC against this `MODEL`, one that is scored or stands in --weights, from weights alone")
	fl.IntVar(&f.draws, "bootstrap", 1000, "draws for the intervals; 0 leaves them out, which is the default for more than ten models")
	fl.Uint64Var(&f.drawSeed, "bootstrap-seed", 1, "of the draws")
	fl.StringVar(&f.name, "name", "", "call the model this in the result")
	fl.StringVarP(&f.output, "output", "o", "", "write results to this `DIR`")
	fl.BoolVar(&f.force, "force", false, "replace the results of another run in -o")
	cmd.PreRun = func(cmd *cobra.Command, _ []string) { f.drawsWereGiven = cmd.Flags().Changed("bootstrap") }
}

func (f *alpacaScoreFlags) check() error {
	switch f.lc {
	case "v1", string(alpacaeval.V1):
		f.glm = alpacaeval.V1
	case "noreg", string(alpacaeval.NoReg):
		f.glm = alpacaeval.NoReg
	case "minimal", string(alpacaeval.Minimal):
		f.glm = alpacaeval.Minimal
	case "none", "":
	default:
		return usagef("--lc %s: use v1, noreg, minimal or none", f.lc)
	}
	if f.lcC != "auto" && f.lcC != "" {
		c, err := strconv.ParseFloat(f.lcC, 64)
		if err != nil || !(c > 0) || math.IsInf(c, 0) {
			return usagef("--lc-c %s: use auto, or a number above 0", f.lcC)
		}
		f.c = c
	}
	var err error
	if f.folds, err = alpacaeval.ParseFolds(f.lcFolds); err != nil {
		return usageError{err}
	}
	if f.alignment, err = alpacaeval.ParseAlign(f.align); err != nil {
		return usageError{err}
	}
	if f.draws < 0 {
		return usagef("--bootstrap %d: use 0 or more", f.draws)
	}
	return nil
}

// alpacaDataset is the revision of the data set tatsu-lab/alpaca_eval whose
// files are used.
const alpacaDataset = "https://huggingface.co/datasets/tatsu-lab/alpaca_eval/resolve/2edc6fad8be6b14ea7230aabfd08188da6b8b814/"

// alpacaSource is the revision of alpaca_eval whose files are used.
const alpacaSource = "https://raw.githubusercontent.com/tatsu-lab/alpaca_eval/cd543a149df89434d8a54582c0151c0b945c3d20/"

func gamedFile() pinned {
	return pinned{"df_gamed.csv", alpacaDataset + "df_gamed.csv", "97aeec3f1c7de6dee6fd31fe66f1702623f4614c3efe1c6fc5f4927cd5fd674d", "gamed"}
}

func referenceFile(version string) pinned {
	if version == "1" {
		return pinned{"text_davinci_003.json", alpacaSource + "results/text_davinci_003/model_outputs.json", "af0bc112f08c88bf589bbfe6fc1036806d0a0f6fec9c4d5a4db860f5afe73b4b", "reference"}
	}
	return pinned{"gpt4_1106_preview.json", alpacaSource + "results/gpt4_1106_preview/model_outputs.json", "83db546b872ddebee8965fd05fa48461ee3c32bc695c62fb57f2d214ff741ec4", "reference"}
}

// inputs reads what length control needs; questions are the instructions if
// they are known by now. needed says that instructions have to be looked up.
func (a *app) alpacaInputs(ctx context.Context, f *alpacaScoreFlags, questions []string, needed bool) (*alpacaeval.Reference, *alpacaeval.Gamed, error) {
	var ref *alpacaeval.Reference
	var gamed *alpacaeval.Gamed
	if f.difficulty != "" {
		var err error
		if ref, err = readWith(f.difficulty, alpacaeval.ReadDifficulty); err != nil {
			return nil, nil, err
		}
		if f.difficultySum, err = digestOf(f.difficulty); err != nil {
			return nil, nil, err
		}
	}
	if f.glm == alpacaeval.V1 || f.glm == alpacaeval.NoReg && ref == nil {
		path := f.gamed
		if path == "" {
			var err error
			if path, err = a.fetch(ctx, gamedFile()); err != nil {
				return nil, nil, fmt.Errorf("length control (--lc none leaves it out): %w", err)
			}
		}
		var err error
		if gamed, err = readWith(path, alpacaeval.ReadGamed); err != nil {
			return nil, nil, err
		}
		if f.gamedSum, err = digestOf(path); err != nil {
			return nil, nil, err
		}
		f.gamedSurrogate = gamed.Surrogate
		switch g := gamed.Reference(); {
		case ref == nil:
			ref = g
		case !gamed.Surrogate: // published fits used the difficulties that stand there
			if err := g.KnowAs(ref); err != nil {
				return nil, nil, err
			}
			ref = g
		}
	}
	if f.questions != "" {
		q, err := readQuestions(f.questions)
		if err != nil {
			return nil, nil, err
		}
		questions = instructionsOf(q)
	}
	if questions == nil && needed && f.alignment == alpacaeval.ByInstruction && f.glm != alpacaeval.Minimal && f.glm != "" && (ref == nil || !ref.Knows()) {
		file := referenceFile("2.0")
		file.flag = "questions"
		path, err := a.fetch(ctx, file)
		if err != nil {
			return nil, nil, fmt.Errorf("the instructions, to match rows with their difficulties (--align position does without): %w", err)
		}
		q, err := readQuestions(path)
		if err != nil {
			return nil, nil, err
		}
		questions = instructionsOf(q)
	}
	if questions != nil {
		if ref == nil {
			ref = new(alpacaeval.Reference)
		}
		if ref.Knows() && len(questions) != len(ref.Difficulty) {
			return ref, gamed, nil // a part of them; each is looked up
		}
		if err := ref.Know(questions); err != nil {
			if f.glm != "" && f.glm != alpacaeval.Minimal {
				err = fmt.Errorf("%w (--lc minimal needs no difficulties)", err)
			}
			return nil, nil, err
		}
	}
	return ref, gamed, nil
}

func readQuestions(path string) ([]alpacaeval.Output, error) {
	return readWith(path, func(r io.Reader) ([]alpacaeval.Output, error) { return alpacaeval.ReadOutputs(r, filepath.Base(path)) })
}

func instructionsOf(rows []alpacaeval.Output) []string {
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = r.Instruction
	}
	return out
}

// readWith opens a file, compressed or not, for a function that reads it.
func readWith[T any](path string, read func(io.Reader) (T, error)) (T, error) {
	var none T
	file, err := os.Open(path)
	if err != nil {
		return none, err
	}
	defer file.Close()
	r, err := alpacaeval.Decompress(file)
	if err != nil {
		return none, fmt.Errorf("%s: %w", path, err)
	}
	v, err := read(r)
	if err != nil && !strings.Contains(err.Error(), filepath.Base(path)+":") {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return v, err
}
