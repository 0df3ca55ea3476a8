package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"expo/eval"
	"expo/eval/alpacaeval"
)

// answer gives the model's outputs: those of --outputs, and what a model
// answers.
func (r *alpacaRun) answer(ctx context.Context, args []string) ([]alpacaeval.Output, []alpacaeval.Failure, error) {
	var have []alpacaeval.Output
	if r.outputs != "" {
		var err error
		if have, err = readQuestions(r.outputs); err != nil {
			return nil, nil, err
		}
		if !r.answering(args) {
			r.warnEmpty(have)
			if have, err = r.named(have); err != nil {
				return nil, nil, err
			}
			return r.rename(have), nil, nil
		}
	}
	known := map[string]alpacaeval.Output{}
	for _, o := range have {
		known[o.Instruction] = o
	}
	speak := speakerFlags{engine: &r.engine, fleet: &r.fleet, name: r.name}
	s, err := speak.open(ctx, r.app, &r.spend, args, r.log)
	if err != nil {
		return nil, nil, err
	}
	defer s.close()
	if s.raw && !r.raw {
		r.warn("%s has no chat template: instructions are given as they stand", s.name)
	}
	raw := r.raw || s.raw
	progress := r.progress("answering")
	ans := alpacaeval.Answering{
		Worker: alpacaeval.Worker{Generator: s, Identity: s.identity, Jobs: r.atOnce(s), Fatal: hopeless, Progress: progress.update},
		Model:  s.name, Request: r.request, Raw: raw, Strip: r.strip,
	}
	var ask []alpacaeval.Output
	missing := 0
	for _, q := range r.baseline {
		o, ok := known[q.Instruction]
		if !ok {
			missing++
			o = alpacaeval.Output{Dataset: q.Dataset, Datasplit: q.Datasplit, Instruction: q.Instruction}
		} else if o.Generator == "" {
			o.Generator = s.name
		}
		ask = append(ask, o)
	}
	r.configure(s, raw)
	if err := r.unlike(s.name); err != nil && !r.plan {
		return nil, nil, err
	}
	pending := ans.Pending(r.log, ask)
	if err := r.offer(s, "answers", pending); err != nil {
		return nil, nil, err
	}
	if r.plan {
		stand := make([]alpacaeval.Output, len(r.baseline)) // of the baseline's length
		for i, b := range r.baseline {
			stand[i] = b
			stand[i].Generator = s.name
			stand[i].Output += " "
		}
		return stand, nil, nil
	}
	if n := missing - len(pending); n > 0 {
		r.say("%d of %d answers are in the log", n, missing)
	}
	outputs, failed, err := ans.Run(ctx, r.log, ask)
	progress.stop()
	if err != nil {
		return nil, nil, r.stopped(err, "answers", missing-len(ans.Pending(r.log, ask)), missing)
	}
	r.warnEmpty(outputs)
	r.warnFailed("answered", failed)
	outputs = r.rename(outputs)
	path := filepath.Join(r.dir, "model_outputs.json")
	if err := eval.WriteFile(path, func(w io.Writer) error { return alpacaeval.WriteOutputs(w, outputs) }); err != nil {
		return nil, nil, err
	}
	return outputs, failed, r.made(s.name)
}

func (r *alpacaRun) warnEmpty(outputs []alpacaeval.Output) {
	empty := 0
	for _, o := range outputs {
		if strings.TrimSpace(o.Output) == "" {
			empty++
		}
	}
	if empty > 0 {
		r.notes = append(r.notes, fmt.Sprintf("%d answers are empty; they are kept and judged", empty))
	}
}

// named gives outputs without a generator that of the others.
func (r *alpacaRun) named(rows []alpacaeval.Output) ([]alpacaeval.Output, error) {
	name, lacks := r.name, 0
	for _, o := range rows {
		if o.Generator == "" {
			lacks++
		} else if name == "" {
			name = o.Generator
		}
	}
	if lacks > 0 && name == "" {
		return nil, fmt.Errorf("%s has no field generator, which says whose the outputs are; --name NAME says it", r.outputs)
	}
	for i := range rows {
		if rows[i].Generator == "" {
			rows[i].Generator = name
		}
	}
	return rows, nil
}

// rename gives outputs the name that the command line wants.
func (r *alpacaRun) rename(rows []alpacaeval.Output) []alpacaeval.Output {
	if r.name != "" {
		for i := range rows {
			rows[i].Generator = r.name
		}
	}
	return rows
}
