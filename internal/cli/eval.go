package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"expo/eval"
)

func (a *app) eval() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "eval alpaca|mtbench",
		Short: "Measure a model on a benchmark",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("expo eval knows alpaca and mtbench, not %q", args[0])
			}
			return usagef("say what to measure with: expo eval alpaca or mtbench")
		},
		Long: `Let a model answer a benchmark's questions, have the answers judged, and compute
the benchmark's own figures. Every answer and every judgment is kept in a log as it
arrives; the same command resumes where it was stopped, and pays for nothing twice.
` + exitHelp,
	}
	cmd.AddCommand(a.evalAlpaca(), a.evalMTBench())
	return cmd
}

// openLog opens the log of a run, and says what it finds there.
func (a *app) openLog(path string) (*eval.Log, error) {
	log, err := eval.OpenLog(path)
	if err != nil {
		if errors.Is(err, eval.ErrLocked) {
			return nil, err
		}
		return nil, fmt.Errorf("%w (delete or move the file to start over)", err)
	}
	if n := log.Dropped(); n > 0 {
		a.say("%s: the last line was cut short and is dropped (%d bytes)", path, n)
	}
	return log, nil
}

// priorResults are those that a result.json holds, one or a list; nil if there is
// no such file.
func priorResults(path string) ([]eval.Result, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	old := make([]eval.Result, 1)
	if json.Unmarshal(b, &old[0]) == nil {
		return old, nil
	}
	if json.Unmarshal(b, &old) != nil || len(old) == 0 {
		return nil, fmt.Errorf("%s exists and is no result; choose another -o, or --force", path)
	}
	return old, nil
}
