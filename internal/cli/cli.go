// Package cli is expo's command line: flags, environment, terminal, exit
// status. Each command has a file of its own; what it does is in the packages
// that it calls.
//
// Standard output carries a command's result and nothing else; progress,
// warnings and errors go to standard error.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"expo"
	"expo/lm/generate/local"
)

// Exit status of every command.
const (
	exitDone         = 0
	exitFailed       = 1
	exitUsage        = 2
	exitIncompatible = 3
	exitVerification = 5
	exitInterrupted  = 130
)

const exitHelp = `
Exit status: 0 done; 1 failed; 2 usage; 3 the pair is incompatible; 4 finished
with samples that could not be judged or generated; 5 verification failed;
130 interrupted, the same command resumes.`

// app is one run of the program.
type app struct {
	in       io.Reader
	out, err io.Writer
	terminal bool // err is one

	quiet, verbose, json bool
	began                bool // a command's own code has been reached
	truncates            bool // the command has --truncate
}

// usageError is a mistake on the command line.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// explained is a mistake on the command line whose remedy is in its text.
type explained struct{ error }

func refusef(format string, args ...any) error {
	return usageError{explained{fmt.Errorf(format, args...)}}
}

// problems is the error of a verification that found some.
type problems struct{ list []string }

func (p *problems) Error() string {
	if len(p.list) == 1 {
		return "verification failed: " + p.list[0]
	}
	return fmt.Sprintf("verification failed: %d problems", len(p.list))
}

// Main runs the program with its arguments and gives its exit status.
func Main(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	a := &app{in: in, out: out, err: errs}
	if f, ok := errs.(*os.File); ok {
		a.terminal = term.IsTerminal(int(f.Fd()))
	}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	cmd, err := root.ExecuteContextC(ctx)
	a.truncates = cmd.Flags().Lookup("truncate") != nil
	if err == nil {
		return exitDone
	}
	if !a.began {
		var u usageError
		if !errors.As(err, &u) {
			err = usageError{err}
		}
	}
	// --json may stand after what could not be parsed.
	for _, arg := range args {
		a.json = a.json || arg == "--json"
	}
	status := a.status(ctx, err)
	a.report(err, status)
	return status
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "expo",
		Short: "Alignment without training: extrapolate a model beyond its preference training",
		Long: `expo makes the model that lies beyond an aligned one: given a model fine-tuned by
supervision (SFT) and the model that preference training (DPO, RLHF, SPPO …)
made of it, it computes θ = θ_aligned + α(θ_aligned − θ_sft), and says honestly
what rounding left of α.

A MODEL is a directory, or a Hub reference org/name[@revision] that the local
Hugging Face cache holds; an existing path wins, hf:// forces the Hub. MODEL+ADAPTER
is a model with a LoRA adapter of PEFT added to it.
` + exitHelp,
		Example: `  expo extrapolate --sft SFT --aligned DPO --alpha 0.3 -o OUT
  expo diff --sft SFT --aligned DPO
  expo verify OUT --rebuild`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(*cobra.Command, []string) error { a.began = true; return nil },
	}
	f := root.PersistentFlags()
	f.BoolVarP(&a.quiet, "quiet", "q", false, "no progress and no hints; results, warnings and errors stay")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "print more")
	f.BoolVar(&a.json, "json", false, "print one JSON document on standard output, errors as JSON on standard error")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(a.extrapolate(), a.diff(), a.inspect(), a.verify(), a.generate(), a.score(), a.tokenize(), a.eval(), a.serve(), a.export(), a.train(), a.search(), a.demo(), a.reportCommand(), a.version())
	root.CompletionOptions.HiddenDefaultCmd = false
	return root
}

func (a *app) status(ctx context.Context, err error) int {
	var usage usageError
	var pair *expo.IncompatibleError
	var found *problems
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &pair):
		return exitIncompatible
	case errors.As(err, &found):
		return exitVerification
	case errors.As(err, new(*incomplete)):
		return exitIncomplete
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	return exitFailed
}

// report prints an error: one line, its details, what to do.
func (a *app) report(err error, status int) {
	var pair *expo.IncompatibleError
	var found *problems
	var lines, hints []string
	doc := map[string]any{"status": status}
	switch {
	case errors.As(err, &pair):
		lines, hints = pair.Lines(), pair.Hints()
		doc["differences"] = pair.Differences
	case errors.As(err, &found):
		if lines = found.list; len(lines) == 1 {
			lines = nil
		}
		doc["problems"] = found.list
	}
	msg := message(err)
	if a.truncates && errors.Is(err, local.ErrTooLong) {
		hints = append(hints, "--truncate drops the beginning of the prompt")
	}
	if status == exitUsage && !errors.As(err, new(explained)) {
		hints = append(hints, "expo --help lists the commands, expo COMMAND --help their flags")
	}
	if a.json {
		doc["error"] = msg
		if len(hints) > 0 {
			doc["hints"] = hints
		}
		b, _ := json.Marshal(doc)
		fmt.Fprintln(a.err, string(b))
		return
	}
	fmt.Fprintln(a.err, "expo: error:", msg)
	const most = 50
	for i, l := range lines {
		if i == most && !a.verbose {
			fmt.Fprintf(a.err, "  … and %d more (-v lists them)\n", len(lines)-most)
			break
		}
		fmt.Fprintln(a.err, "  "+l)
	}
	for _, h := range hints {
		a.hint("%s", h)
	}
}

// message is an error's text on one line, without the program's own name and
// without anything that would steer a terminal.
func message(err error) string {
	s := strings.TrimPrefix(err.Error(), "expo: ")
	s = strings.ReplaceAll(s, "\n", "; ")
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '�' // control characters, and those that turn the direction of writing
	}, s)
}

// say prints a line about what is going on, unless asked not to.
func (a *app) say(format string, args ...any) {
	if !a.quiet && !a.json {
		fmt.Fprintf(a.err, "expo: "+format+"\n", args...)
	}
}

// warn prints a warning, even with --quiet: it is about the result.
func (a *app) warn(format string, args ...any) {
	if !a.json {
		fmt.Fprintf(a.err, "expo: warning: "+format+"\n", args...)
	}
}

// hint prints what could be done, unless asked not to.
func (a *app) hint(format string, args ...any) {
	if !a.quiet && !a.json {
		fmt.Fprintf(a.err, "expo: hint: "+format+"\n", args...)
	}
}

// printJSON prints a command's result as one document.
func (a *app) printJSON(v any) error { return writeJSON(a.out, v) }

// writeJSON writes one document as every command prints and files it.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// noArgs and oneArg are cobra's, with words that name the remedy.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no arguments, got %q; models are given with --sft and --aligned", cmd.CommandPath(), args)
	}
	return nil
}

func oneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usagef("%s takes one %s, got %d arguments", cmd.CommandPath(), what, len(args))
		}
		return nil
	}
}
