package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"expo/lm/generate"
)

func (a *app) score() *cobra.Command {
	var f engineFlags
	cmd := &cobra.Command{
		Use:   "score MODEL < rows.jsonl",
		Short: "Log-likelihoods of continuations",
		Long: `Read rows {"prompt", "continuation"}, each a text or a list of token ids, from
standard input, and write {"logprob", "token_logprobs", "token_ids", "is_greedy"} in
their order. Where a text is split follows lm-evaluation-harness: spaces at the end
of the prompt belong to the continuation, and of what is longer than the context the
beginning is dropped. A row that cannot be scored, such as a continuation that is
longer than the context, gets an "error" instead, and the exit status is 4.
` + exitHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			cs, err := readContinuations(a.in)
			if err != nil {
				return err
			}
			e, rest, err := f.open(cmd.Context(), args)
			if err != nil {
				return err
			}
			defer e.close()
			if len(rest) > 0 {
				return usagef("score reads its rows from standard input; unexpected %q", rest)
			}
			return a.scoreRows(cmd.Context(), e, cs)
		},
	}
	f.add(cmd)
	return cmd
}

// scoreRows writes a line for each continuation, in order; one that cannot be
// scored has an error in place of likelihoods.
func (a *app) scoreRows(ctx context.Context, e *loaded, cs []generate.Continuation) error {
	failed := make([]error, len(cs))
	var good []generate.Continuation
	for i, c := range cs {
		if failed[i] = e.Scorable(c); failed[i] == nil {
			good = append(good, c)
		}
	}
	ls, err := e.Score(ctx, good)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(a.out)
	enc := json.NewEncoder(out)
	next := 0
	for _, err := range failed {
		var row any
		if err != nil {
			row = map[string]string{"error": err.Error()}
		} else {
			l := ls[next]
			next++
			row = map[string]any{"logprob": l.Logprob, "token_logprobs": l.TokenLogprobs, "token_ids": l.TokenIDs, "is_greedy": l.IsGreedy}
		}
		if err := enc.Encode(row); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if n := len(cs) - len(good); n > 0 {
		return &incomplete{n, len(cs), "rows have no likelihood", `see "error" in their rows`}
	}
	return nil
}

func readContinuations(in io.Reader) ([]generate.Continuation, error) {
	var cs []generate.Continuation
	err := eachRow(in, func(n int, line []byte) error {
		var row struct{ Prompt, Continuation json.RawMessage }
		if err := json.Unmarshal(line, &row); err != nil {
			return fmt.Errorf("row %d: %w", n, err)
		}
		var c generate.Continuation
		if row.Prompt != nil {
			if err := textOrIDs(row.Prompt, &c.Context, &c.ContextTokens); err != nil {
				return fmt.Errorf("row %d: prompt: %w", n, err)
			}
		}
		if row.Continuation == nil {
			return fmt.Errorf("row %d: no continuation", n)
		}
		if err := textOrIDs(row.Continuation, &c.Text, &c.Tokens); err != nil {
			return fmt.Errorf("row %d: continuation: %w", n, err)
		}
		cs = append(cs, c)
		return nil
	})
	return cs, err
}

func textOrIDs(raw json.RawMessage, text *string, ids *[]int) error {
	if string(raw) != "null" && json.Unmarshal(raw, text) == nil {
		return nil
	}
	if json.Unmarshal(raw, ids) == nil && *ids != nil {
		return nil
	}
	return errors.New("neither a text nor a list of token ids")
}
